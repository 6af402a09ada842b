"""``python -m benchmarks verdict``: how early a verdict can be right, and how often a live forecast holds.

Every case of the league is simulated under policies that throttle nothing and go over to nothing: pre-copy of the guest
as it is. Whether that can meet the objectives is not computed but seen: it can where any of these policies did, on the
same case with the same seed. What was foreseen at each beginning of an iteration is held against that, and against
what came of the run itself.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.catalogue import named
from whimbrel.laboratory.matrix import parse_seeds
from whimbrel.laboratory.records import Case
from whimbrel.laboratory.running import meets
from whimbrel.policies import resolve
from whimbrel.sim.world import World

POLICIES: Final = ("least_downtime", "qemu_default", "clark_rate", "smart_stop", "kubevirt_vep248", "cycle_aware")
"""Plain pre-copy of different schools; in these objectives none of them may throttle, pause or go over to post-copy."""
TOLD_OF: Final = ("least_downtime", "qemu_default")
"""Whose runs are judged: one that holds its limit low, and one that never moves it."""
SEEDS: Final = "3"
LAST: Final = 10
"""Iterations that are told one by one."""
CLASSES: Final = (0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0)


SPANS: Final = ("ends_s", "downtime_s", "transferred_bytes")
"""The log's names of the ranges."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was foreseen at the first look of an iteration: lists are low, middle and high; ``inf``: never."""

    iteration: int
    at_s: float
    ends_s: list[float]
    downtime_s: list[float]
    sent_bytes: list[float]
    meets: float
    hopeless: float | None
    stands: bool
    """A verdict had been drawn and not been taken back."""


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated migration, and what was foreseen on the way."""

    case: str
    policy: str
    seed: int
    met: bool
    limit_s: float
    ends_s: float
    downtime_s: float | None
    sent_bytes: int
    first_pass_s: float
    looks: list[Look]


def plain(case: Case) -> Case:
    """The case with objectives that allow nothing but pre-copy of the guest as it is."""
    goal = replace(
        case.scenario.objectives, greatest_throttle=0.0, may_pause=False, may_postcopy=False, may_abort=False
    )
    return replace(case, scenario=replace(case.scenario, objectives=goal))


def run(case: Case, policy: str, seed: int) -> Run:
    """Simulate it, with a live forecast."""
    scenario = replace(plain(case).scenario, policy=policy)
    world = World(scenario, seed, resolve(policy), told={"foresight": True})
    world.run()
    outcome = world.outcomes()[0]
    truth, report = outcome.truth, outcome.report
    moved = report is not None and report.moved
    return Run(
        case=case.name,
        policy=policy,
        seed=seed,
        met=meets(case, moved=moved, total_s=truth.total_s, downtime_s=truth.outage_s),
        limit_s=scenario.limit_s,
        ends_s=truth.moved_s if moved else math.inf,
        downtime_s=truth.outage_s,
        sent_bytes=truth.transferred_bytes,
        first_pass_s=outcome.iterations[0].duration_s if outcome.iterations else math.inf,
        looks=list(first_looks(fields for _, fields in outcome.log.of_kind("outlook"))),
    )


def first_looks(lines: Iterable[dict[str, Any]]) -> Iterator[Look]:
    """Of each iteration the first outlook, out of a log's lines."""
    last, stands = 0, False
    for line in lines:
        if "news" in line:
            stands = line["verdict"] is not None
        if line["iteration"] > last:
            last = line["iteration"]
            ends_s, downtime_s, sent_bytes = (
                [math.inf if each is None else float(each) for each in line[name]] for name in SPANS
            )
            yield Look(last, line["at_s"], ends_s, downtime_s, sent_bytes, line["meets"], line["hopeless"], stands)


def can_be_met(runs: Iterable[Run]) -> set[tuple[str, int]]:
    """Cases and seeds in which any policy met the objectives."""
    return {(each.case, each.seed) for each in runs if each.met}


def verdicts(runs: Sequence[Run]) -> list[str]:
    """By how many iterations have ended: verdicts that stand, right and wrong, and what is left open."""
    possible = can_be_met(runs)
    rows = ["| iterations ended | verdict, right | verdict, wrong | none yet, though none can | none, rightly |",
            "|---|---|---|---|---|"]  # fmt: skip
    for ended in range(2, LAST + 1):
        counts = defaultdict[tuple[bool, bool], int](int)
        for each in judged(runs):
            known = [look for look in each.looks if look.iteration <= ended + 1]
            if not known or known[-1].iteration <= 2:
                continue
            counts[known[-1].stands, (each.case, each.seed) in possible] += 1
        rows.append(f"| {ended} | {counts[True, False]} | {counts[True, True]} | "
                    f"{counts[False, False]} | {counts[False, True]} |")  # fmt: skip
    return rows


def judged(runs: Iterable[Run]) -> Iterator[Run]:
    """Those whose forecasts are looked at."""
    return (each for each in runs if each.policy in TOLD_OF)


def confidence(runs: Sequence[Run]) -> list[str]:
    """How likely no pre-copy can do, as it was said, against how often none did."""
    possible = can_be_met(runs)
    found = defaultdict[int, list[tuple[float, bool]]](list)
    for each in judged(runs):
        for look in each.looks:
            if look.hopeless is not None and look.iteration <= LAST:
                found[_class_of(look.hopeless)].append((look.hopeless, (each.case, each.seed) not in possible))
    return _calibration("said: no pre-copy can", found)


def promises(runs: Sequence[Run]) -> list[str]:
    """How likely the objectives are met, as it was said from the second iteration on, against how often they were."""
    found = defaultdict[int, list[tuple[float, bool]]](list)
    for each in judged(runs):
        for look in each.looks:
            if 2 <= look.iteration <= LAST:
                found[_class_of(look.meets)].append((look.meets, each.met))
    return _calibration("said: it will do", found)


def _class_of(said: float) -> int:
    return max(place for place, edge in enumerate(CLASSES[:-1]) if said >= edge)


def _calibration(what: str, found: dict[int, list[tuple[float, bool]]]) -> list[str]:
    rows = [f"| {what} | mean of what was said | came true | looks |", "|---|---|---|---|"]
    for place, looks in sorted(found.items()):
        said, true = (sum(column) / len(looks) for column in zip(*looks, strict=True))
        rows.append(f"| {CLASSES[place]:.0%} to {CLASSES[place + 1]:.0%} | {said:.0%} | {true:.0%} | {len(looks)} |")
    return rows


def ranges(runs: Sequence[Run]) -> list[str]:
    """How often the 90 % ranges held, and how far the middles were off where there was an end."""
    rows = ["| in iteration | looks | end within its range | outage | bytes | middle of the end off by |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    stages = {"1": (1, 1), "2": (2, 2), "3": (3, 3), "4 and 5": (4, 5), "6 to 10": (6, 10), "later": (11, 10**9)}
    for name, (first, last) in stages.items():
        held: list[bool] = []
        others: list[tuple[bool, bool]] = []
        off: list[float] = []
        for each in judged(runs):
            look = next((look for look in each.looks if first <= look.iteration <= last), None)
            if look is None:
                continue
            low, middle, high = (at_s if at_s <= each.limit_s else math.inf for at_s in look.ends_s)
            held.append(low <= each.ends_s <= high)
            if each.downtime_s is not None and each.ends_s < math.inf:
                within = look.downtime_s[0] <= each.downtime_s <= look.downtime_s[2]
                others.append((within, look.sent_bytes[0] <= each.sent_bytes <= look.sent_bytes[2]))
                if middle < math.inf:
                    off.append(abs(middle / each.ends_s - 1.0))
        if held:
            outage, sent = (_percent([each[place] for each in others]) for place in (0, 1))
            told = f"{median(off):.1%}" if off else ""
            rows.append(f"| {name} | {len(held)} | {_percent(held)} | {outage} | {sent} | {told} |")
    return rows


def _percent(held: Sequence[bool]) -> str:
    return f"{sum(held) / len(held):.0%}" if held else ""


def earliest(runs: Sequence[Run]) -> str:
    """When a right verdict was drawn that stood from then on."""
    possible = can_be_met(runs)
    hopeless = [each for each in judged(runs) if (each.case, each.seed) not in possible]
    iterations: list[float] = []
    times: list[float] = []
    for each in hopeless:
        looks = each.looks
        first = next((look for place, look in enumerate(looks) if all(later.stands for later in looks[place:])), None)
        if first is not None:
            iterations.append(first.iteration - 1)
            times.append(first.at_s / each.first_pass_s)
    if not iterations:
        return f"of {len(hopeless)} runs that nothing could save none had a verdict that stood to the end"
    return (
        f"{len(iterations)} of {len(hopeless)} runs that nothing could save had a verdict that stood to the end, "
        f"drawn after {median(iterations):.0f} iterations, {median(times):.1f} times the first pass (medians)"
    )


def main(argv: Sequence[str]) -> int:
    """Simulate, and print the tables.

    Returns:
        0; 1 where a case is not known, with its name.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks verdict", description=__doc__)
    parser.add_argument("--seeds", default=SEEDS, help=f"how many, or a range such as 21..40 (default {SEEDS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument("--case-set", default="league", help="cases (default: league)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single look there")
    options = parser.parse_args(argv)
    try:
        cases = named(options.case_set)
        seeds = parse_seeds(options.seeds)
    except BadInput as error:
        print(f"verdict: {error}", file=sys.stderr)
        return 1
    jobs = [(case, policy, seed) for case in cases for policy in POLICIES for seed in seeds]
    with ProcessPoolExecutor(options.jobs) as crew:
        runs = list(crew.map(run, *zip(*jobs, strict=True), chunksize=4))
    tables = (verdicts(runs), confidence(runs), promises(runs), ranges(runs), [earliest(runs)])
    print(f"{len(runs)} simulated migrations, of which {len(list(judged(runs)))} are judged\n")
    print("\n\n".join("\n".join(rows) for rows in tables))
    if options.json is not None:
        options.json.write_text(json.dumps([_plain(each) for each in runs]) + "\n")
    return 0


def _plain(done: Run) -> dict[str, Any]:
    told = {name: getattr(done, name) for name in Run.__slots__ if name != "looks"}
    return told | {"looks": [{name: getattr(look, name) for name in Look.__slots__} for look in done.looks]}
