"""How far a run was from the best: the bounds of one scenario and seed, and the regrets of runs against them.

Three things are compared at the same guest and the same link: the clairvoyant sender, the best use of QEMU's knobs,
and the run. From the first to the second is **mechanism regret**, what QEMU could gain by choosing pages; from the
second to the third is **policy regret**, what an operator could gain today. Each is taken for

- downtime, in the time that the run took,
- time, at the downtime that it had,
- bytes, at both,
- lost guest-seconds, at both,

and always among what loses no more guest-seconds to throttles than the run did, so that a throttle is not free. (Where
lost guest-seconds are what is compared, throttles are free to be used.) Time and loss together are its **cost**: it is
compared, for a run that met the objectives, with the least for which the knobs would have met them.

Definitions at the edges:

- The restricted optimum is found by a search whose steps are not infinitely small. So "in the same time" means `SLACK`
  more, and the same for downtimes and losses; regrets of that size, also negative ones, say nothing.
- A front has no point there (the run took less time than any that was found, or its downtime was less): ``None``.
- A run that did not converge has no downtime: its time, which is at least that, is compared at the downtime that the
  objectives allow; everything else is ``None``, and that, too, if it ended before the best could have been there.
- With post-copy the guest runs while its pages are missing, and the bounds on downtime do not hold. Such a run is
  compared with a perfect one: everything over the link once, and a switchover with nothing left to send. Mechanism
  regrets are 0.0 then.
- What a run waited before ``migrate`` counts as time: whoever knows the guest's phases could have used it for sending.
  Where the link's steps or outages are counted from ``migrate`` such a run has another link, and is not compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from whimbrel.sim.scenario import Scenario

from .clairvoyant import Clairvoyant, Front, front_of
from .knobs import Knobs, Points
from .switchover import Switchover, switchover_of
from .trace import FAR_S, Trace, trace_of

SLACK = 0.005
"""Half a percent of a run's time, downtime, and loss ..."""
SLACK_S = 0.01
"""... and so much more, seconds."""

Point = tuple[float, float, float, float, float]
"""Seconds in all, seconds of downtime, guest-seconds lost to throttles, bytes sent, guest-seconds lost in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """What a run could have been spared; names as in `whimbrel.laboratory.records.Row`. ``None``: does not apply.

    Attributes:
        mechanism_downtime_s, policy_downtime_s: in the time that it took.
        mechanism_time_s, policy_time_s: at the downtime that it had.
        mechanism_bytes, policy_bytes: at both.
        policy_lost_guest_s: at both.
        policy_cost_s: seconds and guest-seconds beyond the least for which the objectives could have been met, of a run
            that did; below 0 where post-copy did better than all that the knobs can do before it.
    """

    mechanism_downtime_s: float | None = None
    policy_downtime_s: float | None = None
    mechanism_time_s: float | None = None
    policy_time_s: float | None = None
    mechanism_bytes: float | None = None
    policy_bytes: float | None = None
    policy_lost_guest_s: float | None = None
    policy_cost_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What could have been had with one guest and one link.

    Attributes:
        clairvoyant: the front of time and downtime, guest at full speed.
        restricted: the same of what QEMU's knobs can do.
        points: all that was found of these, throttled ones too; none is as good as another one in everything.
        least_downtime_s: of a guest with nothing left to send.
        once_s: from ``migrate`` until the link can have carried all of RAM.
        once_bytes: all of RAM, each page once.
        goal_s: the greatest downtime that the objectives allow.
        horizon_s: runs that took longer are not bounded.
        alike: a throttle slows all that the guest writes by the same part.
        most_writes_per_s: that the guest makes at full speed.
        write_s: what the link needs for a page at its slowest.
        silent_s: how long it carries nothing, all in all.
        may_wait: the link does not depend on when the migration begins.
        deadline_s: when the objectives want it to be over; ``None``: no hurry.
    """

    clairvoyant: Front
    restricted: Front
    points: tuple[Point, ...]
    least_downtime_s: float
    once_s: float
    once_bytes: int
    goal_s: float
    horizon_s: float
    alike: bool
    most_writes_per_s: float
    write_s: float
    silent_s: float
    may_wait: bool
    deadline_s: float | None = None

    # ---- the bounds

    def clairvoyant_downtime_s(self, total_s: float, throttled_s: float = 0.0) -> float | None:
        """The least downtime in a time, whoever sends.

        Args:
            total_s: from ``migrate`` until the guest runs at the destination.
            throttled_s: guest-seconds that throttles took from it.
        """
        least = self.clairvoyant.downtime_s(total_s)
        if least is None or not throttled_s:
            return least
        owed_s = self._owed_s(throttled_s)
        missed = self.clairvoyant.downtime_s(total_s + owed_s)
        bound = missed - owed_s if missed is not None else 0.0
        if self.alike:
            bound = max(bound, least - throttled_s)
        return max(bound, self.least_downtime_s)

    def clairvoyant_total_s(self, downtime_s: float, throttled_s: float = 0.0) -> float | None:
        """The least time for a downtime, whoever sends; see `clairvoyant_downtime_s`."""
        if downtime_s < self.least_downtime_s:
            return None
        if not throttled_s:
            return self.clairvoyant.total_s(downtime_s)
        owed_s = self._owed_s(throttled_s)
        missed = self.clairvoyant.total_s(downtime_s + owed_s)
        bound = missed - owed_s if missed is not None else math.inf
        if self.alike:
            halted = self.clairvoyant.total_s(downtime_s + throttled_s)
            bound = max(bound, halted) if halted is not None else math.inf
        return max(bound, self.clairvoyant.totals_s[0]) if bound < math.inf else None

    def _owed_s(self, throttled_s: float) -> float:
        """What the link would need for the writes that a throttle kept the guest from.

        Had they been made just before the stop, so many pages more would be owed, at the most; and a guest at full
        speed makes each write earlier than that, or at the same time. So its bound is no further off than this.
        """
        return throttled_s * self.most_writes_per_s * self.write_s + self.silent_s

    def restricted_point(
        self, *, total_s: float = math.inf, downtime_s: float = math.inf, throttled_s: float = math.inf, least: int
    ) -> Point | None:
        """Of the points that are no worse than this, and `SLACK`, the one that is least in one thing (its place)."""
        most_s, longest_s = _and_slack(total_s), _and_slack(downtime_s)
        slowest_s = _and_slack(throttled_s) if throttled_s else 0.0
        fitting = (each for each in self.points if each[0] <= most_s and each[1] <= longest_s and each[2] <= slowest_s)
        return min(fitting, key=lambda each: (each[least], each), default=None)

    # ---- what it means for a run

    def regret(
        self,
        *,
        total_s: float,
        downtime_s: float | None,
        transferred_bytes: float,
        lost_guest_s: float,
        converged: bool = True,
        postcopy: bool = False,
        waited_s: float = 0.0,
    ) -> Regret:
        """The regrets of a run.

        Args:
            total_s: from ``migrate`` until all of the guest was at the destination.
            downtime_s: how long it stood; ``None``: it did not get there.
            transferred_bytes: what QEMU sent.
            lost_guest_s: guest-seconds of work that were lost, to the outage, to throttles, and to faults of post-copy.
            converged: it got there in time.
            postcopy: it went over to post-copy.
            waited_s: before ``migrate``.
        """
        total_s += waited_s
        if (waited_s and not self.may_wait) or (converged and total_s > self.horizon_s):
            return Regret()
        if not converged or downtime_s is None:
            return self._unconverged(total_s, lost_guest_s)
        cost_s = self._cost_regret_s(total_s, downtime_s, lost_guest_s)
        if postcopy:
            return Regret(
                mechanism_downtime_s=0.0,
                policy_downtime_s=downtime_s - self.least_downtime_s,
                mechanism_time_s=0.0,
                policy_time_s=total_s - self.once_s,
                mechanism_bytes=0.0,
                policy_bytes=transferred_bytes - self.once_bytes,
                policy_lost_guest_s=lost_guest_s - self.least_downtime_s,
                policy_cost_s=cost_s,
            )
        throttled_s = self.throttled_s(downtime_s, lost_guest_s)
        in_time = self.restricted_point(total_s=total_s, throttled_s=throttled_s, least=1)
        as_short = self.restricted_point(downtime_s=downtime_s, throttled_s=throttled_s, least=0)
        both = self.restricted_point(total_s=total_s, downtime_s=downtime_s, throttled_s=throttled_s, least=3)
        any_throttle = self.restricted_point(total_s=total_s, downtime_s=downtime_s, least=4)
        slowest_s = _and_slack(throttled_s) if throttled_s else 0.0
        least_s = self.clairvoyant_downtime_s(_and_slack(total_s), slowest_s)
        soonest_s = self.clairvoyant_total_s(_and_slack(downtime_s), slowest_s)
        return Regret(
            mechanism_downtime_s=_gap(in_time and in_time[1], least_s),
            policy_downtime_s=_gap(downtime_s, in_time and in_time[1]),
            mechanism_time_s=_gap(as_short and as_short[0], soonest_s),
            policy_time_s=_gap(total_s, as_short and as_short[0]),
            mechanism_bytes=_gap(both and both[3], self.once_bytes),
            policy_bytes=_gap(transferred_bytes, both and both[3]),
            policy_lost_guest_s=_gap(lost_guest_s, any_throttle and any_throttle[4]),
            policy_cost_s=cost_s,
        )

    def _cost_regret_s(self, total_s: float, downtime_s: float, lost_guest_s: float) -> float | None:
        within_s = math.inf if self.deadline_s is None else self.deadline_s
        if downtime_s > self.goal_s or total_s > within_s:
            return None
        costs = [each[0] + each[4] for each in self.points if each[1] <= self.goal_s and each[0] <= within_s]
        return _gap(total_s + lost_guest_s, min(costs, default=None))

    def throttled_s(self, downtime_s: float, lost_guest_s: float) -> float:
        """What part of the lost guest-seconds must have been lost to throttles: what the outage can't have lost."""
        throttled_s = lost_guest_s - downtime_s
        return throttled_s if throttled_s > SLACK * lost_guest_s + SLACK_S / 10 else 0.0

    def _unconverged(self, total_s: float, lost_guest_s: float) -> Regret:
        throttled_s = self.throttled_s(0.0, lost_guest_s)
        found = self.restricted_point(downtime_s=self.goal_s, throttled_s=throttled_s, least=0)
        least_s = self.clairvoyant_total_s(_and_slack(self.goal_s), _and_slack(throttled_s) if throttled_s else 0.0)
        if found is None or total_s < found[0]:
            return Regret()
        return Regret(mechanism_time_s=_gap(found[0], least_s), policy_time_s=total_s - found[0])


def bounds(scenario: Scenario, seed: int) -> Bounds:
    """The bounds of a scenario and seed, for whatever policy runs in it.

    Args:
        scenario: with a guest that is modelled page by page; its policy does not count, nor do its faults.
        seed: the world's.

    Returns:
        Plain numbers: cheap to keep, to pickle, and to write down.

    Raises:
        BadInput: the guest is not modelled page by page, or the scenario is impossible.
    """
    trace = trace_of(scenario, seed)
    return bounds_of(trace, switchover_of(scenario), scenario)


def bounds_of(trace: Trace, switchover: Switchover, scenario: Scenario) -> Bounds:
    """The bounds on a trace.

    Args:
        trace: of guest and link.
        switchover: what that costs besides.
        scenario: says which knobs may be used.
    """
    clairvoyant = Clairvoyant(trace, switchover)
    front = clairvoyant.front()
    floor_s = front.downtimes_s[-1] if front.downtimes_s else switchover.least_s
    found = Knobs(trace, switchover, scenario, floor_s).search()
    plain = found.throttled_s == 0
    once_bytes = int(trace.fresh_bytes.sum())
    rates = np.diff(trace.capacity.bytes) / np.diff(trace.capacity.at_s)
    once_s = min(trace.capacity.reached_at(float(once_bytes)), FAR_S)
    kinds = {(group.cpu_share, group.phases.period_s) for group in trace.groups}
    return Bounds(
        clairvoyant=front,
        restricted=front_of(found.totals_s[plain], found.downtimes_s[plain]),
        points=_rows(found),
        least_downtime_s=switchover.least_s,
        once_s=once_s + trace.lag_s,
        once_bytes=once_bytes,
        goal_s=scenario.objectives.downtime_s,
        horizon_s=trace.horizon_s,
        alike=len(kinds) <= 1 and all(not group.phases.period_s for group in trace.groups),
        most_writes_per_s=trace.most_writes_per_s(),
        write_s=float(trace.written_bytes.max() / rates[rates > 0].min()) if (rates > 0).any() else FAR_S,
        silent_s=float(np.diff(trace.capacity.at_s)[rates <= 0].sum()),
        may_wait=not scenario.link.steps and not scenario.link.outages,
        deadline_s=scenario.objectives.deadline_s,
    )


def _rows(points: Points) -> tuple[Point, ...]:
    columns = (points.totals_s, points.downtimes_s, points.throttled_s, points.sent_bytes, points.lost_s)
    # To the microsecond and the byte: that is enough, and shorter to write down.
    return tuple(zip(*(np.round(column, 6).tolist() for column in columns), strict=True))


def _and_slack(value: float) -> float:
    return value * (1 + SLACK) + SLACK_S


def _gap(more: float | None, less: float | None) -> float | None:
    return more - less if more is not None and less is not None else None
