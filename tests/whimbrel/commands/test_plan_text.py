"""A plan on the terminal: what stands in it, at which width."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from tests.support.planned import EXCLUDED, PLAIN, a_plan, planned
from whimbrel.commands.plan_text import choice_line, headline, plan_text


def printed(what: RenderableType, width: int = 80) -> list[str]:
    """Its lines, as a person sees them."""
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_recommendation_comes_first_with_its_reason() -> None:
    assert printed(headline(a_plan())) == ["RECOMMENDED", "predictive, plain pre-copy: 7.1 s"]


def test_that_nothing_will_do_comes_first_with_its_reason() -> None:
    assert printed(headline(a_plan(chosen=None))) == ["NOTHING WILL DO", "nothing is likely to meet the objectives"]


@pytest.mark.parametrize("width", [80, 120])
def test_each_way_has_its_figures_above_their_ranges(width: int) -> None:
    """Two lines each, the same at each width of a terminal, and none is wrapped or cut."""
    lines = printed(plan_text(planned(a_plan())), width)
    assert all(len(line) <= width for line in lines)
    rows = [line.split() for line in lines]
    head = next(n for n, words in enumerate(rows) if words[:2] == ["way", "time"])
    assert rows[head] == ["way", "time", "outage", "sent", "passes", "slowed", "lost", "meets"]
    assert rows[head + 1] == ["1", "plain", "7.1s", "240ms", "300MiB", "8", "500ms", "97%"]
    assert rows[head + 2] == ["6.5–8.2s", "213–310ms", "280–330MiB", "7–11", "400–700ms", "94–99%"]
    assert rows[head + 3] == ["2", "throttled", "7.1s", "240ms", "300MiB", "8", "64%", "500ms", "62%"]
    assert rows[head + 4][-3:] == ["60–71%", "400–700ms", "56–68%"]


def test_each_way_is_named_as_it_is_typed_with_what_the_table_has_no_room_for() -> None:
    lines = printed(plan_text(planned(a_plan())), 120)
    assert lines[-3:] == [
        "  1 predictive:throttle=false: misses the downtime in 3%",
        "  2 predictive: pages go on coming for 0–1.5s after the guest has moved; "
        "misses the downtime in 25%, has no end in 13%",
        "  3 predictive:xbzrle=true: can't be taken: these QEMUs have no xbzrle",
    ]


def test_a_way_that_moves_nobody_has_no_figures() -> None:
    never = replace(
        PLAIN,
        total_s=None,
        downtime_s=None,
        transferred_bytes=None,
        iterations=None,
        lost_s=None,
        throttle=None,
        postcopy_s=None,
        meets=0.0,
        meets_low=0.0,
        meets_high=0.02,
        misses={"never": 1.0},
    )
    lines = printed(plan_text(planned(a_plan(never, chosen=None))), 120)
    assert lines[-1] == "  1 predictive:throttle=false: no end in time in any of its forecasts"
    assert ["1", "plain", "0%"] in [line.split() for line in lines]


def test_a_column_that_nobody_needs_is_left_out() -> None:
    lines = printed(plan_text(planned(a_plan(PLAIN))))
    assert ["way", "time", "outage", "sent", "passes", "lost", "meets"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("low", "high", "told"), [(0.986, 1.0, "≥99%"), (0.0, 0.013, "≤1%"), (0.5, 0.62, "50–62%"), (0.0, 1.0, "≥0%")]
)
def test_what_the_draws_tell_of_a_chance_is_told_from_its_nearer_end(low: float, high: float, told: str) -> None:
    unsure = replace(PLAIN, meets_low=low, meets_high=high)
    lines = printed(plan_text(planned(a_plan(unsure))))
    assert any(line.endswith(f" {told}") for line in lines)


def test_what_was_measured_and_what_nobody_can_beat_stand_above_the_ways() -> None:
    lines = printed(plan_text(planned(a_plan())), 120)
    order = [lines.index(title) for title in ("Measured", "What no policy can beat", "Ways to move it")]
    assert order == sorted(order)
    assert "  link: 100MiB/s ± 5% (probed)" in lines
    assert "  no pre-copy can beat an outage of 120ms (100–150ms) at 100MiB/s" in lines
    assert any(line.startswith("wanted: an outage of at most 300ms") for line in lines)


def test_the_choice_of_a_migration_is_one_line() -> None:
    (line,) = printed(choice_line(planned(a_plan()), PLAIN), 200)
    assert line == (
        "planned: predictive:throttle=false, over in 6.5–8.2s, outage 213–310ms, 97% likely to meet what is wanted "
        "(an outage of at most 300ms, over within 1m, a throttle of up to 80%)"
    )


def test_the_choice_of_what_moves_nobody_has_no_figures() -> None:
    (line,) = printed(choice_line(planned(a_plan()), EXCLUDED), 200)
    assert line.startswith("planned: predictive:xbzrle=true, 0% likely to meet what is wanted (")
