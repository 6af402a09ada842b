"""What policies of the swarm do besides: they measure and wait first, take CPU time, and end pre-copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from whimbrel.engine.pilot import POSTCOPY
from whimbrel.engine.policy import Decision, Objectives, Observation, Policy, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What one of them does.

    Attributes:
        windows_s: it measures the guest in these, one after the other, before the start.
        wait_s: it waits for so long before the start; ``None``: it does not.
        throttle: it takes this share of the vCPUs' time from outside.
        act: ``pause``, ``postcopy``, ``abort`` or nothing.
        act_at_s: when it does that, seconds after ``migrate``.
    """

    windows_s: tuple[float, ...] = ()
    wait_s: float | None = None
    throttle: float = 0.0
    act: str = ""
    act_at_s: float = 0.0

    @classmethod
    def drawn(cls, random: Random) -> Steering:
        """Most do one or two of these."""
        return cls(
            windows_s=tuple(random.uniform(0.05, 1.5) for _ in range(random.choice((0, 0, 1, 2)))),
            wait_s=random.choice((None, None, 0.01, 1.0)),
            throttle=random.choice((0.0, 0.0, 0.3, 0.8)),
            act=random.choice(("", "", "pause", "postcopy", "abort")),
            act_at_s=random.choice((0.05, 0.5, 2.0)),
        )

    def allowed(self, goal: Objectives) -> Objectives:
        """Whatever it does is allowed."""
        return replace(
            goal, greatest_throttle=max(goal.greatest_throttle, 0.9), may_pause=True, may_postcopy=True, may_abort=True
        )


@dataclass(slots=True)
class Steered:
    """A policy that does so besides what another one decides."""

    inner: Policy
    steering: Steering
    _asked: bool = False

    def __call__(self, seen: Observation) -> Decision:
        """Decide as the other does, and so."""
        decision, what = self.inner(seen), self.steering
        if seen.reason is Reason.SETUP:
            return self._at_setup(decision)
        if not what.act or seen.elapsed_s < what.act_at_s:
            return decision
        return replace(
            decision,
            pause=what.act == "pause",
            start_postcopy=what.act == "postcopy",
            abort=what.act == "abort",
        )

    def _at_setup(self, decision: Decision) -> Decision:
        what = self.steering
        first, self._asked = not self._asked, True
        if first and (what.windows_s or what.wait_s is not None):
            return Decision(measure_s=what.windows_s, not_yet_s=what.wait_s, because="look first")
        capabilities = dict(decision.capabilities)
        if what.act == "postcopy":
            capabilities[POSTCOPY] = True
        return replace(
            decision,
            outside_throttle=what.throttle or None,
            capabilities=capabilities,
            wake_after_s=0.1 if what.act else decision.wake_after_s,
        )
