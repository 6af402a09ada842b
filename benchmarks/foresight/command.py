"""``python -m benchmarks foresight``: does what is predicted before a migration come?

``plan`` shows the designs. ``learn`` makes the migrations that the model's constants are from, ``run`` those that are
predicted with them and judged (both as root; together 25 minutes), and ``try`` others that are judged likewise, for
whoever works on the model: he must not have seen the judged ones. All can be called off and gone on with. ``compare``
holds the predictions against what came; with ``--anew`` also what the model of today says of the same
measurements, and with ``--exact`` what it says of the guests' true curves: what the model is off by, and what the
measuring. Neither of these is a prediction.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path

from whimbrel.engine.errors import WhimbrelError

from . import compare, picture
from .design import JUDGED, LEARNT, TRIED, cases
from .records import FOLDER, Pair, Store

STAGES = {"learn": LEARNT, "try": TRIED, "run": JUDGED}


def main(words: list[str]) -> int:
    """Show the design, run it, or compare.

    Returns:
        0; 1 where a bar is missed or nothing could be done; 130 if it was called off.
    """
    options = _parser().parse_args(words)
    try:
        match options.what:
            case "plan":
                return _plan(options)
            case "compare":
                return _compare(options)
            case _:
                return _run(options)
    except KeyboardInterrupt:
        print("called off: what is on record stays, the same command goes on from there", file=sys.stderr)
        return 130
    except WhimbrelError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks foresight", description=__doc__)
    parser.add_argument("what", choices=("plan", *STAGES, "compare"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the records are and the logs go")
    parser.add_argument("--quick", action="store_true", help="a few cases only")
    parser.add_argument("--loud", action="store_true", help="neither wait for a quiet machine nor do a case again")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")
    text = f"compare: which ones (default {JUDGED})"
    parser.add_argument("--stage", choices=tuple(STAGES.values()), default=JUDGED, help=text)
    parser.add_argument(
        "--anew", action="store_true", help="compare: also the model of today, from the same measurements"
    )
    parser.add_argument("--exact", action="store_true", help="compare: also the model of today, from the true curves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="compare: write every pair of figures there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="compare: draw it (.png, .svg, .pdf)")
    return parser


def _plan(options: argparse.Namespace) -> int:
    for stage in STAGES.values():
        for case in cases(stage, quick=options.quick):
            wanted = case.objectives
            print(
                f"{case.name:<10} {case.link_mbit:>5} Mbit/s {case.ratio:>6.3f} {case.pattern:<12} "
                f"{case.guest.spec.size_bytes >> 20:>4} of {(case.ram_bytes >> 20) + 1} MiB  "
                f"{wanted.downtime_s * 1e3:>4.0f} ms within {wanted.deadline_s:>5g} s  {case.policy}"
            )
    return 0


def _run(options: argparse.Namespace) -> int:
    from . import conduct  # which starts QEMUs: nothing else here does

    wanted = [case for case in cases(STAGES[options.what], quick=options.quick) if options.only in case.name]
    say = functools.partial(print, flush=True)
    with conduct.Bench() as bench:
        patience_s, repeats = (0.0, 0) if options.loud else (conduct.PATIENCE_S, conduct.GREATEST_REPEATS)
        make = conduct.make_on(bench, patience_s=patience_s, say=say)
        conduct.run(options.folder, wanted, make, repeats=repeats, say=say)
    return 0


def _compare(options: argparse.Namespace) -> int:
    stage = options.stage
    pairs = [pair for pair in Store(options.folder).pairs(stage) if options.only in pair.said.case.name]
    if not pairs:
        print(f"nothing of {stage} is on record in {options.folder}", file=sys.stderr)
        return 1
    found = {"as predicted": compare.compare(pairs)} | _again(options, pairs)
    for name, comparison in found.items():
        print(f"{name}:\n{compare.as_text(comparison)}\n")
    first = found["as predicted"]
    for key in (_policy, _pattern, _link, _ratio):
        print(compare.groups_as_text(first, key) + "\n")
    models = {pair.said.model for pair in pairs}
    print(f"by {len(models)} model{'s' if len(models) > 1 else ''}: {', '.join(sorted(each[:12] for each in models))}")
    if options.json is not None:
        text = json.dumps({name: compare.as_json(each) for name, each in found.items()}, indent=1)
        options.json.write_text(text + "\n")
    if options.picture is not None:
        picture.draw(first, options.picture)
    return 0 if first.met else 1


def _again(options: argparse.Namespace, pairs: list[Pair]) -> dict[str, compare.Comparison]:
    if not (options.anew or options.exact):
        return {}
    from . import again  # which forecasts: seconds

    found: dict[str, compare.Comparison] = {}
    if options.anew:
        found["the model of today, after the fact"] = compare.compare(again.predicted(pair) for pair in pairs)
    if options.exact:
        found["the same from the true curves"] = compare.compare(again.predicted(pair, exact=True) for pair in pairs)
    return found


def _policy(pair: Pair) -> str:
    return pair.said.case.policy_name


def _pattern(pair: Pair) -> str:
    return pair.said.case.pattern


def _link(pair: Pair) -> str:
    return f"{pair.said.case.link_mbit:>4} Mbit/s"


def _ratio(pair: Pair) -> str:
    ratio = pair.said.case.ratio
    return "ratio below 0.5" if ratio < 0.5 else "ratio 0.5 to 1" if ratio < 1 else "ratio above 1"
