"""The records of the laboratory: what is run, and the row that comes of it.

A matrix is policies × cases × seeds. A case is a workload over a link with a user's objectives, as a scenario of the
simulator; its guest is made of page classes, so that the workload guest can be it on a real QEMU, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from whimbrel.sim.scenario import Scenario


class Backend(StrEnum):
    """Where a cell is run."""

    SIMULATED = "simulated"
    REAL = "real"


def key_of(backend: str, case: str, policy: str, seed: int) -> str:
    """What names a run in a store: the same for a cell and for the row that came of it."""
    return f"{backend}|{case}|{policy}|{seed}"


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
        return key_of(self.backend.value, self.case.name, self.policy, self.seed)


def _is(about: str, unit: str = "") -> dict[str, str]:
    """What the table says of a column."""
    return {"about": about, "unit": unit}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of a cell: one line of the tidy table. If simulated, all of it follows from the cell, bit for bit.

    Each field says what it is, and in which unit; ``None``: does not apply, or is not known.
    """

    backend: str = field(metadata=_is("where it was run: simulated or real"))
    case: str = field(metadata=_is("name of the case, workload@link"))
    family: str = field(metadata=_is("where the case comes from"))
    workload: str = field(metadata=_is("the guest"))
    link: str = field(metadata=_is("the link, with what is special about the objectives"))
    policy: str = field(metadata=_is("as on the command line"))
    seed: int = field(metadata=_is("the same for every policy: runs are paired by it; on a real QEMU the repeat"))

    # what was asked
    ram_bytes: int = field(metadata=_is("RAM of the guest, all of its blocks", "B"))
    goal_downtime_s: float = field(metadata=_is("greatest downtime that the objectives allow", "s"))
    goal_deadline_s: float | None = field(metadata=_is("when it should be over, from migrate on; null: no hurry", "s"))
    limit_s: float = field(metadata=_is("a run that has not moved the guest by then is called off", "s"))

    # what came of it
    outcome: str = field(metadata=_is("of the report: completed, cancelled or failed; no end: there was none"))
    why: str = field(metadata=_is("why it ended as it did"))
    converged: bool = field(metadata=_is("the guest moved; else it is only known that it did not until total_s"))
    waited_s: float = field(metadata=_is("from the policy's first word until migrate: waiting, measuring", "s"))
    total_s: float = field(
        metadata=_is("from migrate until all of the guest is at the destination, with post-copy its memory too; "
                     "or until it was called off or given up", "s")
    )  # fmt: skip
    downtime_s: float | None = field(metadata=_is("from the guest's stop to its first step at the destination", "s"))
    transferred_bytes: int = field(metadata=_is("what QEMU says that it sent", "B"))
    iterations: int = field(metadata=_is("syncs of the dirty bitmap"))
    work: float = field(metadata=_is("what the guest did in total_s, as a part of what it would have done", "1"))
    lost_guest_s: float = field(
        metadata=_is("work lost to throttles, faults of post-copy and the outage: (1 - work) total_s", "s")
    )
    throttle: float = field(metadata=_is("the most that the guest was slowed by, by whatever means", "1"))
    postcopy: bool = field(metadata=_is("it went over to post-copy"))
    goal_met: bool = field(metadata=_is("the guest moved, within the greatest downtime and the deadline, if any"))
    decisions: int = field(metadata=_is("how often the policy changed something"))
    faults: int = field(metadata=_is("how often the policy failed: raised, answered nonsense, never answered"))
    fault: str = field(default="", metadata=_is("what it did wrong for the first time, and what it was asked"))

    # regrets, of simulated runs (`whimbrel.sim.bounds`)
    mechanism_downtime_s: float | None = field(
        default=None,
        metadata=_is("downtime of the best use of QEMU's knobs beyond the clairvoyant optimum, at this time", "s"),
    )
    policy_downtime_s: float | None = field(
        default=None, metadata=_is("downtime that this run has beyond the best use of the knobs, at this time", "s")
    )
    mechanism_time_s: float | None = field(
        default=None,
        metadata=_is("time that the best use of the knobs takes beyond the clairvoyant optimum, at this downtime", "s"),
    )
    policy_time_s: float | None = field(
        default=None, metadata=_is("time that this run took beyond the best use of the knobs, at this downtime", "s")
    )
    mechanism_bytes: float | None = field(
        default=None,
        metadata=_is("bytes that the best use of the knobs sends beyond the clairvoyant optimum", "B"),
    )
    policy_bytes: float | None = field(
        default=None, metadata=_is("bytes that this run sent beyond the best use of the knobs", "B")
    )
    policy_lost_guest_s: float | None = field(
        default=None,
        metadata=_is("work that this run lost beyond what the best use of the knobs loses at this time", "s"),
    )
    policy_cost_s: float | None = field(
        default=None,
        metadata=_is(
            "time and work lost of a run that met the goal, beyond the least for which the knobs could have met it", "s"
        ),
    )

    # everything needed to do it again
    whimbrel: str = field(metadata=_is("version of Whimbrel"))
    qemu: str = field(metadata=_is("version of the QEMUs, modelled or real"))
    scenario: str = field(metadata=_is("as compare --scenario reads it; policy and seed in it do not count"))
    policy_source: str = field(default="", metadata=_is("SHA-256 of the policy's files; empty: it came with Whimbrel"))

    @property
    def key(self) -> str:
        """That of its cell."""
        return key_of(self.backend, self.case, self.policy, self.seed)
