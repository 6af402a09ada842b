"""Comparisons as text: what stands in the tables, and that they fit whatever the width."""

from __future__ import annotations

import functools
import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from tests.whimbrel.laboratory.matrices import row, tiny
from whimbrel.commands.comparison_text import agreement_text, cases_text, comparison_text, several
from whimbrel.laboratory.matrix import Matrix
from whimbrel.laboratory.ranking import Agreement, Disagreement
from whimbrel.laboratory.records import Row
from whimbrel.laboratory.statistics import Interval
from whimbrel.laboratory.summary import REGRETS, Comparison, compared

LONG = "kubevirt_vep248:window=2s,patience=2s,action=postcopy"


def printed(what: RenderableType, width: int = 100) -> list[str]:
    """The lines of it, without what a terminal does not show."""
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def made_up(cases: int = 1) -> list[Row]:
    """Three policies; the last moves nothing, the second goes over to post-copy and fails at times."""
    rows: list[Row] = []
    for number in range(cases):
        for seed in (1, 2):
            name = f"case{number}@slow"
            one = row("least_downtime", case=name, seed=seed, total_s=1.5 + seed / 10)
            other = replace(row(LONG, case=name, seed=seed, total_s=1.0), postcopy=True, throttle=0.7, faults=seed)
            regrets = dict.fromkeys(REGRETS, 0.25)
            rows += [replace(each, **regrets) for each in (one, replace(other, fault="it failed at setup"))]  # type: ignore[arg-type]
            rows.append(row("never", case=name, seed=seed, total_s=3.0, moved=False, downtime_s=None))
    return rows


@functools.cache
def comparison(cases: int = 1) -> Comparison:
    """Of these."""
    matrix = Matrix(
        cases=tuple(tiny(f"case{number}@slow") for number in range(cases)),
        policies=("least_downtime", LONG, "never"),
        seeds=(1, 2),
    )
    return compared(matrix, made_up(cases))


@pytest.mark.parametrize("cases", [1, 5])
@pytest.mark.parametrize("width", [72, 80, 100, 140])
def test_every_line_fits_and_names_stay_whole_or_nearly_so(width: int, cases: int) -> None:
    lines = printed(comparison_text(comparison(cases), width), width)
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("least_downtime ") for line in lines) >= 2, "no name is folded to a few letters"


def test_from_100_columns_on_nothing_is_left_out() -> None:
    lines = printed(comparison_text(comparison(), 100))
    (head,) = [line for line in lines if line.startswith("policy") and "rank" in line]
    assert head.split("  ")[0] == "policy"
    assert " ".join(head.split()) == "policy met moved rank 95 % place first time down lost sent x time"
    narrow = printed(comparison_text(comparison(), 72), 72)
    (head,) = [line for line in narrow if line.startswith("policy") and "rank" in line]
    assert "place" in head
    assert "sent" not in head


def test_a_table_of_a_case_tells_medians_and_what_was_not_reached() -> None:
    lines = printed(comparison_text(comparison(), 100))
    assert "case0@slow: goal 200ms, called off after 3s" in lines
    (never,) = [line for line in lines if line.startswith("never") and "/2" in line]
    assert never.split() == ["never", "0/2", "0/2", ">3s", ">3s"]
    (first,) = [line for line in lines if line.startswith("least_downtime") and "/2" in line]
    assert first.split()[:5] == ["least_downtime", "2/2", "2/2", "1.6s", "1.6s–1.7s"]
    assert any("70%  post-copy, 3 faults" in line for line in lines)


def test_few_runs_have_a_range_and_many_an_interval() -> None:
    assert any("range" in line for line in printed(comparison_text(comparison(), 100)))
    matrix = Matrix(cases=(tiny(),), policies=("one",), seeds=tuple(range(1, 7)))
    lines = printed(comparison_text(compared(matrix, [row(seed=seed) for seed in matrix.seeds]), 100))
    assert any("95 %" in line for line in lines)
    assert not any("range" in line for line in lines)


def test_what_was_waited_before_the_start_is_told_beside_the_time() -> None:
    matrix = Matrix(cases=(tiny(),), policies=("one",), seeds=(1,))
    lines = printed(comparison_text(compared(matrix, [replace(row(), waited_s=12.5)]), 100))
    assert any(line.endswith("waited 12.5s") for line in lines)


def test_many_cases_are_told_in_a_line_each() -> None:
    lines = printed(comparison_text(comparison(5), 100))
    assert "Each case: who is first there, and what that takes" in lines
    assert sum(line.startswith("case") and "@slow" in line for line in lines) == 5
    assert any(line.endswith("2/3") for line in lines), "two of three policies moved the guest"


def test_regrets_are_of_the_mechanism_and_of_the_policy() -> None:
    lines = printed(comparison_text(comparison(), 100))
    assert any("250ms / 250ms" in line for line in lines)
    without = replace(comparison(), regrets=())
    assert not any("Regret" in line for line in printed(comparison_text(without, 100)))


def test_faults_are_told_with_the_first_of_each_policy() -> None:
    lines = printed(comparison_text(comparison(), 100))
    told = " ".join(lines)
    assert f"{LONG}: 3 faults in 2 runs; the first (case0@slow, seed 1): it failed at setup" in told


def test_a_single_policy_has_no_league() -> None:
    matrix = Matrix(cases=(tiny(),), policies=("one",), seeds=(1,))
    assert not any("League" in line for line in printed(comparison_text(compared(matrix, [row()]), 100)))


def test_agreement_tells_tau_and_where_the_orders_differ() -> None:
    found = Agreement(
        tau=Interval(0.67, 0.2, 0.9),
        policies=("a", "b", "c"),
        cases=("x@y",),
        disagreements=tuple(Disagreement(better="b", worse=f"c{each}", first=1.5, second=-0.5) for each in range(10)),
    )
    lines = printed(agreement_text(found))
    assert "Simulated and real order of 3 policies on 1 case: Kendall's tau 0.67 (0.20 to 0.90)" in lines
    assert "  b before c0: by 1.5 ranks simulated, -0.5 for real" in lines
    assert lines[-1] == "  … 2 more"


def test_a_list_of_cases_has_figures_and_words() -> None:
    lines = printed(cases_text([replace(tiny(), about="Writes a little.")]))
    assert lines == [
        "busy@slow  basic        16MiB over 32MiB/s, goal 200ms, called off after 3s",
        "    Writes a little.",
    ]


def test_numbers_have_their_plural() -> None:
    assert [several(1, "policy"), several(2, "policy"), several(0, "fault")] == ["1 policy", "2 policies", "0 faults"]
