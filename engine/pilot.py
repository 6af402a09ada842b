"""Between the policy and the knobs: asks, clamps to the objectives, and says what was clamped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .policy import Abilities, Decision, Knobs, Objectives, Observation, Policy, Reason
from .statistics import Ledger

LEAST_DOWNTIME_LIMIT_S = 0.001
"""QEMU counts the limit in whole milliseconds; 0 would never switch over a guest that writes at all."""
GREATEST_DOWNTIME_LIMIT_S = 2000.0
"""QEMU's own bound (MAX_MIGRATE_DOWNTIME_SECONDS)."""
GREATEST_THROTTLE = 0.99
LEAST_THROTTLE = 0.01
QEMUS_FIRST_THROTTLE = 0.2
"""QEMU's own ``cpu-throttle-initial``; it refuses a ``max-cpu-throttle`` below the initial one."""
LEAST_WAKE_S = 0.01
"""QEMU's windows are 100 ms; asking more often than 100 times a second can teach nothing."""

GREATEST_WAKE_S = 86400.0
"""A day: "never again" is said by leaving the cadence out, and must fit a clock of nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """A decision as it will be carried out."""

    asked: Reason
    decision: Decision
    knobs: Knobs
    """All knobs as they stand after it."""
    changes: dict[str, float | int]
    """The knobs that it changes, by name of the field in `Knobs`."""
    clamped: tuple[str, ...]
    """What was not allowed, a sentence each."""
    at_ns: int = 0


@dataclass(slots=True)
class Pilot:
    """Holds the policy, the knobs and the policy's cadence. Not part of the protocol's state."""

    policy: Policy
    objectives: Objectives
    abilities: Abilities = field(default_factory=Abilities)
    knobs: Knobs = field(default_factory=Knobs)
    wake_every_ns: int | None = None
    next_wake_ns: int | None = None
    started_ns: int = 0
    deadline_told: bool = False

    def setup(self, now_ns: int) -> Steering:
        """Ask the policy before ``migrate``; every knob is then set explicitly, changed or not."""
        self.reset(now_ns)
        return self._steer(self._look(Reason.SETUP, Ledger(), now_ns), now_ns)

    def reset(self, now_ns: int) -> None:
        """Every knob as it is before the policy has said anything."""
        self.knobs = Knobs(
            downtime_limit_s=self.objectives.downtime_s,
            bandwidth_bytes_per_s=self.objectives.bandwidth_bytes_per_s or 0,
        )
        self.started_ns = now_ns

    def recall(self, asked: str, changes: Mapping[str, Any]) -> None:
        """Take a decision out of a log: the knobs stand as it left them, and nobody is asked.

        Args:
            asked: the value of the `Reason` it was asked for.
            changes: knobs by the name of their field in `Knobs`; names that are not known here are passed over.
        """
        known = {name: value for name, value in changes.items() if name in Knobs.__dataclass_fields__}
        self.knobs = replace(self.knobs, **known)
        self.deadline_told |= asked == Reason.DEADLINE.value

    def start(self, now_ns: int) -> None:
        """``migrate`` goes out: elapsed time counts from here."""
        self.started_ns = now_ns
        if self.wake_every_ns is not None:
            self.next_wake_ns = now_ns + self.wake_every_ns

    def tick_due(self, now_ns: int) -> bool:
        """Whether the time that the policy asked for has passed."""
        return self.next_wake_ns is not None and now_ns >= self.next_wake_ns

    def deadline_ns(self) -> int | None:
        """When the user's deadline passes; ``None``: there is none, or the policy was told."""
        if self.objectives.deadline_s is None or self.deadline_told:
            return None
        return self.started_ns + round(self.objectives.deadline_s * 1e9)

    def ask(self, reason: Reason, ledger: Ledger, now_ns: int) -> Steering:
        """Ask the policy and clamp what it says."""
        if reason is Reason.DEADLINE:
            self.deadline_told = True
        return self._steer(self._look(reason, ledger, now_ns), now_ns)

    def _look(self, reason: Reason, ledger: Ledger, now_ns: int) -> Observation:
        last = ledger.last
        ended = ledger.iterations
        return Observation(
            reason=reason,
            elapsed_s=(now_ns - self.started_ns) / 1e9,
            iteration=last.iteration if last else 0,
            remaining_bytes=last.remaining_bytes if last else 0,
            transferred_bytes=last.transferred_bytes if last else 0,
            total_bytes=last.total_bytes if last else 0,
            bandwidth_bytes_per_s=ledger.sent_bandwidth_bytes_per_s,
            dirty_bytes_per_s=ended[-1].dirty_bytes_per_s if ended else 0.0,
            throttle=last.throttle if last else 0.0,
            knobs=self.knobs,
            objectives=self.objectives,
            abilities=self.abilities,
            iterations=ended,
            samples=ledger.window,
        )

    def _steer(self, seen: Observation, now_ns: int) -> Steering:
        clamped: list[str] = []
        broken = False
        try:
            decision = self.policy(seen)
            if seen.reason is Reason.SETUP:
                decision = self._slowing_as_allowed(decision, clamped)
            wanted = self._wanted(decision, clamped)
            wake_after_s = _within("wake", decision.wake_after_s, LEAST_WAKE_S, GREATEST_WAKE_S, clamped)
        except Exception as error:  # a policy is somebody's code: whatever it does must not strand a guest
            decision, broken = Decision(abort=True, because=f"the policy failed: {error!r}"), True
            wanted, wake_after_s = {}, None
        changes = {
            name: value for name, value in wanted.items() if value is not None and value != getattr(self.knobs, name)
        }
        self.knobs = replace(self.knobs, **changes)  # type: ignore[arg-type]
        if wake_after_s is not None:
            self.wake_every_ns = round(wake_after_s * 1e9)
        if self.wake_every_ns is not None:
            self.next_wake_ns = now_ns + self.wake_every_ns
        if decision.abort and not self.objectives.may_abort and not broken:
            clamped.append("abort: the objectives do not allow giving up")
            decision = replace(decision, abort=False)
        return Steering(
            asked=seen.reason,
            decision=decision,
            knobs=self.knobs,
            changes=changes,
            clamped=tuple(clamped),
            at_ns=now_ns,
        )

    def _slowing_as_allowed(self, decision: Decision, clamped: list[str]) -> Decision:
        """Capabilities by which QEMU slows the guest on its own account, within what the user allows.

        Auto-converge gets its bound, whether the policy named one or not: QEMU's own is 99 %. The dirty limit has none:
        it is for those who allow everything.
        """
        greatest = min(self.objectives.greatest_throttle, GREATEST_THROTTLE)
        asked = {name for name, state in decision.capabilities.items() if state}
        not_allowed = {
            name
            for name, least in (("auto-converge", LEAST_THROTTLE), ("dirty-limit", GREATEST_THROTTLE))
            if name in asked and greatest < least
        }
        clamped += [
            f"{name}: the objectives do not allow slowing the guest by more than {greatest:.0%}"
            for name in sorted(not_allowed)
        ]
        if not_allowed:
            kept = {name: state for name, state in decision.capabilities.items() if name not in not_allowed}
            decision = replace(decision, capabilities=kept)
        if "auto-converge" in asked - not_allowed:
            ceiling = greatest if decision.throttle_ceiling is None else decision.throttle_ceiling
            first = QEMUS_FIRST_THROTTLE if decision.throttle_initial is None else decision.throttle_initial
            decision = replace(decision, throttle_ceiling=ceiling, throttle_initial=min(first, ceiling))
        return decision

    def _wanted(self, decision: Decision, clamped: list[str]) -> dict[str, float | int | None]:
        goal = self.objectives
        limit = goal.downtime_s if decision.switch_over else decision.downtime_limit_s
        ceiling = min(goal.downtime_s, GREATEST_DOWNTIME_LIMIT_S)
        throttle = min(goal.greatest_throttle, GREATEST_THROTTLE)
        return {
            "downtime_limit_s": _within("downtime limit", limit, LEAST_DOWNTIME_LIMIT_S, ceiling, clamped),
            "bandwidth_bytes_per_s": self._bandwidth(decision.bandwidth_bytes_per_s, clamped),
            "throttle_initial": _within("throttle", decision.throttle_initial, LEAST_THROTTLE, throttle, clamped),
            "throttle_increment": _within(
                "throttle step", decision.throttle_increment, LEAST_THROTTLE, throttle, clamped
            ),
            "throttle_ceiling": _within(
                "throttle ceiling", decision.throttle_ceiling, LEAST_THROTTLE, throttle, clamped
            ),
        }

    def _bandwidth(self, wanted: int | None, clamped: list[str]) -> int | None:
        allowed = self.objectives.bandwidth_bytes_per_s
        if wanted is None or not allowed:
            return wanted
        if wanted == 0 or wanted > allowed:
            clamped.append(f"bandwidth: {wanted or 'unlimited'} B/s is more than the {allowed} B/s allowed")
            return allowed
        return wanted


def _within(name: str, wanted: float | None, least: float, most: float, clamped: list[str]) -> float | None:
    if wanted is None:
        return None
    if math.isnan(wanted):
        clamped.append(f"{name}: not a number")
        return None
    if most < least:
        clamped.append(f"{name}: the objectives do not allow it")
        return None
    if least <= wanted <= most:
        return wanted
    allowed = min(max(wanted, least), most)
    clamped.append(f"{name}: {wanted:g} is outside {least:g} to {most:g}")
    return allowed
