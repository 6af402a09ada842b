"""The cases by name, in sets, and back to the workload guest."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import HybridAfter
from whimbrel.guest.boot import ram_for
from whimbrel.guest_plan import guest_plan
from whimbrel.laboratory.catalogue import SETS, case, cases, machine_ram_bytes, named, workload_of
from whimbrel.laboratory.catalogue_scale import GREATEST_LIMIT_S, MIB, MOST_WRITES
from whimbrel.laboratory.records import Case
from whimbrel.scenario_file import check, loads
from whimbrel.scenario_writing import Plan, dumps
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.scenario import Pattern, Writer
from whimbrel.sim.world import simulate

every_case = pytest.mark.parametrize("each", cases(), ids=lambda each: each.name)
real_case = pytest.mark.parametrize("each", named("real"), ids=lambda each: each.name)


def test_the_sets_are_as_large_as_they_have_to_be() -> None:
    sizes = {name: len(named(name)) for name in SETS}

    assert 40 <= sizes["league"] <= 50
    assert sizes["real"] >= 6
    assert sizes["guestperf"] >= 10
    assert sizes["published"] >= 40
    assert sizes["basic"] >= 16
    assert sizes["all"] == len(cases()) == sum(sizes[name] for name in sizes.keys() - {"all", "league"})


def test_names_are_unique_and_say_workload_and_link() -> None:
    names = [each.name for each in cases()]

    assert len(set(names)) == len(names)
    for each in cases():
        assert re.fullmatch(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+", each.name)
        assert each.name == f"{each.workload}@{each.link}"
        assert each.about.endswith(".")


def test_the_league_has_guests_of_every_kind() -> None:
    league = named("league")

    assert {each.family for each in league} == {"basic", "guestperf", "published"}
    assert {writer.pattern for each in league for writer in each.scenario.guest.writers} == set(Pattern)
    assert any(each.scenario.guest.curve for each in league)
    assert any(each.scenario.guest.vcpus > 1 for each in league)
    assert any(writer.vcpu is None for each in league for writer in each.scenario.guest.writers)
    assert any(writer.period_s for each in league for writer in each.scenario.guest.writers)
    assert any(each.scenario.link.noise for each in league)
    assert any(each.scenario.link.steps for each in league)
    assert any(each.scenario.link.outages for each in league)
    assert any(each.scenario.link.rivals for each in league)
    assert {each.scenario.qemu.kvm for each in league} == {True, False}
    assert {each.scenario.objectives.may_postcopy for each in league} == {True, False}
    assert {each.scenario.objectives.deadline_s is None for each in league} == {True, False}


@every_case
def test_a_case_can_be_simulated_and_is_read_back_from_its_text(each: Case) -> None:
    check(each.scenario, each.name)

    assert loads(dumps(Plan(scenario=each.scenario))).scenario == each.scenario


@every_case
def test_a_case_keeps_to_the_laboratory_s_sizes(each: Case) -> None:
    guest, limit_s = each.scenario.guest, each.scenario.limit_s
    written = sum(writer.rate_bytes_per_s * writer.duty for writer in guest.writers if not writer.name.startswith("("))
    link = each.scenario.link
    round_s = (guest.ram_bytes - guest.zero_bytes) * (1 + link.rivals) / link.bandwidth_bytes_per_s

    assert guest.pages
    assert guest.ram_bytes <= 65536 * PAGE_BYTES
    assert limit_s <= GREATEST_LIMIT_S
    assert limit_s >= 5 * round_s
    assert written / PAGE_BYTES * limit_s <= MOST_WRITES


@pytest.mark.parametrize(
    "name", ["d50@1g-tight", "stress@10g", "web45@shared", "memcached2@2g-gentle", "real-hot@loop"]
)
def test_a_case_is_moved_within_its_limit_by_a_policy_that_fits(name: str) -> None:
    outcome = simulate(case(name).scenario, 1, HybridAfter())

    assert outcome.report is not None
    assert outcome.report.outcome == "completed"
    assert outcome.truth.total_s < case(name).scenario.limit_s


def test_a_name_that_there_is_not_is_refused_with_those_near_it() -> None:
    with pytest.raises(BadInput, match=r"'d150@2g'.*such as .*d150@1g"):
        case("d150@2g")
    with pytest.raises(BadInput, match=r"a set .all, league.*hot2@1g"):
        case("hot2")


def test_a_case_s_name_stands_for_a_set_of_one() -> None:
    assert named("idle@1g") == (case("idle@1g"),)
    with pytest.raises(BadInput, match="'leage'"):
        named("leage")


@real_case
def test_a_real_case_is_what_the_workload_guest_makes_of_its_classes(each: Case) -> None:
    spec = workload_of(each)
    guest = each.scenario.guest
    shares = {writer.name: writer.cpu_share for writer in guest.writers}
    again = guest_plan(spec, guest.ram_bytes)
    writers = tuple(replace(writer, cpu_share=shares[writer.name]) for writer in again.writers)

    assert replace(again, writers=writers, pages=True) == guest
    assert each.real
    assert each.scenario.limit_s <= 12


@real_case
def test_a_real_case_s_machine_can_be_migrated_under_tcg_without_losing_writes(each: Case) -> None:
    ram_bytes = machine_ram_bytes(each)

    assert ram_bytes % (256 << 10)
    assert ram_bytes % 1024 == 0
    assert ram_for(workload_of(each)) <= ram_bytes <= 256 * MIB


def test_only_what_is_real_says_so() -> None:
    assert {each.name for each in cases() if each.real} == {each.name for each in named("real")}


@pytest.mark.parametrize("name", ["dma@1g", "stress4@1g", "memcached2@2g", "kubevirt65@1g"])
def test_a_guest_that_the_workload_guest_cannot_be_is_refused_by_name(name: str) -> None:
    with pytest.raises(BadInput, match=name):
        workload_of(case(name))


def test_compressible_contents_have_no_way_back() -> None:
    each = case("real-d50@loop")
    guest = each.scenario.guest
    writers = tuple(
        replace(writer, compressed_ratio=0.5) if writer.name == "set" else writer for writer in guest.writers
    )
    other = replace(each, scenario=replace(each.scenario, guest=replace(guest, writers=writers)))

    with pytest.raises(BadInput, match="random contents"):
        workload_of(other)


def test_zero_pages_and_small_changes_have_a_way_back() -> None:
    each = case("real-small@loop")
    guest = each.scenario.guest
    zeros = Writer(name="zeros", size_bytes=MIB, zero=True, delta_bytes=52, compressed_ratio=48 / 4096)
    other = replace(each, scenario=replace(each.scenario, guest=replace(guest, writers=(*guest.writers, zeros))))

    made = {page_class.name: page_class for page_class in workload_of(other).classes}

    assert made["set"].touch_bytes == 64
    assert made["zeros"].content.value == "zero"
    assert all(one.name != two.name for one, two in pairwise(workload_of(other).classes))
