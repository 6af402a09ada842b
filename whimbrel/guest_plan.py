"""The workload guest of the demonstration as a guest of the simulator, class by class.

What a class says of its size, rate, pattern and phases is taken as it is, so that both dirty the same pages equally
often. What it says of contents becomes what a sender sees of them: whether a page is zero, how large the difference to
its last version is, what compression makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from whimbrel.engine.errors import BadInput
from whimbrel.guest.curve import share_of_range
from whimbrel.guest.spec import (
    FRAME_BYTES,
    HOT_PAGES,
    PAGE_BYTES,
    PAGES_PER_BOOK,
    Content,
    PageClass,
    WorkloadSpec,
)
from whimbrel.scenario_rules import exact_size
from whimbrel.sim.scenario import GuestPlan, Pattern, Writer

__all__ = ["guest_plan", "own_pages", "writer_of"]

TURNS_PER_S = 1000.0
"""The guest's loop turns at least so often and rewrites its state each time: in any window that a migration looks at,
that page is dirty."""
RUN_BYTES = 2
"""XBZRLE writes two lengths, mostly of a byte each, for each run of bytes that changed."""
RANDOM_EVERY_BYTES, RANDOM_BYTES = 64, 16
"""Of a compressible body every fourth vector is random."""


def guest_plan(
    spec: WorkloadSpec, ram_bytes: int, *, zero_bytes: int | None = None, cpu_share: float = 0.0
) -> GuestPlan:
    """The plan of a guest with this workload.

    Args:
        spec: the workload.
        ram_bytes: all RAM blocks, as ``query-migrate`` counts them.
        zero_bytes: pages that are zero and stay so; ``None``: all that the guest uses for nothing.
        cpu_share: how much of its vCPU each class needs at its full rate, 0 to 1.

    Raises:
        BadInput: the workload does not fit into the RAM.
    """
    writers = (*own_pages(spec), *(writer_of(each, cpu_share) for each in spec.classes))
    need_bytes = sum(each.size_bytes for each in writers) + (zero_bytes or 0)
    if need_bytes > ram_bytes:
        allowed = f"at least {exact_size(need_bytes)}: all classes, the guest's own pages and zero pages together"
        raise BadInput("ram", exact_size(ram_bytes), allowed)
    return GuestPlan(
        ram_bytes=ram_bytes,
        zero_bytes=ram_bytes - need_bytes if zero_bytes is None else zero_bytes,
        writers=writers,
    )


def writer_of(page_class: PageClass, cpu_share: float = 0.0) -> Writer:
    """One class as a writer, one to one.

    Args:
        page_class: the class.
        cpu_share: how much of the vCPU it needs at its full rate, 0 to 1; 0 where nobody measured it.
    """
    content = page_class.content
    return Writer(
        name=page_class.name,
        size_bytes=page_class.size_bytes,
        rate_bytes_per_s=page_class.rate_mpps * PAGE_BYTES / 1000,
        pattern=Pattern(page_class.pattern.value),
        skew=page_class.skew,
        share=page_class.share,
        part=page_class.part,
        period_s=page_class.period_us / 1e6,
        duty=page_class.on_us / page_class.period_us if page_class.period_us else 1.0,
        shift_s=page_class.shift_us / 1e6 if page_class.period_us else 0.0,
        zero=content is Content.ZERO and not page_class.rate_mpps,
        delta_bytes=_delta_bytes(content, page_class.touch_bytes),
        compressed_ratio=_compressed_ratio(content),
        cpu_share=cpu_share if page_class.rate_mpps else 0.0,
    )


def own_pages(spec: WorkloadSpec) -> Iterator[Writer]:
    """The pages that the guest writes besides its classes: its state, and the proofs of what it wrote."""
    yield Writer(
        name="(state)",
        size_bytes=HOT_PAGES * PAGE_BYTES,
        rate_bytes_per_s=HOT_PAGES * PAGE_BYTES * TURNS_PER_S,
        pattern=Pattern.SWEEP,
    )
    total = sum(each.pages for each in spec.classes)
    for number, begin in enumerate(range(0, total, PAGES_PER_BOOK), 1):
        writes_per_s = _writes_per_s(spec, begin, begin + PAGES_PER_BOOK)
        yield Writer(
            name=f"(proofs {number})",
            size_bytes=PAGE_BYTES,
            rate_bytes_per_s=writes_per_s * PAGE_BYTES,
            pattern=Pattern.POISSON,
        )


def _writes_per_s(spec: WorkloadSpec, begin: int, end: int) -> float:
    """Page writes per second, averaged over the phases, that go to some of all pages of all classes."""
    writes_per_s, first = 0.0, 0
    for each in spec.classes:
        low, high = max(begin - first, 0), min(end - first, each.pages)
        first += each.pages
        if low < high and each.rate_mpps:
            share = share_of_range(each.steps, each.pages, low, high)
            writes_per_s += share * each.mean_rate_bytes_per_s / PAGE_BYTES
    return writes_per_s


def _delta_bytes(content: Content, touch_bytes: int) -> int:
    """What XBZRLE makes of a rewritten page: header and trailer always change, of the body what is not constant."""
    match content:
        case Content.RANDOM:
            body_bytes = touch_bytes
        case Content.COMPRESSIBLE:
            body_bytes = touch_bytes // RANDOM_EVERY_BYTES * (RANDOM_BYTES + RUN_BYTES)
        case Content.CONSTANT | Content.ZERO:
            body_bytes = 0
    return min(PAGE_BYTES, FRAME_BYTES + 2 * RUN_BYTES + body_bytes)


def _compressed_ratio(content: Content) -> float:
    """Size after compression, as a part of the page."""
    match content:
        case Content.RANDOM:
            return 1.0
        case Content.COMPRESSIBLE:
            return RANDOM_BYTES / RANDOM_EVERY_BYTES + FRAME_BYTES / PAGE_BYTES
        case Content.CONSTANT | Content.ZERO:
            return FRAME_BYTES / PAGE_BYTES
