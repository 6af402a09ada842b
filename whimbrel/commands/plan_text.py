"""A plan as text for people. Everything returns rich renderables; nothing prints."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from whimbrel.engine.estimate import Range
from whimbrel.engine.plan import Plan, Predicted
from whimbrel.plan_words import Write, between, count, goals, misses, of_belief, of_costs, of_floors, share, time
from whimbrel.planning import Planned
from whimbrel.units import format_size

COLUMNS = ("way", "time", "outage", "sent", "passes", "slowed", "lost", "meets")


def plan_text(planned: Planned) -> RenderableType:
    """A plan, whole: the recommendation, what was measured, what nobody can beat, and every candidate."""
    plan = planned.plan
    belief, objectives = plan.belief, plan.objectives
    parts: list[RenderableType] = [headline(plan), Text(f"wanted: {goals(objectives)}", style="dim")]
    parts += _section("Measured", of_belief(belief))
    parts += [_indented(each, "dim") for each in of_costs(planned.survey.costs, planned.thought_s)]
    parts += _section("What no policy can beat", of_floors(plan.floors, belief, objectives))
    parts += ["", _ways(plan), *(_way(number, each) for number, each in enumerate(plan.predicted, 1))]
    return Group(*parts)


def headline(plan: Plan) -> Text:
    """The recommendation, or that there is none."""
    if plan.chosen is None:
        return Text("NOTHING WILL DO", style="bold red").append(f"\n{plan.sentence}", style="default")
    return Text("RECOMMENDED", style="bold green").append(f"\n{plan.sentence}", style="default")


def choice_line(planned: Planned, way: Predicted) -> Text:
    """The way that is taken, and what it is likely to come to, in a line."""
    line = Text("planned: ").append(way.candidate.policy, style="bold")
    if way.total_s is not None and way.downtime_s is not None:
        line.append(f", over in {between(way.total_s, time)}, outage {between(way.downtime_s, time)}")
    return line.append(f", {share(way.meets)} likely to meet what is wanted ({goals(planned.plan.objectives)})")


def _section(title: str, lines: Iterable[str]) -> list[RenderableType]:
    return ["", Text(title, style="bold"), *(_indented(line) for line in lines)]


def _indented(line: str, style: str = "") -> RenderableType:
    return Padding(Text(line, style=style), (0, 0, 0, 2), expand=False)


def _ways(plan: Plan) -> Table:
    table = Table(title="Ways to move it", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "way" else "right", no_wrap=True)
    for number, each in enumerate(plan.predicted, 1):
        if each.excluded:
            continue
        chosen = plan.chosen is not None and each.candidate == plan.chosen.candidate
        style = "bold green" if chosen else ""
        table.add_row(f"{number} {each.candidate.strategy}", *_middles(each), style=style)
        table.add_row("", *_ends(each), style="dim")
    return table


def _figures(each: Predicted) -> Iterable[tuple[Range | None, Write]]:
    """In the order of the columns, without the last."""
    yield each.total_s, time
    yield each.downtime_s, time
    yield each.transferred_bytes, format_size
    yield each.iterations, count
    yield (each.throttle if each.throttle is not None and each.throttle.high > 0 else None), share
    yield each.lost_s, time


def _middles(each: Predicted) -> list[str]:
    return [*("" if found is None else write(found.middle) for found, write in _figures(each)), share(each.meets)]


def _ends(each: Predicted) -> list[str]:
    ends = [
        "" if found is None or found.low == found.high else between(found, write) for found, write in _figures(each)
    ]
    return [*ends, between(Range(each.meets_low, each.meets, each.meets_high), share)]


def _way(number: int, each: Predicted) -> RenderableType:
    """Its policy as it is typed, and what the table has no room for."""
    line = Text(f"{number} {each.candidate.policy}")
    words: list[str] = []
    if each.excluded:
        words.append(f"can't be taken: {each.excluded}")
    elif each.total_s is None:
        words.append("still under way in all of its forecasts when they were given up")
    if each.postcopy_s is not None and each.postcopy_s.high > 0:
        words.append(f"pages go on coming for {between(each.postcopy_s, time)} after the guest has moved")
    if told := misses(each):
        words.append(told)
    if words:
        line.append(f": {'; '.join(words)}", style="dim")
    return Padding(line, (0, 0, 0, 2), expand=False)
