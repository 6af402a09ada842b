"""The workloads of the baselines keep the shapes that were measured."""

import pytest

from whimbrel.engine.policies import Fixed
from whimbrel.laboratory.catalogue import case
from whimbrel.laboratory.catalogue_basic import FILLED_BYTES, GIGABIT, SLOW, basic, real
from whimbrel.laboratory.catalogue_scale import MIB
from whimbrel.sim.scenario import Pattern
from whimbrel.sim.world import simulate

BY_NAME = {each.name: each for each in basic()}


def test_rounds_are_those_of_the_machines_that_were_measured() -> None:
    assert pytest.approx(448 / 114.1, rel=1e-3) == GIGABIT.round_s
    assert pytest.approx(22.9 * MIB, rel=1e-3) == SLOW.bandwidth_bytes_per_s


def test_the_set_is_four_sevenths_of_what_is_sent() -> None:
    writer = BY_NAME["d150@1g"].scenario.guest.writers[0]

    assert writer.size_bytes == 128 * MIB
    assert writer.rate_bytes_per_s == pytest.approx(1.5 * 114.1 / 2 * MIB, rel=1e-3)


def test_a_writer_of_one_and_a_half_links_needs_a_fifth_of_its_vcpu() -> None:
    writer = BY_NAME["d150@1g"].scenario.guest.writers[0]

    assert writer.cpu_share == pytest.approx(0.19, abs=0.01)


@pytest.mark.parametrize(("name", "part"), [("hot@1g", 0.2), ("hot2@1g", 0.35)])
def test_hot_sets_have_the_shares_that_were_measured(name: str, part: float) -> None:
    writer = BY_NAME[name].scenario.guest.writers[0]

    assert (writer.pattern, writer.share, writer.part) == (Pattern.HOTSPOT, 0.95, part)


@pytest.mark.parametrize(
    ("name", "rounds"), [("idle@1g", 1.04), ("d50@1g", 1.57), ("d90@1g", 2.29), ("d50@200m", 1.54)]
)
def test_they_take_as_many_rounds_as_on_the_real_machine(name: str, rounds: float) -> None:
    each = BY_NAME[name]
    guest, link = each.scenario.guest, each.scenario.link
    round_s = (guest.ram_bytes - guest.zero_bytes) / link.bandwidth_bytes_per_s

    outcome = simulate(each.scenario, 1, Fixed())

    assert outcome.truth.total_s / round_s == pytest.approx(rounds, rel=0.06)


def test_real_cases_are_the_same_guest_in_all_but_what_it_writes() -> None:
    for each in real():
        classes = [writer for writer in each.scenario.guest.writers if not writer.name.startswith("(")]
        assert sum(writer.size_bytes for writer in classes) == FILLED_BYTES
        assert case(each.name) == each
