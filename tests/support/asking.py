"""Observations made by hand, to ask a policy for a decision."""

from __future__ import annotations

from typing import Any

from whimbrel.engine.policy import Abilities, Objectives, Observation, Reason
from whimbrel.engine.statistics import Iteration

GIB = 1 << 30
ALL_ALLOWED = Objectives(downtime_s=10.0, greatest_throttle=0.99, may_abort=True, may_pause=True, may_postcopy=True)
"""Objectives that no policy meets the end of."""
ABLE = Abilities(capabilities=frozenset({"auto-converge", "dirty-limit", "multifd", "postcopy-ram", "xbzrle"}))
"""What a pair of the newest QEMUs can do."""


def asked(reason: Reason, elapsed_s: float = 0.0, **what: Any) -> Observation:
    """An observation of a guest of 2 GiB whose user allows everything, but for what is said."""
    given: dict[str, Any] = {"objectives": ALL_ALLOWED, "abilities": ABLE, "total_bytes": 2 * GIB, "iteration": 1}
    return Observation(reason=reason, elapsed_s=elapsed_s, **(given | what))


def setup(**what: Any) -> Observation:
    """Before the start."""
    return asked(Reason.SETUP, **({"iteration": 0, "total_bytes": 0} | what))


def tick(elapsed_s: float, **what: Any) -> Observation:
    """The time that the policy asked for has passed."""
    return asked(Reason.TICK, elapsed_s, **what)


def boundary(elapsed_s: float, **what: Any) -> Observation:
    """An iteration has begun."""
    return asked(Reason.ITERATION, elapsed_s, **what)


def ended(number: int, began_s: float, ended_s: float, **what: int) -> Iteration:
    """An iteration that has ended."""
    given = {"remaining_at_start_bytes": 0, "remaining_at_end_bytes": 0, "sent_bytes": 0, "dirtied_bytes": 0} | what
    return Iteration(number=number, started_ns=round(began_s * 1e9), ended_ns=round(ended_s * 1e9), **given)
