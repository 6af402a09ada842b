"""The workload guest as a guest of the simulator: the same pages, equally often."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.demo import DEFAULT_CLASSES
from whimbrel.engine.errors import BadInput
from whimbrel.guest.spec import PAGE_BYTES, Content, PageClass, Pattern, WorkloadSpec
from whimbrel.guest_plan import guest_plan, own_pages, writer_of
from whimbrel.sim.guests.plan import expected_curve
from whimbrel.sim.scenario import GuestPlan

MIB = 1 << 20
WINDOWS_S = (0.004, 0.1, 1.0, 7.3, 60.0)


@st.composite
def classes(draw: st.DrawFn, name: str) -> PageClass:
    pattern = draw(st.sampled_from(Pattern))
    phased = draw(st.booleans())
    period_s = draw(st.floats(0.01, 20)) if phased else 0.0
    return PageClass(
        name=name,
        size_bytes=PAGE_BYTES * draw(st.integers(1, 20_000)),
        rate_bytes_per_s=draw(st.just(0.0) | st.floats(PAGE_BYTES, 200 * MIB)),
        pattern=pattern,
        content=draw(st.sampled_from(Content)),
        touch_bytes=16 * draw(st.integers(0, 253)),
        skew=draw(st.floats(0, 2)) if pattern is Pattern.ZIPF else 0.99,
        share=draw(st.floats(0.05, 0.95)) if pattern is Pattern.HOTSPOT else 0.95,
        part=draw(st.floats(0.05, 0.95)) if pattern is Pattern.HOTSPOT else 0.2,
        period_s=period_s,
        duty=draw(st.floats(0.05, 1)) if phased else 1.0,
        shift_s=draw(st.floats(0, 20)) if phased else 0.0,
    )


@st.composite
def specs(draw: st.DrawFn) -> WorkloadSpec:
    count = draw(st.integers(1, 4))
    return WorkloadSpec(classes=tuple(draw(classes(f"c{number}")) for number in range(count)))


@settings(max_examples=40, deadline=None)
@given(specs(), st.sampled_from(WINDOWS_S))
def test_every_class_has_the_same_expected_curve(spec: WorkloadSpec, window_s: float) -> None:
    """To a ten-thousandth of a page in a hundred: what is left is the last digit of the guest's 32-bit draws."""
    for each in spec.classes:
        plan = GuestPlan(ram_bytes=each.size_bytes, writers=(writer_of(each),))
        wanted = each.dirtied_bytes(window_s)
        assert expected_curve(plan).dirty_bytes(window_s) == pytest.approx(wanted, rel=1e-4, abs=PAGE_BYTES * 1e-3)


@settings(max_examples=25, deadline=None)
@given(specs(), st.sampled_from(WINDOWS_S))
def test_the_whole_guest_has_the_same_expected_curve(spec: WorkloadSpec, window_s: float) -> None:
    """Within a page for each page of proofs: when exactly those are dirtied depends on their classes' phases."""
    books = sum(1 for _ in own_pages(spec)) - 1
    plan = guest_plan(spec, 1 << 30)
    wanted = spec.dirtied_bytes(window_s)
    assert expected_curve(plan).dirty_bytes(window_s) == pytest.approx(wanted, rel=1e-4, abs=books * PAGE_BYTES)


def test_the_demonstration_guest_to_a_page() -> None:
    spec = WorkloadSpec.parse(DEFAULT_CLASSES)
    curve = expected_curve(guest_plan(spec, 512 * MIB))
    for window_s in WINDOWS_S:
        assert curve.dirty_bytes(window_s) == pytest.approx(spec.dirtied_bytes(window_s), abs=PAGE_BYTES)


def test_everything_of_a_class_is_taken_over() -> None:
    text = "hot:size=8MiB,rate=4MiB/s,pattern=hotspot,share=0.9,part=0.1,period=2s,duty=25%,shift=0.5s,touch=64"
    each = writer_of(PageClass.parse(text), cpu_share=0.5)
    assert (each.name, each.size_bytes, each.rate_bytes_per_s) == ("hot", 8 * MIB, 4.0 * MIB)
    assert (each.pattern.value, each.share, each.part) == ("hotspot", 0.9, 0.1)
    assert (each.period_s, each.duty, each.shift_s) == (2.0, 0.25, 0.5)
    assert (each.vcpu, each.cpu_share, each.delta_bytes) == (0, 0.5, 64 + 48 + 4)


@pytest.mark.parametrize(
    ("words", "zero", "delta_bytes", "ratio"),
    [
        ("content=random", False, PAGE_BYTES, 1.0),
        ("content=random,touch=0", False, 52, 1.0),
        ("content=compressible", False, 52 + 63 * 18, 0.25 + 48 / 4096),
        ("content=constant", False, 52, 48 / 4096),
        ("content=zero", False, 52, 48 / 4096),
        ("content=zero,rate=0", True, 52, 48 / 4096),
    ],
)
def test_what_a_sender_sees_of_the_contents(words: str, zero: bool, delta_bytes: int, ratio: float) -> None:
    """Zero pages are those that are never written: a write leaves its proof in header and trailer."""
    rate = "" if "rate=" in words else ",rate=1MiB/s"
    each = writer_of(PageClass.parse(f"a:size=1MiB,{words}{rate}"))
    assert (each.zero, each.delta_bytes) == (zero, delta_bytes)
    assert each.compressed_ratio == pytest.approx(ratio)


def test_what_is_used_for_nothing_is_zero() -> None:
    spec = WorkloadSpec.parse(["cold:size=8MiB"])
    plan = guest_plan(spec, 32 * MIB)
    own_bytes = sum(each.size_bytes for each in own_pages(spec))
    assert plan.zero_bytes == 24 * MIB - own_bytes
    assert guest_plan(spec, 32 * MIB, zero_bytes=MIB).zero_bytes == MIB
    with pytest.raises(BadInput, match=r"^ram: "):
        guest_plan(spec, 8 * MIB)
