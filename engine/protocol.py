"""The step: state + signal + time -> state + command. Total, pure, and driven by the tables alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .rules import TRIES, Rule, Table
from .signals import FACT_OF_COMMAND, FACT_OF_SIGNAL, Command, Signal
from .states import Fact, Guest, Owner, Phase, State
from .tables import TABLE

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each wait may take, in nanoseconds. All of them have a fallback in the tables.

    QEMU is silent for the whole of a switchover (0.3 s for 4 GiB of busy guest over loopback, and as long
    as the last pages take over a slow network), so none of these is short.
    """

    preflight_ns: int = 30 * SECOND_NS
    preparing_ns: int = 60 * SECOND_NS
    connect_ns: int = 30 * SECOND_NS
    """From ``migrate`` until the source says ``active``."""
    switchover_ns: int = 30 * SECOND_NS
    """How long hooks may keep the guest stopped."""
    handover_ns: int = 60 * SECOND_NS
    activating_ns: int = 30 * SECOND_NS
    postcopy_ns: int = 60 * SECOND_NS
    """Until the destination was seen running; then the stall detector watches."""
    recovering_ns: int = 15 * SECOND_NS
    """For each try."""
    releasing_ns: int = 60 * SECOND_NS
    cancelling_ns: int = 60 * SECOND_NS
    """For each of its commands anew: killing a large QEMU takes as long as freeing its memory."""
    resolving_ns: int = 60 * SECOND_NS

    def of(self, phase: Phase) -> int | None:
        """The wait that begins when a phase is entered, or a command goes out in it."""
        waits: Mapping[Phase, int] = {
            Phase.PREFLIGHT: self.preflight_ns,
            Phase.PREPARING: self.preparing_ns,
            Phase.PRECOPY: self.connect_ns,
            Phase.SWITCHOVER: self.switchover_ns,
            Phase.HANDOVER: self.handover_ns,
            Phase.ACTIVATING: self.activating_ns,
            Phase.POSTCOPY: self.postcopy_ns,
            Phase.RECOVERING: self.recovering_ns,
            Phase.RELEASING: self.releasing_ns,
            Phase.CANCELLING: self.cancelling_ns,
            Phase.RESOLVING: self.resolving_ns,
        }
        return waits.get(phase)


DEFAULT_WAITS = Waits()


UNSETTLED = frozenset({Guest.HELD, Guest.UNCONFIRMED})


def is_settled(state: State) -> bool:
    """Whether an end says for certain who has the guest and what became of it."""
    return state.phase.is_end and state.owner is not Owner.LIMBO and state.guest not in UNSETTLED


def reopened(state: State) -> State:
    """An end that settled nothing, as the state in which both sides are asked again.

    What was tried and counted is forgotten; what is known of the guest is not.

    Raises:
        ValueError: it has not ended, or the end is settled.
    """
    if not state.phase.is_end or is_settled(state):
        raise ValueError(f"only an end that settled nothing can be reopened, not {state.phase.value}")
    tried = TRIES | {Fact.DISCARDING, Fact.DISCARDED, Fact.VETOED}
    return replace(state, phase=Phase.RESOLVING, guest=None, deadline_ns=None, facts=state.facts - tried)


@dataclass(frozen=True, slots=True)
class Step:
    """What a signal led to."""

    state: State
    command: Command | None
    rule: Rule


def step(
    state: State,
    signal: Signal,
    now_ns: int,
    waits: Waits = DEFAULT_WAITS,
    table: Table = TABLE,
) -> Step:
    """Take one signal.

    Args:
        state: where the migration stands.
        signal: what happened.
        now_ns: the machine's clock, nanoseconds since the start; only used to set the next deadline.
        waits: how long each wait may take.
        table: the protocol; given only by tests that show that a broken one is caught.

    Returns:
        The next state, the command that goes out, if any, and the rule that was taken.
    """
    known = state.facts
    fact = FACT_OF_SIGNAL.get(signal)
    if fact is not None and not state.phase.is_end:
        known |= {fact}
    rule = next(rule for rule in table[state.phase, signal] if rule.holds(known))
    known = (known | rule.learn) - rule.forget
    if rule.do is not None:
        issued = FACT_OF_COMMAND.get(rule.do)
        known = known | {issued} if issued is not None else known
    phase = rule.to or state.phase
    deadline_ns = state.deadline_ns
    if phase.is_end or rule.rest:
        deadline_ns = None
    elif phase is not state.phase or rule.do is not None:
        wait_ns = waits.of(phase)
        deadline_ns = None if wait_ns is None else now_ns + wait_ns
    after = replace(
        state,
        phase=phase,
        owner=rule.owner or state.owner,
        facts=known,
        deadline_ns=deadline_ns,
        guest=rule.guest or state.guest,
    )
    return Step(after, rule.do, rule)
