"""The command that plans, and what it has in common with those that plan before they move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from whimbrel.engine.errors import BadInput
from whimbrel.engine.plan import Predicted
from whimbrel.engine.planning import check
from whimbrel.engine.policy import Objectives
from whimbrel.given import Allowed, address, destination, objectives
from whimbrel.live import console as new_console
from whimbrel.live import ending, interruptible, print_json, run
from whimbrel.planning import Link, Planned
from whimbrel.planning import plan as make_plan
from whimbrel.qmp_driver.destination import Destination
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.preflight import inspect, raise_if_refused
from whimbrel.qmp_driver.sockets import Address
from whimbrel.units import parse_duration, parse_rate

from .codes import NOT_BEGUN, OK
from .plan_text import choice_line, plan_text
from .words import (
    HOW_POLICIES_ARE_NAMED,
    Bandwidth,
    Deadline,
    DestinationQmp,
    Downtime,
    Json,
    LinkRate,
    MayAbort,
    MayPause,
    MayPostcopy,
    Measure,
    NoProbe,
    Probe,
    SourceQmp,
    Throttle,
)

T = TypeVar("T")

SPAN_S = 4.0
"""Of measuring: long enough for the last iterations of most guests, and nobody waits for longer without being asked."""

SHORT = 6
"""So many candidates are done before anybody wonders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """How a policy is chosen for a move that is about to begin.

    Attributes:
        link: what was said of it.
        span_s: how long the guest is measured.
        best_effort: go on where nothing can meet the objectives.
    """

    link: Link
    span_s: float
    best_effort: bool

    async def options(self, console: Console, source: Address, destination: Destination, options: Options) -> Options:
        """Plan, shown, and say what was chosen.

        Returns:
            The options, with the policy and what was predicted of it.

        Raises:
            PreflightFailed: it would not be begun anyway.
            Infeasible: nothing can meet the objectives; all else as `whimbrel.planning.plan`.
        """
        check(options.objectives)
        raise_if_refused(await inspect(source, destination, accept_memory_loss=options.accept_memory_loss))
        planned = await _plan(console, source, destination, options.objectives, self.link, span_s=self.span_s)
        way = planned.way(best_effort=self.best_effort)
        if planned.plan.chosen is None:
            console.print(f"nothing will do: {planned.plan.sentence}", style="yellow", soft_wrap=True)
        console.print(choice_line(planned, way), soft_wrap=True)
        return planned.options(options, best_effort=self.best_effort)


def choosing(
    policy: str | None,
    stated: bool,
    *,
    link: str | None,
    probe: str | None,
    no_probe: bool,
    measure: str | None,
    best_effort: bool,
) -> Choosing | None:
    """Whether a plan is to choose the policy, and how: where objectives were stated, and no policy.

    Args:
        policy: as it was typed, if it was.
        stated: objectives were.
        link, probe, no_probe, measure, best_effort: what was typed.

    Raises:
        BadInput: something that only a plan heeds, where there is none; or what can't be read.
    """
    if stated and policy is None:
        return Choosing(link=how_linked(link, probe, no_probe), span_s=span_of(measure), best_effort=best_effort)
    only = {"link": link, "probe": probe, "no-probe": no_probe, "measure": measure, "best-effort": best_effort}
    for field, given in only.items():
        if given:
            raise BadInput(field, given, "where the policy is chosen by a plan: with objectives, and without --policy")
    return None


def plan(
    source_qmp: SourceQmp,
    destination_qmp: DestinationQmp = None,
    downtime: Downtime = None,
    deadline: Deadline = None,
    bandwidth: Bandwidth = None,
    throttle: Throttle = None,
    may_abort: MayAbort = False,
    may_pause: MayPause = False,
    may_postcopy: MayPostcopy = False,
    link: LinkRate = None,
    probe: Probe = None,
    no_probe: NoProbe = False,
    measure: Measure = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="POLICY", help=f"Choose among these: {HOW_POLICIES_ARE_NAMED}; repeat."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Look at every policy; takes longer.")] = False,
    logs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Logs of earlier migrations, to learn from; default: where they go."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the plan: a .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a running guest, say what each way to move it would come to, and recommend one.

    Nothing of a migration is begun. Exits with 0 if there is a recommendation, and with 3 if nothing is likely enough
    to meet the objectives.

    \b
    Examples:
      whimbrel plan /run/vm/qmp.sock --downtime 300ms --deadline 2m
      whimbrel plan /run/vm/qmp.sock --to other:4444 --probe 10.0.0.2:7777
      whimbrel plan /run/vm/qmp.sock --link 1Gbit/s --throttle 80% --all
      whimbrel plan /run/vm/qmp.sock --may-postcopy --picture plan.svg --json
    """
    from whimbrel.laboratory.canvas import check_file
    from whimbrel.plan_picture import save

    if picture is not None:
        check_file(picture, "picture")
    if logs is not None and not logs.is_dir():
        raise BadInput("logs", str(logs), "a folder with logs")
    allowed = Allowed(throttle=throttle, may_abort=may_abort, may_pause=may_pause, may_postcopy=may_postcopy)
    console = new_console(stderr=as_json)
    wanted = objectives(downtime, deadline, bandwidth, allowed)
    work = _plan(
        console,
        address("SOURCE_QMP", source_qmp),
        None if destination_qmp is None else destination(destination_qmp, None, None, False),
        wanted,
        how_linked(link, probe, no_probe),
        span_s=span_of(measure),
        logs=logs,
        policies=tuple(policy or ()),
        everything=everything,
    )
    planned = run(interrupted(work, console))
    if picture is not None:
        save(planned, picture)
    with ending(NOT_BEGUN if planned.plan.chosen is None else OK):
        if as_json:
            print_json(planned.as_dict() | {"picture": str(picture or "")})
            return
        console.print(plan_text(planned))
        if picture is not None:
            console.print(f"picture: {picture}", soft_wrap=True)


def how_linked(rate: str | None, probe: str | None, no_probe: bool) -> Link:
    """What was said of the link.

    Raises:
        BadInput: a rate or an address that can't be read, or a probe that is asked for and forbidden.
    """
    where = None if probe is None else address("probe", probe)
    if where is not None and not isinstance(where, tuple):
        raise BadInput("probe", probe, "HOST:PORT, where whimbrel sink listens")
    carries = None if rate is None else parse_rate(rate, field="link")
    return Link(bytes_per_s=carries, probe=where, may_probe=not no_probe)


def span_of(text: str | None) -> float:
    """How long to measure, seconds.

    Raises:
        BadInput: it can't be read.
    """
    return SPAN_S if text is None else parse_duration(text, field="measure")


async def interrupted(work: Coroutine[Any, Any, T], console: Console) -> T:
    """Do what a signal ends at once: nothing has been begun that would have to be seen to its end.

    Raises:
        asyncio.CancelledError: a signal came.
    """
    task = asyncio.ensure_future(work)

    def call_off(_: int) -> None:
        task.cancel()

    with interruptible(call_off, console):
        return await task


async def _plan(
    console: Console,
    source: Address,
    destination: Destination | None,
    wanted: Objectives,
    link: Link,
    **how: Any,
) -> Planned:
    with followed(console) as (tell, assessed):
        return await make_plan(source, destination, objectives=wanted, link=link, tell=tell, assessed=assessed, **how)


@contextmanager
def followed(console: Console) -> Generator[tuple[Callable[[str], None], Callable[[Predicted, int], None]]]:
    """How planning is followed: on a terminal as a line that goes when it is done, else as a line for each step."""
    if not console.is_terminal:
        done: list[Predicted] = []

        def say(text: str) -> None:
            console.print(text, style="dim", soft_wrap=True)

        def count(each: Predicted, of: int) -> None:
            done.append(each)
            if of > SHORT:
                say(f"{len(done)} of {of}: {each.candidate.policy}")

        yield say, count
        return
    columns = (TextColumn("{task.description}", style="dim"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("looking at the guest", total=None)

        def tell(text: str) -> None:
            progress.update(task, description=text)

        def assessed(_: Predicted, of: int) -> None:
            progress.update(task, total=of, advance=1)

        yield tell, assessed
