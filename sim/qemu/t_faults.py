"""Pages that the guest waits for in post-copy: asked for over the way back, sent out of turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from whimbrel.sim.clock import Timer
from whimbrel.sim.link.contract import Stream
from whimbrel.sim.memory.contract import PAGE_BYTES, PAGE_HEADER_BYTES, Memory

from .own_time import Time
from .t_counters import Counters

REQUEST_BYTES = 17
"""A request for a page of the block last named: head, address, length (``migrate_send_rp_message_req_pages``)."""
_LOST_BYTES = PAGE_BYTES + PAGE_HEADER_BYTES


class Faults:
    """One fault after the other; the guest's vCPUs are taken to wait together.

    Attributes:
        stream: what pages go over: the main stream, behind all that is in its pipe, or preempt's own channel.
    """

    __slots__ = (
        "_asleep_until_ns",
        "_back",
        "_clock",
        "_counters",
        "_memory",
        "_runs",
        "_timer",
        "_turn",
        "_waits",
        "stream",
    )

    def __init__(
        self,
        clock: Time,
        memory: Memory,
        counters: Counters,
        stream: Stream,
        back: Stream | None,
        asleep_until_ns: Callable[[], int],
    ) -> None:
        """Nothing runs at the destination yet.

        Args:
            clock: the source's.
            memory: the guest's.
            counters: take what is sent.
            stream: see the class.
            back: requests travel on it; ``None``: they arrive at once.
            asleep_until_ns: how long the thread that would send a page sleeps; a time that has passed: it is awake.
                QEMU wakes it for an urgent page, only to find that the rate limit holds for that page, too.
        """
        self._clock = clock
        self._memory = memory
        self._counters = counters
        self._back = back
        self._asleep_until_ns = asleep_until_ns
        self._runs = False
        self._waits = False
        self._timer: Timer | None = None
        self._turn = 0
        self.stream = stream

    def guest_runs(self) -> None:
        """The vCPUs run at the destination, from now on or again."""
        self._runs = True
        if not self._waits:
            self._look()

    def guest_halts(self) -> None:
        """They were stopped there."""
        self._runs = False
        self._cancel()

    def pause(self) -> None:
        """The stream broke: what is on its way is lost, and requests with it."""
        self._cancel()
        self._turn += 1

    def resume(self, stream: Stream, back: Stream | None) -> None:
        """There is a new one; a page that the guest waits for is asked for again."""
        self.stream = stream
        self._back = back
        if self._waits:
            self._ask()
        elif self._runs:
            self._look()

    def end(self) -> None:
        """It is over."""
        self.pause()
        self._runs = self._waits = False

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """See when the guest will touch a missing page."""
        self._cancel()
        now_ns = self._clock.now_ns
        delay_ns = self._memory.fault(now_ns)
        if delay_ns is None:
            return
        if delay_ns:
            self._timer = self._clock.at(now_ns + delay_ns, self._look)
            return
        self._waits = True
        self._ask()

    def _ask(self) -> None:
        turn = self._turn
        if self._back is None:
            self._serve(turn)
            return
        self._back.message(self._clock.now_ns, REQUEST_BYTES, partial(self._asked, turn))

    def _asked(self, turn: int) -> None:
        # The source's own time decides when it reads the request: a frozen one does not.
        self._clock.after(0, partial(self._serve, turn))

    def _serve(self, turn: int) -> None:
        if turn != self._turn or not self._waits:
            return
        now_ns = self._clock.now_ns
        wakes_ns = self._asleep_until_ns() - 1  # Just before the background goes on: it is served first.
        if wakes_ns > now_ns:
            self._clock.at(wakes_ns, partial(self._serve, turn))
            return
        sent = self._memory.serve(now_ns)
        self._counters.requests += 1
        self._counters.add(sent, 0, 0, False)
        # The background may have sent it already: then it lies in the pipe, or was lost with one that broke.
        size_bytes = sent.bytes
        if not size_bytes and turn:
            size_bytes = _LOST_BYTES
            self._counters.add_again(size_bytes)
        self.stream.message(now_ns, size_bytes, partial(self._arrived, turn))

    def _arrived(self, turn: int) -> None:
        if turn != self._turn or not self._waits:
            return
        self._waits = False
        if self._runs:
            self._memory.run(self._clock.now_ns)
            self._look()
