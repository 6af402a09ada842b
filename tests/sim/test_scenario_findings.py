"""What is impossible about a scenario."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any, cast

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Objectives
from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario, Writer
from whimbrel.sim.scenario_findings import Problem, findings, place, problems
from whimbrel.sim.trial import Trial
from whimbrel.sim.world import simulate

MIB = 1 << 20
GOOD = Scenario(guest=GuestPlan(ram_bytes=8 * MIB), link=LinkPlan(bandwidth_bytes_per_s=1e9))
NEWER = QemuPlan(source=Version.V10_0, destination=Version.V10_0)


def link(**fields: Any) -> Scenario:
    return replace(GOOD, link=replace(GOOD.link, **fields))


def objectives(**fields: Any) -> Scenario:
    return replace(GOOD, objectives=Objectives(**fields))


def costs(**fields: Any) -> Scenario:
    return replace(GOOD, qemu=QemuPlan(costs=Costs(**fields)))


BAD: list[tuple[Scenario, str]] = [
    (link(bandwidth_bytes_per_s=0.0), "link.bandwidth_bytes_per_s"),
    (link(bandwidth_bytes_per_s=-5.0), "link.bandwidth_bytes_per_s"),
    (link(bandwidth_bytes_per_s=nan), "link.bandwidth_bytes_per_s"),
    (link(bandwidth_bytes_per_s=inf), "link.bandwidth_bytes_per_s"),
    (link(latency_s=-0.001), "link.latency_s"),
    (link(latency_s=nan), "link.latency_s"),
    (link(pipe_bytes=-1), "link.pipe_bytes"),
    (link(noise=1.0), "link.noise"),
    (link(noise_every_s=0.0), "link.noise_every_s"),
    (link(noise_memory=1.0), "link.noise_memory"),
    (link(rivals=-1), "link.rivals"),
    (link(steps=((-1.0, 5e6),)), "link.steps[0][0]"),
    (link(steps=((1.0, 0.0),)), "link.steps[0][1]"),
    (link(steps=((2.0, 5e6), (1.0, 5e6))), "link.steps[1][0]"),
    (link(steps=((2.0, 5e6), (2.0, 6e6))), "link.steps[1][0]"),
    (link(outages=((-1.0, 1.0),)), "link.outages[0][0]"),
    (link(outages=((1.0, 0.0),)), "link.outages[0][1]"),
    (link(outages=((1.0, 2.0), (2.5, 1.0))), "link.outages[1][0]"),
    (costs(cpu_bytes_per_s=0.0), "qemu.costs.cpu_bytes_per_s"),
    (costs(device_state_bytes=-1), "qemu.costs.device_state_bytes"),
    (costs(sync_s_per_page=-1e-9), "qemu.costs.sync_s_per_page"),
    (replace(GOOD, qemu=QemuPlan(source=cast("Version", "7.2"))), "qemu.source"),
    (replace(GOOD, qemu=QemuPlan(destination=cast("Version", "9.0"))), "qemu.destination"),
    (objectives(downtime_s=-1.0), "objectives.downtime_s"),
    (objectives(downtime_s=0.0009), "objectives.downtime_s"),
    (objectives(downtime_s=2000.1), "objectives.downtime_s"),
    (objectives(deadline_s=0.0), "objectives.deadline_s"),
    (objectives(bandwidth_bytes_per_s=-1), "objectives.bandwidth_bytes_per_s"),
    (objectives(greatest_throttle=1.0), "objectives.greatest_throttle"),
    (replace(GOOD, migrations=0), "migrations"),
    (replace(GOOD, limit_s=-1.0), "limit_s"),
    (replace(GOOD, limit_s=0.0), "limit_s"),
    (replace(GOOD, postcopy_at_s=-1.0), "postcopy_at_s"),
    (replace(GOOD, limit_s=5.0, postcopy_at_s=5.0), "postcopy_at_s"),
    (replace(GOOD, capabilities=cast("tuple[str, ...]", "xbzrle")), "capabilities"),
    (replace(GOOD, capabilities=("xbzrle", "")), "capabilities[1]"),
    (replace(GOOD, guest=GuestPlan(ram_bytes=0)), "guest.ram_bytes"),
]


@pytest.mark.parametrize(("scenario", "where"), BAD, ids=lambda given: given if isinstance(given, str) else "")
def test_each_finding_begins_with_its_place_and_is_the_only_one(scenario: Scenario, where: str) -> None:
    (found,) = findings(scenario)
    assert found.startswith(f"{where}: ")
    with pytest.raises(BadInput, match=r"scenario: .*without these findings"):
        simulate(scenario, 1)


BORDERS: list[Scenario] = [
    GOOD,
    link(latency_s=0.0, pipe_bytes=0),
    link(steps=((0.0, 5e6), (1.0, 1.0)), outages=((0.0, 1.0), (1.5, 1.0))),
    objectives(downtime_s=0.001, greatest_throttle=0.99, deadline_s=1.0, bandwidth_bytes_per_s=1),
    objectives(downtime_s=2000.0),
    replace(GOOD, capabilities=("nonsense", "multifd"), postcopy_at_s=0.0),
    replace(GOOD, capabilities=("dirty-limit",)),
    replace(GOOD, qemu=replace(NEWER, destination=Version.V7_2), capabilities=("dirty-limit",)),
    replace(GOOD, qemu=replace(NEWER, kvm=True), capabilities=("dirty-limit",)),
]


@pytest.mark.parametrize("scenario", BORDERS)
def test_nothing_is_said_of_what_can_be_simulated_nor_of_what_is_dropped(scenario: Scenario) -> None:
    assert findings(scenario) == []


def test_no_seed_of_the_swarm_draws_what_is_impossible() -> None:
    assert {found for seed in range(200) for found in findings(Trial.drawn(seed).scenario)} == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: replace(GOOD, qemu=NEWER, capabilities=("dirty-limit",)), "requires KVM with accelerator"),
        (
            lambda: replace(GOOD, qemu=replace(NEWER, kvm=True), capabilities=("dirty-limit", "auto-converge")),
            "conflicts with auto-converge",
        ),
        (lambda: replace(GOOD, qemu=NEWER, capabilities=("multifd",), postcopy_at_s=1.0), "compatible with multifd"),
        (lambda: replace(GOOD, capabilities=("zero-copy-send",)), "Zero copy only available"),
        (lambda: replace(GOOD, capabilities=("postcopy-preempt",)), "requires postcopy-ram"),
    ],
)
def test_what_qemu_refuses_as_a_whole_is_told_in_its_words_for_each_end(
    change: Callable[[], Scenario], words: str
) -> None:
    told = findings(change())
    assert [each.split(":")[0] for each in told] == ["capabilities", "capabilities"]
    assert all(words in each for each in told)
    assert ["the destination" in each for each in told] == [True, False]


def test_one_end_alone_may_refuse() -> None:
    mixed = QemuPlan(source=Version.V10_0, destination=Version.V11_1)
    (told,) = findings(replace(GOOD, qemu=mixed, capabilities=("multifd",), postcopy_at_s=1.0))
    assert "the source, QEMU 10.0" in told


def test_simulate_tells_everything_at_once() -> None:
    hot = Writer(name="hot", size_bytes=5, rate_bytes_per_s=-1.0)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=8 * MIB, writers=(hot,)),
        link=LinkPlan(bandwidth_bytes_per_s=-5.0),
        objectives=Objectives(downtime_s=-1.0),
        policy="nobody",
        migrations=0,
        limit_s=-1.0,
    )
    with pytest.raises(BadInput) as caught:
        simulate(scenario, 1)
    for where in (
        "guest.writers[0].size_bytes: ",
        "guest.writers[0].rate_bytes_per_s: ",
        "link.bandwidth_bytes_per_s: ",
        "objectives.downtime_s: ",
        "migrations: ",
        "limit_s: ",
        "policy: 'nobody' is not one of ",
    ):
        assert where in str(caught.value)
    with pytest.raises(BadInput) as caught:
        simulate(scenario, 1, Fixed())
    assert "nobody" not in str(caught.value)


def test_a_problem_says_what_is_there_what_would_do_and_what_else_has_to_do_with_it() -> None:
    (problem,) = problems(link(outages=((1.0, 2.0), (2.5, 1.0))))
    assert problem == Problem(
        path=("link", "outages", 1, 0),
        given=2.5,
        allowed="after the outage before, which ends at 3 s",
        others=(("link", "outages", 0, 0), ("link", "outages", 0, 1)),
    )
    assert str(problem) == "link.outages[1][0]: 2.5 is not allowed; allowed: after the outage before, which ends at 3 s"
    assert place(()) == ""
