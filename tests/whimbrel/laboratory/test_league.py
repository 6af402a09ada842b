"""The league as a page of the documentation."""

from __future__ import annotations

from dataclasses import replace

from tests.whimbrel.laboratory.sample import comparison
from whimbrel.laboratory.league import markdown
from whimbrel.laboratory.statistics import Interval
from whimbrel.laboratory.summary import REGRETS, Regrets


def table(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_everybody_stands_there_in_order_with_the_command_beside() -> None:
    text = markdown(comparison(), "make league", pictures=[("survival", "pictures/survival.svg")])
    head, _, *lines = table(text)
    assert [line[1].strip("`") for line in lines] == [each.policy for each in comparison().league.standings]
    assert [line[0] for line in lines] == ["1", "2", "3", "4"]
    assert all(len(line) == len(head) for line in lines)
    assert "```\nmake league\n```" in text
    assert "24 simulated migrations" in text
    assert "![survival](pictures/survival.svg)" in text
    assert "regret: time" not in head


def test_regrets_are_columns_where_they_are_known() -> None:
    whole = comparison()
    medians: dict[str, Interval] = dict.fromkeys(REGRETS, Interval(0.25, 0.1, 0.5))
    told = tuple(Regrets(policy=each.policy, runs=6, medians=medians) for each in whole.league.standings)
    head, _, *lines = table(markdown(replace(whole, regrets=told), "make league"))
    assert head[-3:] == ["regret: time", "regret: downtime", "regret: work lost"]
    assert lines[0][-3:] == ["0.25 s", "250 ms", "0.25 s"]
