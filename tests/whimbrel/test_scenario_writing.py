"""A scenario as text: any one written out is read back equal, and what is written is for people."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.every_key import EVERYTHING, SCENARIO
from whimbrel.engine.policy import Objectives
from whimbrel.scenario_file import loads
from whimbrel.scenario_writing import Plan, dumps
from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer

MIB = 1 << 20
PAGE = 4096

TIMES = st.one_of(st.sampled_from([0.001, 0.3, 1.0, 90.0, 7200.0]), st.floats(1e-9, 1e4))
RATES = st.one_of(st.sampled_from([1.0, 1e6, 2.0**20, 125e6, 1.5e9]), st.floats(1e-3, 1e12))
PARTS = st.one_of(st.sampled_from([0.01, 0.25, 0.5, 0.99]), st.floats(1e-6, 0.999))
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@st.composite
def writers(draw: st.DrawFn, name: str, vcpus: int) -> Writer:
    pattern = draw(st.sampled_from(Pattern))
    hot = pattern is Pattern.HOTSPOT
    phased = draw(st.booleans())
    vcpu = draw(st.none() | st.integers(0, vcpus - 1))
    return Writer(
        name=name,
        size_bytes=PAGE * draw(st.integers(1, 10_000)),
        rate_bytes_per_s=draw(RATES | st.just(0.0)),
        pattern=pattern,
        skew=draw(st.floats(0, 4)) if pattern is Pattern.ZIPF else 0.99,
        share=draw(PARTS) if hot else 0.95,
        part=draw(PARTS) if hot else 0.2,
        period_s=draw(TIMES) if phased else 0.0,
        duty=draw(PARTS | st.just(1.0)) if phased else 1.0,
        shift_s=draw(TIMES | st.just(0.0)) if phased else 0.0,
        zero=draw(st.booleans()),
        delta_bytes=draw(st.integers(1, PAGE)),
        compressed_ratio=draw(PARTS | st.just(1.0)),
        vcpu=vcpu,
        cpu_share=0.0 if vcpu is None else draw(st.floats(0, 0.25)),
    )


@st.composite
def guests(draw: st.DrawFn) -> GuestPlan:
    vcpus = draw(st.integers(1, 8))
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    written = tuple(draw(writers(name, vcpus)) for name in names)
    zero_bytes = PAGE * draw(st.integers(0, 1000))
    spare_bytes = PAGE * draw(st.integers(1, 1 << 20))
    curve: tuple[tuple[float, float], ...] = ()
    if not written and draw(st.booleans()):
        windows = sorted(draw(st.lists(st.floats(1e-6, 1e4), min_size=2, max_size=6, unique=True)))
        sizes = sorted(draw(st.lists(st.floats(0, spare_bytes), min_size=len(windows), max_size=len(windows))))
        curve = tuple(zip(windows, sizes, strict=True))
    return GuestPlan(
        ram_bytes=sum(each.size_bytes for each in written) + zero_bytes + spare_bytes,
        zero_bytes=zero_bytes,
        writers=written,
        curve=curve,
        vcpus=vcpus,
        pages=not curve and draw(st.booleans()),
    )


@st.composite
def links(draw: st.DrawFn) -> LinkPlan:
    noise = draw(PARTS | st.just(0.0))
    step_times = sorted(draw(st.lists(st.floats(0, 1e4), max_size=3, unique=True)))
    outages: list[tuple[float, float]] = []
    free_s = 0.0
    for gap_s, span_s in draw(st.lists(st.tuples(TIMES, TIMES), max_size=3)):
        outages.append((free_s + gap_s, span_s))
        free_s = (free_s + gap_s + span_s) * 1.001
    return LinkPlan(
        bandwidth_bytes_per_s=draw(RATES),
        latency_s=draw(TIMES | st.just(0.0)),
        pipe_bytes=draw(st.integers(0, 1 << 30)),
        noise=noise,
        noise_every_s=draw(TIMES) if noise else 0.1,
        noise_memory=draw(PARTS) if noise else 0.0,
        steps=tuple((at_s, draw(RATES)) for at_s in step_times),
        outages=tuple(outages),
        rivals=draw(st.integers(0, 100)),
    )


COSTS = st.builds(
    Costs,
    **{
        each.name: (
            st.integers(0, 1 << 40)
            if each.name.endswith("_bytes")
            else RATES
            if each.name.endswith("_bytes_per_s")
            else TIMES | st.just(0.0)
        )
        for each in fields(Costs)
    },
)
OBJECTIVES = st.builds(
    Objectives,
    downtime_s=st.floats(0.001, 2000),
    deadline_s=st.none() | TIMES,
    bandwidth_bytes_per_s=st.none() | st.integers(1, 10**12),
    greatest_throttle=st.floats(0, 0.99),
    may_abort=st.booleans(),
    may_pause=st.booleans(),
    may_postcopy=st.booleans(),
    abort_on_fault=st.booleans(),
)
PLANS = st.builds(
    Plan,
    seed=st.integers(0, 1 << 64),
    scenario=st.builds(
        Scenario,
        guest=guests(),
        link=links(),
        qemu=st.builds(
            QemuPlan,
            source=st.sampled_from(Version),
            destination=st.sampled_from(Version),
            kvm=st.booleans(),
            local=st.booleans(),
            costs=COSTS,
        ),
        objectives=OBJECTIVES,
        policy=st.sampled_from(["fixed", "least_downtime", "fixed:downtime_limit=50ms", "least_downtime:worth=0.5"]),
        migrations=st.integers(1, 1000),
        limit_s=st.floats(1e5, 1e6),
        faults=st.booleans(),
        capabilities=st.sampled_from([(), ("xbzrle",), ("auto-converge", "xbzrle")]),
        postcopy_at_s=st.none() | st.floats(0, 1e4),
    ),
)


@settings(max_examples=60, deadline=None)
@given(PLANS)
def test_any_scenario_written_out_is_read_back_equal(plan: Plan) -> None:
    assert loads(dumps(plan)) == plan


def test_what_is_written_is_for_people() -> None:
    """Units as they would be typed, and nothing that is as it is anyway."""
    lines = dumps(Plan(scenario=SCENARIO, seed=7)).splitlines()
    for line in EVERYTHING.splitlines():
        if line.split(" ")[0] in ("ram", "zero", "rate", "duty", "shift", "bandwidth", "latency", "sync", "downtime"):
            assert line in lines
    assert dumps(Plan(scenario=Scenario(guest=GuestPlan(ram_bytes=16 * MIB)))).split() == [
        *("seed", "=", "1", "policy", "=", '"least_downtime"', "[guest]", "ram", "=", '"16MiB"')
    ]
