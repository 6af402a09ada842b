"""QEMU's iterations on a realised trace: what is left at any moment of a round, for whatever the knobs do.

A round begins with a sync and sends what the bitmap then holds, in the order of the addresses from where the last one
left off. What the guest writes meanwhile goes into the log, and from there into the bitmap with the next sync. TCG
empties the log at the sync; so a page that is written after the sync is dirty at the next one, even if it was sent
after that write. KVM empties it chunk by chunk, when the first page of a chunk is sent.

The link carries without a pause: syncs take no time here, and no pipe is filled ahead. (A pipe's content is what was
not sent yet, here. To fill one is to sync early, see `whimbrel.sim.bounds.knobs`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from whimbrel.sim.memory.contract import CHUNK_PAGES

from .trace import Group, Indices, Seconds, Sizes, Trace

Flags = NDArray[np.bool_]


class Slowed(NamedTuple):
    """What became of a guest since a throttle was set: numbers, or arrays of them.

    Attributes:
        slowed_s: how long ago that is, seconds; 0: there is none.
        lost_writes: page writes that it kept the guest from.
        wanted_writes: that there would have been in that time without it.
    """

    slowed_s: Any
    lost_writes: Any
    wanted_writes: Any

    @property
    def lost_s(self) -> Seconds:
        """Guest-seconds lost, as `whimbrel.sim.guests.life.Life.done_work` counts them."""
        wanted = np.asarray(self.wanted_writes, dtype=np.float64)
        part = np.divide(self.lost_writes, wanted, out=np.zeros_like(wanted), where=wanted > 0)
        return np.asarray(self.slowed_s * part)


FREE = Slowed(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Synced:
    """How things stand right after a sync.

    Attributes:
        at_s: when it is, seconds since logging began.
        clocks_s: the clocks of the groups of writers (`whimbrel.sim.bounds.trace.Group`).
        owed: the bitmap.
        place: where the search for pages goes on.
        sent_bytes: so far.
        slowed: how long a throttle has been set, and what it did.
        written: whatever is owed has been written to.
    """

    at_s: float
    clocks_s: tuple[float, ...]
    owed: Flags
    place: int
    sent_bytes: int
    slowed: Slowed
    written: bool


@dataclass(frozen=True, slots=True)
class Looks:
    """How things stand at some times of a round; one entry of each for each time.

    Attributes:
        at_s: the times, seconds since logging began.
        left_bytes: what is owed if the guest stops then, or the log is merged: pages not sent, or dirtied since.
        unsent_bytes: what the last sync found and is not sent yet.
        sent_bytes: since the migration began.
        throttled_s: guest-seconds lost to throttles, since the migration began.
    """

    at_s: Seconds
    left_bytes: Seconds
    unsent_bytes: Seconds
    sent_bytes: Seconds
    throttled_s: Seconds

    def part(self, which: slice) -> Looks:
        """Some of them."""
        return Looks(
            self.at_s[which],
            self.left_bytes[which],
            self.unsent_bytes[which],
            self.sent_bytes[which],
            self.throttled_s[which],
        )


@dataclass(frozen=True, slots=True)
class _Dirtied:
    """What the writers of a group do in a round: the first write to each page, in order of time."""

    at_s: Seconds
    pages: Indices
    again: Seconds
    """Bytes that are owed more by the first so many of them: pages that were owed anyway count as far as they grew."""


class Round:
    """A round from a sync on.

    Attributes:
        start: how things stand at its sync.
        sent_s: when each page has left, in the order in which they are sent.
        end_s, span_s: when the last has, and how long all take.
        most_s: how far it may be looked.

    Args:
        trace: of guest and link.
        start: how things stand.
        throttle: what part of its time is taken from the guest, 0 to 1 ...
        slow_from: ... from when on, as a part of the round's length: 0.0: all of it, 1.0: only behind its end.
        kvm: the log is KVM's.
        longest: how far it may be looked beyond its end, as a part of its length.
        least_s: how far at least.
    """

    def __init__(
        self,
        trace: Trace,
        start: Synced,
        *,
        throttle: float = 0.0,
        slow_from: float = 0.0,
        kvm: bool = False,
        longest: float = 1.0,
        least_s: float = 0.05,
    ) -> None:
        """Work it out."""
        self._trace = trace
        self.start = start
        owed = np.flatnonzero(start.owed).astype(np.int32)
        behind = int(np.searchsorted(owed, start.place))
        self._order = order = np.concatenate((owed[behind:], owed[:behind]))
        even = trace.even_bytes if start.written else 0
        sizes = None if even else _sizes(trace, order, start.clocks_s)
        each = np.full(len(order), even, dtype=np.int64) if sizes is None else sizes
        self._sums: Sizes = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(each)))
        capacity = trace.capacity
        self.sent_s = capacity.when(self._sums[1:].astype(np.float64) + capacity.carried_by(start.at_s))
        beyond_s = 2 * trace.horizon_s + 1.0  # as good as never, and finite
        self.end_s = min(float(self.sent_s[-1]), beyond_s) if len(order) else start.at_s
        self.span_s = self.end_s - start.at_s
        self.most_s = min(max(start.at_s + self.span_s * longest, self.end_s + least_s), trace.horizon_s)
        self._slow_s = start.at_s + self.span_s * slow_from if throttle else np.inf
        self._ways = [
            _Way(group, clock_s, start.at_s, self._slow_s, group.speed(throttle))
            for group, clock_s in zip(trace.groups, start.clocks_s, strict=True)
        ]
        sent = np.full(trace.total_pages, -np.inf)
        sent[order] = self.sent_s
        kept = np.zeros(trace.total_pages, dtype=np.bool_)
        grown = None
        if sizes is not None:
            grown = trace.written_bytes.copy()
            grown[order] -= sizes
        chunked = kvm and len(kept) > CHUNK_PAGES
        self._dirtied = [self._dirty(way, sent, kept, grown, chunked=chunked) for way in self._ways]
        gone = ~kept[order]
        self._cleared: Sizes = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(gone * each)))

    def _dirty(self, way: _Way, sent: Seconds, kept: Flags, grown: Sizes | None, *, chunked: bool) -> _Dirtied:
        writes = way.group.writes
        end = way.writes_by(self.most_s)
        which = self._first_by_chunk(way, end) if chunked else writes.first(way.writes_by(self.start.at_s), end)
        pages = writes.pages[which]
        at_s = way.when(which)
        again = at_s > sent[pages]
        kept[pages[~again]] = True
        if grown is None:
            dirtied = np.cumsum(again) * self._trace.even_bytes
        else:
            dirtied = np.cumsum(np.where(again, self._trace.written_bytes[pages], grown[pages]))
        return _Dirtied(at_s, pages, np.concatenate(([0.0], dirtied)))

    def _first_by_chunk(self, way: _Way, end: int) -> NDArray[np.intp]:
        """The first write to each page since its chunk's log was cleared, which is when its first page is sent."""
        writes = way.group.writes
        found: list[NDArray[np.intp]] = []
        chunks = self._order // CHUNK_PAGES
        for chunk in range(-(-self._trace.total_pages // CHUNK_PAGES)):
            sent = np.flatnonzero(chunks == chunk)
            cleared_s = float(self.sent_s[sent[0]]) if len(sent) else self.start.at_s
            which = writes.first(min(way.writes_by(cleared_s), end), end)
            found.append(which[writes.pages[which] // CHUNK_PAGES == chunk])
        return np.sort(np.concatenate(found))

    # ---- what comes of it

    def look(self, at_s: Seconds) -> Looks:
        """What is so at these times of the round."""
        count = np.searchsorted(self.sent_s, at_s, side="right")
        sent = self._sums[count]
        left = self._sums[-1] - self._cleared[count].astype(np.float64)
        for each in self._dirtied:
            left += each.again[np.searchsorted(each.at_s, at_s, side="right")]
        return Looks(
            at_s=at_s,
            left_bytes=left,
            unsent_bytes=(self._sums[-1] - sent).astype(np.float64),
            sent_bytes=(self.start.sent_bytes + sent).astype(np.float64),
            throttled_s=self._slowed(at_s).lost_s,
        )

    def sync(self, at_s: float) -> Synced:
        """How things stand after a sync at a time of this round."""
        start = self.start
        count = int(np.searchsorted(self.sent_s, at_s, side="right"))
        owed = start.owed.copy()
        owed[self._order[:count]] = False
        for each in self._dirtied:
            owed[each.pages[: np.searchsorted(each.at_s, at_s, side="right")]] = True
        place = int(self._order[count - 1]) + 1 if count else start.place
        clocks_s = tuple(way.clock_s(at_s) for way in self._ways)
        return Synced(
            at_s=at_s,
            clocks_s=clocks_s,
            owed=owed,
            place=place % len(owed),
            sent_bytes=start.sent_bytes + int(self._sums[count]),
            slowed=self._slowed(np.array(at_s)),
            written=start.written or _all_written(self._trace, owed, clocks_s),
        )

    def _slowed(self, at_s: Seconds) -> Slowed:
        before_s, lost, wanted = self.start.slowed
        if self._slow_s == np.inf:
            return Slowed(np.zeros_like(at_s), np.zeros_like(at_s), np.zeros_like(at_s))
        for way in self._ways:
            slowed_s = way.slowed_s(at_s)
            wanted = wanted + way.group.per_s * slowed_s
            lost = lost + way.group.per_s * slowed_s * (1 - way.speed)
        return Slowed(before_s + np.maximum(at_s - self._slow_s, 0.0), lost, wanted)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a group's writers fare in a round.

    Attributes:
        group: which.
        began_s: their clock at the round's sync.
        at_s: when that is.
        slow_s: from when on they are slowed.
        speed: to what part of their speed.
    """

    group: Group
    began_s: float
    at_s: float
    slow_s: float
    speed: float

    def clock_s(self, at_s: float) -> float:
        """Their clock at a time of the round."""
        on_s = self._on_s(at_s)
        slowed_s = on_s - self._on_s(self.slow_s) if at_s > self.slow_s else 0.0
        return self.began_s + on_s - self._on_s(self.at_s) - slowed_s * (1 - self.speed)

    def writes_by(self, at_s: float) -> int:
        """How many writes they have made by a time of the round."""
        return self.group.by(self.clock_s(at_s))

    def when(self, which: NDArray[np.intp]) -> Seconds:
        """When they make these writes."""
        group = self.group
        from_s = self._on_s(self.at_s)
        if self.slow_s == np.inf and self.began_s == from_s:
            return group.writes.at_s[which]
        on_s = group.on_s[which] + (from_s - self.began_s)
        if 0 < self.speed < 1:
            slow_s = self._on_s(self.slow_s)
            on_s = np.where(on_s > slow_s, slow_s + (on_s - slow_s) / self.speed, on_s)
        return group.when(on_s)

    def slowed_s(self, at_s: Seconds) -> Seconds:
        """For how long of the round they have been on since they are slowed."""
        return self.group.on_by(np.maximum(at_s, self.slow_s)) - self._on_s(self.slow_s)

    def _on_s(self, at_s: float) -> float:
        return float(self.group.on_by(np.array(at_s))) if self.group.phases.period_s else at_s


def begin(trace: Trace, at_s: float = 0.0) -> Synced:
    """The first sync: all of RAM is owed.

    Args:
        trace: of guest and link.
        at_s: when; later, if the migration's begin is put off.
    """
    return Synced(
        at_s=at_s,
        clocks_s=tuple(float(group.on_by(np.array(at_s))) for group in trace.groups),
        owed=np.ones(trace.total_pages, dtype=np.bool_),
        place=0,
        sent_bytes=0,
        slowed=FREE,
        written=not len(trace.uneven),
    )


def _all_written(trace: Trace, owed: Flags, clocks_s: tuple[float, ...]) -> bool:
    """Whether nothing is owed that nobody has written to and that takes something else until then."""
    pages = trace.uneven
    if len(pages) and clocks_s:
        pages = pages[trace.written_s[pages] > np.array(clocks_s)[trace.group_of[pages]]]
    return not owed[pages].any()


def _sizes(trace: Trace, pages: Indices, clocks_s: tuple[float, ...]) -> Sizes:
    """What pages take on the wire. One that is written for the first time while it waits is taken as it was before."""
    if not clocks_s:
        return trace.fresh_bytes[pages]
    clocks = np.array(clocks_s)[trace.group_of[pages]]
    written: Sizes = np.where(trace.written_s[pages] <= clocks, trace.written_bytes[pages], trace.fresh_bytes[pages])
    return written
