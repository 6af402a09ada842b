"""``python -m whimbrel.sim.explorer``: "one owner, whatever dies", tried out in every world there is.

Exit codes: 0 nothing was found; 1 an invariant is broken, and the way there was printed; 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TextIO

from .exploration import Exploration, Found, explore
from .protocol import Protocol
from .scenarios import BY_NAME, SCENARIOS, Fault, Scenario

EXAMPLES = """\
examples:
  python -m whimbrel.sim.explorer                        every scenario, up to two faults: half an hour
  python -m whimbrel.sim.explorer --faults 1             the same with one: half a minute
  python -m whimbrel.sim.explorer --scenario postcopy    one of them
  python -m whimbrel.sim.explorer --by-fault             how a migration ends after each single fault
  python -m whimbrel.sim.explorer --seconds 60 --json    what can be seen in a minute, for a program
"""
CLEAR_LINE = "\r\x1b[K"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m whimbrel.sim.explorer",
        description="Runs the real protocol against modelled QEMUs through every interleaving of faults up to a bound.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--faults", type=int, default=2, metavar="N", help="at most N faults in one course (2; no scenario has more)"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds for each scenario")
    parser.add_argument("--scenario", action="append", choices=sorted(BY_NAME), metavar="NAME", help="only this one")
    parser.add_argument("--by-fault", action="store_true", help="one fault of each kind: how does it end?")
    parser.add_argument("--list", action="store_true", help="name the scenarios, and end")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def main(argv: Sequence[str] | None = None, output: TextIO | None = None) -> int:
    """Run the command line; the exit code.

    Args:
        argv: the arguments, without the program's name.
        output: where to write; standard output if not given.
    """
    out: TextIO = sys.stdout if output is None else output
    parser = arguments()
    given = parser.parse_args(argv)
    if given.faults < 0 or (given.seconds is not None and given.seconds <= 0):
        parser.error("--faults is 0 or more, --seconds more than 0")
    chosen = [BY_NAME[name] for name in given.scenario] if given.scenario else list(SCENARIOS)
    if given.list:
        for scenario in chosen:
            print(f"{scenario.name:<14} {scenario.about}", file=out)
        return 0
    if given.by_fault:
        return show_by_fault(chosen, out, as_json=given.json)
    return show(chosen, given.faults, given.seconds or float("inf"), out, as_json=given.json)


def show(chosen: Sequence[Scenario], faults: int, seconds: float, out: TextIO, *, as_json: bool) -> int:
    """Explore, and print what was found; the exit code."""
    every: list[Found] = []
    live = out.isatty() and not as_json
    for scenario in chosen:

        def tell(found: Found) -> None:
            if live:
                out.write(f"{CLEAR_LINE}{found.scenario}: {found.states} states, {found.transitions} transitions")
                out.flush()

        found = explore(scenario, faults=min(faults, scenario.bound), seconds=seconds, progress=tell)
        every.append(found)
        if not as_json:
            out.write(CLEAR_LINE if live else "")
            print_found(found, out)
    broken = any(found.broken for found in every)
    if as_json:
        json.dump({"broken": broken, "scenarios": [as_record(found) for found in every]}, out, indent=2)
        out.write("\n")
    else:
        states, transitions = sum(f.states for f in every), sum(f.transitions for f in every)
        spent = sum(f.seconds for f in every)
        print(f"{states} states, {transitions} transitions, at most {faults} faults, {spent:.1f} s", file=out)
        print("an invariant is broken" if broken else "every invariant holds", file=out)
    return 1 if broken else 0


def print_found(found: Found, out: TextIO) -> None:
    """One scenario for people."""
    whole = f"the longest course has {found.longest} steps" if found.whole else "NOT the whole space: time was up"
    head = f"{found.scenario}: {found.states} states, {found.transitions} transitions, at most {found.faults} faults"
    print(f"{head}, {found.seconds:.1f} s; {whole}", file=out)
    for end, count in sorted(found.ends.items()):
        words = f"{end.phase}, owner {end.owner}, guest {end.guest}"
        print(f"    after {end.faults} faults: {words:<50} {count:>7}", file=out)
    for wrong in found.broken:
        print(f"  BROKEN {wrong.breach.value}: {wrong.why}", file=out)
        for line in wrong.trace:
            print(f"      {line}", file=out)


def as_record(found: Found) -> dict[str, object]:
    """One scenario for programs; keys as the attributes of `Found`."""
    record: dict[str, object] = asdict(replace(found, ends=type(found.ends)()))
    record["ends"] = [asdict(end) | {"worlds": count} for end, count in sorted(found.ends.items())]
    record["broken"] = [asdict(wrong) | {"breach": wrong.breach.name} for wrong in found.broken]
    return record


def by_fault(scenario: Scenario) -> dict[Fault, Found]:
    """One fault of each kind alone, with nobody calling it off: what it can lead to."""
    protocol = Protocol()
    return {
        fault: Exploration(replace(scenario, faults=frozenset({fault}), wishes=0), protocol, 1).run()
        for fault in Fault
        if fault in scenario.faults
    }


def show_by_fault(chosen: Sequence[Scenario], out: TextIO, *, as_json: bool) -> int:
    """Print the table of single faults; the exit code."""
    tables = {scenario.name: by_fault(scenario) for scenario in chosen}
    if as_json:
        record = {name: {fault.value: as_record(found) for fault, found in t.items()} for name, t in tables.items()}
        json.dump(record, out, indent=2)
        out.write("\n")
    else:
        for name, table in tables.items():
            print(f"| {name}: one fault | ends |\n|---|---|", file=out)
            for fault, found in table.items():
                ends = sorted({f"{e.phase}/{e.owner}/{e.guest}" for e in found.ends if e.faults == 1})
                print(f"| {fault.value} | {', '.join(ends)} |", file=out)
    return 1 if any(found.broken for table in tables.values() for found in table.values()) else 0
