"""What the model of today says of migrations that are on record: to find what is off. These are no predictions."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

import msgspec

from whimbrel.engine.belief import Belief, CurvePoint
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.plan import Candidate, Strategy
from whimbrel.engine.planning import assess
from whimbrel.policies import resolve

from .design import Case
from .records import Pair, foretold_of

WINDOWS_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def predicted(pair: Pair, *, exact: bool = False, draws: int = 200) -> Pair:
    """The same migration, predicted once more.

    Args:
        pair: as it is on record.
        exact: from the guest's true curve and its true zero pages, as its specification has them.
        draws: forecasts.
    """
    said = pair.said
    case = said.case
    belief = _true(said.belief, case) if exact else said.belief
    began_s = time.perf_counter()
    found = assess(
        belief,
        case.objectives,
        said.abilities,
        Candidate(policy=case.policy, strategy=Strategy.PLAIN),
        lambda: resolve(case.policy),
        draws,
    )
    foretold = foretold_of(found, time.perf_counter() - began_s)
    return Pair(msgspec.structs.replace(said, belief=belief, foretold=foretold), pair.came)


def _true(belief: Belief, case: Case) -> Belief:
    spec = case.guest.spec
    points = tuple(CurvePoint(window_s, spec.dirtied_bytes(window_s), 0.0) for window_s in WINDOWS_S)
    zero = max(0.0, belief.total_bytes - spec.size_bytes - OWN_BYTES)
    return replace(belief, points=points, zero_bytes=Estimate(zero, 0.0, "known"))


OWN_BYTES: Final = 2 << 20
"""What a guest and its machine hold besides its classes (program, firmware, video memory), about."""
