"""Policies made of policies: `first`, `then` and `when`.

What holds for all three:

- **Before the start** every policy inside is asked, also one whose turn comes later: capabilities can't be asked for
  afterwards. They are asked for together; of ``auto-converge`` and ``dirty-limit``, which exclude each other, the one
  that comes first. The other settings are those of whoever is in charge, and the rest of what a
  later one says is kept until its turn. Windows to be measured (`Decision.measure_s`) are those of the first that wants
  some; only one in charge may postpone the start (`Decision.not_yet_s`).
- **Cadence.** Each keeps its own `Decision.wake_after_s`: it is asked for `Reason.TICK` when its own time has come,
  however often the others want to be. At an iteration, and at the deadline, everybody in charge is asked.
- **A change of who is in charge** (`then`, `when`): the new one's settings from before the start are applied along with
  what it decides now, what the old one took from the guest is given back, and if the deadline has passed it is told.
- **QEMU's throttle**, once one of them has asked for ``auto-converge``, can't be switched off: while one is in charge
  that has not asked for it, it is kept at its least, 1 %; so is its dirty limit, at one that nobody reaches.

A composition is a policy itself, so they nest. Like any policy it serves one migration, and so do those inside: each
needs an instance of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from whimbrel.engine.errors import BadInput
from whimbrel.engine.pilot import (
    GREATEST_THROTTLE,
    GREATEST_WAKE_S,
    LEAST_THROTTLE,
    LEAST_WAKE_S,
    QEMUS_FIRST_THROTTLE,
    Nonsense,
    check_sense,
)
from whimbrel.engine.policy import Decision, Observation, Policy, Reason

from .conditions import Condition, Test, next_look_s

AUTO_CONVERGE, DIRTY_LIMIT = "auto-converge", "dirty-limit"
DORMANT = Decision(throttle_initial=LEAST_THROTTLE, throttle_increment=LEAST_THROTTLE, throttle_ceiling=LEAST_THROTTLE)
"""QEMU's throttle at its least, which it keeps however often it is triggered."""
UNLIMITED = Decision(dirty_limit_bytes_per_s=1 << 50)
"""QEMU's dirty limit where no vCPU comes near it; its own is 1 MB/s."""
ASLEEP = {AUTO_CONVERGE: (LEAST_THROTTLE, DORMANT), DIRTY_LIMIT: (GREATEST_THROTTLE, UNLIMITED)}
"""Capabilities that slow the guest by themselves: what must be allowed for them, and how they are kept from it."""
QEMUS_OWN = Decision(
    throttle_initial=QEMUS_FIRST_THROTTLE, throttle_increment=0.1, throttle_trigger=0.5, throttle_tailslow=False
)
"""QEMU's throttle as QEMU has it by itself."""
EXCLUDES = {AUTO_CONVERGE: DIRTY_LIMIT, DIRTY_LIMIT: AUTO_CONVERGE}
"""Capabilities that QEMU does not take together."""
_NOTHING = Decision()


@dataclass(slots=True)
class _Seat:
    """A policy in a composition, with its own cadence."""

    policy: Policy
    every_s: float | None = None
    due_s: float | None = None
    """When it is to be asked for `Reason.TICK`, elapsed seconds."""
    setup: Decision = field(default_factory=Decision)
    """What it said before the start."""
    told_late: bool = False
    """It knows that the deadline has passed."""
    asked: bool = False
    """It was asked before; not so after a manager's death, when nobody is asked before the start."""

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return str(getattr(self.policy, "__name__", type(self.policy).__name__))

    def asked_for(self, capability: str) -> bool:
        """Whether it did before the start."""
        return bool(self.setup.capabilities.get(capability))

    def wants(self, seen: Observation) -> bool:
        """Whether it is to be asked now."""
        # The clock is one of nanoseconds: a time that was asked for may come out a rounding error earlier.
        due = self.due_s is not None and seen.elapsed_s >= self.due_s - 1e-9
        return seen.reason is not Reason.TICK or due or not self.asked

    def ask(self, seen: Observation) -> Decision:
        """Ask it.

        Raises:
            Nonsense: its answer is none.
        """
        self.asked = True
        decision = self.policy(seen)
        try:
            check_sense(decision)
        except Nonsense as error:
            raise Nonsense(f"{self.name}, in it, is wrong: {error}") from None
        if decision.wake_after_s is not None:
            self.every_s = max(LEAST_WAKE_S, decision.wake_after_s)
        self.due_s = None if self.every_s is None else seen.elapsed_s + self.every_s
        if seen.reason is Reason.SETUP:
            self.setup = decision
        self.told_late |= seen.reason is Reason.DEADLINE
        return decision


def merged(decisions: Sequence[Decision]) -> Decision:
    """One decision of several: of each field what the first one says that says anything."""
    said: dict[str, Any] = {}
    for decision in reversed(decisions):
        for each in fields(decision):
            value = getattr(decision, each.name)
            if value != getattr(_NOTHING, each.name):
                said[each.name] = value
    return Decision(**said)


def decides(decision: Decision) -> bool:
    """Whether it decides anything; a cadence and a sentence alone do not."""
    return replace(decision, because="", wake_after_s=None) != _NOTHING


class _Composition(ABC):
    """What all of them have in common."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._seats = [_Seat(policy) for policy in policies]
        self._woken = False

    def __call__(self, seen: Observation) -> Decision:
        """Ask whoever is in charge."""
        decision = self._setup(seen) if seen.reason is Reason.SETUP else self._decide(seen)
        return replace(decision, wake_after_s=self._wake_after_s(seen))

    @abstractmethod
    def _in_charge(self) -> Sequence[_Seat]:
        """Who decides at present, most important first."""

    @abstractmethod
    def _decide(self, seen: Observation) -> Decision:
        """What they decide, once the migration runs."""

    def _next_look_s(self, elapsed_s: float) -> float | None:
        """When the composition itself has to look, elapsed seconds; ``None``: never."""
        return None

    def _setup(self, seen: Observation) -> Decision:
        for seat in self._seats:
            seat.ask(seen)
        setups = [seat.setup for seat in self._seats]
        capabilities: dict[str, bool] = {}
        left_out: list[str] = []
        for each in setups:
            # QEMU (8.1) refuses both, and the migration with them: the one that comes first has it its way.
            refused = {other: name for name, other in EXCLUDES.items() if capabilities.get(name)}
            left_out += [
                f"{other} left out, which QEMU does not take with {name}"
                for other, name in refused.items()
                if each.capabilities.get(other)
            ]
            capabilities |= {
                name: (on and name not in refused) or capabilities.get(name, False)
                for name, on in each.capabilities.items()
            }
        deciding = [seat.setup for seat in self._in_charge()]
        return replace(
            merged(deciding + self._asleep(seen)),
            capabilities=capabilities,
            measure_s=merged(setups).measure_s,
            multifd_channels=merged(setups).multifd_channels,
            not_yet_s=max((each.not_yet_s for each in deciding if each.not_yet_s is not None), default=None),
            because="; ".join(dict.fromkeys([*(each.because for each in deciding if each.because), *left_out])),
        )

    def _asleep(self, seen: Observation) -> list[Decision]:
        """What keeps down what QEMU does by itself: it was asked for and may run, though nobody in charge wants it."""
        return [
            asleep
            for name, (least, asleep) in ASLEEP.items()
            if seen.objectives.greatest_throttle >= least
            and any(seat.asked_for(name) for seat in self._seats)
            and not any(seat.asked_for(name) for seat in self._in_charge())
        ]

    def _wake_after_s(self, seen: Observation) -> float | None:
        dues = [*(seat.due_s for seat in self._in_charge()), self._next_look_s(seen.elapsed_s)]
        due_s = min((due for due in dues if due is not None), default=None)
        if due_s is not None:
            self._woken = True
            return max(LEAST_WAKE_S, due_s - seen.elapsed_s)
        # What was stated holds until it is stated anew.
        return GREATEST_WAKE_S if self._woken else None


class First(_Composition):
    """The first of several policies that decides something; see `first`."""

    def _in_charge(self) -> Sequence[_Seat]:
        return self._seats

    def _decide(self, seen: Observation) -> Decision:
        for seat in self._seats:
            if seat.wants(seen) and decides(decision := seat.ask(seen)):
                return decision
        return Decision()


class _Switching(_Composition):
    """One in charge at a time."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        super().__init__(policies)
        self._at = 0
        self._late = False

    @abstractmethod
    def _choose(self, seen: Observation) -> int:
        """Whose turn it is."""

    def _in_charge(self) -> Sequence[_Seat]:
        return self._seats[self._at : self._at + 1]

    def _setup(self, seen: Observation) -> Decision:
        self._at = self._choose(seen)
        return super()._setup(seen)

    def _decide(self, seen: Observation) -> Decision:
        self._late |= seen.reason is Reason.DEADLINE
        before, self._at = self._seats[self._at], self._choose(seen)
        now = self._seats[self._at]
        if now is not before:
            return self._hand_over(before, now, seen)
        return now.ask(seen) if now.wants(seen) else Decision()

    def _hand_over(self, before: _Seat, now: _Seat, seen: Observation) -> Decision:
        goal = seen.objectives
        told = replace(seen, reason=Reason.DEADLINE) if self._late and not now.told_late else seen
        news = now.ask(told)
        settings = [news, replace(now.setup, capabilities={}, measure_s=(), not_yet_s=None, multifd_channels=None)]
        settings += self._asleep(seen)
        if now.asked_for(AUTO_CONVERGE) and goal.greatest_throttle >= LEAST_THROTTLE:
            settings += [Decision(throttle_ceiling=goal.greatest_throttle), QEMUS_OWN]
        # As everything stands before any policy has said a thing (`whimbrel.engine.pilot.Pilot.reset`).
        reset = Decision(
            downtime_limit_s=goal.downtime_s,
            bandwidth_bytes_per_s=goal.bandwidth_bytes_per_s or 0,
            outside_throttle=0.0 if seen.knobs.outside_throttle else None,
        )
        because = f"{before.name} hands over to {now.name}" + (f": {news.because}" if news.because else "")
        return replace(merged([*settings, reset]), because=because)


class Then(_Switching):
    """One policy until something holds, from then on another; see `then`."""

    def __init__(self, before: Policy, after: Policy, tests: Sequence[Test]) -> None:
        super().__init__([before, after])
        self._tests = tuple(tests)

    def _choose(self, seen: Observation) -> int:
        if self._at or seen.reason is Reason.SETUP:
            return self._at
        return 1 if any(test(seen) for test in self._tests) else 0

    def _next_look_s(self, elapsed_s: float) -> float | None:
        looks = [] if self._at else [next_look_s(test, elapsed_s) for test in self._tests]
        return min((look for look in looks if look is not None), default=None)


class When(_Switching):
    """One policy while something holds, another while it does not; see `when`."""

    def __init__(self, test: Test, policy: Policy, otherwise: Policy) -> None:
        super().__init__([policy, otherwise])
        self._test = test

    def _choose(self, seen: Observation) -> int:
        return 0 if self._test(seen) else 1

    def _next_look_s(self, elapsed_s: float) -> float | None:
        return next_look_s(self._test, elapsed_s)


# ---- what users write


def first(*policies: Policy) -> First:
    """The first that decides something.

    They are asked in order, and the first whose answer decides something (more than a cadence and a sentence) has its
    answer taken, whole; those behind it are not asked then, so that none believes in a decision that was not
    carried out. Before the start all are asked, and of each setting that of the first that states it counts.

    Args:
        policies: two or more, most important first.

    Raises:
        BadInput: fewer than two.
    """
    if len(policies) < 2:
        raise BadInput("first", str(len(policies)), "two policies or more")
    return First(policies)


def then(
    before: Policy,
    after: Policy,
    *,
    after_s: float | None = None,
    iterations: int | None = None,
    until: Test | None = None,
) -> Then:
    """One policy until something holds, from then on another, for good.

    Args:
        before: the one that begins.
        after: the one that takes over, as soon as any of the following holds.
        after_s: this much time has passed since ``migrate``, seconds.
        iterations: so many iterations have ended.
        until: a condition holds, or a function of an observation says so: that the first one's objective fails, for
            example ``Condition("progress", "<", 0.1)``.

    Raises:
        BadInput: nothing is said of when.
    """
    tests: list[Test] = []
    if after_s is not None:
        tests.append(Condition("elapsed_s", ">=", after_s))
    if iterations is not None:
        tests.append(Condition("iteration", ">", iterations))
    if until is not None:
        tests.append(until)
    if not tests:
        raise BadInput("then", "no condition", "after, iterations or until")
    return Then(before, after, tests)


def when(test: Test, policy: Policy, otherwise: Policy) -> When:
    """One policy while a condition holds, another while it does not; looked at whenever anybody is asked.

    Args:
        test: a `Condition`, or any function of an observation.
        policy: the one while it holds.
        otherwise: the other.
    """
    return When(test, policy, otherwise)
