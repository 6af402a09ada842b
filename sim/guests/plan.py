"""A guest's plan, checked and laid out: which pages belong to whom, and the curve that follows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whimbrel.engine.curve import Curve
from whimbrel.engine.errors import BadInput
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.scenario import GuestPlan, Pattern, Writer
from whimbrel.sim.seeds import stream

from .laws import Independent, Law, Measured, Scattered, Sweep
from .popularity import groups_of
from .streams import ALWAYS, Phases, dirtied_pages
from .trace import Trace, read_trace

WHOLE = Writer(name="whole", size_bytes=0, cpu_share=1.0)
"""Who writes the pages of a measured curve or a recorded trace: a vCPU that a throttle slows at once."""
NOBODY = Writer(name="nobody", size_bytes=0, vcpu=None)
"""Who writes the pages that nobody writes."""


@dataclass(frozen=True, slots=True)
class Area:
    """Pages side by side that are alike.

    Attributes:
        first: its first page.
        pages: how many.
        writer: who writes to it, with the contents; its size is not looked at.
        law: the distinct pages that follow from its draws; ``None``: nobody writes.
        per_s: draws per second while it is on and unhindered.
        phases: when it is on.
        zero: all of it is zero until it is written.
    """

    first: int
    pages: int
    writer: Writer
    law: Law | None = None
    per_s: float = 0.0
    phases: Phases = ALWAYS
    zero: bool = False

    def dirtied_pages(self, window_s: float, start_s: float | None = None) -> float:
        """Its expected distinct pages in a window; see `whimbrel.sim.guests.streams.dirtied_pages`."""
        return dirtied_pages(self.law, self.per_s, self.phases, window_s, start_s) if self.law else 0.0


@dataclass(frozen=True, slots=True)
class ExpectedCurve:
    """f(tau) of a whole guest that runs unhindered.

    Attributes:
        areas: its pages.
        total_bytes: all RAM.
        zero_bytes: of it all zero and never written.
    """

    areas: tuple[Area, ...]
    total_bytes: int
    zero_bytes: int

    def dirty_bytes(self, window_s: float, start_s: float | None = None) -> float:
        """Expected distinct bytes, in whole pages, that a window dirties.

        Args:
            window_s: its length, seconds.
            start_s: its beginning in the guest's time; ``None``: the mean over all (of each writer on its own).
        """
        return PAGE_BYTES * math.fsum(area.dirtied_pages(window_s, start_s) for area in self.areas)


def expected_curve(plan: GuestPlan) -> ExpectedCurve:
    """The curve of a guest.

    Raises:
        BadInput: the plan is impossible; says everything that is wrong with it.
    """
    return ExpectedCurve(areas_of(plan), plan.ram_bytes, plan.zero_bytes)


def check(plan: GuestPlan) -> None:
    """Refuse an impossible plan.

    Raises:
        BadInput: says everything that is wrong with it.
    """
    if found := findings(plan):
        raise BadInput("guest", "; ".join(found), "a plan without these findings")


def areas_of(plan: GuestPlan) -> tuple[Area, ...]:
    """All RAM, from the lowest address up, without a gap.

    Raises:
        BadInput: the plan is impossible; says everything that is wrong with it.
    """
    check(plan)
    total, zero = plan.ram_bytes // PAGE_BYTES, plan.zero_bytes // PAGE_BYTES
    areas: list[Area] = []
    if plan.curve or plan.trace is not None:
        areas.append(Area(0, total - zero, WHOLE, whole_law(plan), 1.0))
    else:
        first = 0
        for writer in plan.writers:
            areas.append(_area(writer, first))
            first += areas[-1].pages
        if first < total - zero:
            areas.append(Area(first, total - zero - first, NOBODY))
    if zero:
        areas.append(Area(total - zero, zero, NOBODY, zero=True))
    return tuple(areas)


def first_page(area: Area, seed: int) -> int:
    """Where in its area a sweep begins when the guest does: anywhere, the same at both levels of the model.

    A real guest has been running for a while, and how a sweep and a sender that goes the same way meet depends on
    where the one stands when the other begins.
    """
    return stream(seed, f"sweep/{area.writer.name}").randrange(area.pages)


def whole_law(plan: GuestPlan) -> Law:
    """What a measured curve or a recorded trace comes to; its draws are seconds."""
    if plan.trace is not None:
        return trace_of(plan).law
    return Measured(Curve(plan.curve, plan.ram_bytes, plan.zero_bytes))


def trace_of(plan: GuestPlan) -> Trace:
    """The recording that the plan names.

    Raises:
        BadInput: it cannot be read.
        ValueError: it names none.
    """
    if plan.trace is None:
        raise ValueError("the plan names no trace")
    return read_trace(Path(plan.trace))


def _area(writer: Writer, first: int) -> Area:
    pages = writer.size_bytes // PAGE_BYTES
    per_s = writer.rate_bytes_per_s / PAGE_BYTES
    if not per_s:
        return Area(first, pages, writer, zero=writer.zero)
    phases = ALWAYS
    if writer.period_s and writer.duty < 1:
        phases = Phases(writer.period_s, writer.period_s * writer.duty, writer.shift_s)
    law: Law
    match writer.pattern:
        case Pattern.SWEEP:
            law = Sweep(pages)
        case Pattern.POISSON:
            law = Scattered(groups_of(writer, pages))
        case Pattern.UNIFORM | Pattern.ZIPF | Pattern.HOTSPOT:
            law = Independent(groups_of(writer, pages))
    return Area(first, pages, writer, law, per_s, phases, writer.zero)


# ---- what a plan may say


def findings(plan: GuestPlan) -> list[str]:
    """Everything that is impossible about a guest; each begins with its place, as ``guest.writers[1].duty: ...``."""
    return list(itertools.chain(_ram_findings(plan), _writer_findings(plan), _curve_findings(plan)))


def _ram_findings(plan: GuestPlan) -> Iterator[str]:
    if plan.ram_bytes <= 0 or plan.ram_bytes % PAGE_BYTES:
        yield f"guest.ram_bytes: {plan.ram_bytes} is not a multiple of {PAGE_BYTES} above 0"
    if plan.zero_bytes < 0 or plan.zero_bytes % PAGE_BYTES:
        yield f"guest.zero_bytes: {plan.zero_bytes} is not a multiple of {PAGE_BYTES}, 0 or more"
    if plan.vcpus < 1:
        yield f"guest.vcpus: {plan.vcpus} is below 1"
    written = sum(max(writer.size_bytes, 0) for writer in plan.writers)
    if written + max(plan.zero_bytes, 0) > plan.ram_bytes:
        yield (
            f"guest: writers of {written} bytes and {plan.zero_bytes} bytes of zero pages do not fit into"
            f" {plan.ram_bytes} bytes of RAM"
        )
    kinds = [name for name, given in _kinds(plan) if given]
    if len(kinds) > 1:
        yield f"guest: {' and '.join(kinds)} exclude each other"


def _kinds(plan: GuestPlan) -> tuple[tuple[str, bool], ...]:
    return ("writers", bool(plan.writers)), ("curve", bool(plan.curve)), ("trace", plan.trace is not None)


def _writer_findings(plan: GuestPlan) -> Iterator[str]:
    names = [writer.name for writer in plan.writers]
    for i, writer in enumerate(plan.writers):
        at = f"guest.writers[{i}]"
        if names.index(writer.name) != i:
            yield f"{at}.name: {writer.name!r} is the name of another writer"
        if writer.size_bytes <= 0 or writer.size_bytes % PAGE_BYTES:
            yield f"{at}.size_bytes: {writer.size_bytes} is not a multiple of {PAGE_BYTES} above 0"
        for field, low, high in _BOUNDS:
            value = getattr(writer, field)
            if not low <= value <= high:
                yield f"{at}.{field}: {value} is not within {low} to {high}"
        for field in ("share", "part", "duty"):
            if getattr(writer, field) == 0:
                yield f"{at}.{field}: 0 is not above 0"
        for field in ("share", "part"):
            if getattr(writer, field) == 1:
                yield f"{at}.{field}: 1 is not below 1"
        if not writer.period_s and (writer.duty != 1 or writer.shift_s):
            yield f"{at}.period_s: duty and shift have no meaning without a period"
        if writer.vcpu is not None and not 0 <= writer.vcpu < plan.vcpus:
            yield f"{at}.vcpu: {writer.vcpu} is not one of the {plan.vcpus} vCPUs of the guest"


_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("rate_bytes_per_s", 0, 1e13),
    ("skew", 0, 4),
    ("share", 0, 1),
    ("part", 0, 1),
    ("period_s", 0, 1e6),
    ("duty", 0, 1),
    ("shift_s", 0, 1e6),
    ("delta_bytes", 0, PAGE_BYTES),
    ("compressed_ratio", 0, 1),
    ("cpu_share", 0, 1),
)
"""Closed bounds; NaN is within none."""


def _curve_findings(plan: GuestPlan) -> Iterator[str]:
    if plan.curve:
        try:
            Curve(plan.curve, plan.ram_bytes, plan.zero_bytes)
        except BadInput as error:
            yield f"guest.curve: {error}"
    if plan.trace is not None:
        yield from _trace_findings(plan)


def _trace_findings(plan: GuestPlan) -> Iterator[str]:
    try:
        trace = trace_of(plan)
    except BadInput as error:
        yield f"guest.trace: {error}"
        return
    own = (plan.ram_bytes - plan.zero_bytes) // PAGE_BYTES
    if trace.total_pages > own:
        yield f"guest.trace: its {trace.total_pages} pages do not fit into the {own} pages of RAM that are not zero"
