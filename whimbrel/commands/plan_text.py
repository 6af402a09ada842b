"""A plan as text for people. Everything returns rich renderables; nothing prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from whimbrel.engine.estimate import Range
from whimbrel.engine.plan import Plan, Predicted
from whimbrel.plan_words import Write, between, count, goals, misses, of_belief, of_costs, of_floors, share, time
from whimbrel.planning import Planned
from whimbrel.units import format_size


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the table of ways."""

    found: Callable[[Predicted], Range | None]
    write: Write

    def holds(self, each: Predicted) -> bool:
        """Whether there is anything to show for it."""
        found = self.found(each)
        return found is not None and found.high > 0

    def middle(self, each: Predicted) -> str:
        found = self.found(each)
        return self.write(found.middle) if found is not None and found.high > 0 else ""

    def ends(self, each: Predicted) -> str:
        found = self.found(each)
        return between(found, self.write) if found is not None and found.low < found.high else ""


COLUMNS = {
    "time": _Column(lambda each: each.total_s, time),
    "outage": _Column(lambda each: each.downtime_s, time),
    "sent": _Column(lambda each: each.transferred_bytes, format_size),
    "passes": _Column(lambda each: each.iterations, count),
    "slowed": _Column(lambda each: each.throttle, share),
    "lost": _Column(lambda each: each.lost_s, time),
}


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
    word, style = ("NOTHING WILL DO", "bold red") if plan.chosen is None else ("RECOMMENDED", "bold green")
    return Text().append(word, style=style).append(f"\n{plan.sentence}")


def choice_line(planned: Planned, way: Predicted) -> Text:
    """The way that is taken, and what it is likely to come to, in a line."""
    line = Text("planned: ").append(way.candidate.runs or way.candidate.policy, style="bold")
    if way.total_s is not None and way.downtime_s is not None:
        line.append(f", over in {between(way.total_s, time)}, outage {between(way.downtime_s, time)}")
    return line.append(f", {share(way.meets)} likely to meet what is wanted ({goals(planned.plan.objectives)})")


def _section(title: str, lines: Iterable[str]) -> list[RenderableType]:
    return ["", Text(title, style="bold"), *(_indented(line) for line in lines)]


def _indented(line: str, style: str = "") -> RenderableType:
    return Padding(Text(line, style=style), (0, 0, 0, 2), expand=False)


def _ways(plan: Plan) -> Table:
    """Each with its medians and, below them, what they lie between; columns that nobody needs are left out."""
    shown = {number: each for number, each in enumerate(plan.predicted, 1) if not each.excluded}
    columns = {name: column for name, column in COLUMNS.items() if any(map(column.holds, shown.values()))}
    table = Table(title="Ways to move it", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("way", no_wrap=True)
    for name in (*columns, "meets"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, each in shown.items():
        style = "bold green" if plan.chosen is not None and each.candidate == plan.chosen.candidate else ""
        middles = [column.middle(each) for column in columns.values()]
        table.add_row(f"{number} {each.candidate.strategy}", *middles, share(each.meets), style=style)
        if each.total_s is not None:
            table.add_row("", *(column.ends(each) for column in columns.values()), _chance(each), style="dim")
    return table


def _chance(each: Predicted) -> str:
    """What so many draws can tell of how likely it is."""
    if round(each.meets_high, 2) == 1:
        return f"≥{share(each.meets_low)}"
    if round(each.meets_low, 2) == 0:
        return f"≤{share(each.meets_high)}"
    return between(Range(each.meets_low, each.meets, each.meets_high), share)


def _way(number: int, each: Predicted) -> RenderableType:
    """Its policy as it is typed, and what the table has no room for."""
    line = Text(f"{number} {each.candidate.policy}")
    words: list[str] = []
    if each.excluded:
        words.append(f"can't be taken: {each.excluded}")
    elif each.total_s is None:
        words.append("no end in time in any of its forecasts")
    if each.postcopy_s is not None and each.postcopy_s.high > 0:
        words.append(f"pages go on coming for {between(each.postcopy_s, time)} after the guest has moved")
    if each.total_s is not None and (told := misses(each)):
        words.append(told)
    if words:
        line.append(f": {'; '.join(words)}", style="dim")
    return Padding(line, (0, 0, 0, 2), expand=False)
