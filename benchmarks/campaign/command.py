"""``python -m benchmarks campaign``: real migrations, hurt in every way at every point, and what is not as promised."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import points
from .conduct import Seen, conduct
from .judge import judge
from .plan import DEFAULT_EACH, DEFAULT_SEED, HASTE, Run, faults, pairs
from .store import Result, Store, summary
from .table import as_html, as_text

DEFAULT_RESULTS: Final = Path("build/campaign.jsonl")
DEFAULT_WORKERS: Final = 2
KEPT: Final = ("log", "said", "moments", "successor", "e0")
"""What is kept of a run that went wrong."""


@dataclass
class Campaign:
    """Runs that are being done, some at a time."""

    seed: int
    store: Store
    workers: int
    advance: Callable[[int, int], None]
    """Told how many of a list are done, and of how many."""
    _waiting: list[Run] = field(default_factory=list[Run])

    async def do(self, runs: Sequence[Run], *, again: bool = False) -> list[Result]:
        """Do those of these runs that are not done yet; the results of all.

        Args:
            runs: what is to be done.
            again: those that went wrong before, too.

        If cancelled: what was started is ended; what was done stands in the results file.
        """
        wanted = list(runs)
        done = {result.run.key for result in self.store.of(self.seed, wanted) if not (again and result.bad)}
        self._waiting = [run for run in reversed(wanted) if run.key not in done]
        self.advance(len(done), len(wanted))
        async with asyncio.TaskGroup() as group:
            for _ in range(self.workers):
                group.create_task(self._work(len(wanted)))
        return self.store.of(self.seed, wanted)

    async def _work(self, count: int) -> None:
        while self._waiting:
            run = self._waiting.pop()
            seen = await self.perform(run)
            judged = judge(run, seen.evidence)
            result = Result(
                seed=self.seed,
                run=run,
                verdict=judged.verdict,
                violations=judged.violations,
                evidence=seen.evidence,
            )
            self.store.add(result)
            if result.bad:
                print(f"VIOLATION {run.key}: {'; '.join(result.violations)}", file=sys.stderr)
            self.advance(count - len(self._waiting), count)

    async def perform(self, run: Run, *, moments: bool = False) -> Seen:
        """Do one run; if it goes wrong, its log and the like are kept beside the results.

        Args:
            run: what is done.
            moments: have the managers note the moments that they pass.
        """
        with tempfile.TemporaryDirectory(prefix="wc-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            seen = await conduct(run, folder, moments=moments)
            if judge(run, seen.evidence).violations:
                keep = self.store.path.with_suffix(".kept") / re.sub(r"[^\w.-]+", "-", run.key)
                await asyncio.to_thread(_keep, folder, keep)
        return seen

    async def sweep(self, *, every: int = 1, again: bool = False) -> list[Result]:
        """Kill the manager at every point of a move, of a cancelled one, and of a successor's work.

        Args:
            every: 1 for all points, 2 for every second one, and so on.
            again: as with `do`.
        """
        results: list[Result] = []
        for kind in points.KINDS:
            seen = await self.perform(points.plain(kind), moments=True)
            results += await self.do(points.sweep(kind, seen.moments)[::every], again=again)
        for at in points.RESOLVER_AT:
            (first,) = points.named("move", [at])
            seen = await self.perform(first, moments=True)
            results += await self.do(points.of_successor(at, seen.successor_moments)[::every], again=again)
        return results


def main(argv: Sequence[str]) -> int:
    """Do a campaign.

    Returns:
        0 if everything was as promised, 1 if not, 130 if it was called off (it goes on where it was).
    """
    options = _parser().parse_args(argv)
    store = Store(options.results)
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    with bar:
        task = bar.add_task("points" if options.points else "faults")
        campaign = Campaign(
            options.seed, store, options.workers, lambda done, of: bar.update(task, completed=done, total=of)
        )
        try:
            if options.points:
                results = asyncio.run(campaign.sweep(every=options.every, again=options.again))
            else:
                runs = [*faults(options.seed, options.each), *pairs(options.seed, options.pairs)]
                runs = [run for run in runs if re.search(options.only, run.key)]
                results = asyncio.run(campaign.do(runs, again=options.again))
        except KeyboardInterrupt:
            print(f"called off: the same command goes on from {options.results}", file=sys.stderr)
            return 130
    about = {"seed": options.seed, "waits": f"1/{HASTE} of the defaults", **summary(results)}
    print(as_text(results))
    print("\n" + json.dumps(about))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode({"about": about, "results": results}) + b"\n")
    if options.html is not None:
        options.html.write_text(as_html(results, about))
    return int(any(result.bad for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks campaign", description=__doc__)
    parser.add_argument("--points", action="store_true", help="kill the manager at every point instead")
    text = "with --points: only every N-th of them (default 1)"
    parser.add_argument("--every", type=int, default=1, metavar="N", help=text)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help=f"what follows from it (default {DEFAULT_SEED})")
    text = f"how often each fault is done in each phase (default {DEFAULT_EACH})"
    parser.add_argument("--each", type=int, default=DEFAULT_EACH, metavar="N", help=text)
    text = "besides, so many runs with two faults each (default 0)"
    parser.add_argument("--pairs", type=int, default=0, metavar="N", help=text)
    parser.add_argument("--only", default="", metavar="REGEX", help="only runs of which the name matches")
    text = f"runs at a time (default {DEFAULT_WORKERS})"
    parser.add_argument("--workers", type=int, default=DEFAULT_WORKERS, metavar="N", help=text)
    text = f"the results; runs that stand there are not done again (default {DEFAULT_RESULTS})"
    parser.add_argument("--results", type=Path, default=DEFAULT_RESULTS, metavar="FILE", help=text)
    parser.add_argument("--again", action="store_true", help="do those that went wrong again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary and every run there")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the table there as a page")
    return parser


def _keep(folder: Path, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (folder / name).is_file():
            shutil.copy(folder / name, keep / name)
