"""``cycle_aware``: start in the low phase of a guest that writes in cycles, or at least switch over in one.

The idea is that of Baruchi et al. (ALMA: the load of many guests has a cycle, found by a Fourier transform; the start
is postponed to its low phase, by a greatest delay at most; they report 67 to 74 % less time). What is looked at here
is what counts for a migration, the bytes dirtied, and the cycle is found in their autocorrelation, which needs no
power of two of samples and no library.

**Before the start**, where the guest can be measured: windows of `window_s`, a batch at a time, until the cycle was
seen `CYCLES` times, or `observe_s` are over. The series has a cycle where its autocorrelation, corrected for the
overlap that shrinks with the lag, has a peak of `STRONG` at least; the least lag that comes close to the greatest
peak is the period. Windows are folded by it, and the longest run of phases below the middle between the least and the
greatest is the low phase. The migration starts now if no more than a quarter of the low phase is over, else at the
next one, unless that is more than `delay_s` away. After that this policy has no more to say.

**Without measuring** the iterations themselves tell: QEMU's own rule is held off while an iteration dirties faster
than the lowest quarter of what was seen, so that it decides in the low phase; for `hold_s` after the first pass at
most, and not at all where the rates hardly differ.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from whimbrel.engine.policy import Decision, Measurement, Observation, Reason

from .checking import above_zero, not_negative
from .permits import HOLD_S
from .room import LEARN_EVERY_S, Room

STRONG, SURE = 0.5, 2.5
"""An autocorrelation that counts as a cycle: `STRONG`, and `SURE` times what noise comes to, which is one over the root
of how many pairs it was computed from."""
CLOSE = 0.9
"""A peak so close to the greatest one is as good: multiples of a period look like the period."""
CYCLES = 2
BATCH = 8
"""So many windows are measured before it looks for a cycle again."""
DIFFERENT = 1.5
"""Rates that differ by less than this factor, of phases or of iterations, are not worth any waiting."""
LOW = 0.25
"""What part of the range of rates counts as low."""
LEAST_ITERATION_S = 0.05
"""A shorter iteration says little of the rate."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle in a series of equal steps.

    Attributes:
        period: its length, steps.
        low_start: the phase at which its low part begins, steps; the first sample has phase 0.
        low_length: how long that is, steps.
    """

    period: int
    low_start: int
    low_length: int

    def wait(self, now: int) -> int:
        """How many steps from the step `now` on until the low phase; 0: no more than a quarter of it is over."""
        into = (now - self.low_start) % self.period
        return 0 if 4 * into <= self.low_length else self.period - into


@dataclass(slots=True, kw_only=True)
class CycleAware:
    """Wait for the low phase of the guest's cycle before the start, or before the switchover.

    Needs: nothing. Where the guest can be measured it takes up to `observe` and `delay` before it starts.

    Attributes:
        delay_s: the longest that it puts off the start, seconds.
        observe_s: the longest that it measures, seconds.
        hold_s: the longest that it puts off the switchover, seconds.
        window_s: the length of a window, seconds, above 0; QEMU 7.2 takes whole seconds.

    Raises:
        BadInput: a time makes no sense.
    """

    delay_s: float = 60.0
    observe_s: float = 32.0
    hold_s: float = 10.0
    window_s: float = 1.0
    _asked: int = field(default=0, init=False)
    """How many windows were asked for."""
    _postponed: bool = field(default=False, init=False)
    _measured: bool = field(default=False, init=False)
    """It has had its say before the start."""
    _room: Room = field(default_factory=Room, init=False)
    _limit_s: float | None = field(default=None, init=False)
    """The limit that holds in a low phase."""

    def __post_init__(self) -> None:
        above_zero(window_s=self.window_s)
        not_negative(delay_s=self.delay_s, observe_s=self.observe_s, hold_s=self.hold_s)

    def __call__(self, seen: Observation) -> Decision:
        """Decide before the start, and at each iteration where nothing could be measured."""
        if seen.reason is Reason.SETUP:
            decision = self._setup(seen)
            starts = decision.not_yet_s is None and not decision.measure_s
            return replace(decision, wake_after_s=LEARN_EVERY_S) if starts else decision
        if seen.reason is Reason.DEADLINE:
            return Decision(downtime_limit_s=seen.objectives.downtime_s, because="no more waiting for a low phase")
        news = self._room.news(seen)
        if seen.knobs.downtime_limit_s > HOLD_S:
            self._limit_s = seen.knobs.downtime_limit_s
            if self._limit_s != seen.objectives.downtime_s:
                news = Decision(wake_after_s=news.wake_after_s)  # another policy sets it, and shall go on to
        self._limit_s = news.downtime_limit_s or self._limit_s
        if seen.reason is not Reason.ITERATION or self._measured or not seen.iterations:
            return news
        return self._steer(seen, news)

    # ---- before the start

    def _setup(self, seen: Observation) -> Decision:
        self._measured = seen.abilities.measuring
        if not self._measured:
            return Decision(because="the guest can't be measured: its iterations have to tell")
        if self._postponed:
            return Decision(because="the low phase begins")
        series = dirtied(seen.measurements)
        cycle = find_cycle(series)
        seen_enough = cycle is not None and len(series) >= CYCLES * cycle.period
        more = min(BATCH, round(self.observe_s / self.window_s) - self._asked)
        # Windows that came back fewer than asked for will not come next time either.
        if not seen_enough and more > 0 and len(seen.measurements) >= self._asked:
            self._asked += more
            return Decision(measure_s=(self.window_s,) * more, because="looking for a cycle")
        if cycle is None:
            return Decision(because=f"no cycle in {len(series)} windows of {self.window_s:g} s")
        step_s = _step_s(seen.measurements)
        wait_s = cycle.wait(len(series)) * step_s
        told = f"a cycle of {cycle.period * step_s:.0f} s"
        if wait_s > self.delay_s:
            return Decision(because=f"{told}; its low phase is {wait_s:.0f} s away, more than {self.delay_s:.0f} s")
        if wait_s <= 0:
            return Decision(because=f"{told}, in its low phase now")
        self._postponed = True
        return Decision(not_yet_s=wait_s, because=f"{told}, its low phase begins in {wait_s:.0f} s")

    # ---- while it runs

    def _steer(self, seen: Observation, news: Decision) -> Decision:
        told = [each for each in seen.iterations if each.duration_s >= LEAST_ITERATION_S]
        rates = [each.dirty_bytes_per_s for each in told]
        waited_s = (seen.iterations[-1].ended_ns - seen.iterations[0].ended_ns) / 1e9
        if len(rates) < 2 or max(rates) < DIFFERENT * min(rates):
            return self._let_go(news, "no phases to be seen")
        if waited_s > self.hold_s:
            return self._let_go(news, f"waited {waited_s:.0f} s for a low phase")
        low = min(rates) + LOW * (max(rates) - min(rates))
        mib = rates[-1] / (1 << 20)
        if rates[-1] <= low:
            return self._let_go(news, f"{mib:.1f} MiB/s dirtied: a low phase")
        return replace(news, downtime_limit_s=HOLD_S, because=f"{mib:.1f} MiB/s dirtied, low is {low / (1 << 20):.1f}")

    def _let_go(self, news: Decision, because: str) -> Decision:
        return replace(news, downtime_limit_s=self._limit_s, because=because)


def dirtied(measurements: Sequence[Measurement]) -> list[float]:
    """Bytes per second in each window, as a series of equal steps: a window that is missing has its predecessor's."""
    step_s = _step_s(measurements)
    series: list[float] = []
    batch, began_s, before_s = 0, 0.0, math.inf
    for each in measurements:
        if each.at_s <= before_s:
            # Times begin anew with each batch, and a batch follows upon the one before it.
            batch, began_s = len(series), each.at_s
        missing = batch + round((each.at_s - began_s) / step_s) - len(series)
        series += [series[-1]] * missing if series else []
        series.append(each.dirtied_bytes / each.window_s)
        before_s = each.at_s
    return series


def _step_s(measurements: Sequence[Measurement]) -> float:
    """From one window to the next, seconds; their own length and what asking takes."""
    gaps = [after.at_s - before.at_s for before, after in pairwise(measurements) if after.at_s > before.at_s]
    return statistics.median(gaps) if gaps else 1.0


def find_cycle(series: Sequence[float]) -> Cycle | None:
    """The cycle of a series of equal steps; ``None``: there is none, or the series is too short to tell.

    Args:
        series: one value a step, 0 or more.
    """
    spread = statistics.pvariance(series) if len(series) >= 2 * CYCLES else 0.0
    if spread <= 0:
        return None
    mean = statistics.fmean(series)
    deviations = [value - mean for value in series]
    lags = range(2, len(series) // 2 + 1)
    likeness = [1.0, _likeness(deviations, 1), *(_likeness(deviations, lag) for lag in lags)]
    sure = [max(STRONG, SURE / math.sqrt(len(series) - lag)) for lag in range(len(likeness))]
    peaks = [lag for lag in lags if likeness[lag] >= sure[lag] and _is_peak(likeness, lag)]
    if not peaks:
        return None
    greatest = max(likeness[lag] for lag in peaks)
    period = next(lag for lag in peaks if likeness[lag] >= CLOSE * greatest)
    phases = [statistics.fmean(series[phase::period]) for phase in range(period)]
    return Cycle(period, *_low_run(phases)) if max(phases) >= DIFFERENT * min(phases) else None


def _likeness(deviations: Sequence[float], lag: int) -> float:
    """The correlation of a series with itself, so many steps later; over what overlaps."""
    early, late = deviations[:-lag], deviations[lag:]
    norm = (sum(x * x for x in early) * sum(x * x for x in late)) ** 0.5
    return sum(x * y for x, y in zip(early, late, strict=True)) / norm if norm > 0 else 0.0


def _is_peak(likeness: Sequence[float], lag: int) -> bool:
    after = likeness[lag + 1] if lag + 1 < len(likeness) else -1.0
    return likeness[lag - 1] < likeness[lag] >= after


def _low_run(phases: Sequence[float]) -> tuple[int, int]:
    """Where the longest run of phases below the middle begins, and how long it is; it may go over the end."""
    middle = (min(phases) + max(phases)) / 2
    low = [value <= middle for value in phases]
    count = len(phases)
    # There is one that is not low (or all are alike, and then all are): a run begins after one that is not.
    starts = [at for at in range(count) if low[at] and not low[at - 1]] or [0]
    runs = [(at, next((n for n in range(count) if not low[(at + n) % count]), count)) for at in starts]
    return max(runs, key=lambda run: run[1])
