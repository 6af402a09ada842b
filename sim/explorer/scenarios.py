"""The scenarios: each a small space of its own, rather than one product of everything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .world import Quirks


class Fault(Enum):
    """What can break. Each counts as one."""

    KILL_SOURCE = "kill-source"
    KILL_DESTINATION = "kill-destination"
    DROP_SOURCE = "drop-source"
    DROP_DESTINATION = "drop-destination"
    BLOCK_SOURCE = "block-source"
    BLOCK_DESTINATION = "block-destination"
    CRASH = "crash"
    CUT = "cut"
    HANG = "hang"
    EARLY = "early"
    REFUSE = "refuse"
    LOCK = "lock"
    MIRROR = "mirror"


class Act(Enum):
    """What people and the guest may do; no fault."""

    STOP = "stop"
    CONT = "cont"
    CONTINUE = "continue"
    SHUT_DOWN = "shut-down"


PLAIN_FAULTS = frozenset(Fault) - {Fault.LOCK, Fault.MIRROR}


AS_MOST = Quirks()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One space to explore.

    Attributes:
        name: what it is called on the command line.
        about: one line.
        quirks: which QEMU, which set-up.
        paused: the guest stands paused before.
        postcopy: the policy may choose post-copy.
        faults: which may happen.
        may: what people may do.
        wishes: how many cancels and surrenders of the policy there may be.
        acts: how many of `may` there may be.
        bound: so many faults at most are claimed for, and explored, whatever is asked for.
    """

    name: str
    about: str
    quirks: Quirks = AS_MOST
    paused: bool = False
    postcopy: bool = False
    faults: frozenset[Fault] = PLAIN_FAULTS
    may: frozenset[Act] = frozenset()
    wishes: int = 0
    acts: int = 0
    bound: int = 2


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("plain", "pre-copy of a running guest, as 7.2 and 10.0; it may be called off", wishes=1),
    Scenario("paused", "a guest that stood paused before; it may be called off", paused=True, wishes=1),
    Scenario("newest", "as 11.1: the guest runs before failed is said", Quirks(runs_before_failed=True)),
    Scenario("alert", "a source that fails in pre-switchover", Quirks(notices_while_paused=True)),
    Scenario("remote", "processes that cannot be watched or killed", Quirks(processes_watched=False)),
    Scenario("images", "images whose locks QEMU keeps", Quirks(image_locks=True)),
    Scenario("owner", "its owner stops and resumes the guest", may=frozenset({Act.STOP, Act.CONT}), acts=2),
    Scenario("off", "the guest may power itself off", may=frozenset({Act.SHUT_DOWN}), acts=1),
    Scenario("meddler", "another client sends migrate-continue", may=frozenset({Act.CONTINUE}), acts=1, bound=1),
    Scenario("disks", "disks are copied", Quirks(copies_disks=True), faults=PLAIN_FAULTS | {Fault.MIRROR}),
    Scenario("lock", "a lock says who may run it", Quirks(uses_lock=True), faults=PLAIN_FAULTS | {Fault.LOCK}),
    Scenario("postcopy", "the policy may choose post-copy, as 10.0", postcopy=True),
    Scenario(
        "postcopy-7.2",
        "the same as 7.2: postcopy-active before the package is sent",
        Quirks(postcopy_without_device=True),
        postcopy=True,
    ),
    Scenario(
        "postcopy-11.1",
        "the same as 11.1: a source that has not heard that the package came may fail, and run",
        Quirks(runs_before_failed=True, survives_the_package=True),
        postcopy=True,
    ),
    Scenario(
        "postcopy-lock",
        "post-copy with a lock",
        Quirks(uses_lock=True),
        postcopy=True,
        faults=PLAIN_FAULTS | {Fault.LOCK},
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
