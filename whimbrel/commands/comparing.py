"""The commands that compare policies: here, and on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from whimbrel.engine.errors import BadInput
from whimbrel.live import Interrupted, ending, print_json
from whimbrel.live import console as new_console
from whimbrel.units import format_duration

from .codes import OK
from .words import Json

if TYPE_CHECKING:
    from whimbrel.laboratory.crews import Crew
    from whimbrel.laboratory.matrix import Matrix
    from whimbrel.laboratory.summary import Comparison

PLAIN_EVERY_S = 10.0
"""Without a terminal, a line so often."""
MOST_JOBS = 1024
WIDTH = 100
"""Of the tables, in columns."""

Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="POLICY",
        help="NAME, NAME:key=value,…, FILE.py:NAME or a composition; repeat. Default: all that come with Whimbrel.",
    ),
]
CaseNames = Annotated[
    list[str] | None,
    typer.Option("--case", metavar="PATTERN", help="Cases by name, such as d150@1g or '*@1g-gentle'; repeat."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME",
        help="all, league, basic (default), guestperf, published, adversarial or real; repeat. --case chooses from it.",
    ),
]
Scenarios = Annotated[
    list[Path] | None, typer.Option("--scenario", metavar="FILE", help="A scenario file (TOML) as a case; repeat.")
]
Links = Annotated[
    list[str] | None,
    typer.Option(
        "--link",
        metavar="LINK",
        help="Each case over this link: 1Gbit/s, or bandwidth=1Gbit/s,latency=5ms,noise=10%; repeat.",
    ),
]
Seeds = Annotated[str, typer.Option(metavar="N", help="How many seeds, from 1 on; or a range such as 21..40.")]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep all rows there, also as result.parquet. Given again, it goes on where it was, or adds what is new.",
    ),
]
NoBounds = Annotated[bool, typer.Option("--no-bounds", help="Do not find out how far each run is from the best.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the rows as CSV, too.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where a comparison is told."""

    out: Path | None
    csv: Path | None
    bounds: bool
    as_json: bool


def compare(
    policy: Policies = None,
    case: CaseNames = None,
    set_: Sets = None,
    scenario: Scenarios = None,
    link: Links = None,
    seeds: Seeds = "20",
    out: Out = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MOST_JOBS, help="Processes; default: one for each core.")
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="On real QEMUs on this host, one run after the other; a seed is a repeat.")
    ] = False,
    no_bounds: NoBounds = False,
    csv: Csv = None,
    as_json: Json = False,
) -> None:
    """Compare policies: each on the same guests, links and seeds, side by side, and against the best that is possible.

    Runs that do not converge count as such. The order of the policies comes with how sure it is.

    \b
    Examples:
      whimbrel compare --policy qemu_default --policy auto_converge --case 'd150@1g*'
      whimbrel compare --set league --out league
      whimbrel compare --scenario docs/examples/outage.toml --policy mine.py:Patient --policy least_downtime
      whimbrel compare --real --seeds 3 --policy least_downtime --policy auto_converge
    """
    from whimbrel.laboratory.choosing import Chosen, matrix_of
    from whimbrel.laboratory.crews import Processes, Serial

    if real and jobs is not None:
        raise BadInput("jobs", jobs, "nothing together with --real: its runs would disturb each other")
    matrix = matrix_of(
        Chosen(
            policies=tuple(policy or ()),
            cases=tuple(case or ()),
            sets=tuple(set_ or ()),
            scenarios=tuple(scenario or ()),
            links=tuple(link or ()),
            seeds=seeds,
            real=real,
        )
    )
    console = wide_console(stderr=as_json)
    crew: Crew
    if real:
        from whimbrel.laboratory.benches import RealQemus

        crew = RealQemus(say=lambda text: console.print(text, style="dim"))
    else:
        hands = jobs or os.cpu_count() or 1
        crew = Serial() if hands == 1 else Processes(hands)
    carry_out(matrix, crew, Output(out=out, csv=csv, bounds=not no_bounds and not real, as_json=as_json), console)


def carry_out(matrix: Matrix, crew: Crew, output: Output, console: Console) -> None:
    """Run a matrix, shown, and tell what came of it.

    Raises:
        Interrupted: ctrl-C; what was done is kept.
    """
    from whimbrel.laboratory.choosing import describe
    from whimbrel.laboratory.comparing import compare as run
    from whimbrel.laboratory.table import csv_of

    if output.csv is not None:
        check_writable("csv", output.csv)
    seen, began = [0, len(matrix)], list[int]()
    try:
        with counting(console) as count:

            def told(done: int, total: int) -> None:
                if not began:  # nothing stands in the way any more
                    console.print(describe(matrix), soft_wrap=True)
                    began.append(done)
                seen[0] = done
                count(done, total)

            comparison = run(matrix, crew, output.out, bounds=output.bounds, told=told)
    except KeyboardInterrupt:
        kept = "; they are kept, the same command goes on from there" if output.out is not None else ", and not kept"
        raise Interrupted(f"stopped: {seen[0]} of {seen[1]} runs are done{kept}") from None
    if output.csv is not None:
        write("csv", output.csv, csv_of(comparison.rows))
    with ending(OK):
        tell(comparison, output, console)


def tell(comparison: Comparison, output: Output, console: Console) -> None:
    """Print what a comparison came to."""
    from whimbrel.laboratory.store import RESULT
    from whimbrel.laboratory.summary import as_dict

    from .comparison_text import comparison_text

    if output.as_json:
        print_json(as_dict(comparison) | {"out": str(output.out or ""), "csv": str(output.csv or "")})
        return
    console.print(comparison_text(comparison))
    for name, path in (("table", output.out and output.out / RESULT), ("csv", output.csv)):
        if path is not None:
            console.print(f"{name}: {path}", soft_wrap=True)


def wide_console(*, stderr: bool) -> Console:
    """A console on which the tables fit: a file and a pipe have no width of their own."""
    made = new_console(stderr=stderr)
    if not made.is_terminal:
        made.width = WIDTH
    return made


@contextmanager
def counting(console: Console) -> Generator[Callable[[int, int], None]]:
    """Gives what is to be told how many runs of how many are done: a bar with the time left, or a line now and then."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("runs,"), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=console, transient=True) as progress:
        task: list[TaskID] = []

        def told(done: int, total: int) -> None:
            if not task:  # what was there already took no time: it is no part of the pace
                task.append(progress.add_task("", total=total, completed=done))
            progress.update(task[0], completed=done)

        yield told


class _Lines:
    """Progress as lines, for logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began: tuple[float, int] | None = None
        self.last_s = 0.0

    def __call__(self, done: int, total: int) -> None:
        now_s = monotonic()
        if self.began is None:
            self.began, self.last_s = (now_s, done), now_s
            if done:
                self.console.print(f"{done} of {total} runs are there already")
            return
        if now_s - self.last_s < PLAIN_EVERY_S or done == total:
            return
        self.last_s = now_s
        began_s, at_first = self.began
        left_s = (now_s - began_s) / (done - at_first) * (total - done)
        self.console.print(f"{done} of {total} runs, about {format_duration(round(left_s))} left", soft_wrap=True)
        self.console.file.flush()


def check_writable(field: str, path: Path) -> None:
    """See, before anything is run, that a file can be written.

    Raises:
        BadInput: it can't; names the option.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(field, str(path), "a file that can be written, in a folder that is there")


def write(field: str, path: Path, data: bytes) -> None:
    """Write a file.

    Raises:
        BadInput: it can't be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BadInput(field, str(path), f"a file that can be written ({error.strerror})") from None
