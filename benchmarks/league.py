"""``python -m benchmarks league``: every policy on every case of the league, as docs/league.md.

Twice: with the constants that each policy was published with, which are meant for guests that take a minute to send;
and with the waiting times of five of them scaled to these guests, which take seconds. The second only adds their runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.policies import BUILT_IN
from whimbrel.laboratory import league, pictures
from whimbrel.laboratory.canvas import Figure, drawing, save
from whimbrel.laboratory.catalogue import named
from whimbrel.laboratory.comparing import compare, fronts
from whimbrel.laboratory.crews import Processes
from whimbrel.laboratory.matrix import Matrix, parse_seeds
from whimbrel.laboratory.page import telling, write
from whimbrel.laboratory.store import write_whole
from whimbrel.laboratory.summary import Comparison

COMMAND: Final = "python -m benchmarks league"
SEEDS: Final = "20"
PAGE: Final = Path("docs/league.md")
SCALED: Final = {
    "nova_steps": "nova_steps:delay=1s",
    "ovirt_schedule": "ovirt_schedule:poll=1s",
    "kubevirt_legacy": "kubevirt_legacy:completion_timeout=10s,action=postcopy",
    "kubevirt_vep291": "kubevirt_vep291:cooldown=1s",
    "kubevirt_vep248": "kubevirt_vep248:window=2s,patience=2s,action=postcopy",
}
"""Policies whose waiting times are scaled, about as a minute is to three seconds."""
TOLD_EVERY: Final = 0.02
"""Of the runs: how often it is said how far it is."""


def main(argv: Sequence[str]) -> int:
    """Run it; what was done is kept in ``--out`` and not done again.

    Returns:
        0; 1 if a run broke, with what broke; 130 if it was called off.
    """
    options = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="whimbrel-league-") as scratch:
        try:
            _run(options, options.out or Path(scratch) / "league")
        except WhimbrelError as error:
            print(f"league: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("called off; with --out the next call goes on from here", file=sys.stderr)
            return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--seeds", default=SEEDS, help=f"how many, or a range such as 21..40 (default {SEEDS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument("--out", type=Path, help="keep all rows there, and go on from them")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"the page (default {PAGE})")
    parser.add_argument("--html", type=Path, help="all of it as one HTML page, too")
    parser.add_argument("--case-set", default="league", help="cases (default: league)")
    return parser


def _run(options: argparse.Namespace, out: Path) -> None:
    cases, seeds = named(options.case_set), parse_seeds(options.seeds)
    published = Matrix(cases=cases, policies=tuple(BUILT_IN), seeds=seeds)
    scaled = Matrix(cases=cases, policies=tuple(SCALED.get(name, name) for name in BUILT_IN), seeds=seeds)
    began_s = time.monotonic()
    first = compare(published, Processes(jobs=options.jobs), out, told=_teller("published"))
    print(f"{len(published)} migrations, and {len(cases) * len(seeds)} bounds: {time.monotonic() - began_s:.0f} s "
          f"on {options.jobs} processes", flush=True)  # fmt: skip
    second = compare(scaled, Processes(jobs=options.jobs), out, told=_teller("scaled"))
    folder = options.page.parent / "league"
    text = league.markdown(first, COMMAND, pictures=_pictures(first, folder)) + _appendix(second)
    write_whole(options.page, text.encode())
    if options.html is not None:
        write(first, options.html, bounds=fronts(first), command=COMMAND)
    print(f"written: {options.page}")


def _teller(what: str) -> Callable[[int, int], None]:
    said = [0.0]

    def tell(done: int, total: int) -> None:
        if done == total or done >= said[0] + TOLD_EVERY * total:
            said[0] = done
            print(f"  {what}: {done} of {total}", flush=True)

    return tell


def _pictures(comparison: Comparison, folder: Path) -> list[tuple[str, str]]:
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, tuple[str, Callable[[], Figure]]] = {
        "fronts": ("Downtime against time", lambda: _fronts(comparison)),
        "regrets": ("Regret", lambda: pictures.regrets(comparison)),
        "survival": ("Runs that have not moved their guest yet", lambda: pictures.survivals(comparison)),
        "cases": ("Who fails where", lambda: pictures.everywhere(comparison)),
    }
    told: list[tuple[str, str]] = []
    with drawing():
        for name, (title, draw) in drawn.items():
            save(draw(), folder / f"{name}.png")
            told.append((title, f"{folder.name}/{name}.png"))
    return told


def _fronts(comparison: Comparison) -> Figure:
    bounds = fronts(comparison)
    return pictures.fronts(comparison, bounds, telling(comparison, bounds))


def _appendix(comparison: Comparison) -> str:
    lines = league.table(comparison)
    changed = ", ".join(f"`{text}`" for text in SCALED.values())
    return "\n".join(["", "## With waiting times scaled", "", f"The same with {changed}.", "", *lines, ""])
