"""``python -m benchmarks``: measure whimbrel against a bare script, on real QEMUs on this machine.

``python -m benchmarks campaign`` measures nothing but kills, freezes and cuts instead: see `benchmarks.campaign`.
``python -m benchmarks fidelity`` holds the simulator against recorded migrations: see `benchmarks.fidelity`.
``python -m benchmarks league`` compares all policies with each other: see `benchmarks.league`.
``python -m benchmarks verdict`` holds live forecasts against what came of it: see `benchmarks.verdict`.
``python -m benchmarks foresight`` predicts migrations and then makes them: see `benchmarks.foresight`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from whimbrel.laboratory.stage import QEMU

from . import cpu, fastpath, fullpath, gap, measuring, outage, overhead, pages, step, sweep, throttle
from .bars import Bar, Result, as_text
from .pairs import Manner, Pairs

Measured = tuple[list[Result], dict[str, Pairs]]
MEASURES: dict[str, Callable[[Manner], Measured]] = {
    "overhead": overhead.measure,
    "gap": gap.measure,
    "outage": outage.measure,
    "step": step.measure,
    "throttle": throttle.measure,
    "pages": pages.measure,
    "measuring": measuring.measure,
    "fastpath": fastpath.measure,
    "fullpath": fullpath.measure,
    "sweep": sweep.measure,
}
RUNS = 10
QUICK_RUNS = 3
PATIENCE_S = 60.0
SWITCH_INTERVAL_S = 0.0005
"""A thread that stamps heartbeats waits at most so long for one that computes (Python's default is 5 ms)."""


def main(argv: list[str] | None = None) -> int:
    """Measure, print the tables, and say for each bar whether it is met.

    Returns:
        0, also where a bar is missed: what is measured is no failure of the program. 130 if it was called off.
        Of the campaign, of fidelity and of foresight: what they say.
    """
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["campaign"]:
        from .campaign import command  # which needs the tests' helpers: nothing else here does

        _end_tidily()
        return command.main(words[1:])
    if words[:1] == ["fidelity"]:
        from .fidelity import command as fidelity  # which needs the simulator

        _end_tidily()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        return fidelity.main(words[1:])
    if words[:1] == ["league"]:
        from . import league  # which needs the simulator, too

        _end_tidily()
        return league.main(words[1:])
    if words[:1] == ["foresight"]:
        from .foresight import command as foresight  # which needs what plans are made with

        _end_tidily()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        return foresight.main(words[1:])
    if words[:1] == ["verdict"]:
        from . import verdict  # the same

        _end_tidily()
        return verdict.main(words[1:])
    options = _parser().parse_args(words)
    _end_tidily()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    runs = options.runs or (QUICK_RUNS if options.quick else RUNS)
    patience_s = 0.0 if options.quick else options.patience
    manner = Manner(runs=runs, patience_s=patience_s, lock=options.lock, say=lambda text: print(text, flush=True))
    before = os.getloadavg()
    try:
        results, measured = _measure(options.what, manner)
    except KeyboardInterrupt:
        print("called off: what was started has been ended", file=sys.stderr)
        return 130
    about = _about(runs, before)
    print("\n" + as_text(results))
    print(f"{about['qemu']}; {about['cpu']}, {about['cores']} cores; Linux {about['kernel']}; {runs} pairs; "
          f"load {before[0]:.1f} before, {os.getloadavg()[0]:.1f} after\n")  # fmt: skip
    for bar in (bar for result in results for bar in result.bars):
        print(_sentence(bar))
    if options.json is not None:
        options.json.write_text(json.dumps(_as_json(about, results, measured), indent=1) + "\n")
    return 0


def _end_tidily() -> None:
    """Have SIGTERM, and SIGINT in a background job too, end it as ctrl-C does: no QEMU and no namespace stays."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=(*MEASURES, "cpu", "all"), default="all", help="what to measure")
    parser.add_argument("--runs", type=_positive, help=f"pairs of moves for each figure (default {RUNS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} pairs, and no waiting for a quiet machine")
    text = f"seconds to wait for a quiet machine before each pair (default {PATIENCE_S:g})"
    parser.add_argument("--patience", type=float, default=PATIENCE_S, metavar="S", help=text)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold a lock on this file during each pair")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _measure(what: str, manner: Manner) -> Measured:
    """One of the measures or all; CPU comes out of every move, so it alone is asked of the short and the long ones."""
    names = {"all": list(MEASURES), "cpu": ["overhead", "outage"]}.get(what, [what])
    results: list[Result] = []
    measured: dict[str, Pairs] = {}
    for name in names:
        manner.say(f"{name}:")
        found, pairs = MEASURES[name](manner)
        measured |= pairs
        results += found if what != "cpu" else []
    against_bare = {name: pairs for name, pairs in measured.items() if name not in throttle.POLICIES}
    return results + (cpu.judge(against_bare) if what in ("cpu", "all") else []), measured


def _sentence(bar: Bar) -> str:
    return f"{'MET   ' if bar.met else 'MISSED'} {bar.name}: {bar.ask} ({bar.verdict()})"


def _about(runs: int, load_before: tuple[float, float, float]) -> dict[str, Any]:
    """What the figures hold for."""
    version = subprocess.run((QEMU, "--version"), capture_output=True, text=True, check=False).stdout.split("\n")[0]
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "qemu": version,
        "accelerator": "tcg",
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "runs": runs,
        "load_before": load_before,
        "load_after": os.getloadavg(),
    }


def _as_json(about: dict[str, Any], results: list[Result], measured: dict[str, Pairs]) -> dict[str, Any]:
    bars = [asdict(bar) | {"met": bar.met, "verdict": bar.verdict()} for result in results for bar in result.bars]
    return {
        "about": about,
        "bars": bars,
        "rows": [asdict(row) for result in results for row in result.rows],
        "notes": [note for result in results for note in result.notes],
        "moves": {
            name: {
                "bare": [asdict(move) for move in pairs.bare],
                "whimbrel": [asdict(move) for move in pairs.ours],
                "repeated": pairs.repeated,
            }
            for name, pairs in measured.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
