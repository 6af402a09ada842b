"""What is done to whom, and when: a list of runs that follows from a seed and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from tests.support.mortal_manager import HASTE, HASTY_WAITS, Act
from whimbrel.engine.protocol import SECOND_NS
from whimbrel.engine.states import Phase

DEFAULT_SEED: Final = 7
DEFAULT_EACH: Final = 4
MIB: Final = 1 << 20
BANDWIDTH_BYTES_PER_S: Final = 24 * MIB
"""Makes the pre-copy of the campaign's guest last a third of a second: long enough to have a middle."""

PHASES: Final = ("preparing", "precopy", "switchover", "handover", "activating", "releasing")

MOMENTS: Final[dict[str, tuple[str, ...]]] = {
    "preparing": (
        "after command prepare",
        "spawned",
        "after learnt destination",
        "after command arm",
        "sent destination migrate-incoming",
        "sent source migrate-set-parameters",
        "after learnt uri",
    ),
    "precopy": (
        "after command migrate",
        "sent source migrate",
        "after signal source-active",
        "after sample#2",
        "after sample#5",
        "after qmp source MIGRATION_PASS#2",
        "after qmp source STOP",
    ),
    "switchover": (
        "after signal source-pre-switchover",
        "after step switchover",
        "after command quiesce",
        "after signal quiesce-done",
    ),
    "handover": (
        "after step handover",
        "after command continue",
        "sending source migrate-continue",
        "sent source migrate-continue",
        "after signal source-device",
        "answered source migrate-continue",
        "after signal destination-completed",
        "after qmp source MIGRATION completed",
    ),
    "activating": (
        "after step activating",
        "after command resume-destination",
        "sending destination cont",
        "sent destination cont",
        "after qmp destination RESUME",
        "after signal destination-running",
    ),
    "releasing": (
        "after step releasing",
        "after command release-source",
        "after learnt total",
        "sending source quit",
        "sent source quit",
    ),
}
"""Where each phase is hit (see `tests.support.breakpoints` for the words). What comes before a phase's step in the log
and leads to it belongs to it here."""

FAULTS: Final = (
    "kill-source",
    "kill-destination",
    "kill-manager",
    "kill-manager-then-source",
    "kill-manager-then-destination",
    "drop-source",
    "drop-destination",
    "stop-source",
    "stop-destination",
    "cancel",
    "cancel-twice",
    "black-hole",
    "cut-stream",
)
"""``then``: while there is no manager, that side is killed, too. ``drop``: the connection to that monitor is severed.
``stop``: SIGSTOP, and SIGCONT only when the wait that was under way is over. ``black-hole``: the migration's connection
carries nothing any more, in silence. ``cut-stream``: it is ended."""

_THEN: Final = {"kill-manager-then-source": "source", "kill-manager-then-destination": "destination"}
_OF_DESTINATION: Final = frozenset(
    {"kill-destination", "kill-manager-then-destination", "drop-destination", "stop-destination"}
)
_OF_STREAM: Final = frozenset({"black-hole", "cut-stream"})
_BEFORE_DESTINATION: Final = frozenset({"after command prepare", "spawned"})
_LISTENING: Final = frozenset(
    {"sent destination migrate-incoming", "sent source migrate-set-parameters", "after learnt uri"}
)
_SECOND_CANCEL_LINES: Final = 8
"""The second cancel comes at most so many lines of the log after the first."""

_PATIENCE_OVER_WAIT: Final = 1.5


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One migration and what is done to it."""

    key: str
    """Its name in the results."""
    phase: str
    fault: str
    acts: tuple[Act, ...] = ()
    die_at: int = 0
    """The number of the moment at which the manager kills itself; 0: none."""
    successor_dies_at: int = 0
    """The same of the one that takes over from it."""
    meanwhile: str = ""
    """The side that is killed as soon as the manager is dead."""
    own_stream: bool = True
    stopped_s: float = 0.0
    """How long a stopped process stays so; 0: until the manager has ended."""

    @property
    def moment(self) -> str:
        """Where it is hit."""
        return f"#{self.die_at}" if self.die_at else self.acts[-1].at if self.acts else "none"


def faults(seed: int = DEFAULT_SEED, each: int = DEFAULT_EACH) -> list[Run]:
    """The campaign: every fault in every phase.

    Args:
        seed: any number.
        each: how often; the moments of a phase are dealt out before one comes again.
    """
    return [run for phase in PHASES for fault in FAULTS for run in _cell(seed, phase, fault, each)]


def sample(seed: int, count: int) -> list[Run]:
    """Some runs of the campaign: every fault at least once where there are enough, spread over the phases.

    Args:
        seed: any number.
        count: how many.
    """
    draw = random.Random(f"sample {seed}")
    phases = [phase for _ in range(count) for phase in draw.sample(PHASES, len(PHASES))]
    chosen: list[Run] = []
    order = [fault for _ in range(count) for fault in draw.sample(FAULTS, len(FAULTS))]
    for fault, phase in zip(order[:count], phases, strict=False):
        chosen += _cell(seed, phase, fault, 1)
    return chosen


def pairs(seed: int, count: int) -> list[Run]:
    """Two faults in one migration, the second one in the same phase as the first or in a later one.

    Args:
        seed: any number.
        count: how many.
    """
    return [_pair(random.Random(f"{seed} pair {number}"), number) for number in range(count)]


def moments_of(phase: str, fault: str) -> tuple[str, ...]:
    """The moments of a phase at which a fault can be done to what is there."""
    moments: Sequence[str] = MOMENTS[phase]
    if phase == "preparing" and fault in _OF_DESTINATION:
        moments = [moment for moment in moments if moment not in _BEFORE_DESTINATION]
    if phase == "preparing" and fault in _OF_STREAM:
        moments = [moment for moment in moments if moment in _LISTENING]
    return tuple(moments)


def wait_s(phase: str) -> float:
    """How long the manager waits in a phase before it does something about it, seconds."""
    wait_ns = HASTY_WAITS.of(Phase(phase))
    assert wait_ns is not None
    return wait_ns / SECOND_NS


def _cell(seed: int, phase: str, fault: str, each: int) -> Iterator[Run]:
    draw = random.Random(f"{seed} {phase} {fault}")
    deck: list[str] = []
    for number in range(each):
        deck = deck or draw.sample(moments_of(phase, fault), len(moments_of(phase, fault)))
        moment = deck.pop()
        what = {"cancel-twice": "cancel"}.get(fault, "kill-manager" if fault in _THEN else fault)
        acts = [Act(at=moment, what=what)]
        if fault == "cancel-twice":
            acts.append(Act(at=moment, what=what, lines_later=draw.randrange(_SECOND_CANCEL_LINES + 1)))
        yield Run(
            key=f"{phase}/{fault}/{number}",
            phase=phase,
            fault=fault,
            acts=tuple(acts),
            meanwhile=_THEN.get(fault, ""),
            own_stream=draw.random() < 0.5,
            stopped_s=draw.choice((0.0, _PATIENCE_OVER_WAIT * wait_s(phase))) if fault.startswith("stop-") else 0.0,
        )


def _pair(draw: random.Random, number: int) -> Run:
    single = [fault for fault in FAULTS if fault not in _THEN and fault != "cancel-twice"]
    phases = sorted(draw.choices(range(len(PHASES)), k=2))
    acts: list[Act] = []
    for place in phases:
        fault = draw.choice([fault for fault in single if not acts or fault != acts[0].what])
        acts.append(Act(at=draw.choice(moments_of(PHASES[place], fault)), what=fault))
    # A manager that is dead does nothing more to anybody.
    acts.sort(key=lambda act: act.what == "kill-manager")
    return Run(
        key=f"pairs/{number}",
        phase=PHASES[phases[0]],
        fault="two faults",
        acts=tuple(acts),
        own_stream=draw.random() < 0.5,
        stopped_s=draw.choice((0.0, _PATIENCE_OVER_WAIT * wait_s(PHASES[phases[1]]))),
    )


__all__ = ["HASTE", "Run", "faults", "moments_of", "pairs", "sample", "wait_s"]
