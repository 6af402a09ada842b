"""A verdict in words."""

from __future__ import annotations

from .foresight import Verdict
from .policy import Objectives

MIB = 1 << 20


def drawn(verdict: Verdict, goal: Objectives, *, throttle: float = 0.0) -> str:
    """The verdict as a sentence with its numbers and what would help.

    Args:
        verdict: which; its own sentence does not count.
        goal: what is wanted.
        throttle: what slows the guest already, 0 to 0.99.
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
    return f"no pre-copy of the guest as it is can do: {what}. What would: {_helps(verdict, goal)}."


def _helps(verdict: Verdict, goal: Objectives) -> str:
    ways: list[str] = []
    if verdict.least_throttle is not None:
        allowed = verdict.least_throttle <= goal.greatest_throttle
        ways.append(f"a throttle of {verdict.least_throttle:.0%}" + ("" if allowed else " (not allowed)"))
    ways.append("post-copy" + ("" if goal.may_postcopy else " (not allowed)"))
    more = verdict.left_bytes / max(goal.downtime_s, 1e-3)
    if more > verdict.bandwidth_bytes_per_s:
        ways.append(f"about {more / MIB:.0f} MiB/s of bandwidth")
    return ", or ".join(ways)


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
