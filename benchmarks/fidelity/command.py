"""``python -m benchmarks fidelity``: see `benchmarks.fidelity.plan` for what is recorded.

``record`` measures constants and records the grid (root; a quarter of an hour), ``predict`` has the simulator foretell
what is on record from what was known before each migration, ``compare`` holds one against the other. With
``--hold-out`` the first two are about the cells of `benchmarks.fidelity.holdout`, and in the other order.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from whimbrel.engine.errors import WhimbrelError

from . import calibrate, compare, holdout, picture, predict, record
from .records import AGAIN, CALIBRATION, FOLDER, RUNS, load_calibration, load_runs


def main(words: list[str]) -> int:
    """Record, predict or compare.

    Returns:
        0; 1 where the bar is missed or nothing could be done; 130 if it was called off.
    """
    options = _parser().parse_args(words)
    try:
        match options.what:
            case "record":
                return _record(options)
            case "predict":
                return _predict(options)
            case _:
                return _compare(options)
    except KeyboardInterrupt:
        print("called off: what was recorded stays, the same command goes on from there", file=sys.stderr)
        return 130
    except WhimbrelError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks fidelity", description=__doc__)
    parser.add_argument("what", choices=("record", "predict", "compare"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the records are")
    parser.add_argument("--only", default="", metavar="TEXT", help="record cells whose name contains this")
    parser.add_argument("--again", action="store_true", help="record the grid a second time, beside the first")
    parser.add_argument("--hold-out", action="store_true", help="predict or record the six that no model has seen")
    parser.add_argument("--anew", action="store_true", help="record also what is on record, constants included")
    parser.add_argument("--json", type=Path, metavar="FILE", help="compare: write every pair of figures there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="compare: draw it (.png, .svg, .pdf)")
    return parser


def _record(options: argparse.Namespace) -> int:
    if options.hold_out:
        holdout.record(options.folder, only=options.only)
        return 0
    if options.anew or not (options.folder / CALIBRATION).exists():
        calibrate.calibrate(options.folder)
    record.record(options.folder, AGAIN if options.again else RUNS, only=options.only, anew=options.anew)
    return 0


def _predict(options: argparse.Namespace) -> int:
    if options.hold_out:
        frozen = holdout.freeze(load_calibration(options.folder), options.folder)
        print(f"{len(frozen.predictions)} predictions of {len(frozen.known)} migrations, by model {frozen.model[:16]}")
        return 0
    runs, calibration = load_runs(options.folder), load_calibration(options.folder)
    began_s = time.perf_counter()
    predictions = predict.predict_all([run.known for run in runs], calibration)
    predict.save(predictions, options.folder)
    spent_s = time.perf_counter() - began_s
    print(f"{len(predictions)} predictions of {len(runs)} migrations in {spent_s:.1f} s")
    return 0


def _compare(options: argparse.Namespace) -> int:
    runs = load_runs(options.folder)
    predictions = predict.load(options.folder)
    predict.check(predictions, [run.known for run in runs], load_calibration(options.folder))
    kinds = dict.fromkeys(prediction.by for prediction in predictions)
    comparisons = [compare.compare(runs, [p for p in predictions if p.by == kind]) for kind in kinds]
    held = comparisons[: len(predict.HELD)]
    again = [compare.itself(runs, load_runs(options.folder, AGAIN))] if (options.folder / AGAIN).exists() else []
    comparisons += [*again, *holdout.compared(options.folder)]
    print("\n\n".join(compare.as_text(comparison) for comparison in comparisons))
    if options.json is not None:
        options.json.write_text(json.dumps([compare.as_json(each) for each in comparisons], indent=1) + "\n")
    if options.picture is not None:
        picture.draw([*held, *again], options.picture)
    return 0 if all(comparison.met for comparison in held) else 1
