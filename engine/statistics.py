"""What QEMU says of a running migration, and the iterations that can be read out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast, overload

MIN_STEP_NS = 1_000_000
"""Shortest span, 1 ms, over which a rate is computed: below it the division says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """One answer of ``query-migrate`` on the source, in our units.

    The freshness of the fields differs: ``transferred_bytes`` is live, ``remaining_bytes`` leaves out what
    the guest dirtied since the last sync, ``dirty_bytes_per_s`` moves only at a sync more than a second
    after the last.
    """

    at_ns: int
    """The machine's clock at the answer's arrival."""
    status: str = ""
    iteration: int = 0
    """QEMU's ``dirty-sync-count``."""
    remaining_bytes: int = 0
    transferred_bytes: int = 0
    total_bytes: int = 0
    page_bytes: int = 4096
    normal_pages: int = 0
    duplicate_pages: int = 0
    dirty_bytes_per_s: float = 0.0
    bandwidth_bytes_per_s: float = 0.0
    """QEMU's own figure over its last window of at least 100 ms."""
    throttle: float = 0.0
    """Share of vCPU time taken by QEMU's throttle, 0 to 0.99."""
    expected_downtime_s: float | None = None
    qemu_downtime_s: float | None = None
    """Only when completed."""
    qemu_total_s: float | None = None
    setup_s: float | None = None
    vcpu_s: tuple[float, ...] = ()
    """How long each vCPU has run so far, seconds of its thread's time; empty where the host can't be asked."""

    @property
    def pages(self) -> int:
        """Pages handled so far, in full or as zero; a page may count many times."""
        return self.normal_pages + self.duplicate_pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """One dirty-bitmap sync to the next."""

    number: int
    started_ns: int
    ended_ns: int
    remaining_at_start_bytes: int
    """What was to be sent when it began: for the first one all RAM, later what the sync found dirty."""
    remaining_at_end_bytes: int
    """What was left just before the next sync."""
    sent_bytes: int
    dirtied_bytes: int
    """What the next sync added: distinct bytes dirtied during this iteration and not yet sent again."""

    @property
    def duration_s(self) -> float:
        return (self.ended_ns - self.started_ns) / 1e9

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Bytes handed to the socket per second; 0.0 where it was too short to tell."""
        span_ns = self.ended_ns - self.started_ns
        return self.sent_bytes * 1e9 / span_ns if span_ns >= MIN_STEP_NS else 0.0

    @property
    def dirty_bytes_per_s(self) -> float:
        """Distinct bytes dirtied per second of this iteration; 0.0 where it was too short to tell."""
        span_ns = self.ended_ns - self.started_ns
        return self.dirtied_bytes * 1e9 / span_ns if span_ns >= MIN_STEP_NS else 0.0


class Iterations(Sequence[Iteration]):
    """The iterations that have ended, in order. Immutable: `add` gives the next one, in constant time.

    All that grew out of each other share one list that is only ever added to, and each sees as much of it as there was
    when it was made; so one may be kept for as long as anybody likes, and thousands cost no more than the last. Equal
    to a tuple of the same iterations; a slice is a tuple.
    """

    __slots__ = ("_all", "_length")

    def __init__(self) -> None:
        self._all: list[Iteration] = []
        self._length = 0

    def add(self, ended: Iteration) -> Iterations:
        """These and one more."""
        # Whoever adds to these once more, after somebody else did, must not see the other's.
        shared = self._all if len(self._all) == self._length else self._all[: self._length]
        shared.append(ended)
        more = Iterations.__new__(Iterations)
        more._all, more._length = shared, self._length + 1
        return more

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Iteration: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Iteration, ...]: ...

    def __getitem__(self, index: int | slice) -> Iteration | tuple[Iteration, ...]:
        if isinstance(index, slice):
            return tuple([self._all[place] for place in range(*index.indices(self._length))])
        place = index + self._length if index < 0 else index
        if not 0 <= place < self._length:
            raise IndexError(index)
        return self._all[place]

    def __iter__(self) -> Iterator[Iteration]:
        return iter(self._all[: self._length])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Iterations | tuple):
            return NotImplemented
        return tuple(self) == tuple(cast(Sequence[object], other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


@dataclass(frozen=True, slots=True)
class Ledger:
    """Folds statistics into iterations and rates. Immutable: `add` gives the next one."""

    first: Statistics | None = None
    last: Statistics | None = None
    opened: Statistics | None = None
    """The first statistics of the iteration that is under way."""
    iterations: Iterations = field(default_factory=Iterations)
    window: tuple[Statistics, ...] = field(default=())
    """The statistics of the last `WINDOW_NS`, for rates over a longer time than QEMU's."""
    moved_ns: int = 0
    """When ``transferred_bytes`` last grew."""

    def add(self, now: Statistics) -> Ledger:
        """Take one answer; an answer older than the last one is passed over."""
        if self.last is not None and now.at_ns < self.last.at_ns:
            return self
        if self.first is None or self.last is None or self.opened is None:
            return replace(self, first=now, last=now, opened=now, window=(now,), moved_ns=now.at_ns)
        iterations, opened = self.iterations, self.opened
        if now.iteration > opened.iteration:
            iterations = iterations.add(self._close(now))
            opened = now
        grew = now.transferred_bytes > self.last.transferred_bytes
        since_ns = now.at_ns - WINDOW_NS
        window = self.window
        gone = 0
        while gone < len(window) and window[gone].at_ns < since_ns:
            gone += 1
        # By the constructor: `replace` takes longer than all the rest, and this happens at every answer.
        return Ledger(
            first=self.first,
            last=now,
            opened=opened,
            iterations=iterations,
            window=(*window[gone:], now),
            moved_ns=now.at_ns if grew else self.moved_ns,
        )

    def _close(self, now: Statistics) -> Iteration:
        assert self.opened is not None
        assert self.last is not None
        # Between the last answer before the sync and this one the sync happened: what was left before it
        # is what was left then less the pages handled since (zero pages too, which cost next to no bytes), so
        # that only the sync's own addition counts as dirtied.
        left = max(0, self.last.remaining_bytes - (now.pages - self.last.pages) * now.page_bytes)
        return Iteration(
            number=self.opened.iteration,
            started_ns=self.opened.at_ns,
            ended_ns=now.at_ns,
            remaining_at_start_bytes=self.opened.remaining_bytes,
            remaining_at_end_bytes=left,
            sent_bytes=now.transferred_bytes - self.opened.transferred_bytes,
            dirtied_bytes=max(0, now.remaining_bytes - left),
        )

    @property
    def sent_bandwidth_bytes_per_s(self) -> float:
        """Bytes sent per second over the last `WINDOW_NS`; 0.0 while there is nothing to go by."""
        if len(self.window) < 2:
            return 0.0
        span_ns = self.window[-1].at_ns - self.window[0].at_ns
        if span_ns < MIN_STEP_NS:
            return 0.0
        return (self.window[-1].transferred_bytes - self.window[0].transferred_bytes) * 1e9 / span_ns

    @property
    def vcpu_shares(self) -> tuple[float, ...]:
        """How much of the last `WINDOW_NS` each vCPU ran, 0 to 1; empty while there is nothing to go by."""
        window = self.window
        if len(window) >= 2 and window[0].vcpu_s and window[-1].vcpu_s:
            told = [window[0], window[-1]]  # those in between do not matter
        else:
            told = [each for each in window if each.vcpu_s]
        if len(told) < 2 or len(told[0].vcpu_s) != len(told[-1].vcpu_s):
            return ()
        span_s = (told[-1].at_ns - told[0].at_ns) / 1e9
        if span_s * 1e9 < MIN_STEP_NS:
            return ()
        pairs = zip(told[0].vcpu_s, told[-1].vcpu_s, strict=True)
        return tuple(min(1.0, max(0.0, (after - before) / span_s)) for before, after in pairs)


WINDOW_NS = 1_000_000_000
"""Length of the window of `Ledger.sent_bandwidth_bytes_per_s`: ten of QEMU's own."""
