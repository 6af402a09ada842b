"""``python -m whimbrel.sim``: simulated migrations with faults, many seeds of them, each run twice.

Exit codes: 0 nothing was found; 1 an invariant is broken; 2 wrong arguments; 3 a seed went differently the second
time; 4 a broken build was not found out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

from . import canaries, trial
from .canaries import Canary
from .trial import Found, Trial

CLEAN, BROKEN, ARGUMENTS, UNSTEADY, UNCAUGHT = range(5)
EXAMPLES = """\
examples:
  python -m whimbrel.sim 4711                         one seed: what was drawn, every line of its log, the verdict
  python -m whimbrel.sim 0..1000000 --seconds 90      as many seeds of these as there is time for
  python -m whimbrel.sim 0..20000 --jobs 2 --json     all of these, on two cores, for a program
  python -m whimbrel.sim --canary all                 broken builds: each has to be found out
"""
CLEAR_LINE = "\r\x1b[K"
CHUNK = 8
"""Seeds that a worker takes at a time."""
MOST_SHOWN = 20
CANARY_SEEDS = 400
"""A broken build has to be found out within so many."""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m whimbrel.sim",
        description="Runs the real protocol in virtual time against simulated QEMUs, with faults drawn from seeds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("seeds", nargs="?", metavar="SEED|A..B", help="one seed, or all from A up to, not with, B")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many processes (1)")
    parser.add_argument("--canary", metavar="NAME", help="a broken build, or all of them; it has to be found out")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def main(argv: Sequence[str] | None = None, output: TextIO | None = None) -> int:
    """Run the command line; the exit code.

    Args:
        argv: the arguments, without the program's name.
        output: where to write; standard output if not given.
    """
    try:
        return _main(argv, sys.stdout if output is None else output)
    except BrokenPipeError:  # whoever read it has seen enough
        sys.stdout = None  # nothing is to be flushed into it at the end
        return CLEAN


def _main(argv: Sequence[str] | None, out: TextIO) -> int:
    parser = arguments()
    given = parser.parse_args(argv)
    if given.jobs < 1 or (given.seconds is not None and given.seconds <= 0):
        parser.error("--jobs is 1 or more, --seconds more than 0")
    if given.canary is not None:
        if given.canary != "all" and given.canary not in canaries.BY_NAME:
            parser.error(f"--canary is all, or one of {', '.join(canaries.BY_NAME)}")
        chosen = canaries.CANARIES if given.canary == "all" else (canaries.BY_NAME[given.canary],)
        return hunt(chosen, _range(given.seeds or f"0..{CANARY_SEEDS}", parser), out, as_json=given.json)
    if given.seeds is None:
        parser.error("a seed, or a range of them, is missing")
    seeds = _range(given.seeds, parser)
    if ".." not in given.seeds:
        return show(seeds.start, out, as_json=given.json)
    return swarm(seeds, given.seconds or float("inf"), given.jobs, out, as_json=given.json)


def _range(text: str, parser: argparse.ArgumentParser) -> range:
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last) if dots else int(first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds.start < 0:
        parser.error(f"{text!r} is no seed and no range of seeds (A..B with 0 <= A < B)")
    return seeds


# ---- one seed


def show(seed: int, out: TextIO, *, as_json: bool) -> int:
    """Run one seed and tell everything about it; the exit code."""
    drawn = Trial.drawn(seed)
    if not as_json:
        for name, what in drawn.described().items():
            print(f"{name} = {json.dumps(what)}", file=out)
        out.flush()  # whatever becomes of the run, it can be had again
    told: list[str] = []
    found = trial.run(drawn, tell=told.append)
    again = trial.run(Trial.drawn(seed))
    if as_json:
        json.dump({"drawn": drawn.described(), "found": as_record(found), "steady": found.digest == again.digest}, out)
        out.write("\n")
        return _code([found], steady=found.digest == again.digest)
    for at_s, line in sorted(_timeline(found.log, told), key=lambda each: each[0]):
        print(f"{at_s:12.6f} {line}", file=out)
    print(f"{found.end}; {found.virtual_s:.3f} s of virtual time, {found.digest}", file=out)
    for broken in found.broken:
        print(f"BROKEN {broken}", file=out)
    if found.digest != again.digest:
        print("NOT STEADY: the second time its log was another one", file=out)
    return _code([found], steady=found.digest == again.digest)


def _timeline(log: Sequence[str], told: Sequence[str]) -> Iterator[tuple[float, str]]:
    began_s = None
    for text in log:
        line = json.loads(text)
        began_s = line["wall_s"] if began_s is None else began_s
        rest = {name: value for name, value in line.items() if name not in ("n", "t_ns", "wall_s", "kind")}
        yield line["wall_s"] - began_s, f"{line['kind']:<11} {json.dumps(rest)}"
    for sentence in told:
        at_s, _, text = sentence.partition(" ")
        yield float(at_s), f"*** {text}"


# ---- many


@dataclass(slots=True)
class Tally:
    """What a swarm has found so far."""

    seeds: int = 0
    virtual_s: float = 0.0
    ends: Counter[str] = field(default_factory=Counter[str])
    struck: Counter[str] = field(default_factory=Counter[str])
    broken: list[Found] = field(default_factory=list[Found])
    unsteady: list[int] = field(default_factory=list[int])

    def take(self, found: Found, again: str) -> None:
        """Take in what one seed gave, and the digest of its second run."""
        self.seeds += 1
        self.virtual_s += found.virtual_s
        self.ends[found.end] += 1
        self.struck.update(found.struck)
        if found.broken:
            self.broken.append(found)
        if found.digest != again:
            self.unsteady.append(found.seed)

    @property
    def code(self) -> int:
        """The exit code."""
        return _code(self.broken, steady=not self.unsteady)


def _code(found: Sequence[Found], *, steady: bool) -> int:
    if any(each.broken for each in found):
        return BROKEN
    return CLEAN if steady else UNSTEADY


def twice(seed: int) -> tuple[Found, str]:
    """Run a seed two times; what was found, and the digest of the second run."""
    found = trial.run(Trial.drawn(seed))
    return replace(found, log=()), trial.run(Trial.drawn(seed)).digest


def _chunk(seeds: range) -> list[tuple[Found, str]]:
    return [twice(seed) for seed in seeds]


def swarm(seeds: range, seconds: float, jobs: int, out: TextIO, *, as_json: bool) -> int:
    """Run many seeds and tell what was found; the exit code."""
    began_s = time.monotonic()
    tally, live = Tally(), out.isatty() and not as_json
    if not as_json:
        print(f"seeds {seeds.start}..{seeds.stop}, each twice, on {jobs} processes", file=out)
    for found, again in _run(seeds, jobs, began_s + seconds):
        tally.take(found, again)
        if live and tally.seeds % CHUNK == 0:
            rate = tally.seeds / (time.monotonic() - began_s)
            out.write(f"{CLEAR_LINE}{tally.seeds} seeds, {rate:.0f} a second, {len(tally.broken)} broken")
            out.flush()
    spent_s = time.monotonic() - began_s
    if as_json:
        json.dump(_as_records(tally, spent_s), out, indent=2)
        out.write("\n")
    else:
        out.write(CLEAR_LINE if live else "")
        print_tally(tally, spent_s, out)
    return tally.code


def _run(seeds: range, jobs: int, until_s: float) -> Iterator[tuple[Found, str]]:
    chunks = (seeds[first : first + CHUNK] for first in range(0, len(seeds), CHUNK))
    if jobs == 1:
        for seed in seeds:
            if time.monotonic() >= until_s:
                return
            yield twice(seed)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        # Only so much is asked for as is under way: what is drawn ahead would have to be waited for.
        waiting = [pool.apply_async(_chunk, (chunk,)) for chunk, _ in zip(chunks, range(2 * jobs), strict=False)]
        while waiting:
            yield from waiting.pop(0).get()
            if time.monotonic() < until_s and (chunk := next(chunks, None)) is not None:
                waiting.append(pool.apply_async(_chunk, (chunk,)))


def print_tally(tally: Tally, spent_s: float, out: TextIO) -> None:
    """What a swarm has found, for people."""
    for end, count in sorted(tally.ends.items(), key=lambda each: (-each[1], each[0])):
        print(f"  {count:>8} {end}", file=out)
    struck = ", ".join(f"{kind} {count}" for kind, count in sorted(tally.struck.items()))
    print(f"what was set off: {struck or 'nothing'}", file=out)
    for found in tally.broken[:MOST_SHOWN]:
        for broken in found.broken:
            print(f"BROKEN seed {found.seed}: {broken}", file=out)
    if len(tally.broken) > MOST_SHOWN:
        print(f"... and {len(tally.broken) - MOST_SHOWN} more seeds", file=out)
    for seed in tally.unsteady[:MOST_SHOWN]:
        print(f"NOT STEADY seed {seed}: the second time its log was another one", file=out)
    rate = tally.seeds / spent_s if spent_s else 0.0
    print(
        f"{tally.seeds} seeds, each twice, {tally.virtual_s:.0f} s of virtual time, in {spent_s:.1f} s "
        f"({rate:.1f} seeds a second)",
        file=out,
    )
    print("an invariant is broken" if tally.broken else "every invariant holds", file=out)


def as_record(found: Found) -> dict[str, Any]:
    """What was found, for programs."""
    return {
        "seed": found.seed,
        "end": found.end,
        "digest": found.digest,
        "struck": list(found.struck),
        "virtual_s": found.virtual_s,
        "broken": [{"breach": each.breach.name, "at_s": each.at_s, "how": each.how} for each in found.broken],
    }


def _as_records(tally: Tally, spent_s: float) -> dict[str, Any]:
    return {
        "seeds": tally.seeds,
        "seconds": spent_s,
        "virtual_s": tally.virtual_s,
        "ends": dict(sorted(tally.ends.items())),
        "struck": dict(sorted(tally.struck.items())),
        "broken": [as_record(found) for found in tally.broken],
        "unsteady": tally.unsteady,
    }


# ---- broken builds


def hunt(chosen: Sequence[Canary], seeds: range, out: TextIO, *, as_json: bool) -> int:
    """Run each broken build until it is found out; the exit code."""
    caught: dict[str, int | None] = {}
    for canary in chosen:
        hit = seek(canary, seeds)
        caught[canary.name] = None if hit is None else hit.seed
        if not as_json:
            words = f"caught by seed {hit.seed}: {_first(canary, hit)}" if hit else f"NOT CAUGHT in {len(seeds)} seeds"
            print(f"{canary.name} ({canary.mistake}): {words}", file=out)
    if as_json:
        json.dump({"caught": caught}, out, indent=2)
        out.write("\n")
    return UNCAUGHT if None in caught.values() else CLEAN


def seek(canary: Canary, seeds: range) -> Found | None:
    """The first seed that finds a broken build out; ``None``: none of them."""
    with canary.in_place() as make_driver:
        for seed in seeds:
            found = trial.run(canary.provoked(Trial.drawn(seed)), make_driver=make_driver)
            if any(each.breach in canary.breaks for each in found.broken):
                return found
    return None


def _first(canary: Canary, found: Found) -> str:
    return str(next(each for each in found.broken if each.breach in canary.breaks))
