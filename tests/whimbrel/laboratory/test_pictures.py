"""A comparison as pictures: what is drawn is what is in the figures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.whimbrel.laboratory.sample import BOUNDS, comparison
from whimbrel.laboratory import pictures
from whimbrel.laboratory.canvas import Figure, drawing
from whimbrel.laboratory.summary import Comparison


def texts(figure: Figure) -> list[str]:
    return [each.get_text() for axes in figure.axes for each in axes.texts]


def test_each_case_has_its_panel_with_the_bound_and_everybody_on_it() -> None:
    whole = comparison()
    with drawing():
        figure = pictures.fronts(whole, BOUNDS)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["idle@slow", "busy@slow", "hot@slow"]
    busy = figure.axes[1]
    stairs = [line for line in busy.lines if line.get_drawstyle() == "steps-post"]
    assert [line.get_ydata()[0] for line in stairs] == [500.0, 600.0]
    places = {str(place) for place in range(1, 5)}
    for axes in figure.axes:
        words = {word for each in axes.texts for word in each.get_text().replace(":", " ").split()}
        assert words >= places, "each policy is a point or is told as called off"


def test_who_does_not_move_the_guest_is_told() -> None:
    with drawing():
        figure = pictures.fronts(comparison(), {}, ["hot@slow"])
    assert any(text.startswith("half or more called off:") for text in texts(figure))


def test_a_policy_has_the_colour_of_what_it_did() -> None:
    rows = comparison().rows
    kinds = {
        policy: pictures.kind_of([row for row in rows if (row.policy, row.case) == (policy, "hot@slow")])
        for policy in ("fixed", "hybrid_after", "auto_converge:initial=0.9")
    }
    assert kinds == {"fixed": "pre-copy", "hybrid_after": "post-copy", "auto_converge:initial=0.9": "throttled"}


def test_survival_has_a_panel_for_each_policy_in_the_order_of_the_league() -> None:
    whole = comparison()
    with drawing():
        figure = pictures.survivals(whole)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert titles == [f"{place} {each.policy}" for place, each in enumerate(whole.league.standings, 1)]
    mine = figure.axes[0].lines[-1].get_ydata()
    assert mine[0] == 1.0
    assert list(mine) == sorted(mine, reverse=True)


def test_who_fails_where_names_every_cell() -> None:
    whole = comparison()
    with drawing():
        figure = pictures.everywhere(whole)
    assert len(texts(figure)) == len(whole.matrix.policies) * len(whole.matrix.cases)
    assert "–" in texts(figure)


@pytest.mark.parametrize("draw", pictures.ALL.values(), ids=pictures.ALL)
def test_each_picture_by_its_name_can_be_drawn(draw: Callable[[Comparison], Figure]) -> None:
    with drawing():
        assert len(draw(comparison()).axes) >= 1
