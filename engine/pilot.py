"""Between the policy and the knobs: asks, clamps to the objectives, and says what was clamped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, cast

from .policy import Abilities, Decision, Knobs, Measurement, Objectives, Observation, Policy, Reason
from .statistics import Ledger

LEAST_DOWNTIME_LIMIT_S = 0.001
"""QEMU counts the limit in whole milliseconds; 0 would never switch over a guest that writes at all."""
GREATEST_DOWNTIME_LIMIT_S = 2000.0
"""QEMU's own bound (MAX_MIGRATE_DOWNTIME_SECONDS)."""
GREATEST_THROTTLE = 0.99
LEAST_THROTTLE = 0.01
LEAST_DIRTY_LIMIT = 1 << 20
"""``vcpu-dirty-limit`` is in whole MB/s, and 0 is none."""
LEAST_XBZRLE_CACHE = 1 << 16
GREATEST_SIZE = (1 << 63) - 1
"""QEMU reads sizes and rates as 64 bits."""
MOST_CHANNELS = 255
"""``multifd-channels`` is a byte."""
GREATEST_WAIT_S = 3600.0
"""The most that the start may be put off, in all."""
MOST_PUT_OFFS = 1000
"""And how often: whoever asks for one more look again and again would never start."""
SHORTEST_MEASURED_S = 1.0
"""QEMU 7.2 measures whole seconds: a shorter window takes as long."""
POSTCOPY = "postcopy-ram"
THROTTLES = {
    "throttle_initial": "throttle",
    "throttle_increment": "throttle step",
    "throttle_ceiling": "throttle ceiling",
}
"""What the knobs of QEMU's throttle are called."""
QEMUS_FIRST_THROTTLE = 0.2
"""QEMU's own ``cpu-throttle-initial``; it refuses a ``max-cpu-throttle`` below the initial one."""
LONGEST_SENTENCE = 1000
"""Characters of a policy's own words that go into the log."""
LEAST_WAKE_S = 0.01
"""QEMU's windows are 100 ms; asking more often than 100 times a second can teach nothing."""

MOST_FAULTS = 3
"""A policy that failed so often is not asked any more; one that does not answer, not after the first time."""

GREATEST_WAKE_S = 86400.0
"""A day: "never again" is said by leaving the cadence out, and must fit a clock of nanoseconds."""


_NOTHING = Decision()


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
    fault: str = ""
    """What the policy did wrong, a sentence that names it, the observation and the fault; empty: nothing."""


@dataclass(slots=True)
class Pilot:
    """Holds the policy, the knobs and the policy's cadence. Not part of the protocol's state."""

    policy: Policy
    objectives: Objectives
    name: str = ""
    """The policy's, for what is said of it."""
    abilities: Abilities = field(default_factory=Abilities)
    knobs: Knobs = field(default_factory=Knobs)
    wake_every_ns: int | None = None
    next_wake_ns: int | None = None
    started_ns: int = 0
    deadline_told: bool = False
    measurements: tuple[Measurement, ...] = ()
    """What was measured before the start."""
    asked_for: frozenset[str] = frozenset()
    """The capabilities that the policy asked for at the start."""
    faults: int = 0
    """How often the policy failed; at `MOST_FAULTS` it is not asked any more."""
    put_offs: int = 0
    """How often it has put off the start."""
    put_off_s: float = 0.0
    """For how long, in all."""

    @property
    def dismissed(self) -> bool:
        """Whether the policy has failed so often that it is not asked any more."""
        return self.faults >= MOST_FAULTS

    def learn(self, abilities: Abilities) -> None:
        """What can be done has changed: a throttle that can't be had any more is not taken any more."""
        self.abilities = abilities
        if not abilities.outside_throttle:
            self.knobs = replace(self.knobs, outside_throttle=0.0)

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
        self.asked_for = frozenset()
        self.started_ns = now_ns

    def recall(self, asked: str, changes: Mapping[str, Any], asked_for: Iterable[str] = ()) -> None:
        """Take a decision out of a log: the knobs stand as it left them, and nobody is asked.

        Args:
            asked: the value of the `Reason` it was asked for.
            changes: knobs by the name of their field in `Knobs`; names that are not known here are passed over.
            asked_for: the capabilities that it asked for, if that was before the start.
        """
        known = {name: value for name, value in changes.items() if name in Knobs.__dataclass_fields__}
        self.knobs = replace(self.knobs, **known)
        self.deadline_told |= asked == Reason.DEADLINE.value
        self.asked_for |= frozenset(asked_for)

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
            measurements=self.measurements,
            vcpu_shares=ledger.vcpu_shares,
        )

    def _steer(self, seen: Observation, now_ns: int) -> Steering:
        clamped: list[str] = []
        fault = ""
        decision, wanted, wake_after_s = Decision(), dict[str, Any](), None
        try:
            if not self.dismissed:
                decision = self.policy(seen)
                # Most often nothing is decided, and then there is nothing to look at.
                if decision != _NOTHING or seen.reason is Reason.SETUP:
                    check_sense(decision)
                    decision = self._as_allowed(seen, _sayable(decision), clamped)
                    wanted = self._wanted(decision, clamped)
                    wake_after_s = _within("wake", decision.wake_after_s, LEAST_WAKE_S, GREATEST_WAKE_S, clamped)
        except (Exception, SystemExit) as error:  # somebody's code: whatever it does must not strand a guest
            clamped, fault = [], self._fault(seen, error)
            decision, wanted = Decision(abort=self.objectives.abort_on_fault, because=fault), {}
        changes = {
            name: value for name, value in wanted.items() if value is not None and value != getattr(self.knobs, name)
        }
        if changes:
            self.knobs = replace(self.knobs, **changes)
        if wake_after_s is not None:
            self.wake_every_ns = round(wake_after_s * 1e9)
        if self.wake_every_ns is not None:
            self.next_wake_ns = now_ns + self.wake_every_ns
        return Steering(
            asked=seen.reason,
            decision=decision,
            knobs=self.knobs,
            changes=changes,
            clamped=tuple(clamped),
            at_ns=now_ns,
            fault=fault,
        )

    def _fault(self, seen: Observation, error: BaseException) -> str:
        """Count it, and say it in a sentence."""
        self.faults = MOST_FAULTS if isinstance(error, TimeoutError) else self.faults + 1
        if self.objectives.abort_on_fault:
            follows = "the migration is called off"
        else:
            follows = "the last good settings stay"
            if self.dismissed:
                follows += ", and it is not asked again"
        asked = f"{seen.reason.value} at {seen.elapsed_s:.2f} s"
        if seen.iteration:
            asked += f", iteration {seen.iteration}, {seen.remaining_bytes / (1 << 20):.1f} MiB to send"
        said = isinstance(error, Nonsense | TimeoutError)
        what = (said and _shown(str, error)) or f"raised {_shown(repr, error)}"
        return f"the policy {self.name or 'given'} failed when it was asked ({asked}): {what}; {follows}"

    def _as_allowed(self, seen: Observation, decision: Decision, clamped: list[str]) -> Decision:
        """The decision without what the objectives do not allow, or what can't be done now."""
        goal = self.objectives
        if seen.reason is Reason.SETUP:
            decision = self._put_off_as_allowed(self._slowing_as_allowed(decision, clamped), clamped)
            self.asked_for = frozenset(name for name, state in decision.capabilities.items() if state)
        elif decision.not_yet_s is not None or decision.measure_s or decision.multifd_channels is not None:
            decision = replace(decision, not_yet_s=None, measure_s=(), multifd_channels=None)
        if decision.abort and not goal.may_abort:
            clamped.append("abort: the objectives do not allow giving up")
            decision = replace(decision, abort=False)
        if decision.pause and not goal.may_pause:
            clamped.append("pause: the objectives do not allow an outage of any length")
            decision = replace(decision, pause=False)
        if decision.start_postcopy:
            why_not = ""
            if seen.reason is Reason.SETUP:
                why_not = "it can't be chosen before the start"
            elif not goal.may_postcopy:
                why_not = "the objectives do not allow it"
            elif POSTCOPY not in self.asked_for:
                why_not = f"the policy did not ask for {POSTCOPY} at the start"
            if why_not:
                clamped.append(f"post-copy: {why_not}")
                decision = replace(decision, start_postcopy=False)
        return decision

    def _put_off_as_allowed(self, decision: Decision, clamped: list[str]) -> Decision:
        """Waiting and measuring before the start, within bounds: a policy that never starts moves nobody."""
        if decision.not_yet_s is None and not decision.measure_s:
            return decision
        windows_s = tuple(float(window_s) for window_s in decision.measure_s)
        left_s = GREATEST_WAIT_S - self.put_off_s - sum(max(SHORTEST_MEASURED_S, window_s) for window_s in windows_s)
        if self.put_offs >= MOST_PUT_OFFS or left_s < 0 or (left_s == 0 and not windows_s):
            clamped.append(f"not yet: the start was put off {self.put_offs} times, by {self.put_off_s:.0f} s, already")
            return replace(decision, not_yet_s=None, measure_s=())
        wait_s = None if decision.not_yet_s is None else min(max(LEAST_WAKE_S, float(decision.not_yet_s)), left_s)
        self.put_offs += 1
        self.put_off_s = GREATEST_WAIT_S - left_s + (wait_s or 0.0)
        return replace(decision, not_yet_s=wait_s, measure_s=windows_s)

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

    def _wanted(self, decision: Decision, clamped: list[str]) -> dict[str, Any]:
        goal = self.objectives
        limit = goal.downtime_s if decision.switch_over else decision.downtime_limit_s
        ceiling = min(goal.downtime_s, GREATEST_DOWNTIME_LIMIT_S)
        if decision.pause:
            limit = ceiling = GREATEST_DOWNTIME_LIMIT_S
        throttle = min(goal.greatest_throttle, GREATEST_THROTTLE)
        wanted: dict[str, Any] = {
            "downtime_limit_s": _within("downtime limit", limit, LEAST_DOWNTIME_LIMIT_S, ceiling, clamped),
            "bandwidth_bytes_per_s": self._bandwidth(decision.bandwidth_bytes_per_s, clamped),
            "outside_throttle": self._outside(decision.outside_throttle, throttle, clamped),
            "throttle_trigger": _within("throttle trigger", decision.throttle_trigger, 0.01, 1.0, clamped),
            "throttle_tailslow": decision.throttle_tailslow,
            "dirty_limit_bytes_per_s": _whole(decision.dirty_limit_bytes_per_s, LEAST_DIRTY_LIMIT, GREATEST_SIZE),
            "xbzrle_cache_bytes": _power_of_two(decision.xbzrle_cache_bytes),
            "multifd_channels": _whole(decision.multifd_channels, 1, MOST_CHANNELS),
        }
        for what in ("initial", "increment", "ceiling"):
            name = f"throttle_{what}"
            wanted[name] = _within(THROTTLES[name], getattr(decision, name), LEAST_THROTTLE, throttle, clamped)
        self._keep_below_ceiling(wanted)
        return wanted

    def _keep_below_ceiling(self, wanted: dict[str, Any]) -> None:
        """QEMU refuses a first throttle above the ceiling, and with it everything that is set along with it."""
        stands: dict[str, float] = {}
        for name, qemus in (("throttle_initial", QEMUS_FIRST_THROTTLE), ("throttle_ceiling", GREATEST_THROTTLE)):
            said = getattr(self.knobs, name) if wanted[name] is None else wanted[name]
            stands[name] = qemus if said is None else said
        if stands["throttle_initial"] > stands["throttle_ceiling"]:
            wanted["throttle_initial"] = stands["throttle_ceiling"]

    def _outside(self, wanted: float | None, most: float, clamped: list[str]) -> float | None:
        if not wanted:
            return wanted
        if not self.abilities.outside_throttle:
            clamped.append("throttle from outside: this host can't slow the source's vCPUs")
            return None
        return _within("throttle from outside", wanted, LEAST_THROTTLE, most, clamped)

    def _bandwidth(self, asked: float | None, clamped: list[str]) -> int | None:
        allowed = self.objectives.bandwidth_bytes_per_s
        wanted = _whole(asked, 0, GREATEST_SIZE)
        if wanted is None or not allowed:
            return wanted
        if wanted == 0 or wanted > allowed:
            clamped.append(f"bandwidth: {wanted or 'unlimited'} B/s is more than the {allowed} B/s allowed")
            return allowed
        return wanted


def _within(name: str, asked: float | None, least: float, most: float, clamped: list[str]) -> float | None:
    if asked is None:
        return None
    wanted = float(asked)  # a number of numpy's would not go into the log
    if most < least:
        clamped.append(f"{name}: the objectives do not allow it")
        return None
    if least <= wanted <= most:
        return wanted
    allowed = min(max(wanted, least), most)
    clamped.append(f"{name}: {wanted:g} is outside {least:g} to {most:g}")
    return allowed


def _whole(wanted: float | None, least: int, most: int) -> int | None:
    """What QEMU takes: a whole number in its range; a policy may compute with fractions."""
    return None if wanted is None else int(max(least, min(wanted, most)))


def _power_of_two(wanted: float | None) -> int | None:
    size = _whole(wanted, LEAST_XBZRLE_CACHE, GREATEST_SIZE)
    return None if size is None else 1 << (size.bit_length() - 1)


def _sayable(decision: Decision) -> Decision:
    """A decision with words that can be written."""
    said = _sentence(decision.because)
    return decision if said == decision.because else replace(decision, because=said)


def _sentence(said: str) -> str:
    """A policy's own words as they can be written: UTF-8, and not without an end."""
    return said[:LONGEST_SENTENCE].encode(errors="replace").decode()


def _shown(how: Callable[[object], str], error: BaseException) -> str:
    """An error of somebody's code in words; what it says of itself may be code that fails, too."""
    try:
        return _sentence(how(error))
    except Exception:  # its __str__ may raise anything: the class's name is what is left
        return type(error).__name__


class Nonsense(ValueError):
    """A policy's answer is none."""


_SHARES = ("throttle_initial", "throttle_increment", "throttle_ceiling", "throttle_trigger", "outside_throttle")
_NOT_NEGATIVE = ("downtime_limit_s", "bandwidth_bytes_per_s", "dirty_limit_bytes_per_s", "xbzrle_cache_bytes",
                 "multifd_channels", "wake_after_s", "not_yet_s")  # fmt: skip
_SWITCHES = ("switch_over", "pause", "start_postcopy", "abort", "throttle_tailslow")


def check_sense(decision: object) -> None:
    """Find out whether this can be a decision at all; that it asks for more than is allowed is another matter.

    Raises:
        Nonsense: says what is wrong with it.
    """
    if not isinstance(decision, Decision):
        raise Nonsense(f"it answered {decision!r:.80}, which is no Decision")
    for name in (*_SHARES, *_NOT_NEGATIVE):
        value: object = getattr(decision, name)
        if value is None:
            continue
        _check_range(name, value, 1.0 if name in _SHARES else math.inf)
    for name in _SWITCHES:
        if getattr(decision, name) not in (True, False, None):
            raise Nonsense(f"it answered {name}={getattr(decision, name)!r:.80}, which is neither true nor false")
    # Whatever the types say: it is somebody's answer.
    windows, capabilities, because = cast(
        "tuple[object, object, object]", (decision.measure_s, decision.capabilities, decision.because)
    )
    if not isinstance(windows, tuple):
        raise Nonsense(f"it answered measure_s={windows!r:.80}, which is no tuple of seconds")
    for window in decision.measure_s:
        _check_range("measure_s", window, GREATEST_WAIT_S)
    if not isinstance(capabilities, Mapping):
        raise Nonsense(f"it answered capabilities={capabilities!r:.80}, which is no mapping of names to true or false")
    for capability, state in cast("Mapping[object, object]", capabilities).items():
        if not isinstance(capability, str) or state not in (True, False):
            told = f"{capability!r:.80}: {state!r:.80}"
            raise Nonsense(f"it answered capabilities with {told}, which is no name with true or false")
    if not isinstance(because, str):
        raise Nonsense(f"it answered because={because!r:.80}, which is no text")


def _check_range(name: str, value: object, most: float) -> None:
    # Numbers of numpy are Real too, and as good; true and false are, and are a slip.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise Nonsense(f"it answered {name}={value!r:.80}, which is no number")
    number = float(value)
    if math.isnan(number) or not 0 <= number <= most:
        allowed = "0 or more" if math.isinf(most) else f"from 0 to {most:g}"
        raise Nonsense(f"it answered {name}={number:g}, where {allowed} is possible")
