"""From what was known before a migration to a scenario of the simulator. Nothing else goes in."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

from whimbrel.engine.policy import Objectives
from whimbrel.guest.spec import HOT_PAGES, PAGE_BYTES, PageClass, WorkloadSpec
from whimbrel.sim.qemu.contract import Costs
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer

from .records import Calibration, Known

LATENCY_S: Final = 25e-6
"""Half a round trip between two network namespaces without load (`ping`: 0.05 ms)."""
TURNS_PER_S: Final = 2000.0
"""The guest's loop turns at most so often (``WRITE_US`` in whimbrel/guest/src/main.c), and dirties its own state."""
_BOOKS_WINDOW_S: Final = 1.0
"""In so long a writing class has touched all pages of its accumulators."""


def spec_of(known: Known) -> WorkloadSpec:
    """The guest's own specification."""
    classes = tuple(PageClass.parse(text) for text in known.classes)
    return WorkloadSpec(classes=classes, beat_hz=known.beat_hz, seed=known.guest_seed)


def scenario_of(known: Known, calibration: Calibration, *, pages: bool) -> Scenario:
    """The scenario of a recorded migration.

    Args:
        known: what was known before it.
        calibration: the machine's constants.
        pages: page by page, not by expectation.
    """
    return Scenario(
        guest=guest_plan(known, calibration, pages=pages),
        link=LinkPlan(
            bandwidth_bytes_per_s=known.goodput_bytes_per_s, latency_s=LATENCY_S, pipe_bytes=known.pipe_bytes
        ),
        qemu=QemuPlan(costs=costs_of(known, calibration)),
        objectives=Objectives(downtime_s=known.limit_s),
        policy=known.policy,
        limit_s=known.cut_off_s,
    )


def guest_plan(known: Known, calibration: Calibration, *, pages: bool) -> GuestPlan:
    """The guest's memory: what it needs itself, its classes in address order, and zeros up to the end."""
    spec = spec_of(known)
    state_pages = HOT_PAGES + round(spec.dirtied_book_pages(_BOOKS_WINDOW_S))
    writes_per_s = max(spec.rate_bytes_per_s / PAGE_BYTES, float(spec.beat_hz))
    turns_per_s = min(TURNS_PER_S, writes_per_s)
    own = (
        Writer(
            name="state",
            size_bytes=state_pages * PAGE_BYTES,
            rate_bytes_per_s=state_pages * turns_per_s * PAGE_BYTES,
            pattern=Pattern.SWEEP,
        ),
        Writer(name="program", size_bytes=max(1, calibration.own_pages - state_pages) * PAGE_BYTES),
    )
    total_bytes = known.ram_bytes + calibration.extra_bytes
    writers = (*own, *(writer_of(page_class) for page_class in spec.classes))
    return GuestPlan(
        ram_bytes=total_bytes,
        zero_bytes=total_bytes - sum(writer.size_bytes for writer in writers),
        writers=writers,
        pages=pages,
    )


def writer_of(page_class: PageClass) -> Writer:
    """One class of the workload guest; the keys are the same."""
    return Writer(
        name=page_class.name,
        size_bytes=page_class.size_bytes,
        rate_bytes_per_s=page_class.rate_bytes_per_s,
        pattern=Pattern(page_class.pattern.value),
        skew=page_class.skew,
        share=page_class.share,
        part=page_class.part,
        period_s=page_class.period_s,
        duty=page_class.duty,
        shift_s=page_class.shift_s,
    )


def costs_of(known: Known, calibration: Calibration) -> Costs:
    """The constants in the simulator's terms, for a guest of this size.

    The first sync falls into the setup: the log of a TCG guest has every page marked then, so that it takes 1 us for
    each page of RAM. It is what the guest's stall at the start comes from: a stall before ``active``, which costs no
    write that matters, since every page is still to be sent.
    """
    constants = calibration.constants
    places = {field.name for field in fields(Costs)}
    values = {name: value for name, value in constants.items() if name in places}
    values["setup_s"] += constants["setup_sync_s_per_page"] * known.ram_bytes / PAGE_BYTES
    values["start_stall_s"] = 0.0
    return replace(Costs(**values), device_state_bytes=round(values["device_state_bytes"]))  # type: ignore[arg-type]
