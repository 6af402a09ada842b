"""A case, its prediction and what came of it, in a line each."""

from __future__ import annotations

from benchmarks.guests import MIB

from .design import Case
from .records import Came, Foretold


def asked(case: Case) -> str:
    """What is about to be predicted and made."""
    wanted = case.objectives
    return (
        f"{case.name}: {case.policy}, "
        f"{case.pattern}, {case.ratio:g} of {case.link_mbit} Mbit/s, "
        f"{case.guest.spec.size_bytes / MIB:.0f} of {case.ram_bytes / MIB:.0f} MiB, "
        f"{wanted.downtime_s * 1e3:.0f} ms within {case.deadline_s:g} s"
    )


def foretold(said: Foretold) -> str:
    """What was predicted."""
    found = said.ranges
    if "total_s" not in found:
        return f"does not move, {said.moves:.0%} likely to"
    total, down, sent = found["total_s"], found["downtime_s"], found["transferred_bytes"]
    return (
        f"{total.middle:.2f} s ({total.low:.2f} to {total.high:.2f}), "
        f"down {down.middle * 1e3:.0f} ms ({down.low * 1e3:.0f} to {down.high * 1e3:.0f}), "
        f"{sent.middle / MIB:.0f} MiB ({sent.low / MIB:.0f} to {sent.high / MIB:.0f}), {said.meets:.0%} meets; "
        f"{said.draws} draws in {said.took_s:.1f} s"
    )


def told(came: Came) -> str:
    """What came."""
    verdict = "met" if came.met else "moved" if came.moved else "called off"
    down = "" if came.downtime_s is None else f"down {came.downtime_s * 1e3:.0f} ms, "
    return (
        f"{came.total_s:.2f} s, {down}{came.transferred_bytes / MIB:.0f} MiB, {came.iterations} iterations, {verdict}; "
        f"others {came.others_cores:.2f} cores"
    )
