"""The best that QEMU's knobs can do, on a realised trace and known ahead: dynamic programming over rounds and knobs.

What an operator can do over QMP comes to this, at each sync and after it:

- **go on**: send all that the sync found; QEMU syncs when that is done.
- **sync early**: a downtime limit between what is left before and after the sync makes QEMU sync and go on.
- **send slower** (a bandwidth, or portions of it): with QEMU's log what a sync finds depends only on when the one
  before it was, not on when pages were sent in between. So slower is the same as: all of it, and then nothing until
  later. A policy that does not begin at once is one that sends nothing to begin with.
- **stop**: any moment, by a downtime limit that is large enough, or a pause.
- **throttle**: by any part, from any moment on, from outside; QEMU's own ladder can do less.

Post-copy is not among these: there the guest runs on while pages are missing, and downtime says nothing.

*Exact*: what is left at any moment of a round (`whimbrel.sim.bounds.rounds`), pages in QEMU's order, and so each point
that is found: an operator who knew all could have had it, but for what follows. *In favour of the bound*: syncs take no
time; a page that is written for the first time after the last sync is sent as it was; an early sync may come at any
moment from 50 ms on, where QEMU looks once in 51 ms; the pipe may be as full, or as empty, as is best. *Discretised*,
and so what a policy may beat it by: early and late syncs come at set parts of a round (`EARLY`, `LATE`), stops at some
dozens (`LOOKS`). Of the states that fall into the same slot of time those are followed up that have the least left for
the bytes that they have sent, or for the guest-seconds that they have lost: some of them, with their real bitmaps. A
throttle is set once, at one of the syncs or within a round (`SLOWED_FROM`), and kept to the end; it is the greatest
that the objectives allow, or the greatest that spares a group of writers: to run at full speed first and be slowed at
last loses the least. The dirty limit counts as a throttle; XBZRLE and compression count where the scenario asks for
them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from whimbrel.engine.bounds import GREATEST_THROTTLE
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.scenario import Scenario

from .rounds import Looks, Round, Synced, begin
from .switchover import Switchover
from .trace import Seconds, Trace

EARLY = (0.25, 0.5, 0.7, 0.85, 0.93, 0.97)
"""Parts of a round after which it may be cut short by a sync."""
LATE = (1.5, 3.0)
"""How much longer it may be made by sending slower, where the guest has phases that may be worth waiting for."""
WHOLE = np.array([1.0])
"""All of a round, and no more."""
LEAST_ROUND_S = 1e-4
"""So long a round takes at least in which there is nothing to send."""
ALIKE, ALIKE_IN_THIRD = 0.01, 0.05
"""Of points whose downtimes, and throttles or bytes, differ by less than this part of them one is enough."""
LEAST_OF_MOST = 1e-3
"""What is less than this part of the most counts as that."""
LOOKS = np.concatenate((np.linspace(0.0, 0.9, 19), 1 - np.geomspace(0.08, 0.001, 12), [1.0]))
"""Parts of a round at which the guest may stop."""
TURN_S = 0.05
"""QEMU looks whether to sync once in a turn of its loop, which takes so long (``MAX_WAIT``, ram.c)."""
SLOTS_BEFORE, SLOTS = 30, 100
"""Into so many slots time is divided: while the link first carries all of RAM, evenly; from then on ever wider ones,
for what ends at all mostly ends soon after that."""
FIRST_SLOT = 0.1
"""How fast they widen: by so much of the time that all of RAM takes the width has doubled."""
SLOWED_FROM = (0.25, 0.5, 0.65, 0.78, 0.88, 0.95)
"""From which part of a round on a throttle may be set, besides at the sync."""
SLOWED_SYNCS, SLOWED_WITHIN = 60, 5
"""So many of the syncs, and of the rounds, are tried, all throttles together."""
SLOWED_SLOT, SLOWED_KEPT = 2.5, 3
"""Where one is set at a sync: how much longer slots are, and how many states are kept of each."""
LEAST_PAGES = 16
"""Where no more is left a round is not followed up."""
MOST_THROTTLES = 3
"""So many throttles are tried."""
SLOWED_ROUNDS = 5
"""So long it is kept up, at most."""
AT_THE_FLOOR_S = 0.001
"""A downtime that is no more than this above the least that there can be needs no further search."""
WAITS = 8
"""Into so many parts the longest cycle of the guest is divided, for a begin that is put off."""


@dataclass(frozen=True, slots=True)
class Points:
    """What was found; one entry of each for each point.

    Attributes:
        totals_s: from ``migrate`` until the guest runs at the destination.
        downtimes_s: of these how long it stood.
        throttled_s: guest-seconds of work that were lost to throttles.
        sent_bytes: pages on the wire.
        lost_s: guest-seconds that were lost, to the outage, too.
    """

    totals_s: Seconds
    downtimes_s: Seconds
    throttled_s: Seconds
    sent_bytes: Seconds
    lost_s: Seconds


class Knobs:
    """The search over one trace.

    Attributes:
        rounds: how many were looked at.

    Args:
        trace: of guest and link.
        switchover: what it costs besides.
        scenario: says what may be done.
        floor_s: a downtime below which there is nothing: the search ends there.
    """

    def __init__(self, trace: Trace, switchover: Switchover, scenario: Scenario, floor_s: float) -> None:
        """Nothing is searched yet."""
        self._trace = trace
        self._switchover = switchover
        self._kvm = scenario.qemu.kvm
        goal = scenario.objectives
        rate = float(trace.capacity.bytes[-1] / trace.capacity.at_s[-1])
        # Without a pause QEMU only looks for a sync below bandwidth x limit; its bandwidth counts the pipe's filling.
        self._most_unsent = float("inf") if goal.may_pause else 1.5 * goal.downtime_s * rate + scenario.link.pipe_bytes
        self._throttles = _throttles(trace, min(goal.greatest_throttle, GREATEST_THROTTLE))
        self._floor_s = floor_s + AT_THE_FLOOR_S
        self._once_s = min(trace.capacity.reached_at(float(trace.fresh_bytes.sum())), trace.horizon_s)
        self._parts = np.array((*EARLY, 1.0, *LATE) if trace.period_s else (*EARLY, 1.0))
        self._kept = 2 if trace.period_s else 1
        """Of each slot; where nothing is waited for, all that have come as far have sent as much."""
        self._free: list[Seconds] = []
        self._slowed: list[Seconds] = []
        self._done_bytes = float("inf")
        self.rounds = 0

    def search(self) -> Points:
        """All points that are worth keeping: none is as good as another in everything."""
        followed = self._follow([begin(self._trace, wait_s) for wait_s in self._waits_s()])
        if self._throttles:
            self._slow_down(followed)
        return self._points()

    # ---- without a throttle

    def _follow(self, starts: list[Synced], throttle: float = 0.0) -> list[Synced]:
        """Follow up the best states of each slot of time; says how things stood at each sync that was followed up."""
        queue = [_Next(start.at_s, 0.0, 0.0, number, None) for number, start in enumerate(starts)]
        heapq.heapify(queue)
        wider, most = (SLOWED_SLOT, SLOWED_KEPT) if throttle else (1.0, self._kept)
        best: dict[int, list[_Next]] = {}
        followed: list[Synced] = []
        count = len(queue)
        while queue:
            this = heapq.heappop(queue)
            if this.round is None:
                state = starts[this.number]
            elif any(this is each for each in best[self._slot(this.at_s, wider)]):
                state = this.round.sync(this.at_s)
                followed.append(state)
            else:
                continue
            if state.sent_bytes >= self._done_bytes:
                continue
            around, looks = self._round(state, self._parts, throttle)
            for at_s, left, third in self._syncs(around, looks, throttled=throttle > 0):
                count += 1
                sync = _Next(at_s, left, third, count, around)
                if left >= LEAST_PAGES * PAGE_BYTES and _keeps(
                    best.setdefault(self._slot(at_s, wider), []), sync, most
                ):
                    heapq.heappush(queue, sync)
        return followed

    def _slot(self, at_s: float, wider: float) -> int:
        """Which slot of time a sync falls into."""
        once_s, first_s = self._once_s, FIRST_SLOT * self._once_s
        if at_s <= once_s:
            place = SLOTS_BEFORE * at_s / once_s
        else:
            over = math.log1p((at_s - once_s) / first_s) / math.log1p((self._trace.horizon_s - once_s) / first_s)
            place = SLOTS_BEFORE + SLOTS * over
        return int(place / wider)

    def _waits_s(self) -> Iterator[float]:
        """When the migration may begin."""
        period_s = self._trace.period_s
        for part in range(WAITS if period_s else 1):
            yield part * period_s / WAITS

    def _syncs(self, this: Round, looks: Looks, *, throttled: bool) -> Iterator[tuple[float, float, float]]:
        """When the next sync may be; what would be left; and the bytes sent by then, or guest-seconds lost."""
        start_s, turn_s = this.start.at_s, this.start.at_s + TURN_S
        thirds = looks.throttled_s if throttled else looks.sent_bytes
        columns = (self._parts, looks.at_s, looks.left_bytes, looks.unsent_bytes, thirds)
        for part, at_s, left, unsent, third in zip(*(column.tolist() for column in columns), strict=True):
            in_time = start_s < at_s <= this.most_s and at_s < self._trace.horizon_s
            if in_time and (part == 1 or (at_s >= turn_s and unsent <= self._most_unsent)):
                yield at_s, left, third

    def _round(
        self, state: Synced, parts: Seconds, throttle: float = 0.0, slow_from: float = 0.0
    ) -> tuple[Round, Looks]:
        """A round, what comes of stops in it, and how things stand at some of its parts."""
        self.rounds += 1
        this = Round(
            self._trace,
            state,
            throttle=throttle,
            slow_from=slow_from,
            kvm=self._kvm,
            longest=float(parts.max()),
            least_s=TURN_S * float(parts.max() - 1),
        )
        start_s, span_s = state.at_s, max(this.span_s, LEAST_ROUND_S)
        syncs_s = start_s + parts * span_s + TURN_S * np.maximum(parts - 1, 0)
        looks = this.look(np.concatenate((start_s + LOOKS * span_s, syncs_s)))
        self._stop(looks.part(slice(0, len(LOOKS))))
        return this, looks.part(slice(len(LOOKS), None))

    def _stop(self, looks: Looks) -> None:
        """Take down what comes of stops."""
        capacity, stops_s = self._trace.capacity, looks.at_s
        sent_bytes = looks.sent_bytes + looks.left_bytes
        over_s = self._switchover.arrivals_s(stops_s, capacity.carried(stops_s) + looks.left_bytes, capacity)
        seen = np.isfinite(over_s) & (stops_s <= self._trace.horizon_s)
        over_s, stops_s, sent_bytes = over_s[seen], stops_s[seen], sent_bytes[seen]
        downtimes_s, totals_s = over_s - stops_s, over_s + self._trace.lag_s
        throttled_s = looks.throttled_s[seen]
        lost_s = throttled_s + downtimes_s if self._trace.groups else np.zeros_like(downtimes_s)
        slowed = bool(throttled_s.any())
        found = self._slowed if slowed else self._free
        found.append(np.column_stack((totals_s, downtimes_s, throttled_s, sent_bytes, lost_s)))
        if not slowed and (low := downtimes_s <= self._floor_s).any():
            self._done_bytes = min(self._done_bytes, float(sent_bytes[low].min()))

    # ---- with one

    def _slow_down(self, followed: list[Synced]) -> None:
        """Set a throttle at the syncs, and within some of the rounds."""
        once_bytes = self._trace.fresh_bytes.sum()
        whole = [state for state in followed if state.sent_bytes >= once_bytes]
        count = len(self._throttles)
        within = [begin(self._trace), *whole[:1], *_some(followed, -(-SLOWED_WITHIN // count))]
        for throttle in self._throttles:
            self._follow([begin(self._trace), *_some(followed, SLOWED_SYNCS // count)], throttle)
            for state in within:
                for slow_from in SLOWED_FROM:
                    self._slow_within(state, throttle, slow_from)

    def _slow_within(self, state: Synced, throttle: float, slow_from: float) -> None:
        before = float("inf")
        for _ in range(SLOWED_ROUNDS):
            this, looks = self._round(state, WHOLE, throttle, slow_from)
            left = float(looks.left_bytes[0])
            if this.end_s >= self._trace.horizon_s or left >= 0.5 * before or left < LEAST_PAGES * PAGE_BYTES:
                return
            before, slow_from = left, 0.0
            state = this.sync(float(looks.at_s[0]))

    # ---- what was found

    def _points(self) -> Points:
        found = [_worth(np.concatenate(self._free), 3)]
        if self._slowed:
            found.append(_worth(np.concatenate(self._slowed), 2))
        return Points(*(np.ascontiguousarray(column) for column in np.concatenate(found).T))


@dataclass(frozen=True, slots=True, order=True)
class _Next:
    """A sync that is to be followed up."""

    at_s: float
    left_bytes: float
    third: float
    number: int
    round: Round | None = field(compare=False)
    """That it ends; ``None``: it is the first."""


def _throttles(trace: Trace, greatest: float) -> list[float]:
    """Which throttles are worth trying: the greatest, and those just before another group of writers is slowed, too."""
    shares = sorted({group.cpu_share for group in trace.groups if group.cpu_share})
    if greatest <= 0 or not shares:
        return []
    return [greatest, *(1 - share for share in shares[:-1] if 1 - share < greatest)][:MOST_THROTTLES]


def _some(states: list[Synced], most: int) -> list[Synced]:
    """So many of them at most, evenly spread."""
    return states[:: -(-len(states) // most)] if states else []


def _keeps(slot: list[_Next], sync: _Next, most: int) -> bool:
    """Whether a state is among the best of its slot: nothing else has less left and less of the third thing.

    Of too many, those go that are nearest to others in what is left.
    """
    if any(other.left_bytes <= sync.left_bytes and other.third <= sync.third for other in slot):
        return False
    kept = [each for each in slot if sync.left_bytes > each.left_bytes or sync.third > each.third]
    kept = sorted([*kept, sync], key=_left)
    while len(kept) > most:
        gaps = [after.left_bytes - before.left_bytes for before, after in pairwise(kept)]
        del kept[gaps.index(min(gaps)) + 1]
    slot[:] = kept
    return any(sync is each for each in kept)


def _left(sync: _Next) -> float:
    return sync.left_bytes


def _worth(table: Seconds, third: int) -> Seconds:
    """Points that are worth keeping: the front of time and downtime, for each of some bounds on a third thing.

    What is hardly better (`ALIKE`) than one that needs less of the third thing is left out.
    """
    if not len(table):
        return table
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    values = np.maximum(table[:, third], table[:, third].max() * LEAST_OF_MOST)
    steps = np.ceil(np.log(np.maximum(values, 1e-9)) / ALIKE_IN_THIRD).astype(np.int64)
    kept = np.zeros(len(table), dtype=np.bool_)
    for step in np.unique(steps):
        within = np.flatnonzero(kept | (steps == step))
        downtimes_s = table[within, 1]
        before_s = np.minimum.accumulate(np.where(kept[within], downtimes_s, np.inf))
        had_s = before_s[np.searchsorted(table[within, 0], table[within, 0] * (1 + ALIKE / 5), side="right") - 1]
        falling = downtimes_s < np.concatenate(([np.inf], np.minimum.accumulate(downtimes_s)[:-1]))
        chosen = within[falling & (downtimes_s < had_s * (1 - ALIKE))]
        _, first = np.unique(np.ceil(np.log(table[chosen, 1]) / ALIKE), return_index=True)
        kept[chosen[first]] = True
    return table[kept]
