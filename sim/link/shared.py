"""One link that several streams share.

Every stream that has something to send gets the same part of the bandwidth, as TCP connections of one kind do in the
long run; rivals that are always there count as one each. Nothing is simulated packet by packet: between two changes
of a rate everything is linear, so that a stream is only looked at when somebody asks (`flow`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from whimbrel.sim.clock import SECOND_NS, Clock, Timer
from whimbrel.sim.scenario import LinkPlan

from .flow import NEVER_NS, UNIT, Pipe
from .rate import Bandwidth

MESSAGE_SPEED = 10_000_000_000
"""Bytes per second at which a message is put in: it is in memory already."""


class SharedLink:
    """One direction of a link.

    Attributes:
        down: an outage whose end nobody foresees.
        is_shared: whether it has several streams, so that what one does bears on the others.
        steady: what its only stream has of it, bytes per second, if that does not change by itself.
    """

    def __init__(self, clock: Clock, plan: LinkPlan, seed: int = 0, bandwidth: Bandwidth | None = None) -> None:
        """Lay it.

        Args:
            clock: the world's.
            plan: what it is like.
            seed: its noise is drawn from this.
            bandwidth: instead of one that is made of plan and seed: two directions may share the process.
        """
        self.clock = clock
        self.bandwidth = bandwidth if bandwidth is not None else Bandwidth(plan, seed)
        self.latency_ns = round(plan.latency_s * SECOND_NS)
        self.down = False
        self.is_shared = False
        self.steady: int | None = None
        self._pipe_bytes = plan.pipe_bytes
        self._rivals = plan.rivals
        self._streams: list[LinkStream] = []
        self._opened: list[LinkStream] = []
        self._drainers = 0
        self._timer: Timer | None = None

    def open(self) -> LinkStream:
        """A new stream over it."""
        stream = LinkStream(self, self._pipe_bytes)
        self._opened.append(stream)
        if self._streams:
            self.change(lambda: self._streams.append(stream), cause=stream)
        else:
            self._streams.append(stream)
            self._count()
        return stream

    def begin(self, now_ns: int) -> None:
        """The migration begins (see `Bandwidth.begin`)."""
        self.change(lambda: self.bandwidth.begin(now_ns))

    def set_down(self, down: bool) -> None:
        """An outage begins, or ends."""

        def switch() -> None:
            self.down = down

        self.change(switch)

    def change(self, what: Callable[[], None], cause: LinkStream | None = None) -> None:
        """Change something that bears on the rates.

        Every stream is brought up to date before it, and told after it, but for the one that is its cause.
        """
        now_ns = self.clock.now_ns
        self.settle(now_ns)
        what()
        self._count()
        self._set_timer(now_ns)
        for stream in list(self._streams):
            if stream is not cause:
                stream.tell_change()

    def settle(self, now_ns: int) -> None:
        """Let every stream flow up to now, at the shares that held since the last time."""
        for stream in self._streams:
            stream.flow_to(now_ns)
        for stream in [each for each in self._streams if each.is_over]:
            self._streams.remove(stream)
        self._count()

    def share_at(self, stream: LinkStream, now_ns: int) -> tuple[int, int | None]:
        """At what rate a stream drains, bytes per second, and until when that is known not to change."""
        if self.down or stream.clogged or stream.broken:
            return 0, None
        rate, until_ns = self.bandwidth.at(now_ns)
        sharers = self._rivals + 1
        if len(self._streams) > 1:
            sharers += self._drainers - stream.counted
        return (rate if sharers == 1 else rate // sharers), until_ns

    @property
    def carried_bytes(self) -> int:
        """What it has carried since the beginning, over all streams that there were."""
        return sum(stream.passed_bytes for stream in self._opened)

    def forget(self, stream: LinkStream) -> None:
        """A stream that is over."""
        if stream in self._streams:
            self._streams.remove(stream)
            self._count()

    def watch(self, now_ns: int) -> None:
        """A stream has become busy, or is listened to from now on: see to it that it is told in time."""
        if self._timer is None:
            self._set_timer(now_ns)

    def _count(self) -> None:
        """Count who drains. It does not change before the next time: what empties is looked at at that moment."""
        self._drainers = 0
        for stream in self._streams:
            stream.counted = stream.drains
            self._drainers += stream.counted
        self.is_shared = len(self._streams) > 1
        rate = self.bandwidth.steady
        self.steady = None if rate is None or self.down or self.is_shared else rate // (self._rivals + 1)

    def _set_timer(self, now_ns: int) -> None:
        """Set the timer for the next change that can be foreseen and that somebody has to be told of."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due: list[int] = []
        for stream in self._streams:
            if not stream.busy:
                continue
            if stream.has_listeners and (until_ns := self.share_at(stream, now_ns)[1]) is not None:
                due.append(until_ns)
            if self.is_shared:
                due.append(stream.idle_at_ns())
        when_ns = min(due, default=NEVER_NS)
        if when_ns < NEVER_NS:
            self._timer = self.clock.at(when_ns, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.change(lambda: None)


class LinkStream:
    """One direction of one connection (`contract.Stream`).

    Attributes:
        clogged: whoever is at the other end does not read: what is in the pipe stays there.
        passed_bytes: what has left the pipe since the beginning.
        counted: whether the link counts it among those that drain.
    """

    def __init__(self, link: SharedLink, size_bytes: int) -> None:
        """Open it; see `SharedLink.open`."""
        self._link = link
        self._clock = link.clock
        self._pipe = Pipe(size_bytes * UNIT)
        self._at_ns = link.clock.now_ns
        self._broken = False
        self.clogged = False
        self.counted = False
        self._closing = False
        self._messages: deque[tuple[int, Callable[[], None]]] = deque()
        """Not out of the pipe yet: with what has to have passed by then, units."""
        self._flying: deque[Callable[[], None]] = deque()
        """On the way, in order."""
        self._timer: Timer | None = None
        self._listeners: list[Callable[[], None]] = []

    # ---- contract.Stream

    @property
    def broken(self) -> bool:
        """See `contract.Stream`."""
        return self._broken

    def level_bytes(self, now_ns: int) -> int:
        """See `contract.Stream`; rounded up."""
        self.catch_up(now_ns)
        return -(-self._pipe.level // UNIT)

    def rate_bytes_per_s(self, now_ns: int) -> float:
        """See `contract.Stream`."""
        return float(self._link.share_at(self, now_ns)[0])

    def room_bytes(self, now_ns: int, until_ns: int, fastest_bytes_per_s: float) -> int:
        """See `contract.Stream`."""
        self.catch_up(now_ns)
        span_ns = until_ns - now_ns
        if span_ns <= 0 or self._broken:
            return 0
        speed = _speed(fastest_bytes_per_s)
        steady = self._steady
        if steady is not None:
            return self._pipe.room(steady, span_ns, speed) // UNIT
        pipe = self._pipe.copy()
        before = pipe.waiting
        share, known_ns = self._link.share_at(self, now_ns)
        if known_ns is None or known_ns >= until_ns:
            return pipe.room(share, span_ns, speed) // UNIT
        pipe.waiting = plenty = before + speed * span_ns
        pipe.speed = speed
        self._flow(pipe, now_ns, until_ns)
        return max(0, plenty - pipe.waiting - before) // UNIT

    def push(self, now_ns: int, size_bytes: int, fastest_bytes_per_s: float) -> int:
        """See `contract.Stream`; `NEVER_NS` in an outage whose end is not known. Nothing is taken once it is broken."""
        self.catch_up(now_ns)
        if self._broken:
            return now_ns
        if size_bytes:
            self._put(now_ns, size_bytes * UNIT, _speed(fastest_bytes_per_s))
        steady = self._steady
        if steady is not None:
            return now_ns + self._pipe.enters_within_ns(steady)
        return self._foresee(Pipe.enters_within_ns)

    def waiting_bytes(self, now_ns: int) -> int:
        """See `contract.Stream`."""
        self.catch_up(now_ns)
        return -(-self._pipe.waiting // UNIT)

    def message(self, now_ns: int, size_bytes: int, arrived: Callable[[], None]) -> None:
        """See `contract.Stream`."""
        self.catch_up(now_ns)
        if self._broken:
            return
        pipe = self._pipe
        if size_bytes:
            self._put(now_ns, size_bytes * UNIT, pipe.speed if pipe.waiting else MESSAGE_SPEED)
        self._messages.append((pipe.passed + pipe.held, arrived))
        if len(self._messages) == 1:
            self._arm()

    def on_change(self, changed: Callable[[], None]) -> None:
        """See `contract.Stream`."""
        self._listeners.append(changed)
        if self.busy:
            self._link.watch(self._clock.now_ns)

    def close(self, now_ns: int) -> None:
        """See `contract.Stream`."""
        self.catch_up(now_ns)
        self._closing = True
        if self.is_over:
            self._link.forget(self)

    # ---- for the ends of the connection

    @property
    def passed_bytes(self) -> int:
        """See the class."""
        return self._pipe.passed // UNIT

    def clog(self, clogged: bool) -> None:
        """The other end stops reading, or goes on."""
        if clogged is not self.clogged:

            def switch() -> None:
                self.clogged = clogged

            self._link.change(switch)

    def reset(self) -> None:
        """It breaks: what is in the pipe is lost; what has left it still arrives."""
        if self._broken:
            return

        def tear() -> None:
            self._broken = True
            self._pipe.level = self._pipe.waiting = 0
            self._messages.clear()

        self._link.change(tear)
        self._disarm()
        self._link.forget(self)

    # ---- for the link

    @property
    def busy(self) -> bool:
        """Whether something is in it, as of the last look."""
        return self._pipe.held > 0

    @property
    def drains(self) -> bool:
        """Whether it takes its share of the link."""
        return self._pipe.held > 0 and not self.clogged

    @property
    def has_listeners(self) -> bool:
        """Whether somebody wants to be told of changes."""
        return bool(self._listeners)

    def catch_up(self, now_ns: int) -> None:
        """Bring it up to date: all of a shared link, for one that is empty leaves its share to the others."""
        if self._link.is_shared:
            self._link.settle(now_ns)
        else:
            self.flow_to(now_ns)

    def flow_to(self, now_ns: int) -> None:
        """Let it alone flow up to now, at the shares that held since the last look."""
        at_ns, pipe = self._at_ns, self._pipe
        if now_ns <= at_ns:
            return
        if pipe.level or pipe.waiting:
            steady = self._steady
            if steady is not None:
                pipe.flow(steady, now_ns - at_ns)
            else:
                self._flow(pipe, at_ns, now_ns)
        self._at_ns = now_ns

    @property
    def is_over(self) -> bool:
        """Whether it was closed and nothing is in it any more."""
        return self._closing and not self._pipe.held and not self._messages

    def idle_at_ns(self) -> int:
        """When it will be empty, as far as can be known now."""
        return self._foresee(lambda pipe, share: pipe.passes_within_ns(pipe.held, share))

    def tell_change(self) -> None:
        """Its rate has changed, or it broke."""
        if self._messages:
            self._arm()
        for listener in list(self._listeners):
            listener()

    # ---- inside

    @property
    def _steady(self) -> int | None:
        """Its share, if that does not change by itself."""
        return None if self.clogged or self._broken else self._link.steady

    def _put(self, now_ns: int, amount: int, speed: int) -> None:
        pipe = self._pipe

        def put() -> None:
            pipe.waiting += amount
            pipe.speed = speed

        if pipe.held:
            put()
            return
        if self._link.is_shared:
            self._link.change(put, cause=self)
        else:
            put()
            if self._listeners:
                self._link.watch(now_ns)

    def _flow(self, pipe: Pipe, from_ns: int, to_ns: int) -> None:
        while from_ns < to_ns:
            share, until_ns = self._link.share_at(self, from_ns)
            ends_ns = to_ns if until_ns is None else min(to_ns, until_ns)
            pipe.flow(share, ends_ns - from_ns)
            from_ns = ends_ns

    def _foresee(self, within_ns: Callable[[Pipe, int], int]) -> int:
        """When something will be so, if nothing happens that nobody can know of."""
        pipe, at_ns = self._pipe, self._at_ns
        copied = False
        while True:
            share, until_ns = self._link.share_at(self, at_ns)
            due_ns = at_ns + within_ns(pipe, share)
            if until_ns is None or due_ns <= until_ns:
                return min(due_ns, NEVER_NS)
            if not copied:
                pipe, copied = pipe.copy(), True
            pipe.flow(share, until_ns - at_ns)
            at_ns = until_ns

    def _arm(self) -> None:
        self._disarm()
        target = self._messages[0][0]
        due_ns = self._foresee(lambda pipe, share: pipe.passes_within_ns(target - pipe.passed, share))
        if due_ns <= self._clock.now_ns:
            self._pass_on()
        elif due_ns < NEVER_NS:
            self._timer = self._clock.at(due_ns, self._pass_on)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass_on(self) -> None:
        """Messages that are out of the pipe are on their way."""
        self._timer = None
        self.catch_up(self._clock.now_ns)
        while self._messages and self._messages[0][0] <= self._pipe.passed:
            self._flying.append(self._messages.popleft()[1])
            self._clock.after(self._link.latency_ns, self._arrive)
        if self._messages:
            self._arm()
        elif self.is_over:
            self._link.forget(self)

    def _arrive(self) -> None:
        # Whatever the clock does with what is due at one time: the first that was sent is the first to arrive.
        self._flying.popleft()()


def _speed(bytes_per_s: float) -> int:
    return max(1, round(bytes_per_s))
