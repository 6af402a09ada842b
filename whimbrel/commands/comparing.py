"""The commands that compare policies: here, and on a cluster."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType
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
    from whimbrel.laboratory.ranking import Agreement
    from whimbrel.laboratory.records import Case
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


Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write one page with all tables and pictures, readable by itself."),
]
Pictures = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Write the pictures there, as PNG and SVG.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is kept and written, and how it is told."""

    out: Path | None
    csv: Path | None
    html: Path | None
    figures: Path | None
    bounds: bool
    as_json: bool

    def check(self) -> None:
        """See, before anything is run, that all of it can be written.

        Raises:
            BadInput: it can't; names the option.
        """
        for field, path in (("csv", self.csv), ("html", self.html)):
            if path is not None:
                check_writable(field, path)
        if self.figures is not None and self.figures.exists() and not self.figures.is_dir():
            raise BadInput("figures", str(self.figures), "a folder, there already or new")
        if self.html is not None or self.figures is not None:
            from whimbrel.laboratory.canvas import matplotlib

            matplotlib()


def compare(
    policy: Policies = None,
    case: CaseNames = None,
    set_: Sets = None,
    scenario: Scenarios = None,
    link: Links = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the cases that are chosen, or all there are, and run nothing.")
    ] = False,
    seeds: Seeds = "20",
    out: Out = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MOST_JOBS, help="Processes; default: one for each core.")
    ] = None,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="On real QEMUs on this host, one run after the other (a seed is a repeat); and in the simulator, to "
            "tell how far both rankings agree.",
        ),
    ] = False,
    no_bounds: NoBounds = False,
    csv: Csv = None,
    html: Html = None,
    figures: Pictures = None,
    as_json: Json = False,
) -> None:
    """Compare policies: each on the same guests, links and seeds, side by side, and against the best that is possible.

    Runs that do not converge count as such, and are no failure. The order of the policies comes with how sure it is.
    ctrl-C (4) keeps what is done in --out; so does a run that breaks, or a disk that is full (3).

    \b
    Examples:
      whimbrel compare --list --set league
      whimbrel compare --policy fixed --policy mine.py:Patient --case 'd150@*'
      whimbrel compare --set league --out league --html league.html
      whimbrel compare --real --seeds 3 --policy fixed --policy auto_converge
    """
    from whimbrel.laboratory.choosing import Chosen, cases_of, matrix_of
    from whimbrel.laboratory.crews import Processes, Serial

    chosen = Chosen(
        policies=tuple(policy or ()),
        cases=tuple(case or ()),
        sets=tuple(set_ or ()),
        scenarios=tuple(scenario or ()),
        links=tuple(link or ()),
        seeds=seeds,
        real=real,
    )
    if list_:
        everything = not (case or set_ or scenario or real)
        list_cases(cases_of(replace(chosen, sets=("all",)) if everything else chosen), as_json)
    output = Output(out=out, csv=csv, html=html, figures=figures, bounds=not no_bounds, as_json=as_json)
    hands = jobs or os.cpu_count() or 1
    carry_out(matrix_of(chosen), Serial() if hands == 1 else Processes(hands), output)


def list_cases(cases: Sequence[Case], as_json: bool) -> None:
    """Print cases, and exit."""
    from .comparison_text import cases_text

    console = wide_console(stderr=False)
    with ending(OK):
        if as_json:
            print_json({"cases": [asdict(case) for case in cases]})
        else:
            console.print(cases_text(cases))


def carry_out(matrix: Matrix, crew: Crew, output: Output) -> None:
    """Run a matrix, shown, and tell what came of it; one for real QEMUs in the simulator, too.

    Args:
        matrix: what is run.
        crew: who runs what is simulated.
        output: what is kept and written.

    Raises:
        BadInput: something can't be written.
        Interrupted: ctrl-C; what was done is kept.
    """
    from whimbrel.laboratory.ranking import agreement
    from whimbrel.laboratory.records import Backend

    output.check()
    console = wide_console(stderr=output.as_json)
    if matrix.backend is Backend.SIMULATED:
        return finish(_run(matrix, crew, output, console), None, output, console)
    from whimbrel.laboratory.benches import RealQemus

    real = _run(matrix, RealQemus(say=partial(_say, console)), output, console)
    simulated = _run(replace(matrix, backend=Backend.SIMULATED), crew, output, console)
    found = agreement(simulated.rows, real.rows) if len(matrix.policies) > 1 else None
    return finish(real, found, output, console)


def _say(console: Console, text: str) -> None:
    console.print(text, style="dim", soft_wrap=True)


def _run(matrix: Matrix, crew: Crew, output: Output, console: Console) -> Comparison:
    from whimbrel.laboratory.choosing import describe
    from whimbrel.laboratory.comparing import compare as run

    seen: list[int] = []

    def told(done: int, total: int) -> None:
        if not seen:  # nothing stands in the way any more
            console.print(describe(matrix), soft_wrap=True)
        seen.append(done)
        if stopped():
            raise KeyboardInterrupt
        count(done, total)

    with _stoppable() as stopped:
        try:
            with counting(console) as count:
                return run(matrix, crew, output.out, bounds=output.bounds, told=told)
        except KeyboardInterrupt:
            kept = "; they are kept, and the same command goes on from there" if output.out is not None else ""
            raise Interrupted(f"stopped: {seen[-1] if seen else 0} of {len(matrix)} runs are done{kept}") from None


@contextmanager
def _stoppable() -> Generator[Callable[[], bool]]:
    """Whoever ends it otherwise than by ctrl-C has it end as tidily. Gives what tells whether somebody did.

    It is to be asked now and then: an exception that a signal raises is lost, but for a message, where it comes in the
    middle of the clean-up of some object.
    """
    signals: list[int] = []
    tell_lost = sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    def lost(found: sys.UnraisableHookArgs) -> None:
        if not isinstance(found.exc_value, KeyboardInterrupt):
            tell_lost(found)

    sys.unraisablehook = lost
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield lambda: bool(signals)
    finally:
        sys.unraisablehook = tell_lost
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def finish(comparison: Comparison, found: Agreement | None, output: Output, console: Console) -> None:
    """Write what is to be written, print what it came to, and exit.

    Raises:
        BadInput: something can't be written.
    """
    from whimbrel.laboratory import page
    from whimbrel.laboratory.comparing import fronts
    from whimbrel.laboratory.store import RESULT
    from whimbrel.laboratory.summary import as_dict
    from whimbrel.laboratory.table import csv_of

    from .comparison_text import agreement_text, comparison_text

    if output.csv is not None:
        write("csv", output.csv, csv_of(comparison.rows))
    if output.html is not None:
        command = shlex.join(["whimbrel", *sys.argv[1:]])
        page.write(comparison, output.html, bounds=fronts(comparison), agreement=found, command=command)
    if output.figures is not None:
        page.save_all(comparison, output.figures, bounds=fronts(comparison))
    written = {
        "table": output.out and output.out / RESULT,
        "csv": output.csv,
        "page": output.html,
        "figures": output.figures,
    }
    with ending(OK):
        if output.as_json:
            print_json(
                as_dict(comparison, found) | {"files": {name: str(path or "") for name, path in written.items()}}
            )
            return
        console.print(comparison_text(comparison, console.width))
        if found is not None:
            console.print(agreement_text(found))
        for name, path in written.items():
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
        self.calls = 0
        self.began_s = self.last_s = 0.0
        self.at_first = 0

    def __call__(self, done: int, total: int) -> None:
        now_s = monotonic()
        self.calls += 1
        if self.calls == 1 and done:
            self.console.print(f"{done} of {total} runs are there already")
        if self.calls <= 2:  # until the first block is through processes start, and links are made
            self.began_s = self.last_s = now_s
            self.at_first = done
        elif now_s - self.last_s >= PLAIN_EVERY_S and done < total:
            self.last_s = now_s
            left_s = (now_s - self.began_s) / (done - self.at_first) * (total - done)
            text = f"{done} of {total} runs, about {format_duration(round(left_s))} left"
            self.console.print(text, soft_wrap=True)
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
