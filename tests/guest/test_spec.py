"""Specifications: text in, text out, the guest's command line, and refusals that name the field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.guest.spec import PAGE_BYTES, Content, PageClass, Pattern, WorkloadSpec

MIB = 1 << 20


def page_classes() -> st.SearchStrategy[PageClass]:
    """Any class that is allowed."""

    def build(pattern: Pattern, period_s: float, **common: Any) -> PageClass:
        if pattern is not Pattern.ZIPF:
            common.pop("skew")
        if pattern is not Pattern.HOTSPOT:
            common.pop("share")
            common.pop("part")
        if not period_s:
            common.pop("duty")
            common.pop("shift_s")
        return PageClass(pattern=pattern, period_s=period_s, **common)

    return st.builds(
        build,
        pattern=st.sampled_from(Pattern),
        period_s=st.just(0.0) | st.floats(0.001, 4000),
        name=st.from_regex(r"[A-Za-z0-9_.-]{1,15}", fullmatch=True),
        size_bytes=st.integers(1, 4000).map(lambda pages: pages * PAGE_BYTES),
        rate_bytes_per_s=st.just(0.0) | st.floats(1, 2**34),
        content=st.sampled_from(Content),
        touch_bytes=st.integers(0, 253).map(lambda vectors: vectors * 16),
        skew=st.floats(0, 4),
        share=st.floats(0.01, 0.99),
        part=st.floats(0.01, 0.99),
        duty=st.floats(0.01, 1),
        shift_s=st.just(0.0) | st.floats(1e-6, 4000),
    )


@given(page_classes())
def test_a_class_reads_back(page_class: PageClass) -> None:
    """What it prints as text is read as an equal class."""
    assert PageClass.parse(str(page_class)) == page_class


def test_a_class_in_full() -> None:
    """People's units, every key."""
    text = "hot:size=64MiB,rate=20MiB/s,pattern=zipf,skew=0.9,content=compressible,touch=64"
    assert PageClass.parse(text + ",period=2s,duty=25%,shift=300ms") == PageClass(
        name="hot",
        size_bytes=64 * MIB,
        rate_bytes_per_s=20 * MIB,
        pattern=Pattern.ZIPF,
        skew=0.9,
        content=Content.COMPRESSIBLE,
        touch_bytes=64,
        period_s=2.0,
        duty=0.25,
        shift_s=0.3,
    )
    assert PageClass.parse("a:size=4KiB,writes=5000/s").rate_bytes_per_s == 5000 * PAGE_BYTES


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("hot", "class"),
        ("hot:", "class hot: size"),
        ("hot:rate=1", "class hot: size"),
        ("hot:size", "class hot"),
        ("hot:size=1MiB,colour=2", "class hot"),
        ("hot:size=1MiB,size=2MiB", "class hot: size"),
        ("hot:size=1MiB,rate=1MiB/s,writes=3", "class hot: writes"),
        ("hot:size=1000", "class hot: size"),
        ("hot:size=0", "class hot: size"),
        ("hot:size=4GiB", "class hot: size"),
        ("hot:size=x", "class hot: size"),
        ("hot:size=1MiB,rate=x", "class hot: rate"),
        ("hot:size=1MiB,rate=17GiB/s", "class hot: rate"),
        ("hot:size=1MiB,period=1s,duty=0%", "class hot: duty"),
        ("hot:size=1MiB,writes=-1", "class hot: writes"),
        ("hot:size=1MiB,writes=1e9", "class hot: rate"),
        ("hot:size=1MiB,pattern=random", "class hot: pattern"),
        ("hot:size=1MiB,content=noise", "class hot: content"),
        ("hot:size=1MiB,touch=5", "class hot: touch"),
        ("hot:size=1MiB,touch=4096", "class hot: touch"),
        ("hot:size=1MiB,pattern=zipf,skew=5", "class hot: skew"),
        ("hot:size=1MiB,pattern=zipf,skew=nan", "class hot: skew"),
        ("hot:size=1MiB,pattern=zipf,skew=x", "class hot: skew"),
        ("hot:size=1MiB,skew=0.5", "class hot: skew"),
        ("hot:size=1MiB,share=50%", "class hot: share"),
        ("hot:size=1MiB,pattern=hotspot,part=100%", "class hot: part"),
        ("hot:size=1MiB,pattern=hotspot,share=0", "class hot: share"),
        ("hot:size=1MiB,duty=50%", "class hot: duty"),
        ("hot:size=1MiB,shift=1s", "class hot: shift"),
        ("hot:size=1MiB,period=2h", "class hot: period"),
        ("hot:size=1MiB,period=1us,duty=10%", "class hot: duty"),
        ("h t:size=1MiB", "class name"),
        ("averyverylongname:size=1MiB", "class name"),
    ],
)
def test_refusals_name_the_field(text: str, field: str) -> None:
    """What cannot be meant is refused; nothing is ignored."""
    with pytest.raises(BadInput) as caught:
        PageClass.parse(text)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"beat_hz": 0}, "beat_hz"),
        ({"beat_hz": 10001}, "beat_hz"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 32}, "seed"),
        ({"check_pages_per_s": -1}, "check_pages_per_s"),
        ({"classes": tuple(PageClass(name=str(i), size_bytes=4096) for i in range(17))}, "classes"),
        ({"classes": (PageClass(name="a", size_bytes=4096),) * 2}, "classes"),
        ({"classes": tuple(PageClass(name=str(i), size_bytes=3 << 30) for i in range(2))}, "classes"),
        (
            {
                "classes": tuple(
                    PageClass(name=str(i), size_bytes=64 * MIB, rate_bytes_per_s=MIB, pattern=Pattern.ZIPF)
                    for i in range(10)
                )
            },
            "classes",
        ),
    ],
)
def test_a_workload_out_of_range_is_refused(changes: dict[str, Any], field: str) -> None:
    """Each limit of the guest is checked on the host."""
    with pytest.raises(BadInput) as caught:
        WorkloadSpec(**changes)
    assert caught.value.field == field


def test_the_command_line() -> None:
    """What the guest is given, word for word."""
    spec = WorkloadSpec.parse(
        [
            "hot:size=64KiB,rate=1MiB/s,pattern=hotspot,share=75%,part=25%,touch=32,period=2s,duty=25%,shift=1s",
            "sw:size=8KiB,writes=0.5,pattern=sweep,content=constant",
            "cold:size=4KiB,content=zero",
        ],
        beat_hz=100,
        seed=3,
    )
    assert spec.kernel_arguments() == (
        "whimbrel-guest hz=100 seed=3 check=2000 "
        "class=hot,pages=16,content=r,rate=256000,touch=2,period=2000000,on=500000,shift=1000000,"
        "steps=4:3221225471/12:4294967295,stride=9 "
        "class=sw,pages=2,content=c,rate=500,touch=253 "
        "class=cold,pages=1,content=z"
    )


def test_ready_made_workloads() -> None:
    """Idle holds and writes nothing; uniform splits its memory into working set and rest."""
    assert WorkloadSpec.idle(8 * MIB).rate_bytes_per_s == 0
    spec = WorkloadSpec.uniform(8 * MIB, 2 * MIB, 1e6)
    assert (spec.size_bytes, spec.rate_bytes_per_s) == (8 * MIB, 1e6)
    assert [c.size_bytes for c in spec.classes] == [2 * MIB, 6 * MIB]
    assert len(WorkloadSpec.uniform(2 * MIB, 2 * MIB, 1e6).classes) == 1


def test_phases_lower_the_mean_rate() -> None:
    """A quarter of the time at 4 MiB/s is 1 MiB/s."""
    page_class = PageClass(name="a", size_bytes=MIB, rate_bytes_per_s=4 * MIB, period_s=2, duty=0.25)
    assert page_class.mean_rate_bytes_per_s == pytest.approx(MIB)


@given(st.lists(page_classes(), max_size=3, unique_by=lambda c: c.name), st.floats(0.01, 100))
def test_the_curve_is_a_curve(classes: list[PageClass], tau_s: float) -> None:
    """It rises with the window, and is bounded by the memory and by what is written; an empty window has nothing."""
    spec = WorkloadSpec(classes=tuple(classes))
    at, later = spec.dirtied_bytes(tau_s), spec.dirtied_bytes(tau_s * 1.5)
    books = (spec.size_bytes // PAGE_BYTES // 32768 + 1) * PAGE_BYTES
    assert spec.dirtied_bytes(0) == 0
    assert PAGE_BYTES <= at <= (spec.size_bytes + PAGE_BYTES + books) * (1 + 1e-9)
    assert at <= later * (1 + 1e-9)
    for page_class in classes:
        assert page_class.dirtied_bytes(tau_s) <= page_class.rate_bytes_per_s * tau_s * (1 + 1e-6) + PAGE_BYTES


def test_the_curve_of_a_sweep_is_straight_then_flat() -> None:
    """1 MiB at 1 MiB/s: half of it in half a second, all of it from one second on."""
    page_class = PageClass(name="a", size_bytes=MIB, rate_bytes_per_s=MIB, pattern=Pattern.SWEEP)
    assert page_class.dirtied_bytes(0.5) == pytest.approx(MIB / 2)
    assert page_class.dirtied_bytes(1.5) == pytest.approx(MIB)


def test_the_accumulators_of_large_memory_are_counted() -> None:
    """512 MiB of classes have four pages of accumulators; writes to a quarter of them dirty one."""
    spec = WorkloadSpec.uniform(512 * MIB, 128 * MIB, 50 * MIB)
    assert spec.dirtied_book_pages(1.0) == pytest.approx(1.0)
    whole = WorkloadSpec.uniform(512 * MIB, 512 * MIB, 50 * MIB)
    assert whole.dirtied_book_pages(1.0) == pytest.approx(4.0)
    assert WorkloadSpec.idle(512 * MIB).dirtied_book_pages(1.0) == 0
