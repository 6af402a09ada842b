"""The scenario file: what is read, that it is read back equal, and that all that is wrong with one is told at once."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.support.every_key import EVERYTHING, SCENARIO
from whimbrel.engine.errors import BadInput
from whimbrel.scenario_file import BadScenario, check, loads, read
from whimbrel.scenario_writing import Plan, dumps
from whimbrel.sim.guests.trace import Trace, write_trace
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer

MIB = 1 << 20
PAGE = 4096
TRACE = Trace(1024, 2.0, ((0.5, ((0, 10), (100, 1))),))


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
    write_trace(tmp_path / "w.trace", TRACE)
    file = tmp_path / "s.toml"
    file.write_text('[guest.curve]\nfile = "c.json"\n')
    guest = read(file).scenario.guest
    assert (guest.ram_bytes, guest.zero_bytes, guest.curve) == (65536, 8192, ((1.0, 4096.0), (2.0, 8192.0)))
    file.write_text('[guest]\nram = 131072\nzero = 0\n[guest.curve]\nfile = "c.json"\n')
    assert (read(file).scenario.guest.ram_bytes, read(file).scenario.guest.zero_bytes) == (131072, 0)
    file.write_text('[guest]\nram = "16MiB"\ntrace = "w.trace"\n')
    assert read(file).scenario.guest.trace == str(tmp_path / "w.trace")


def test_a_recording_that_is_damaged_or_too_large_is_told_in_its_place(tmp_path: Path) -> None:
    write_trace(tmp_path / "large", TRACE)
    (tmp_path / "damaged").write_text("{}\n")
    for name, words in (("large", "a recording of 4MiB is not allowed; allowed: at most 2MiB"), ("damaged", "line 1")):
        (tmp_path / "s.toml").write_text(f'[guest]\nram = "2MiB"\ntrace = "{name}"\n')
        with pytest.raises(BadScenario) as caught:
            read(tmp_path / "s.toml")
        (found,) = map(str, caught.value.findings)
        assert found.startswith(f"{tmp_path / 's.toml'}:3: guest.trace: ")
        assert words in found


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
    "s.toml:13: guest.writer[1].rate: '-40MiB/s' is not allowed; allowed: a rate such as 50MiB/s, 1Gbit/s or "
    "125000000, not a negative one",
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


def test_what_can_be_judged_is_told_though_something_else_could_not_be_read() -> None:
    """Writers that are larger than RAM already, and two ways at once of which one can't be read."""
    text = SMALL + '[[guest.writer]]\nname = "a"\nsize = "32MiB"\n[[guest.writer]]\nname = "b"\nsize = "1 furlong"\n'
    found = findings(text + '[guest.curve]\nwindows = ["1s"]\ndirty = ["1MiB"]\n')
    assert [each.split(": ")[1] for each in found] == [
        *("guest.ram", "guest.writer[2].size", "guest.curve", "guest.curve.windows")
    ]
    assert "at least 32MiB: all writers" in found[0]
    assert "writer and curve together" in found[2]
    (plain,) = findings(SMALL + 'trace = "nowhere"\n[[guest.writer]]\nname = "a"\nsize = 4096\n')[:1]
    assert "guest.trace" in plain


def test_a_policy_is_looked_for_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever it is read; and what is written out is found from here."""
    (tmp_path / "mine.py").write_text(
        "from whimbrel import Decision\n\n\ndef calm(seen, *, after_s=1.0):\n    return Decision()\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (tmp_path / "s.toml").write_text(f'policy = "mine.py:calm:after=60"\n{SMALL}')
    plan = read(Path("..") / "s.toml")
    assert plan.scenario.policy == "../mine.py:calm:after=60"
    assert loads(dumps(plan)) == plan
    (tmp_path / "s.toml").write_text(f'policy = "nowhere.py:calm"\n{SMALL}')
    with pytest.raises(
        BadScenario, match=r"s.toml:1: policy: 'nowhere.py:calm' is not allowed; allowed: a Python file"
    ):
        read(Path("..") / "s.toml")


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
