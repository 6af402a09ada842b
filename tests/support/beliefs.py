"""A guest of which a plan is made, with everything known of it: what the tests of a plan share."""

from __future__ import annotations

import math
from typing import Any

from whimbrel.engine.belief import Belief, CurvePoint
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.plan import Candidate, Floors, Predicted, Strategy
from whimbrel.engine.policy import Abilities

MIB = 1 << 20
WINDOWS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
ABLE = Abilities(capabilities=frozenset({"auto-converge", "postcopy-ram", "xbzrle", "multifd"}))


def uniform_bytes(window_s: float, working_set: float = 64 * MIB, time_s: float = 0.6) -> float:
    """What pages that are written at random dirty in a window."""
    return working_set * -math.expm1(-window_s / time_s)


def points(working_set: float = 64 * MIB, time_s: float = 0.6, error: float = 0.03) -> tuple[CurvePoint, ...]:
    """Of such a guest, as measured."""
    dirtied = [(window_s, uniform_bytes(window_s, working_set, time_s)) for window_s in WINDOWS_S]
    return tuple(CurvePoint(window_s, each, error * each) for window_s, each in dirtied)


def belief(**change: Any) -> Belief:
    """512 MiB, of which 300 are not zero, over 1 Gbit/s."""
    known: dict[str, Any] = {
        "total_bytes": 512 * MIB,
        "zero_bytes": Estimate(212 * MIB, 0.02),
        "points": points(),
        "bandwidth_bytes_per_s": Estimate(114 * MIB, 0.02),
        "pipe_bytes": Estimate(500_000, 0.2),
        "fixed_s": Estimate(0.012, 0.2),
        "preparation_s": Estimate(0.4, 0.2),
        "vcpu_shares": (0.9,),
    }
    return Belief(**(known | change))


def predicted(
    strategy: Strategy = Strategy.PLAIN, meets: float = 1.0, takes_s: float = 7.0, loses_s: float = 0.3, **change: Any
) -> Predicted:
    """Of a candidate that moves the guest."""
    known: dict[str, Any] = {
        "candidate": Candidate(policy="predictive:xbzrle=true", strategy=strategy),
        "moves": 1.0,
        "meets": meets,
        "misses": {"downtime": 1 - meets, "deadline": 0.0, "never": 0.0},
        "total_s": about(takes_s),
        "downtime_s": about(0.24),
        "lost_s": about(loses_s),
        "throttle": about(0.0),
        "postcopy_s": about(0.0),
        "draws": 200,
    }
    return Predicted(**(known | change))


def excluded(strategy: Strategy = Strategy.POSTCOPY) -> Predicted:
    """A candidate that can't be taken."""
    return Predicted(candidate=Candidate(policy="predictive", strategy=strategy), excluded="nobody allows it")


def about(value: float) -> Range:
    """A tenth of it either way."""
    return Range(0.9 * value, value, 1.1 * value)


def floors(**change: Any) -> Floors:
    """Of a guest whose pages pre-copy can send."""
    known: dict[str, Any] = {
        "first_pass_s": 2.6,
        "floor_s": about(0.02),
        "plateau_s": about(0.1),
        "least_bandwidth_bytes_per_s": about(60 * MIB),
        "least_throttle": about(0.0),
    }
    return Floors(**(known | change))
