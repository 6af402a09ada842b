"""What a scenario must keep to: each rule refuses what breaks it, and only that, by the keys of the file."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from whimbrel.engine.policy import Objectives
from whimbrel.scenario_file import BadScenario, loads
from whimbrel.scenario_rules import exact_size, problems, without_unit
from whimbrel.sim.qemu.contract import Costs
from whimbrel.sim.scenario import GuestPlan, QemuPlan, Scenario, Writer
from whimbrel.toml_places import written

MIB = 1 << 20
PLAIN = Scenario(guest=GuestPlan(ram_bytes=16 * MIB, writers=(Writer(name="a", size_bytes=MIB),)))


def keys(scenario: Scenario) -> list[str]:
    """The keys at which something is wrong."""
    return [written(each.path) for each in problems(scenario)]


SMALL = '[guest]\nram = "16MiB"\n'
WRITER = '[[guest.writer]]\nname = "a"\nsize = "8MiB"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            f'{SMALL}zero = "4MiB"\n{WRITER}[[guest.writer]]\nname = "b"\nsize = "6MiB"\n',
            "s.toml:2: guest.ram: 16MiB of RAM is not allowed; allowed: at least 18MiB: all writers and zero pages ",
        ),
        (SMALL + 'zero = "17MiB"\n', "s.toml:2: guest.ram: 16MiB of RAM is not allowed; allowed: at least 17MiB"),
        (
            f'{SMALL}[guest.curve]\nwindows = [1, 2]\ndirty = ["1MiB", "2MiB"]\n{WRITER}',
            "s.toml:3: guest.curve: writer and curve together is not allowed; allowed: one of writer, curve and trace",
        ),
        (SMALL + WRITER + "vcpu = 1\n", "s.toml:6: guest.writer[1].vcpu: 1 is not allowed; allowed: 0 to 0: the guest"),
        (
            SMALL + WRITER + 'cpu_share = "60%"\n' + '[[guest.writer]]\nname = "b"\nsize = "1MiB"\ncpu_share = "50%"\n',
            "s.toml:10: guest.writer[2].cpu_share: 110% of vCPU 0 with this one is not allowed; allowed: 100% in all",
        ),
        (
            SMALL + WRITER + 'dma = true\ncpu_share = "5%"\n',
            "s.toml:7: guest.writer[1].cpu_share: '5%' is not allowed; allowed: nothing where dma = true",
        ),
        (SMALL + WRITER + "skew = 1.5\n", "s.toml:6: guest.writer[1].skew: 1.5 is not allowed; allowed: only with pat"),
        (SMALL + WRITER + "size = 1\n", "s.toml:6: this is no TOML: "),
        (SMALL + WRITER[:-7] + "4095\n", "s.toml:5: guest.writer[1].size: 4095 is not allowed; allowed: whole pages"),
        (
            SMALL + WRITER + WRITER,
            "s.toml:7: guest.writer[2].name: 'a' is not allowed; allowed: a different name for each writer",
        ),
        (
            SMALL + '[guest.curve]\nwindows = ["1s", "1s"]\ndirty = [1, 2]\n',
            "s.toml:4: guest.curve.windows[2]: '1s' is not allowed; allowed: longer than the window before, of 1s",
        ),
        (
            SMALL + '[guest.curve]\nwindows = ["1s", "2s"]\ndirty = [1]\n',
            "s.toml:5: guest.curve.dirty: 1 size is not allowed; allowed: 2, one for each window",
        ),
        (SMALL + '[guest.curve]\nwindows = ["1s"]\n', "s.toml:3: guest.curve.dirty: is missing"),
        (
            SMALL + '[qemu]\ncapabilities = ["xbzrel"]\n',
            "s.toml:4: qemu.capabilities[1]: 'xbzrel' is not allowed; allowed: what both QEMUs have: xbzrle, ",
        ),
        ('limit = "5s"\npostcopy = "6s"\n' + SMALL, "s.toml:2: postcopy: '6s' is not allowed; allowed: before it is "),
        (SMALL + "[guest.curve]\n", "s.toml:3: guest.curve: nothing is given; allowed: windows and dirty, or file"),
        (
            SMALL + '[guest.curve]\nwindows = ["1s", "2s"]\ndirty = [1, "1GiB"]\n',
            "s.toml:5: guest.curve.dirty[2]: '1GiB' is not allowed; allowed: 0 to 16MiB, the RAM that is not zero",
        ),
        (SMALL + '[guest.curve]\nfile = "nowhere.json"\n', "s.toml:4: guest.curve.file: 'nowhere.json' is not allowed"),
        (SMALL + 'trace = "nowhere"\n', "s.toml:3: guest.trace: 'nowhere' is not allowed; allowed: a file that exists"),
        (SMALL + '[link]\nnoise_memory = "50%"\n', "s.toml:4: link.noise_memory: '50%' is not allowed; allowed: only"),
        (
            SMALL + '[link]\noutages = [{ at = "1s", for = "5s" }, { at = "3s", for = "1s" }]\n',
            "s.toml:4: link.outages[2].at: '3s' is not allowed; allowed: after the outage before, which ends at 6s",
        ),
        ("seed = 1\n", "s.toml:1: guest.ram: is missing; it has no default"),
        ("", "s.toml:1: guest.ram: is missing; it has no default"),
        ("guest = 5\n", "s.toml:1: guest: 5 is not allowed; allowed: a table, [guest]"),
        ("[guest\n", "s.toml:1: this is no TOML: "),
        (SMALL + '[guest.writer]\nname = "a"\n', "s.toml:3: guest.writer: one table is not allowed; allowed: [[guest."),
        (SMALL + 'policy = "fixed"\n', "s.toml:3: guest.policy: there is no such key"),
        ("x = " + "[" * 5000 + "]" * 5000, "s.toml: it is nested too deeply"),
    ],
    ids=lambda value: value[:50],
)
def test_a_single_finding(text: str, sentence: str) -> None:
    """Impossible combinations and values out of range: just this one finding, and none that only follows from it."""
    with pytest.raises(BadScenario) as caught:
        loads(text, name="s.toml")
    (found,) = map(str, caught.value.findings)
    assert found.startswith(sentence)


def test_capabilities_that_qemu_refuses_together_are_told() -> None:
    """In QEMU's own words, where both have each of them."""
    versions = '[qemu]\nsource = "10.0"\ndestination = "10.0"\ncapabilities = ["postcopy-ram", "multifd"]\n'
    with pytest.raises(BadScenario) as caught:
        loads(SMALL + versions, name="s.toml")
    found = list(map(str, caught.value.findings))
    assert all(each.startswith("s.toml:6: qemu.capabilities: postcopy-ram, multifd is not allowed; ") for each in found)
    assert "Postcopy is not yet compatible with multifd" in found[0]


def writer(**changes: Any) -> Scenario:
    """A guest whose writer has this."""
    return replace(PLAIN, guest=replace(PLAIN.guest, writers=(replace(PLAIN.guest.writers[0], **changes),)))


def link(**changes: Any) -> Scenario:
    """A link that has this."""
    return replace(PLAIN, link=replace(PLAIN.link, **changes))


@pytest.mark.parametrize(
    ("scenario", "wrong"),
    [
        (replace(PLAIN, migrations=0), ["migrations"]),
        (replace(PLAIN, migrations=1001), ["migrations"]),
        (replace(PLAIN, limit_s=0.0), ["limit"]),
        (replace(PLAIN, limit_s=2e6), ["limit"]),
        (replace(PLAIN, guest=replace(PLAIN.guest, vcpus=0)), ["guest.vcpus"]),
        (replace(PLAIN, guest=replace(PLAIN.guest, zero_bytes=4095)), ["guest.zero"]),
        (replace(PLAIN, guest=GuestPlan(ram_bytes=1 << 50)), ["guest.ram"]),
        (writer(name=""), ["guest.writer[1].name"]),
        (writer(size_bytes=0), ["guest.writer[1].size"]),
        (writer(rate_bytes_per_s=-1.0), ["guest.writer[1].rate"]),
        (writer(rate_bytes_per_s=float("nan")), ["guest.writer[1].rate"]),
        (writer(period_s=1.0, duty=0.0), ["guest.writer[1].duty"]),
        (writer(shift_s=1.0), ["guest.writer[1].shift"]),
        (writer(share=0.5), ["guest.writer[1].share"]),
        (writer(part=0.5), ["guest.writer[1].part"]),
        (writer(delta_bytes=0), ["guest.writer[1].delta"]),
        (writer(delta_bytes=4097), ["guest.writer[1].delta"]),
        (writer(compressed_ratio=0.0), ["guest.writer[1].ratio"]),
        (writer(cpu_share=1.1), ["guest.writer[1].cpu_share"]),
        (writer(vcpu=-1), ["guest.writer[1].vcpu"]),
        (link(bandwidth_bytes_per_s=0.0), ["link.bandwidth"]),
        (link(bandwidth_bytes_per_s=1e14), ["link.bandwidth"]),
        (link(latency_s=-1.0), ["link.latency"]),
        (link(pipe_bytes=-1), ["link.pipe"]),
        (link(noise=1.0), ["link.noise"]),
        (link(noise=0.1, noise_memory=1.0), ["link.noise_memory"]),
        (link(noise_every_s=0.2), ["link.noise_every"]),
        (link(rivals=-1), ["link.rivals"]),
        (link(steps=((1.0, 0.0),)), ["link.steps[1].bandwidth"]),
        (link(outages=((1.0, 0.0),)), ["link.outages[1].for"]),
        (replace(PLAIN, objectives=Objectives(downtime_s=3000.0)), ["objectives.downtime"]),
        (replace(PLAIN, objectives=Objectives(deadline_s=0.0)), ["objectives.deadline"]),
        (replace(PLAIN, objectives=Objectives(bandwidth_bytes_per_s=0)), ["objectives.bandwidth"]),
        (replace(PLAIN, objectives=Objectives(greatest_throttle=1.0)), ["objectives.throttle"]),
        (replace(PLAIN, postcopy_at_s=-1.0), ["postcopy"]),
        (replace(PLAIN, postcopy_at_s=10.0, limit_s=9.0), ["postcopy"]),
        (replace(PLAIN, capabilities=("xbzrle", "nonsense")), ["qemu.capabilities[2]"]),
        (replace(PLAIN, capabilities=("dirty-limit",)), ["qemu.capabilities[1]"]),
        (replace(PLAIN, capabilities=("xbzrle",), postcopy_at_s=0.0), []),
        (PLAIN, []),
        (link(noise=0.1, noise_every_s=0.2, noise_memory=0.5, steps=((0.0, 1.0), (1.0, 2.0))), []),
        (writer(rate_bytes_per_s=1e9, period_s=2.0, duty=0.5, shift_s=3.0, vcpu=None, zero=True), []),
    ],
    ids=str,
)
def test_a_rule(scenario: Scenario, wrong: list[str]) -> None:
    assert keys(scenario) == wrong


@pytest.mark.parametrize("name", [each.name for each in fields(Costs)])
def test_no_cost_is_negative(name: str) -> None:
    costs = replace(Costs(), **{name: -1})
    assert keys(replace(PLAIN, qemu=QemuPlan(costs=costs))) == [f"qemu.costs.{without_unit(name)}"]


def test_a_curve_never_falls() -> None:
    guest = GuestPlan(ram_bytes=16 * MIB, curve=((1.0, 2e6), (2.0, 1e6), (3.0, 3e6)))
    assert keys(replace(PLAIN, guest=guest)) == ["guest.curve.dirty[2]"]


def test_every_finding_says_what_is_allowed() -> None:
    broken = replace(link(bandwidth_bytes_per_s=-1.0, noise=2.0), limit_s=-1.0, objectives=Objectives(downtime_s=0))
    assert len(keys(broken)) == 4
    assert all(each.allowed for each in problems(broken))


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (4095, "4095B"),
        (4096, "4KiB"),
        (1536 * MIB, "1536MiB"),
        (1 << 31, "2GiB"),
        (1 << 40, "1TiB"),
        (40_000, "40kB"),
        (2_500_000, "2500kB"),
    ],
)
def test_a_size_is_told_exactly(size_bytes: int, text: str) -> None:
    assert exact_size(size_bytes) == text


@pytest.mark.parametrize(
    ("name", "key"),
    [("sync_s", "sync"), ("sync_s_per_page", "sync_per_page"), ("cpu_bytes_per_s", "cpu"), ("pipe_bytes", "pipe")],
)
def test_a_key_has_no_unit(name: str, key: str) -> None:
    assert without_unit(name) == key
