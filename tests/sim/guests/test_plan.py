"""A plan is checked as a whole and laid out without gaps; its curve is that of the real workload guest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from whimbrel.engine.curve import Curve
from whimbrel.engine.errors import BadInput
from whimbrel.guest.spec import PageClass
from whimbrel.guest.spec import Pattern as GuestPattern
from whimbrel.sim.guests.plan import areas_of, check, expected_curve, findings, first_page
from whimbrel.sim.guests.trace import Trace, write_trace
from whimbrel.sim.scenario import GuestPlan, Pattern, Writer

MIB = 1 << 20
HOT = Writer(name="hot", size_bytes=8 * MIB, rate_bytes_per_s=4.0 * MIB)
COLD = Writer(name="cold", size_bytes=4 * MIB, zero=True)
PLAN = GuestPlan(ram_bytes=64 * MIB, zero_bytes=16 * MIB, writers=(HOT, COLD))


def test_areas_cover_all_ram_from_the_lowest_address_up() -> None:
    areas = areas_of(PLAN)
    assert [(area.first, area.pages, area.law is not None, area.zero) for area in areas] == [
        (0, 2048, True, False),
        (2048, 1024, False, True),
        (3072, 9216, False, False),
        (12288, 4096, False, True),
    ]


@pytest.mark.parametrize("pattern", GuestPattern)
@pytest.mark.parametrize("phases", [{}, {"period_s": 2.0, "duty": 0.25, "shift_s": 0.3}], ids=["steady", "phases"])
def test_the_workload_guests_parameters_map_one_to_one(pattern: GuestPattern, phases: dict[str, Any]) -> None:
    """The guest rounds rates to thousandths and probabilities to 2**-32: that much the curves may differ."""
    size, rate = 32 * MIB, 20.0 * MIB
    real = PageClass(name="w", size_bytes=size, rate_bytes_per_s=rate, pattern=pattern, **phases)
    writer = Writer(name="w", size_bytes=size, rate_bytes_per_s=rate, pattern=Pattern(pattern.value), **phases)
    curve = expected_curve(GuestPlan(ram_bytes=size, writers=(writer,)))
    for window_s in (0.004, 0.1, 1.3, 20.0):
        for start_s in (None, 0.0, 0.7):
            assert curve.dirty_bytes(window_s, start_s) == pytest.approx(
                real.dirtied_bytes(window_s, start_s), rel=1e-6
            )


def test_the_curve_of_a_guest_is_the_sum_of_its_writers() -> None:
    other = replace(HOT, name="other", pattern=Pattern.SWEEP)
    alone = [expected_curve(replace(PLAN, writers=(one,))).dirty_bytes(1.0) for one in (HOT, other)]
    assert expected_curve(replace(PLAN, writers=(HOT, other))).dirty_bytes(1.0) == pytest.approx(sum(alone))


def test_a_measured_curve_is_read_by_the_engines_rules() -> None:
    points = ((0.5, 3.0 * MIB), (2.0, 8.0 * MIB))
    curve = expected_curve(replace(PLAN, writers=(), curve=points))
    engine = Curve(points, PLAN.ram_bytes, PLAN.zero_bytes)
    for window_s in (0.1, 0.5, 1.0, 5.0, 1000.0):
        assert curve.dirty_bytes(window_s) == pytest.approx(engine.at(window_s))


def test_a_sweep_begins_where_the_seed_says_within_its_area() -> None:
    area = areas_of(PLAN)[0]
    starts = {first_page(area, seed) for seed in range(50)}
    assert len(starts) > 40
    assert all(0 <= start < area.pages for start in starts)
    assert first_page(area, 7) == first_page(area, 7)


def test_each_sweep_begins_at_a_place_of_its_own() -> None:
    """Two of the same size and seed: alike by chance once in 2048 seeds."""
    areas = areas_of(replace(PLAN, writers=(HOT, replace(HOT, name="other"))))
    assert sum(first_page(areas[0], seed) == first_page(areas[1], seed) for seed in range(50)) < 5


def test_a_plan_that_is_possible_has_no_findings() -> None:
    assert findings(PLAN) == []
    check(PLAN)


@pytest.mark.parametrize(
    ("plan", "place"),
    [
        (replace(PLAN, ram_bytes=0), "guest.ram_bytes: 0"),
        (replace(PLAN, ram_bytes=64 * MIB + 1), "guest.ram_bytes: "),
        (replace(PLAN, zero_bytes=-4096), "guest.zero_bytes: "),
        (replace(PLAN, zero_bytes=60 * MIB), "guest: writers of 12582912 bytes and 62914560 bytes of zero pages"),
        (replace(PLAN, vcpus=0), "guest.vcpus: 0"),
        (replace(PLAN, curve=((1.0, 4096.0), (2.0, 8192.0))), "guest: writers and curve exclude each other"),
        (replace(PLAN, writers=(HOT, HOT)), "guest.writers[1].name: 'hot'"),
        (replace(PLAN, writers=(replace(HOT, size_bytes=100),)), "guest.writers[0].size_bytes: 100"),
        (replace(PLAN, writers=(replace(HOT, rate_bytes_per_s=-1.0),)), "guest.writers[0].rate_bytes_per_s: -1.0"),
        (replace(PLAN, writers=(replace(HOT, rate_bytes_per_s=float("nan")),)), "guest.writers[0].rate_bytes_per_s"),
        (replace(PLAN, writers=(replace(HOT, skew=5.0),)), "guest.writers[0].skew: 5.0"),
        (replace(PLAN, writers=(replace(HOT, share=1.0),)), "guest.writers[0].share: 1"),
        (replace(PLAN, writers=(replace(HOT, part=0.0),)), "guest.writers[0].part: 0"),
        (replace(PLAN, writers=(replace(HOT, duty=0.0, period_s=1.0),)), "guest.writers[0].duty: 0"),
        (replace(PLAN, writers=(replace(HOT, duty=0.5),)), "guest.writers[0].period_s: "),
        (replace(PLAN, writers=(replace(HOT, delta_bytes=5000),)), "guest.writers[0].delta_bytes: 5000"),
        (replace(PLAN, writers=(replace(HOT, compressed_ratio=1.5),)), "guest.writers[0].compressed_ratio: 1.5"),
        (replace(PLAN, writers=(replace(HOT, cpu_share=2.0),)), "guest.writers[0].cpu_share: 2.0"),
        (replace(PLAN, writers=(replace(HOT, vcpu=1),)), "guest.writers[0].vcpu: 1"),
        (replace(PLAN, writers=(), curve=((1.0, 4096.0), (0.5, 8192.0))), "guest.curve: "),
        (replace(PLAN, writers=(), trace="/nowhere/at/all"), "guest.trace: "),
    ],
)
def test_what_is_impossible_is_found_with_its_place(plan: GuestPlan, place: str) -> None:
    assert [finding for finding in findings(plan) if finding.startswith(place)]


def test_all_findings_come_at_once() -> None:
    plan = GuestPlan(ram_bytes=MIB, writers=(replace(HOT, duty=2.0, period_s=1.0, cpu_share=-1.0),), vcpus=-1)
    with pytest.raises(BadInput) as caught:
        areas_of(plan)
    for place in ("guest.vcpus", "guest: writers of", "guest.writers[0].duty", "guest.writers[0].cpu_share"):
        assert place in str(caught.value)


def test_a_trace_of_more_pages_than_the_guest_has_is_found(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    write_trace(path, Trace(20_000, 1.0, ((0.5, ((19_999, 1),)),)))
    (finding,) = findings(replace(PLAN, writers=(), trace=str(path)))
    assert finding.startswith("guest.trace: its 20000 pages do not fit into the 12288")
