"""What options come to: a plan out of a file, a measured curve or page classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.given import Allowed
from whimbrel.scenario_file import BadScenario
from whimbrel.simulation_options import Given, plan_of

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
FILE, CURVE = EXAMPLES / "outage.toml", EXAMPLES / "memcached.json"


def test_a_file_alone_is_what_it_says() -> None:
    plan = plan_of(Given(scenario=FILE))
    assert (plan.seed, plan.scenario.policy) == (4, "least_downtime")
    assert plan.scenario.objectives.deadline_s == 60.0
    assert plan.scenario.objectives.bandwidth_bytes_per_s is None


def test_options_go_before_the_file() -> None:
    """The bandwidth is then the most that may be sent: the link is the file's."""
    given = Given(
        scenario=FILE,
        bandwidth="8Mbit/s",
        downtime="50ms",
        deadline="5m",
        allowed=Allowed(throttle="80%", may_postcopy=True),
        policy="fixed",
        seed=9,
    )
    plan = plan_of(given)
    goal = plan.scenario.objectives
    assert (plan.seed, plan.scenario.policy) == (9, "fixed")
    assert (goal.downtime_s, goal.deadline_s, goal.bandwidth_bytes_per_s) == (0.05, 300.0, 1_000_000)
    assert (goal.greatest_throttle, goal.may_postcopy, goal.may_pause) == (0.8, True, False)
    assert plan.scenario.link == plan_of(Given(scenario=FILE)).scenario.link


def test_without_a_file_the_bandwidth_is_the_links() -> None:
    plan = plan_of(Given(curve=CURVE, bandwidth="2Gibit/s"))
    assert plan.scenario.link.bandwidth_bytes_per_s == 2**28
    assert plan.scenario.objectives.bandwidth_bytes_per_s is None
    assert len(plan.scenario.guest.curve) == 22


def test_classes_are_the_workload_guest() -> None:
    plan = plan_of(Given(classes=("hot:size=8MiB,rate=1MiB/s", "cold:size=16MiB"), bandwidth="1Gbit/s"))
    assert plan.scenario.guest.ram_bytes == 524224 << 10
    assert [each.name for each in plan.scenario.guest.writers][-2:] == ["hot", "cold"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (Given(), "SCENARIO"),
        (Given(scenario=FILE, curve=CURVE), "SCENARIO"),
        (Given(curve=CURVE), "bandwidth"),
        (Given(curve=CURVE, bandwidth="fast"), "bandwidth"),
        (Given(scenario=FILE, ram="1GiB"), "ram"),
        (Given(scenario=FILE, deadline="soon"), "deadline"),
        (Given(scenario=FILE, allowed=Allowed(throttle="150%")), "throttle"),
        (Given(scenario=FILE, policy="nosuch"), "policy"),
        (Given(classes=("a:size=1MiB",), bandwidth="1Gbit/s", ram="lots"), "ram"),
    ],
    ids=repr,
)
def test_bad_options_are_named(given: Given, field: str) -> None:
    with pytest.raises(BadInput) as caught:
        plan_of(given)
    assert caught.value.field == field


def test_all_that_is_wrong_with_options_is_told_at_once(tmp_path: Path) -> None:
    """With what is wrong with the file, each in its place."""
    bad = tmp_path / "s.toml"
    bad.write_text("seed = -1\n[guest]\nram = 1\n")
    with pytest.raises(BadScenario) as caught:
        plan_of(Given(scenario=bad, bandwidth="fast", downtime="soon", deadline="later", policy="nosuch"))
    assert [each.key for each in caught.value.findings] == [
        *("bandwidth", "seed", "guest.ram", "downtime", "deadline", "policy")
    ]
    assert str(caught.value).splitlines()[0] == "options: 6 findings"
    with pytest.raises(BadScenario) as caught:
        plan_of(Given(classes=("a:size=1 furlong",), ram="lots"))
    assert [each.key for each in caught.value.findings] == ["bandwidth", "class a: size", "ram"]


def test_classes_that_are_larger_than_their_ram_are_told_in_peoples_units() -> None:
    with pytest.raises(BadInput, match=r"^ram: '524224KiB' is not allowed; allowed: at least \d+[KM]iB: all classes"):
        plan_of(Given(classes=("a:size=2GiB",), bandwidth="1Gbit/s"))


def test_what_options_come_to_is_checked_as_a_file_is() -> None:
    with pytest.raises(BadScenario) as caught:
        plan_of(Given(scenario=FILE, downtime="0", deadline="0"))
    assert [each.key for each in caught.value.findings] == ["objectives.downtime", "objectives.deadline"]
