"""A plan as a picture: what is drawn of it, that it is the same each time, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.planned import EXCLUDED, FLOORS, PLAIN, THROTTLED, a_plan, planned
from whimbrel.engine.errors import BadInput
from whimbrel.engine.estimate import Range
from whimbrel.engine.plan import Plan
from whimbrel.engine.policy import Objectives
from whimbrel.laboratory.canvas import drawing
from whimbrel.plan_picture import draw, save


def texts(plan: Plan) -> list[str]:
    """All that is written in the picture of a plan, rendered first so that the ticks have their labels."""
    with drawing():
        figure: Any = draw(plan)
        figure.canvas.draw()
    written: list[str] = [each.get_text() for each in figure.findobj(has_text)]
    return [each for each in written if each]


def has_text(artist: object) -> bool:
    """Whether a thing in a picture is a piece of writing."""
    return hasattr(artist, "get_text")


def test_every_way_is_named_with_its_policy_and_its_chance() -> None:
    written = texts(a_plan())
    assert "plain\npredictive:throttle=false" in written
    assert "throttled\npredictive" in written
    assert "97%" in written
    assert "62%" in written
    assert not any("xbzrle" in each for each in written), "one that can't be taken has no row"


def test_a_long_policy_is_cut() -> None:
    long = replace(PLAIN, candidate=replace(PLAIN.candidate, policy="predictive:throttle=false,postcopy=false"))
    assert "plain\npredictive:throttle=false,pos…" in texts(a_plan(long, chosen=None))


def test_what_is_wanted_and_what_nobody_can_beat_are_marked() -> None:
    written = texts(a_plan())
    assert "wanted: 300ms" in written
    assert "wanted: 1m" in written
    assert "no pre-copy beats 120ms" in written
    assert "sent by the link at 100MiB/s" in written


def test_the_title_says_whether_there_is_a_recommendation() -> None:
    assert "Recommended: predictive, plain pre-copy: 7.1 s\n" in texts(a_plan())
    assert "Nothing will do: nothing is likely to meet the objectives\n" in texts(a_plan(chosen=None))


def test_a_plan_without_deadline_floor_or_any_way_that_moves_can_be_drawn() -> None:
    never = replace(PLAIN, total_s=None, downtime_s=None)
    plan = a_plan(never, EXCLUDED, chosen=None, objectives=Objectives(bandwidth_bytes_per_s=50 << 20))
    written = texts(replace(plan, floors=replace(FLOORS, floor_s=Range(math.inf, math.inf, math.inf))))
    assert written.count("never") == 2
    assert not any(each.startswith("no pre-copy beats") for each in written)
    assert "sent by the link at 50MiB/s" in written


def test_a_plan_of_which_nothing_can_be_taken_can_be_drawn() -> None:
    assert "outage" in texts(a_plan(EXCLUDED, chosen=None))


def test_a_range_without_an_end_goes_to_the_edge() -> None:
    endless = replace(THROTTLED, total_s=Range(5.0, math.inf, math.inf))
    assert "never" in texts(a_plan(endless, chosen=None))


@pytest.mark.parametrize("name", ["plan.svg", "plan.png"])
def test_the_same_plan_gives_the_same_file(tmp_path: Path, name: str) -> None:
    one, two = tmp_path / f"1{name}", tmp_path / f"2{name}"
    save(planned(a_plan()), one)
    save(planned(a_plan()), two)
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_size > 10_000


def test_a_file_that_cannot_be_written_is_told() -> None:
    with pytest.raises(BadInput, match=r"^picture: .*can be written"):
        save(planned(a_plan()), Path("/proc/a.png"))
