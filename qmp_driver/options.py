"""What a migration can be told, besides where from and where to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import LeastDowntime
from whimbrel.engine.policy import Objectives, Policy
from whimbrel.engine.prediction import Prediction
from whimbrel.engine.protocol import DEFAULT_WAITS, SECOND_NS, Waits

from .hooks import Hooks
from .locks import LockProvider

NO_HOOKS = Hooks()

ALL_ADDRESSES = frozenset({"0.0.0.0", "::", "[::]", "*", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a migration is to be done. Immutable; serves any number of migrations, unless its policy has a state.

    Raises:
        BadInput: a value that cannot be used, by name.
    """

    objectives: Objectives = field(default_factory=Objectives)
    policy: Policy | None = None
    """``None``: `LeastDowntime`. An object with state serves one migration only."""
    policy_name: str = ""
    """For the log; empty: what the policy itself is called."""
    shadows: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    """Policies that only watch, by name: what they would have done goes into the log (`whimbrel.engine.shadows`)."""
    prediction: Prediction | None = None
    """What a plan says of it: the report holds it against what comes of it. ``None``: it is predicted once the first
    iteration has ended."""
    log_path: Path | None = None
    """``None``: a new file in the user's state folder."""
    host: str = "127.0.0.1"
    """The address at which the destination listens and that the source connects to."""
    port: int = 0
    """0: the kernel chooses."""
    own_stream: bool = True
    """Make the migration's connection ourselves where that is possible, and hand it to the source: shorter outages
    (see `whimbrel.qmp_driver.stream`)."""
    keep_source: bool = False
    """Leave the source process (stopped, its copy of the guest out of date) after a success."""
    accept_memory_loss: bool = False
    """Migrate even where this QEMU is known to lose guest writes."""
    disks_shared: bool = False
    """The caller vouches that both ends see the same disks."""
    guardian: bool = False
    """Start a small process that settles the migration should this one die (see `whimbrel.guardian`)."""
    hooks: Hooks = NO_HOOKS
    """Coroutine functions of the caller's that are asked on the way (see docs/hooks.md)."""
    locks: LockProvider | None = None
    """The guest's lock, which goes over with it; ``None``: there is none."""
    lock_within_s: float = 5.0
    """How long one operation on the lock may take; handing it over is downtime."""
    waits: Waits = DEFAULT_WAITS
    stall_s: float = 30.0
    """Nothing sent for so long ends the migration."""
    reconnect_s: float = 10.0
    """How long a lost monitor is tried again before it counts as out of reach."""

    def __post_init__(self) -> None:
        goal = self.objectives
        if not 0.001 <= goal.downtime_s <= 2000:
            raise BadInput("downtime", f"{goal.downtime_s:g} s", "1 ms to 2000 s")
        if goal.deadline_s is not None and not 0 < goal.deadline_s < math.inf:
            raise BadInput("deadline", f"{goal.deadline_s:g} s", "more than 0 s")
        if goal.bandwidth_bytes_per_s is not None and goal.bandwidth_bytes_per_s < 1:
            raise BadInput("bandwidth", goal.bandwidth_bytes_per_s, "at least 1 byte per second")
        if not 0 <= goal.greatest_throttle <= 0.99:
            raise BadInput("throttle", goal.greatest_throttle, "0 to 0.99")
        if not 0 <= self.port <= 65535:
            raise BadInput("port", self.port, "0 (any) to 65535")
        if self.host in ALL_ADDRESSES:
            raise BadInput("host", self.host, "one address of the destination's host, not all of them")
        if not 0 < self.stall_s < math.inf:
            raise BadInput("stall", f"{self.stall_s:g} s", "more than 0 s")
        if not 0 <= self.reconnect_s < math.inf:
            raise BadInput("reconnect", f"{self.reconnect_s:g} s", "0 s or more")
        if not 0 < self.lock_within_s < math.inf:
            raise BadInput("lock_within_s", self.lock_within_s, "more than 0 s")
        self._check_last_step()

    def _check_last_step(self) -> None:
        """The last veto and the lock have to be answered for before the machine stops waiting for them."""
        asked_s = self.hooks.before_resume_within_s if self.hooks.before_resume is not None else 0.0
        locked_s = self.lock_within_s if self.locks is not None else 0.0
        wait_s = self.waits.activating_ns / SECOND_NS
        if (asked_s or locked_s) and asked_s + locked_s >= wait_s:
            field = "before_resume_within_s" if asked_s else "lock_within_s"
            allowed = f"together with the lock's time less than the wait for the resumption, {wait_s:g} s"
            raise BadInput(field, f"{asked_s + locked_s:g} s", allowed)

    @property
    def stall_ns(self) -> int:
        return round(self.stall_s * SECOND_NS)

    def fresh_policy(self) -> Policy:
        """The policy to use: the one given, or the default."""
        return self.policy if self.policy is not None else LeastDowntime()
