"""The league as a page of the documentation: who stands where, how far from the best, and the command that says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from whimbrel.engine._version import __version__

from .page import LEAGUE_TEXT
from .ranking import Standing
from .statistics import Interval
from .summary import Comparison, Regrets

__all__ = ["markdown", "table"]


def markdown(comparison: Comparison, command: str, *, pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The page.

    Args:
        comparison: simulated, best with bounds.
        command: that gives this very page.
        pictures: what is shown below the table: (what it is, its path as seen from the page).
    """
    return "\n".join(_lines(comparison, command, pictures)) + "\n"


def _lines(comparison: Comparison, command: str, pictures: Sequence[tuple[str, str]]) -> Iterator[str]:
    matrix, league = comparison.matrix, comparison.league
    yield "# The league"
    yield ""
    yield (
        f"{len(matrix.policies)} policies × {len(matrix.cases)} cases × {len(matrix.seeds)} seeds: "
        f"{len(comparison.rows):,} simulated migrations, by Whimbrel {__version__}. All of it follows from fixed seeds:"
    )
    yield ""
    yield "```"
    yield command
    yield "```"
    yield ""
    yield LEAGUE_TEXT
    yield ""
    yield from table(comparison)
    yield ""
    yield (
        "*Places*: between which ones a policy stands in 95 % of all resamples of cases and seeds. *Time, against the "
        "first*: the median ratio, on the same guest and link; ∞ where it did not move the guest and the first did."
    )
    if comparison.regrets:
        yield (
            "*Regret*: the median over runs that moved the guest, against the best that QEMU's knobs could have done "
            "on the very same writes, in the same time or with the same downtime (`whimbrel.sim.bounds`); *cost*: time "
            "plus work lost of the runs that met the goal, against the least for which the knobs could have met it. "
            "Post-copy, which the bounds leave out, may be cheaper than that."
        )
    yield ""
    front = [f"`{each.policy}`" for each in league.standings if not each.beaten_by]
    yield (
        f"Nobody is better in everything (goal, time, downtime, work lost, bytes) than {_listed(front)}. With a lost "
        f"guest-second weighed {_weights(league.other_weights)}, in Kendall's tau."
    )
    for what, path in pictures:
        yield ""
        yield f"![{what}]({path})"


def table(comparison: Comparison) -> Iterator[str]:
    """The lines of its table."""
    regrets = {each.policy: each for each in comparison.regrets}
    headings = ["", "policy", "rank", "places", "met the goal", "moved", "time, against the first"]
    if regrets:
        headings += ["regret: cost", "regret: time", "regret: downtime", "regret: work lost"]
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for place, standing in enumerate(comparison.league.standings, 1):
        yield f"| {' | '.join(_cells(place, standing, regrets.get(standing.policy)))} |"


def _cells(place: int, standing: Standing, regret: Regrets | None) -> Iterator[str]:
    yield str(place)
    yield f"`{standing.policy}`"
    yield _between(standing.rank)
    yield standing.places
    yield f"{standing.goal_met.value:.0%}"
    yield f"{standing.moved.value:.0%}"
    yield f"{_one(standing.time_ratio.value, 2)}"
    if regret is not None:
        yield f"{_one(regret.medians['policy_cost_s'].value, 2)} s"
        yield f"{_one(regret.medians['policy_time_s'].value, 2)} s"
        yield f"{_one(regret.medians['policy_downtime_s'].value * 1e3, 0)} ms"
        yield f"{_one(regret.medians['policy_lost_guest_s'].value, 2)} s"


def _between(each: Interval) -> str:
    return f"{each.value:.1f} ({each.low:.1f} to {each.high:.1f})"


def _one(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _weights(taus: Mapping[float, float]) -> str:
    return " and ".join(f"{weight:g} times as much the order agrees by {tau:.2f}" for weight, tau in taus.items())
