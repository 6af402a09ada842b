"""What options come to: policies, cases, links, seeds, and what each refuses by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import BUILT_IN
from whimbrel.laboratory.catalogue import case, named
from whimbrel.laboratory.choosing import Chosen, cases_of, describe, matrix_of
from whimbrel.laboratory.records import Backend

SMALL = """\
seed = 5
policy = "fixed"
[guest]
ram = "64MiB"
"""


def names(chosen: Chosen) -> list[str]:
    """The names of the cases that are chosen."""
    return [each.name for each in cases_of(chosen)]


def test_without_a_word_it_is_every_policy_on_the_basic_cases() -> None:
    matrix = matrix_of(Chosen())
    assert matrix.policies == tuple(BUILT_IN)
    assert matrix.cases == named("basic")
    assert matrix.seeds == tuple(range(1, 21))
    assert matrix.backend is Backend.SIMULATED


def test_patterns_choose_from_all_cases_or_from_those_of_a_set() -> None:
    everywhere = names(Chosen(cases=("d150@*",)))
    assert {"d150@1g", "d150@200m"} <= set(everywhere)
    assert set(names(Chosen(cases=("d150@*",), sets=("league",)))) < set(everywhere)
    assert names(Chosen(cases=("d50@1g", "d90@1g"))) == ["d50@1g", "d90@1g"]


def test_sets_are_joined_and_no_case_comes_twice() -> None:
    both = names(Chosen(sets=("basic", "league")))
    assert len(both) == len(set(both))
    assert set(both) == {each.name for each in (*named("basic"), *named("league"))}


def test_a_scenario_file_is_a_case_by_its_name_alone_or_besides(tmp_path: Path) -> None:
    path = tmp_path / "my guest.toml"
    path.write_text(SMALL)
    (only,) = cases_of(Chosen(scenarios=(path,)))
    assert (only.name, only.family, only.workload, only.real) == ("my-guest@file", "file", "my-guest", False)
    assert only.scenario.guest.ram_bytes == 64 << 20
    assert names(Chosen(scenarios=(path,), cases=("d50@1g",))) == ["d50@1g", "my-guest@file"]


def test_a_file_of_several_migrations_is_no_case(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text("migrations = 2\n" + SMALL)
    with pytest.raises(BadInput, match=r"^scenario: .*one migration"):
        cases_of(Chosen(scenarios=(path,)))


def test_each_case_over_each_link() -> None:
    found = cases_of(Chosen(cases=("d50@1g",), links=("10Gbit/s", "latency=20ms,noise=10%,rivals=1")))
    fast, far = found
    assert [each.name for each in found] == ["d50@1g_10Gbit", "d50@1g_latency-20ms-noise-10-rivals-1"]
    assert fast.scenario.link.bandwidth_bytes_per_s == 1.25e9
    link = case("d50@1g").scenario.link
    assert far.scenario.link.bandwidth_bytes_per_s == link.bandwidth_bytes_per_s
    assert (far.scenario.link.latency_s, far.scenario.link.noise, far.scenario.link.rivals) == (0.02, 0.1, 1)


def test_real_means_what_the_workload_guest_can_be() -> None:
    matrix = matrix_of(Chosen(real=True, policies=("fixed",), seeds="2"))
    assert matrix.backend is Backend.REAL
    assert matrix.cases == named("real")
    assert all(each.real for each in matrix.cases)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (Chosen(policies=("nonsense",)), r"^policy: 'nonsense'"),
        (Chosen(policies=("fixed", "fixed")), r"^policy: 'fixed' .*only once"),
        (Chosen(cases=("nonsense",)), r"^case: 'nonsense'"),
        (Chosen(cases=("d15@1g",)), r"^case: 'd15@1g' .*d150@1g"),
        (Chosen(cases=("zz*",)), r"^case: 'zz\*' .*a pattern such as"),
        (Chosen(cases=("d50@1g",), sets=("guestperf",)), r"^case: 'd50@1g' .*in the set guestperf"),
        (Chosen(sets=("nonsense",)), r"^set: 'nonsense' .*one of all, league"),
        (Chosen(seeds="0"), r"^seeds: '0'"),
        (Chosen(links=("fast",)), r"^link: 'fast'"),
        (Chosen(links=("speed=1",)), r"^link: 'speed=1' .*keys bandwidth, latency"),
        (Chosen(links=("latency=soon",)), r"^link: 'latency=soon' .*for latency a time"),
        (Chosen(links=("noise=2",)), r"^link: 'noise=2' .*for noise a part"),
        (Chosen(scenarios=(Path("nowhere.toml"),)), r"^scenario: 'nowhere.toml'"),
        (Chosen(real=True, links=("1Gbit/s",)), r"^link: '1Gbit/s' .*none with --real"),
        (Chosen(real=True, cases=("web@100m",)), r"^case: 'web@100m' .*workload guest"),
    ],
    ids=str,
)
def test_what_can_not_be_had_is_refused_by_its_name(chosen: Chosen, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        matrix_of(chosen)


def test_a_matrix_is_told_in_a_line() -> None:
    matrix = matrix_of(Chosen(policies=("fixed",), cases=("d50@1g", "d90@1g"), seeds="3"))
    assert describe(matrix) == "1 policy × 2 cases × 3 seeds = 6 runs, simulated"
    real = matrix_of(Chosen(policies=("fixed",), real=True, seeds="1"))
    assert describe(real).endswith("runs, on real QEMUs")
