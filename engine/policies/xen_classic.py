"""``xen_classic``: Xen's three bounds: next to nothing dirty, enough passes, or enough sent.

The toolstack of Xen up to 4.5 (tools/libxc/xc_domain_save.c) ends the live passes where a pass had fewer than 50
pages to send, where ``DEF_MAX_ITERS``, 29, passes were made, or where more than ``DEF_MAX_FACTOR``, 3, times the
guest's memory was sent; the rest follows with the guest suspended, however much it is. Later versions keep 50 pages
and make 5 passes (``SPP_TARGET_DIRTY_COUNT``, ``SPP_MAX_ITERATIONS``): ``xen_classic:passes=5,factor=1000`` comes to
that.

The first bound is put to QEMU as a downtime limit, in which 50 pages can be sent; above 200 MB/s its least, 1 ms, is a
little more than that.
"""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative
from .permits import HOLD_S, stop_now


@dataclass(frozen=True, slots=True, kw_only=True)
class XenClassic:
    """Xen: stop below 50 dirty pages, after 29 passes, or when three times the RAM was sent.

    Needs: pausing, since it takes no heed of the downtime. Without it the bounds lead to all of the downtime allowed.

    Attributes:
        pages: fewer than these left end it, of 4096 bytes each.
        passes: so many live passes at most.
        factor: so many times the RAM is sent at most.

    Raises:
        BadInput: a bound makes no sense.
    """

    pages: int = 50
    passes: int = 29
    factor: float = 3.0

    def __post_init__(self) -> None:
        above_zero(passes=self.passes, factor=self.factor)
        not_negative(pages=self.pages)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at the end of each pass."""
        if seen.reason is Reason.SETUP:
            return Decision(
                downtime_limit_s=HOLD_S,
                because=f"until fewer than {self.pages} pages, {self.passes} passes or {self.factor:g} times the RAM",
            )
        if seen.reason is not Reason.ITERATION or not seen.iterations:
            return Decision()
        if enough := enough_sent(seen, self.passes, self.factor):
            return stop_now(seen, enough)
        rate = seen.bandwidth_bytes_per_s
        limit_s = HOLD_S if rate <= 0 else min(seen.objectives.downtime_s, self.pages * PAGE_BYTES / rate)
        return Decision(
            downtime_limit_s=max(HOLD_S, limit_s), because=f"{seen.remaining_bytes // PAGE_BYTES} pages dirty"
        )


def enough_sent(seen: Observation, passes: int, factor: float) -> str:
    """Whether Xen's bounds of passes and bytes are reached, and which; empty: neither."""
    # QEMU numbers the pass that begins now: those before it were made.
    if seen.iteration > passes:
        return f"{seen.iteration - 1} passes made"
    if seen.transferred_bytes > factor * seen.total_bytes:
        return f"more than {factor:g} times the RAM sent"
    return ""
