"""What a policy may do here, and a stop of the guest within it: shared by the policies that need a permission.

A policy that is not allowed what its rule asks for says so in `Decision.because` and does the nearest thing that is
allowed; otherwise its run would look like that of a policy that never decided anything.
"""

from __future__ import annotations

from whimbrel.engine.pilot import LEAST_DOWNTIME_LIMIT_S, LEAST_THROTTLE, POSTCOPY
from whimbrel.engine.policy import Decision, Observation

HOLD_S = LEAST_DOWNTIME_LIMIT_S
"""The downtime limit by which QEMU's own rule is held off, seconds: its least. QEMU then goes over to the next
iteration when all has been sent, and switches over by itself only where next to nothing is dirty."""


def why_no_postcopy(seen: Observation) -> str:
    """Why post-copy can't be had; empty: it can."""
    if not seen.objectives.may_postcopy:
        return "the objectives do not allow post-copy"
    if POSTCOPY not in seen.abilities.capabilities:
        return f"this pair of QEMUs has no {POSTCOPY}"
    return ""


def why_no_outside_throttle(seen: Observation) -> str:
    """Why the guest can't be slowed from outside of QEMU; empty: it can."""
    if not_allowed := _why_not_slowed(seen):
        return not_allowed
    return "" if seen.abilities.outside_throttle else "this host can't slow the source's vCPUs"


def why_no_qemu_throttle(seen: Observation) -> str:
    """Why QEMU's own throttle (auto-converge) can't be had; empty: it can."""
    if not_allowed := _why_not_slowed(seen):
        return not_allowed
    return "" if "auto-converge" in seen.abilities.capabilities else "this pair of QEMUs has no auto-converge"


def _why_not_slowed(seen: Observation) -> str:
    return "the objectives do not allow slowing the guest" if seen.objectives.greatest_throttle < LEAST_THROTTLE else ""


def as_fixed(limit_s: float, refused: str) -> Decision:
    """What a policy decides at the start that may not, or can't, slow the guest: it holds the limit, and says so.

    Args:
        limit_s: the downtime limit, seconds.
        refused: why the guest is not slowed, a clause.
    """
    return Decision(downtime_limit_s=limit_s, because=f"{refused}: held at {limit_s * 1e3:.0f} ms, as fixed does")


def stop_now(seen: Observation, because: str, *, bandwidth_bytes_per_s: int | None = None) -> Decision:
    """Stop the guest and send the rest, however long that takes; without that permission, if it fits what is allowed.

    Args:
        seen: what the objectives allow.
        because: why it is stopped.
        bandwidth_bytes_per_s: at which the rest is sent; ``None``: as it is set.

    Returns:
        A pause, or a request to switch over that says what it stands for: the limit then stays at the greatest
        downtime allowed, so that QEMU switches over once the rest fits.
    """
    if seen.objectives.may_pause:
        return Decision(pause=True, bandwidth_bytes_per_s=bandwidth_bytes_per_s, because=because)
    within_ms = seen.objectives.downtime_s * 1e3
    return Decision(
        switch_over=True,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        because=f"{because}; pausing is not allowed: only if the rest fits {within_ms:.0f} ms",
    )


def passes(count: int) -> str:
    """So many passes, in words."""
    return f"{count} pass" if count == 1 else f"{count} passes"


def left_s(seen: Observation) -> float | None:
    """How long the rest would take at the rate of the last iteration, else of the last second; ``None``: not known."""
    ended = seen.iterations
    rate = (ended[-1].bandwidth_bytes_per_s if ended else 0.0) or seen.bandwidth_bytes_per_s
    return seen.remaining_bytes / rate if rate > 0 else None
