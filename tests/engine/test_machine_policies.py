"""What the machine makes of policies: measuring before the start, post-copy, and those that only watch."""

from __future__ import annotations

import pytest

from tests.support.driving import SECOND
from whimbrel.engine.machine import Happened, Learnt, Machine, Measured, Order, Probe, Sampled
from whimbrel.engine.policy import Abilities, Decision, Measurement, Objectives, Observation, Reason
from whimbrel.engine.protocol import DEFAULT_WAITS
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Phase
from whimbrel.engine.statistics import Statistics

STARTED = (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE, Signal.ARM_DONE, Signal.SOURCE_ACTIVE)


# ---- before the start


def asking(*answers: Decision) -> tuple[Machine, list[Observation]]:
    """A machine that is about to arm, with a policy that gives these answers."""
    left, seen = list(answers), list[Observation]()

    def policy(observation: Observation) -> Decision:
        seen.append(observation)
        return left.pop(0) if left else Decision()

    machine = Machine(policy=policy)
    machine.receive(Learnt({}, Abilities(measuring=True)), 0)
    for signal in (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE):
        machine.receive(Happened(signal), 0)
    return machine, seen


def test_a_policy_may_have_the_guest_measured_before_it_starts() -> None:
    machine, seen = asking(Decision(measure_s=(1.0, 2.0), not_yet_s=5.0, downtime_limit_s=0.1))
    *_, probe = machine.orders()
    assert isinstance(probe, Probe)
    assert (probe.windows_s, probe.wait_s, probe.steering.changes) == ((1.0, 2.0), 5.0, {})
    found = Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=7e6, vcpu_shares=(0.5,))
    machine.receive(Measured((found,)), 8 * SECOND)
    (order,) = machine.orders()
    assert isinstance(order, Order)
    assert order.command is Command.ARM
    assert [each.reason for each in seen] == [Reason.SETUP, Reason.SETUP]
    assert seen[-1].measurements == (found,)


def test_measuring_has_its_own_time() -> None:
    machine, _ = asking(Decision(measure_s=(10.0,), not_yet_s=600.0))
    machine.receive_time(DEFAULT_WAITS.preparing_ns + 609 * SECOND)
    assert machine.phase.value == "preparing"
    machine.receive(Measured(), 609 * SECOND)
    machine.receive_time(DEFAULT_WAITS.preparing_ns + 609 * SECOND + DEFAULT_WAITS.preparing_ns)
    assert machine.phase is Phase.CANCELLING


def test_a_measurement_after_it_was_called_off_starts_nothing() -> None:
    machine, seen = asking(Decision(not_yet_s=5.0))
    machine.receive(Happened(Signal.CANCEL), SECOND)
    machine.orders()
    machine.receive(Measured(), 2 * SECOND)
    assert machine.orders() == []
    assert len(seen) == 1


def test_nothing_is_measured_where_that_can_not_be_done() -> None:
    machine = Machine(policy=lambda seen: Decision(measure_s=(1.0,)))
    for signal in (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE):
        machine.receive(Happened(signal), 0)
    *_, probe = machine.orders()
    assert isinstance(probe, Probe)
    assert (probe.windows_s, probe.wait_s) == ((), 0.01), "it is asked again, but time passes"


@pytest.mark.parametrize("answer", [Decision(not_yet_s=0.0), Decision(not_yet_s=7.0), Decision(measure_s=(0.5,))])
@pytest.mark.parametrize("measuring", [False, True])
def test_a_policy_that_wants_to_wait_for_ever_does_not_keep_a_migration_from_starting(
    answer: Decision, measuring: bool
) -> None:
    machine = Machine(policy=lambda seen: answer)
    machine.receive(Learnt({}, Abilities(measuring=measuring)), 0)
    for signal in (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE):
        machine.receive(Happened(signal), 0)
    order, now_ns = machine.orders()[-1], 0
    while isinstance(order, Probe):
        assert order.windows_s or order.wait_s >= 0.01, "time passes"
        now_ns += round((sum(order.windows_s) + order.wait_s) * SECOND)
        machine.receive(Measured(), now_ns)
        (order,) = machine.orders()
    assert isinstance(order, Order)
    assert order.command is Command.ARM
    assert now_ns <= 3600 * SECOND
    assert order.setup is not None
    assert "the start was put off" in order.setup.clamped[0]


# ---- post-copy, and those who watch


def test_a_policy_may_go_over_to_post_copy() -> None:
    answers = iter([Decision(capabilities={"postcopy-ram": True}), Decision(start_postcopy=True)])
    machine = Machine(policy=lambda seen: next(answers), objectives=Objectives(may_postcopy=True))
    for signal in STARTED:
        machine.receive(Happened(signal), 0)
    machine.receive(Sampled(Statistics(at_ns=1, iteration=1, remaining_bytes=9)), 1)
    machine.orders()
    machine.receive(Sampled(Statistics(at_ns=2, iteration=2, remaining_bytes=9)), 2)
    (order,) = machine.orders()
    assert isinstance(order, Order)
    assert order.command is Command.START_POSTCOPY


def test_policies_that_watch_see_what_the_policy_sees_and_change_nothing() -> None:
    def watcher(seen: Observation) -> Decision:
        return Decision(downtime_limit_s=0.05, wake_after_s=1.0, abort=True, because=f"{seen.iteration}")

    goal = Objectives(deadline_s=10.0, may_abort=True)
    machine = Machine(policy=lambda seen: Decision(), objectives=goal, shadows={"low": watcher, "broken": broken})
    for signal in STARTED:
        machine.receive(Happened(signal), 0)
    for at, iteration in ((1, 1), (2, 2), (4, 2)):
        machine.receive(Sampled(Statistics(at_ns=at * SECOND, iteration=iteration, remaining_bytes=9)), at * SECOND)
    machine.receive_time(11 * SECOND)
    told = machine.shadowed()
    low = [each.steering for each in told if each.name == "low"]
    assert [each.asked for each in low] == [
        Reason.SETUP, Reason.TICK, Reason.ITERATION, Reason.TICK, Reason.DEADLINE,
    ]  # fmt: skip
    assert low[0].changes == {"downtime_limit_s": 0.05}
    assert machine.phase is Phase.PRECOPY
    assert machine.progress().knobs.downtime_limit_s == 0.3
    assert machine.wake_every_ns == SECOND
    assert sum(bool(each.steering.fault) for each in told if each.name == "broken") == 3
    assert machine.shadowed() == []


def broken(seen: Observation) -> Decision:
    raise ValueError("no")
