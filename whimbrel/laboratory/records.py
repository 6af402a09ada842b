"""The records of the laboratory: what is run, and the row that comes of it.

A matrix is policies × cases × seeds. A case is a workload over a link with a user's objectives, as a scenario of the
simulator; its guest is made of page classes, so that the workload guest can be it on a real QEMU, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from whimbrel.sim.scenario import Scenario


class Backend(StrEnum):
    """Where a cell is run."""

    SIMULATED = "simulated"
    REAL = "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scenario with a name.

    Attributes:
        name: unique, ``workload@link``; letters, digits, ``-``, ``.``, ``_`` and ``@``.
        family: where it comes from: ``guestperf``, ``published``, ``adversarial``, ``basic``, ``file``.
        workload, link: the two halves of the name.
        scenario: what is simulated. Its policy does not count; its ``limit_s`` is where a run is censored.
        about: a sentence: what it is, and its source.
        real: whether the workload guest can be it on a real QEMU of this machine (page classes, no DMA, one vCPU).
    """

    name: str
    family: str
    workload: str
    link: str
    scenario: Scenario
    about: str = ""
    real: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run that is to be done."""

    case: Case
    policy: str
    """As on the command line."""
    seed: int
    """The same seed is the same guest for every policy: runs are paired by it. On a real QEMU it is the repeat."""
    backend: Backend = Backend.SIMULATED

    @property
    def key(self) -> str:
        """What names it in a store: the same for the same cell."""
        return f"{self.backend.value}|{self.case.name}|{self.policy}|{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of a cell: one line of the tidy table. Everything in it follows from the cell, bit for bit, if simulated.

    Sizes are bytes, times seconds. ``None``: does not apply.
    """

    backend: str
    case: str
    family: str
    workload: str
    link: str
    policy: str
    seed: int

    outcome: str
    """The report's: ``completed``, ``cancelled``, ``failed``."""
    why: str
    """Why it ended as it did."""
    converged: bool
    """It completed before the case's limit; otherwise `total_s` is censored: it would have taken longer than that."""
    total_s: float
    """From ``migrate`` until the guest runs at the destination, with post-copy until all of it is there; or until it
    was called off."""
    downtime_s: float | None
    """What the guest's users see: from its stop to its first step at the destination."""
    transferred_bytes: int
    iterations: int
    work: float
    """What the guest did while it was moved, as a part of what it would have done, 0 to 1."""
    lost_guest_s: float
    """Guest-seconds of work that were lost to throttles, faults of post-copy and the outage: ``(1 - work) total_s``."""
    throttle: float
    """The most that it was slowed by, by whatever means, 0 to 0.99."""
    postcopy: bool
    goal_met: bool
    """It converged within the greatest downtime that the objectives allow, and within their deadline, if any."""
    decisions: int
    faults: int
    """How often the policy failed."""

    # regrets, for simulated runs (`whimbrel.sim.bounds`)
    mechanism_downtime_s: float | None = None
    """The clairvoyant optimum against the best that QEMU's knobs can do, in the time that this run took."""
    policy_downtime_s: float | None = None
    """The best that QEMU's knobs can do against this run, in the time that it took."""
    mechanism_time_s: float | None = None
    policy_time_s: float | None = None
    """The same for time, at this run's downtime."""
    mechanism_bytes: float | None = None
    policy_bytes: float | None = None
    """The same for bytes, at this run's time and downtime."""
    policy_lost_guest_s: float | None = None
    """Guest-seconds lost beyond what the best use of the knobs loses at this run's time and downtime."""

    # everything needed to do it again
    whimbrel: str
    qemu: str
    """Version of the (simulated) QEMU."""
    scenario: str
    """As text, which `whimbrel simulate` and ``compare --scenario`` read."""
    policy_source: str = ""
    """SHA-256 of a policy that came from a file; empty for one that came with Whimbrel."""
