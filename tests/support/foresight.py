"""Predictions and outcomes of migrations that nobody made, for tests of `benchmarks.foresight`."""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.foresight.design import Case, cases
from benchmarks.foresight.records import Came, Pair, Said, foretold_of
from whimbrel.engine.belief import Belief, CurvePoint
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.plan import Candidate, Predicted, Strategy
from whimbrel.engine.policy import Abilities

MIB = 1 << 20
BELIEF = Belief(
    total_bytes=256 * MIB,
    zero_bytes=Estimate(56.0 * MIB, 0.02, "sampled"),
    points=(CurvePoint(0.1, 4.0 * MIB, 1e5), CurvePoint(1.0, 20.0 * MIB, 4e5), CurvePoint(3.2, 32.0 * MIB, 6e5)),
    bandwidth_bytes_per_s=Estimate(60e6, 0.01, "probed"),
    pipe_bytes=Estimate(5e5, 0.1, "probed"),
    fixed_s=Estimate(0.01, 0.3, "default"),
    preparation_s=Estimate(0.3, 0.3, "default"),
    vcpu_shares=(0.25,),
)
"""Of a guest that converges."""


def case(number: int = 1, stage: str = "judged", policy: str = "fixed:downtime_limit=150ms") -> Case:
    """A case; all of one number and stage are the same but for their policy."""
    return msgspec.structs.replace(cases("judged")[number - 1], stage=stage, policy=policy)


def predicted(policy: str = "fixed:downtime_limit=150ms", **more: Any) -> Predicted:
    """4 s, give or take one, 100 ms and 200 MB."""
    values: dict[str, Any] = {
        "candidate": Candidate(policy=policy, strategy=Strategy.PLAIN),
        "moves": 1.0,
        "meets": 0.9,
        "misses": {"downtime": 0.1, "deadline": 0.0, "never": 0.0},
        "total_s": Range(3.0, 4.0, 5.0),
        "downtime_s": Range(0.05, 0.1, 0.15),
        "transferred_bytes": Range(180e6, 200e6, 220e6),
        "iterations": Range(5.0, 6.0, 7.0),
        "lost_s": Range(0.1, 0.2, 0.3),
        "throttle": Range(0.0, 0.0, 0.0),
        "postcopy_s": Range(0.0, 0.0, 0.0),
        "components": {"iterations": Range(2.9, 3.9, 4.9), "last_ram": Range(0.04, 0.08, 0.12)},
        "draws": 200,
    }
    return Predicted(**(values | more))


def said(attempt: int = 1, stage: str = "judged", number: int = 1, **more: Any) -> Said:
    """A prediction; `more` is of `predicted`."""
    return Said(
        case=case(number, stage),
        attempt=attempt,
        written="2026-11-23T12:00:00.000+00:00",
        model="0" * 64,
        learnt_from=0,
        belief=BELIEF,
        abilities=Abilities(),
        foretold=foretold_of(predicted(**more)),
        survey_s=4.0,
    )


def came(of: Said, digest: str = "", **more: Any) -> Came:
    """What came of it: as predicted to the last digit, unless told otherwise."""
    values: dict[str, Any] = {
        "case": of.case.name,
        "attempt": of.attempt,
        "said": digest,
        "began": "2026-11-23T12:00:05.000+00:00",
        "moved": True,
        "met": True,
        "total_s": 4.0,
        "downtime_s": 0.1,
        "outage_s": 0.105,
        "transferred_bytes": 200e6,
        "iterations": 6,
        "throttle": 0.0,
        "lost_s": 0.2,
        "postcopy_s": 0.0,
        "components": {"iterations": 3.9, "last_ram": 0.08},
        "items": {"total": 0.1},
        "rows": ((3.3, 180e6, 20e6),),
        "others_cores": 0.1,
        "why": "moved",
    }
    return Came(**(values | more))


def pair(
    number: int = 1, meets: float = 0.9, moves: float = 1.0, misses: dict[str, float] | None = None, **more: Any
) -> Pair:
    """A prediction and what came; `more` is of `came`."""
    missed = misses if misses is not None else {"downtime": 0.0, "deadline": 1.0 - moves, "never": 1.0 - moves}
    of = said(number=number, meets=meets, moves=moves, misses=missed)
    return Pair(of, came(of, **more))


CALLED_OFF: dict[str, Any] = {
    "moved": False,
    "met": False,
    "downtime_s": None,
    "outage_s": None,
    "components": {},
    "items": {},
}
"""What came of one that did not converge."""
