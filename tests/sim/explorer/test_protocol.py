"""The real protocol by numbers: the same steps, each computed once."""

from __future__ import annotations

from whimbrel.engine.protocol import step
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.rules import ignored
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Phase, State
from whimbrel.engine.tables import TABLE
from whimbrel.sim.explorer.protocol import COMMANDS, DESTINATION_CLASSES, NO_COMMAND, SOURCE_CLASSES, WAITS, Protocol
from whimbrel.sim.explorer.world import NUMBER_OF, SIGNALS


def test_a_step_is_the_engines_own() -> None:
    """Along a whole course: state and command as `step` gives them."""
    protocol, number, state = Protocol(), 0, State()
    for signal in (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE, Signal.ARM_DONE, Signal.SOURCE_LOST):
        taken = step(state, signal, 0, WAITS)
        number, command = protocol.step(number, NUMBER_OF[signal])
        assert protocol.states[number] == taken.state
        assert (None if command == NO_COMMAND else COMMANDS[command]) == taken.command
        state = taken.state


def test_equal_states_have_one_number() -> None:
    protocol = Protocol()
    first, _ = protocol.step(0, NUMBER_OF[Signal.START])
    count = len(protocol.states)
    assert protocol.step(0, NUMBER_OF[Signal.START])[0] == first
    assert protocol.with_facts(first, ()) == first
    assert len(protocol.states) == count


def test_what_is_kept_of_each_state() -> None:
    protocol = Protocol()
    number, _ = protocol.step(0, NUMBER_OF[Signal.START])
    assert protocol.phases[number] is Phase.PREFLIGHT
    assert protocol.waiting[number]
    assert not protocol.ended[number]
    assert protocol.paused[protocol.with_facts(number, {Fact.PAUSED_BEFORE})]


def test_a_deadline_that_fired_does_not_run_on() -> None:
    """As in the machine: it is cleared before the signal is taken, and a rule that only notes it arms no new one."""
    protocol = Protocol(TABLE | {(Phase.PREFLIGHT, Signal.DEADLINE): ignored("noted")})
    number, _ = protocol.step(0, NUMBER_OF[Signal.START])
    number, _ = protocol.step(number, NUMBER_OF[Signal.DEADLINE])
    assert protocol.phases[number] is Phase.PREFLIGHT
    assert not protocol.waiting[number]


def test_an_inspection_teaches_and_then_decides() -> None:
    """`learn` is applied to the state, and the verdict's step follows; the verdict itself is given back too."""
    protocol = Protocol()
    number = 0
    signals = (
        *(Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE, Signal.ARM_DONE, Signal.SOURCE_PRE_SWITCHOVER),
        *(Signal.QUIESCE_DONE, Signal.SOURCE_LOST),
    )
    for signal in signals:
        number, _ = protocol.step(number, NUMBER_OF[signal])
    assert protocol.phases[number] is Phase.RESOLVING
    found = SOURCE_CLASSES.index(SourceClass.COMPLETED), DESTINATION_CLASSES.index(DestinationClass.READY)
    after, command, signal_number = protocol.inspected(number, *found)
    assert SIGNALS[signal_number] is Signal.VERDICT_ACTIVATE
    assert COMMANDS[command] is Command.CLAIM
    assert {Fact.SOURCE_COMPLETED, Fact.DESTINATION_COMPLETED} <= protocol.states[after].facts
