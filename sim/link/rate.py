"""The link's bandwidth as a process in time: piecewise constant, drawn ahead as far as it is looked at."""

from __future__ import annotations

from bisect import bisect_right
from math import sqrt

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.scenario import LinkPlan
from whimbrel.sim.seeds import stream

LEAST_PART = 0.01
"""Noise leaves at least 1 % of the bandwidth: a link that stands still is an outage, and said to be one.

So the mean is a little above the bandwidth where the noise is strong: 0.1 % at 0.3, 9 % at 1.0.
"""


class Bandwidth:
    """What the link carries, all streams together, bytes per second.

    Steady, or with noise (AR(1): each step keeps `noise_memory` of the deviation of the last, and the rest is drawn
    anew so that the standard deviation stays), with steps and outages. Steps and outages are counted from `begin`.
    """

    def __init__(self, plan: LinkPlan, seed: int) -> None:
        """Make it.

        Args:
            plan: what it is like.
            seed: the noise is drawn from the stream ``link`` of it.
        """
        self._plan = plan
        self._random = stream(seed, "link")
        self._began_ns: int | None = None
        self._deviations: list[float] = []
        self._step_ns = max(1, round(plan.noise_every_s * SECOND_NS)) if plan.noise > 0 else 0
        self._edges: list[int] = []
        self._rates: list[float] = [plan.bandwidth_bytes_per_s]

    def begin(self, now_ns: int) -> None:
        """The migration begins: the plan's steps and outages are counted from here; a second call changes nothing."""
        if self._began_ns is not None:
            return
        self._began_ns = now_ns
        plan = self._plan
        edges = {now_ns + _ns(start_s) for start_s, _ in plan.steps}
        for start_s, span_s in plan.outages:
            edges |= {now_ns + _ns(start_s), now_ns + _ns(start_s + span_s)}
        self._edges = sorted(edges)
        self._rates = [plan.bandwidth_bytes_per_s, *(self._planned(edge - now_ns) for edge in self._edges)]

    @property
    def steady(self) -> int | None:
        """The rate, if it never changes."""
        return None if self._edges or self._step_ns else max(1, round(self._rates[0]))

    def at(self, now_ns: int) -> tuple[int, int | None]:
        """The rate, and until when it stays so; ``None``: for ever."""
        if not self._edges and not self._step_ns:
            return max(1, round(self._rates[0])), None
        place = bisect_right(self._edges, now_ns)
        rate = self._rates[place]
        until_ns = self._edges[place] if place < len(self._edges) else None
        if self._step_ns and rate > 0:
            step = now_ns // self._step_ns
            rate *= max(LEAST_PART, 1 + self._deviation(step))
            ends_ns = (step + 1) * self._step_ns
            until_ns = ends_ns if until_ns is None else min(until_ns, ends_ns)
        return (max(1, round(rate)) if rate > 0 else 0), until_ns

    def _planned(self, since_ns: int) -> float:
        plan = self._plan
        for start_s, span_s in plan.outages:
            if _ns(start_s) <= since_ns < _ns(start_s + span_s):
                return 0.0
        rate = plan.bandwidth_bytes_per_s
        for start_s, changed in sorted(plan.steps):
            if _ns(start_s) <= since_ns:
                rate = changed
        return rate

    def _deviation(self, step: int) -> float:
        plan, known = self._plan, self._deviations
        fresh = sqrt(max(0.0, 1 - plan.noise_memory**2))
        while len(known) <= step:
            drawn = plan.noise * self._random.gauss()
            known.append(plan.noise_memory * known[-1] + fresh * drawn if known else drawn)
        return known[step]


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)
