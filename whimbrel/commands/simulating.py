"""The command that simulates: one scenario, from a file or from options, once or many times."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from whimbrel.engine.errors import BadInput
from whimbrel.given import Allowed, new_file
from whimbrel.live import console as new_console
from whimbrel.live import ending, print_json

from .codes import OK
from .words import (
    AbortOnFault,
    Classes,
    Deadline,
    Json,
    MayAbort,
    MayPause,
    MayPostcopy,
    NewLog,
    Throttle,
)

MOST_RUNS = 10_000

ScenarioFile = Annotated[
    Path | None, typer.Argument(metavar="SCENARIO", help="A scenario file (TOML); without: --curve or --class.")
]
CurveFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A measured guest: JSON with window_s, dirty_bytes (lists), total_bytes, zero_bytes."
    ),
]
SimulatedRam = Annotated[str | None, typer.Option(metavar="SIZE", help="RAM, with --class; default: 524224KiB.")]
LinkBandwidth = Annotated[
    str | None,
    typer.Option(metavar="RATE", help="Send at most this much; without a file it is what the link carries, too."),
]
LongestDowntime = Annotated[str | None, typer.Option(metavar="TIME", help="Greatest downtime allowed, such as 300ms.")]
AnyPolicy = Annotated[
    str | None,
    typer.Option(
        "--policy", metavar="POLICY", help="NAME, NAME:key=value,…, FILE.py:NAME, or first(…), then(…), when(…)."
    ),
]
AnySeed = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Where the dice begin; default: the file's, or 1.")
]
ModelName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="stepwise (default with a file), fast (default without), recurrence, constant-rate or two-segment.",
    ),
]
Runs = Annotated[int, typer.Option(metavar="N", min=1, max=MOST_RUNS, help="So many runs, each with the next seed.")]
Picture = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the first run: a .png or .svg.")]


def simulate(
    scenario: ScenarioFile = None,
    curve: CurveFile = None,
    classes: Classes = None,
    ram: SimulatedRam = None,
    bandwidth: LinkBandwidth = None,
    downtime: LongestDowntime = None,
    deadline: Deadline = None,
    throttle: Throttle = None,
    may_abort: MayAbort = False,
    may_pause: MayPause = False,
    may_postcopy: MayPostcopy = False,
    abort_on_fault: AbortOnFault = False,
    policy: AnyPolicy = None,
    seed: AnySeed = None,
    runs: Runs = 1,
    model: ModelName = None,
    plot: Picture = None,
    log: NewLog = None,
    as_json: Json = False,
) -> None:
    """Simulate a migration, from a scenario file or from options; options go before what the file says.

    Exits with 0 whether or not the migration converges: that is the answer, not a failure.

    \b
    Examples:
      whimbrel simulate docs/examples/outage.toml --plot outage.svg
      whimbrel simulate docs/examples/hot-and-cold.toml --policy fixed --runs 20
      whimbrel simulate --class hot:size=64MiB,rate=60MiB/s --bandwidth 1Gbit/s
      whimbrel simulate --curve curve.json --bandwidth 2Gbit/s --policy fixed
    """
    from whimbrel.plots import check_picture, save
    from whimbrel.simulating import drawn
    from whimbrel.simulating import simulate as run
    from whimbrel.simulation_options import FROM_FILE, FROM_OPTIONS, Given, plan_of
    from whimbrel.simulation_records import as_dict

    from .simulation_text import simulation_head, simulation_text

    chosen = model or (FROM_OPTIONS if scenario is None else FROM_FILE)
    plan = plan_of(
        Given(
            scenario=scenario,
            curve=curve,
            classes=tuple(classes or ()),
            ram=ram,
            bandwidth=bandwidth,
            downtime=downtime,
            deadline=deadline,
            allowed=Allowed(
                throttle=throttle,
                may_abort=may_abort,
                may_pause=may_pause,
                may_postcopy=may_postcopy,
                abort_on_fault=abort_on_fault,
            ),
            policy=policy,
            seed=seed,
        )
    )
    if plot is not None:
        check_picture(plot)
    if log is not None and chosen != FROM_FILE:
        raise BadInput("log", str(log), f"one with the model {FROM_FILE}: {chosen} sends no commands to write down")
    if log is not None and new_file(log) and log.exists() and log.stat().st_size:
        raise BadInput("log", str(log), "a new file, or an empty one: this one holds something already")
    console = new_console(stderr=as_json)
    head = simulation_head(plan, chosen, drawn(plan.scenario, model=chosen, seed=plan.seed, runs=runs))
    console.print(head)  # before anything is run: no crash, and nobody who has waited enough, takes the seed along
    console.file.flush()
    with counting(console, runs) as count:
        simulation = run(plan.scenario, model=chosen, seed=plan.seed, runs=runs, ended=count)
    if plot is not None:
        save(simulation, plot)
    if log is not None:
        _write(log, simulation.first.log)
    with ending(OK):
        if as_json:
            print_json(as_dict(simulation) | {"plot": str(plot or ""), "log": str(log or "")})
            return
        console.print(simulation_text(simulation, console.width))
        for name, path in (("plot", plot), ("log", log)):
            if path is not None:
                console.print(f"{name}: {path}", soft_wrap=True)


@contextmanager
def counting(console: Console, runs: int) -> Generator[Callable[[object], None]]:
    """Gives what is to be called after each run; on a terminal many runs are seen to go on, and nothing stays of it."""
    if runs == 1 or not console.is_terminal:
        yield lambda _: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("runs,"), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=runs)
        yield lambda _: progress.advance(task)


def _write(path: Path, log: bytes) -> None:
    try:
        path.write_bytes(log)
    except OSError as error:
        raise BadInput("log", str(path), f"a file that can be written ({error.strerror})") from None
