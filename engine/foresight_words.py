"""A verdict in words."""

from __future__ import annotations

import math

from .foresight import Verdict
from .foresight_course import WIRE
from .pilot import POSTCOPY
from .policy import Objectives

MIB = 1 << 20


def drawn(verdict: Verdict, goal: Objectives, *, throttle: float = 0.0, asked_for: frozenset[str] = frozenset()) -> str:
    """The verdict as a sentence with its numbers and what would help.

    Args:
        verdict: which; its own sentence does not count.
        goal: what is wanted.
        throttle: what slows the guest already, 0 to 0.99.
        asked_for: the capabilities that the policy asked for at the start: these QEMU has. Of others that is not known.
    """
    rate = verdict.bandwidth_bytes_per_s / MIB
    what = (
        f"{verdict.left_bytes / MIB:.0f} MiB are left after every pass; at {rate:.0f} MiB/s that is "
        f"{seconds(verdict.outage_s)} of outage, where {seconds(goal.downtime_s)} is allowed"
    )
    if verdict.outage_s <= goal.downtime_s and goal.deadline_s is not None:
        what += f" and the deadline of {seconds(goal.deadline_s)} passes first"
    if throttle:
        what += f", the guest slowed by {throttle:.0%} already"
    return f"no pre-copy of the guest as it is can do: {what}. {_helps(verdict, goal, throttle, asked_for)}."


def _helps(verdict: Verdict, goal: Objectives, throttle: float, asked_for: frozenset[str]) -> str:
    """What would be needed instead: estimates, so what has to be had is told as the least of it."""
    # What is left of the outage with nothing more to send: the pipe and the fixed cost.
    besides_s = verdict.outage_s - verdict.left_bytes * WIRE / verdict.bandwidth_bytes_per_s
    if besides_s >= goal.downtime_s:
        return "Only a longer downtime would help"
    ways: list[str] = []
    if verdict.least_throttle is not None:
        least, slowed = verdict.least_throttle, throttle > 0 or "auto-converge" in asked_for
        ways.append(f"a throttle of at least {least:.0%}{_if(least <= goal.greatest_throttle, slowed)}")
    ways.append(f"post-copy{_if(goal.may_postcopy, POSTCOPY in asked_for)}")
    more = verdict.left_bytes * WIRE / (goal.downtime_s - besides_s)
    if more > verdict.bandwidth_bytes_per_s:
        ways.append(f"a bandwidth of about {math.ceil(more / MIB)} MiB/s")
    return f"What would help: {', or '.join(ways)}"


def _if(allowed: bool, had: bool) -> str:
    """What stands in its way, or may."""
    if had:
        return "" if allowed else " (not allowed)"
    return " (if this QEMU has it)" if allowed else " (not allowed; if this QEMU has it)"


def taken_back(before: Verdict, *, after: int, left_bytes: float, confidence: float) -> str:
    """That it does not stand any more."""
    return (
        f"the verdict drawn after iteration {before.iteration} is taken back after iteration {after}: "
        f"{left_bytes / MIB:.0f} MiB are left now, not {before.left_bytes / MIB:.0f} MiB, and that no pre-copy can do "
        f"is {confidence:.0%} likely only"
    )


def seconds(span_s: float) -> str:
    """Milliseconds below one second."""
    return f"{span_s * 1e3:.0f} ms" if span_s < 1 else f"{span_s:.1f} s"
