"""The scenario file: what is read, that it is read back equal, and that all that is wrong with one is told at once."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.scenario_file import BadScenario, Plan, check, dumps, loads, read
from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer

MIB = 1 << 20
PAGE = 4096

EVERYTHING = """\
seed = 7
policy = "fixed:downtime_limit=50ms"
migrations = 2
limit = "30m"
faults = true

[guest]
ram = "2GiB"
zero = "512MiB"
vcpus = 2
pages = true

[[guest.writer]]
name = "hot"
size = "64MiB"
rate = "40MiB/s"
pattern = "zipf"
skew = 1.1
period = "2s"
duty = "25%"
shift = "500ms"
delta = "512B"
ratio = 0.5
vcpu = 1
cpu_share = "30%"

[[guest.writer]]
name = "disk"
size = 1048576
writes = 100
pattern = "hotspot"
share = "90%"
part = "10%"
zero = true
dma = true

[link]
bandwidth = "2Gbit/s"
latency = "1ms"
pipe = "2MiB"
noise = "5%"
noise_every = "50ms"
noise_memory = 0.9
rivals = 1
steps = [{ at = "10s", bandwidth = "500Mbit/s" }, { at = "20s", bandwidth = "1Gbit/s" }]
outages = [
  { at = "5s", for = "2s" },
]

[qemu]
source = "7.2"
destination = "11.1"
accelerator = "kvm"

[qemu.costs]
cpu = "2GB/s"
zero_page = "0.5us"
sync = "1ms"
sync_per_page = "5ns"
sync_per_dirty_page = "3ns"
stop = "1ms"
device_state = "1MB"
load = "5ms"
resume = "2ms"
setup = "10ms"
start_stall = "20ms"

[objectives]
downtime = "100ms"
deadline = "2m"
bandwidth = "800Mbit/s"
throttle = "50%"
may_abort = true
"""

SCENARIO = Scenario(
    guest=GuestPlan(
        ram_bytes=2048 * MIB,
        zero_bytes=512 * MIB,
        vcpus=2,
        pages=True,
        writers=(
            Writer(
                name="hot",
                size_bytes=64 * MIB,
                rate_bytes_per_s=40.0 * MIB,
                pattern=Pattern.ZIPF,
                skew=1.1,
                period_s=2.0,
                duty=0.25,
                shift_s=0.5,
                delta_bytes=512,
                compressed_ratio=0.5,
                vcpu=1,
                cpu_share=0.3,
            ),
            Writer(
                name="disk",
                size_bytes=MIB,
                rate_bytes_per_s=100.0 * PAGE,
                pattern=Pattern.HOTSPOT,
                share=0.9,
                part=0.1,
                zero=True,
                vcpu=None,
            ),
        ),
    ),
    link=LinkPlan(
        bandwidth_bytes_per_s=250e6,
        latency_s=0.001,
        pipe_bytes=2 * MIB,
        noise=0.05,
        noise_every_s=0.05,
        noise_memory=0.9,
        rivals=1,
        steps=((10.0, 62.5e6), (20.0, 125e6)),
        outages=((5.0, 2.0),),
    ),
    qemu=QemuPlan(
        source=Version.V7_2,
        destination=Version.V11_1,
        kvm=True,
        costs=Costs(
            cpu_bytes_per_s=2e9,
            zero_page_s=0.5e-6,
            sync_s=0.001,
            sync_s_per_page=5e-9,
            sync_s_per_dirty_page=3e-9,
            stop_s=0.001,
            device_state_bytes=1_000_000,
            load_s=0.005,
            resume_s=0.002,
            setup_s=0.01,
            start_stall_s=0.02,
        ),
    ),
    objectives=Objectives(
        downtime_s=0.1, deadline_s=120.0, bandwidth_bytes_per_s=100_000_000, greatest_throttle=0.5, may_abort=True
    ),
    policy="fixed:downtime_limit=50ms",
    migrations=2,
    limit_s=1800.0,
    faults=True,
)


def findings(text: str) -> list[str]:
    """What is wrong with a text, each as one line."""
    with pytest.raises(BadScenario) as caught:
        loads(text, name="s.toml")
    return [str(each) for each in caught.value.findings]


# ---- reading


def test_every_key_is_read() -> None:
    assert loads(EVERYTHING) == Plan(scenario=SCENARIO, seed=7)


def test_the_example_of_every_key_has_every_key() -> None:
    """No field is left at its default there, so no key is forgotten."""
    for record in (SCENARIO, SCENARIO.link, SCENARIO.qemu, SCENARIO.qemu.costs, SCENARIO.objectives):
        same = [each.name for each in fields(record) if getattr(record, each.name) == each.default]
        assert same in ([], ["source"])
    for each in fields(Writer):
        assert any(getattr(writer, each.name) != each.default for writer in SCENARIO.guest.writers), each.name


def test_what_is_left_out_has_its_default() -> None:
    plan = loads('[guest]\nram = "16MiB"\n')
    assert plan == Plan(scenario=Scenario(guest=GuestPlan(ram_bytes=16 * MIB)), seed=1)


def test_bare_numbers_are_bytes_seconds_and_parts() -> None:
    text = "[guest]\nram = 8192\n[link]\nbandwidth = 1e6\nlatency = 0.25\nnoise = 0.1\n"
    plan = loads(text).scenario
    assert (plan.guest.ram_bytes, plan.link.bandwidth_bytes_per_s) == (8192, 1e6)
    assert (plan.link.latency_s, plan.link.noise) == (0.25, 0.1)


def test_a_curve_in_the_file() -> None:
    text = '[guest]\nram = "1MiB"\n[guest.curve]\nwindows = ["125ms", 1]\ndirty = ["64KiB", 100000.5]\n'
    assert loads(text).scenario.guest.curve == ((0.125, 65536.0), (1.0, 100000.5))


def test_a_curve_and_a_trace_beside_the_file(tmp_path: Path) -> None:
    """Both are looked for in the scenario's folder; RAM and zero pages are the curve's unless they are given."""
    curve = {"window_s": [1, 2], "dirty_bytes": [4096, 8192], "total_bytes": 65536, "zero_bytes": 8192}
    (tmp_path / "c.json").write_text(json.dumps(curve))
    (tmp_path / "w.trace").write_text("")
    file = tmp_path / "s.toml"
    file.write_text('[guest.curve]\nfile = "c.json"\n')
    guest = read(file).scenario.guest
    assert (guest.ram_bytes, guest.zero_bytes, guest.curve) == (65536, 8192, ((1.0, 4096.0), (2.0, 8192.0)))
    file.write_text('[guest]\nram = 131072\nzero = 0\n[guest.curve]\nfile = "c.json"\n')
    assert (read(file).scenario.guest.ram_bytes, read(file).scenario.guest.zero_bytes) == (131072, 0)
    file.write_text('[guest]\nram = "16MiB"\ntrace = "w.trace"\n')
    assert read(file).scenario.guest.trace == str(tmp_path / "w.trace")


# ---- all findings at once

BAD = """\
sed = 3
policy = "nosuch"
limit = "-5s"

[guest]
ram = "64MiB/s"
zero = 1.5
vcpus = "two"
colour = "blue"

[[guest.writer]]
name = "hot"
rate = "-40MiB/s"
paterns = "zipf"
duty = "50%"
vcpu = 4
dma = true

[[guest.writer]]
size = "3MiB"
rate = 5
writes = 5
pattern = "random"

[link]
bandwith = "1Gbit/s"
bandwidth = 0
steps = [
  { at = "5s", bandwidth = "1Gbit/s" },
  { at = "2s", bandwidth = "1Gbit" },
  { at = "1s", bandwith = "1Gbit/s" },
]
outages = { at = "5s" }

[qemu]
source = "8.0"
accelerator = "xen"
costs = 3

[objectives]
downtime = 0
throttle = "150%"
may_abort = "yes"
"""

FOUND = [
    "s.toml:1: sed: there is no such key; did you mean seed? allowed: faults, ",
    "s.toml:2: policy: 'nosuch' is not allowed; allowed: one of ",
    "s.toml:3: limit: '-5s' is not allowed; allowed: a time such as ",
    "s.toml:6: guest.ram: '64MiB/s' is not allowed; allowed: a size such as ",
    "s.toml:7: guest.zero: 1.5 is not allowed; allowed: a size in whole bytes",
    "s.toml:8: guest.vcpus: 'two' is not allowed; allowed: a whole number",
    "s.toml:9: guest.colour: there is no such key; allowed: curve, pages, ",
    "s.toml:11: guest.writer[1].size: is missing; it has no default",
    "s.toml:13: guest.writer[1].rate: '-40MiB/s' is not allowed; allowed: a rate such as ",
    "s.toml:14: guest.writer[1].paterns: there is no such key; did you mean pattern? ",
    "s.toml:15: guest.writer[1].duty: '50%' is not allowed; allowed: only with a period",
    "s.toml:16: guest.writer[1].vcpu: dma = true is given, too; allowed: one of ",
    "s.toml:19: guest.writer[2].name: is missing; it has no default",
    "s.toml:22: guest.writer[2].writes: rate is given, too; allowed: one of rate and writes",
    "s.toml:23: guest.writer[2].pattern: 'random' is not allowed; allowed: \"uniform\", ",
    "s.toml:26: link.bandwith: there is no such key; did you mean bandwidth? ",
    "s.toml:27: link.bandwidth: 0 is not allowed; allowed: more than 0 up to 10TB/s",
    "s.toml:30: link.steps[2].at: '2s' is not allowed; allowed: later than the step before, at 5s",
    "s.toml:30: link.steps[2].bandwidth: '1Gbit' is not allowed; allowed: a rate such as ",
    "s.toml:31: link.steps[3].at: '1s' is not allowed; allowed: later than the step before, at 2s",
    "s.toml:31: link.steps[3].bandwidth: is missing; it has no default",
    "s.toml:31: link.steps[3].bandwith: there is no such key; did you mean bandwidth? ",
    "s.toml:33: link.outages: one table is not allowed; allowed: outages = [",
    's.toml:36: qemu.source: \'8.0\' is not allowed; allowed: "7.2", "10.0", "11.1"',
    's.toml:37: qemu.accelerator: \'xen\' is not allowed; allowed: "tcg" or "kvm"',
    "s.toml:38: qemu.costs: 3 is not allowed; allowed: a table, [qemu.costs]",
    "s.toml:41: objectives.downtime: 0 is not allowed; allowed: 1ms to 2000s",
    "s.toml:42: objectives.throttle: '150%' is not allowed; allowed: a part such as ",
    "s.toml:43: objectives.may_abort: 'yes' is not allowed; allowed: true or false, without quotes",
]


def test_all_findings_at_once_with_their_places() -> None:
    """Every one is a sentence with the file's line, the key, what was given and what is allowed; in order."""
    found = findings(BAD)
    assert [sorted(FOUND).index(wanted) for wanted in sorted(FOUND)] == list(range(len(FOUND)))
    unmatched = [each for each in found if not any(each.startswith(wanted) for wanted in FOUND)]
    missing = [wanted for wanted in FOUND if not any(each.startswith(wanted) for each in found)]
    assert (unmatched, missing, len(found)) == ([], [], len(FOUND))
    lines = [int(each.split(":")[1]) for each in found]
    assert lines == sorted(lines)


def test_they_are_told_as_one_line_or_as_a_list() -> None:
    with pytest.raises(BadScenario) as one:
        loads('[guest]\nram = "x"\n', name="s.toml")
    assert str(one.value).startswith("s.toml:2: guest.ram: 'x' is not allowed; allowed: ")
    with pytest.raises(BadScenario) as many:
        loads(BAD, name="s.toml")
    first, *others = str(many.value).split("\n")
    assert first == f"s.toml: {len(FOUND)} findings"
    assert others == [f"  {each}" for each in many.value.findings]


SMALL = '[guest]\nram = "16MiB"\n'


def test_what_follows_from_a_finding_is_none() -> None:
    """A size that can't be read is told, and not that its guest is larger than its RAM or a duty without a period."""
    (found,) = findings(SMALL + '[[guest.writer]]\nname = "a"\nsize = "8M"\nperiod = "x"\nduty = "50%"\n')[:1]
    assert found.startswith("s.toml:5: guest.writer[1].size: '8M' is not allowed")
    assert len(findings(SMALL + '[[guest.writer]]\nname = "a"\nsize = "8M"\nperiod = "x"\nduty = "50%"\n')) == 2


@pytest.mark.parametrize("given", ["/nowhere/s.toml", "/dev/zero", "/etc"])
def test_a_file_that_can_be_no_scenario(given: str) -> None:
    with pytest.raises(BadInput, match=r"^scenario: "):
        read(Path(given))


def test_a_large_or_binary_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"#" * (2 << 20))
    (tmp_path / "binary").write_bytes(b"a = '\xff'")
    for name, words in (("large", "at most"), ("binary", "UTF-8")):
        with pytest.raises(BadInput, match=words):
            read(tmp_path / name)


def test_a_scenario_that_was_made_otherwise_is_checked_by_the_same_rules() -> None:
    check(SCENARIO)
    with pytest.raises(BadScenario, match=r"options: link\.bandwidth: allowed: more than 0") as caught:
        check(replace(SCENARIO, link=LinkPlan(bandwidth_bytes_per_s=0.0), limit_s=0.0))
    assert len(caught.value.findings) == 2


# ---- written and read back

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
            costs=COSTS,
        ),
        objectives=OBJECTIVES,
        policy=st.sampled_from(["fixed", "least_downtime", "fixed:downtime_limit=50ms", "least_downtime:worth=0.5"]),
        migrations=st.integers(1, 1000),
        limit_s=st.floats(1e-3, 1e5),
        faults=st.booleans(),
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
