"""What a policy decides is carried out within the user's objectives, and what was not allowed is said."""

from __future__ import annotations

import math

import pytest

from whimbrel.engine.pilot import Pilot
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason
from whimbrel.engine.statistics import Ledger, Statistics

SECOND = 1_000_000_000


def pilot(decision: Decision, objectives: Objectives | None = None) -> Pilot:
    return Pilot(lambda seen: decision, objectives or Objectives())


def test_nothing_decided_changes_nothing() -> None:
    steered = pilot(Decision()).ask(Reason.TICK, Ledger(), 0)
    assert steered.changes == {}
    assert steered.clamped == ()


def test_setup_starts_from_the_objectives() -> None:
    goal = Objectives(downtime_s=0.5, bandwidth_bytes_per_s=1000)
    steered = pilot(Decision(), goal).setup(0)
    assert (steered.knobs.downtime_limit_s, steered.knobs.bandwidth_bytes_per_s) == (0.5, 1000)


def test_only_what_differs_is_a_change() -> None:
    it = pilot(Decision(downtime_limit_s=0.1, bandwidth_bytes_per_s=5))
    assert it.ask(Reason.TICK, Ledger(), 0).changes == {"downtime_limit_s": 0.1, "bandwidth_bytes_per_s": 5}
    assert it.ask(Reason.TICK, Ledger(), 0).changes == {}


def test_the_downtime_limit_stays_below_what_the_user_allows() -> None:
    steered = pilot(Decision(downtime_limit_s=2.0), Objectives(downtime_s=0.2)).ask(Reason.TICK, Ledger(), 0)
    assert steered.knobs.downtime_limit_s == 0.2
    assert "downtime limit" in steered.clamped[0]


def test_a_limit_below_what_qemu_can_count_is_raised() -> None:
    assert pilot(Decision(downtime_limit_s=0.0)).ask(Reason.TICK, Ledger(), 0).knobs.downtime_limit_s == 0.001


def test_switch_over_asks_for_all_the_downtime_allowed() -> None:
    steered = pilot(Decision(switch_over=True), Objectives(downtime_s=0.7)).setup(0)
    assert steered.knobs.downtime_limit_s == 0.7


@pytest.mark.parametrize("wanted", [0, 2000])
def test_bandwidth_stays_below_what_the_user_allows(wanted: int) -> None:
    goal = Objectives(bandwidth_bytes_per_s=1000)
    steered = pilot(Decision(bandwidth_bytes_per_s=wanted), goal).ask(Reason.TICK, Ledger(), 0)
    assert steered.knobs.bandwidth_bytes_per_s == 1000
    assert "bandwidth" in steered.clamped[0]


def test_bandwidth_within_bounds_is_taken() -> None:
    goal = Objectives(bandwidth_bytes_per_s=1000)
    steered = pilot(Decision(bandwidth_bytes_per_s=900), goal).ask(Reason.TICK, Ledger(), 0)
    assert steered.knobs.bandwidth_bytes_per_s == 900


def test_no_throttle_unless_the_user_allows_one() -> None:
    steered = pilot(Decision(throttle_initial=0.5)).ask(Reason.TICK, Ledger(), 0)
    assert steered.knobs.throttle_initial is None
    assert steered.clamped
    goal = Objectives(greatest_throttle=0.4)
    assert pilot(Decision(throttle_initial=0.5), goal).ask(Reason.TICK, Ledger(), 0).knobs.throttle_initial == 0.4


def test_giving_up_needs_leave() -> None:
    assert not pilot(Decision(abort=True)).ask(Reason.TICK, Ledger(), 0).decision.abort
    assert pilot(Decision(abort=True), Objectives(may_abort=True)).ask(Reason.TICK, Ledger(), 0).decision.abort


def test_the_cadence_is_the_policys() -> None:
    it = pilot(Decision(wake_after_s=0.5))
    it.setup(0)
    it.start(SECOND)
    assert not it.tick_due(SECOND)
    assert it.tick_due(SECOND + SECOND // 2)
    assert it.wake_every_ns == SECOND // 2


def test_a_policy_without_cadence_is_never_ticked() -> None:
    it = pilot(Decision())
    it.setup(0)
    it.start(0)
    assert not it.tick_due(10**18)


def test_a_cadence_beyond_sense_is_slowed() -> None:
    it = pilot(Decision(wake_after_s=0.0))
    assert it.setup(0).clamped == ("wake: 0 is outside 0.01 to 86400",)
    assert it.wake_every_ns == SECOND // 100


def test_a_cadence_of_never_is_a_day() -> None:
    it = pilot(Decision(wake_after_s=math.inf))
    it.setup(0)
    assert it.wake_every_ns == 86400 * SECOND


def test_what_is_not_a_number_changes_nothing() -> None:
    """It would reach QEMU, or the clock, as an error in the middle of a migration."""
    it = pilot(
        Decision(downtime_limit_s=math.nan, throttle_initial=math.nan, wake_after_s=math.nan),
        Objectives(greatest_throttle=0.5),
    )
    steered = it.ask(Reason.TICK, Ledger(), 0)
    assert steered.changes == {}
    assert it.wake_every_ns is None
    assert steered.clamped == ("downtime limit: not a number", "throttle: not a number", "wake: not a number")


@pytest.mark.parametrize(("limit_s", "allowed_s"), [(math.inf, 2000.0), (5000.0, 2000.0), (1999.0, 1999.0)])
def test_no_objective_goes_beyond_what_qemu_takes(limit_s: float, allowed_s: float) -> None:
    it = pilot(Decision(downtime_limit_s=limit_s), Objectives(downtime_s=1e6))
    assert it.ask(Reason.TICK, Ledger(), 0).knobs.downtime_limit_s == allowed_s


def test_a_throttle_never_stops_the_guest() -> None:
    it = pilot(Decision(throttle_ceiling=1.0), Objectives(greatest_throttle=1.0))
    assert it.ask(Reason.TICK, Ledger(), 0).knobs.throttle_ceiling == 0.99


def test_the_deadline_is_told_once() -> None:
    it = pilot(Decision(), Objectives(deadline_s=2.0))
    it.start(SECOND)
    assert it.deadline_ns() == 3 * SECOND
    it.ask(Reason.DEADLINE, Ledger(), 3 * SECOND)
    assert it.deadline_ns() is None
    assert pilot(Decision()).deadline_ns() is None


def test_what_the_policy_sees() -> None:
    seen: list[Observation] = []

    def look(observation: Observation) -> Decision:
        seen.append(observation)
        return Decision()

    ledger = Ledger()
    for number in (1, 2):
        answer = Statistics(
            at_ns=number * SECOND, iteration=number, remaining_bytes=number * 9, transferred_bytes=number * 10
        )
        ledger = ledger.add(answer)
    it = Pilot(look, Objectives())
    it.start(SECOND)
    it.ask(Reason.ITERATION, ledger, 2 * SECOND)
    (observation,) = seen
    assert (observation.iteration, observation.remaining_bytes, observation.transferred_bytes) == (2, 18, 20)
    assert observation.elapsed_s == 1.0
    assert observation.bandwidth_bytes_per_s == pytest.approx(10)
    assert len(observation.iterations) == 1
    assert observation.dirty_bytes_per_s == pytest.approx(9)


CONVERGE = {"auto-converge": True, "xbzrle": True}


@pytest.mark.parametrize("name", ["auto-converge", "dirty-limit"])
def test_nothing_that_slows_the_guest_is_switched_on_where_that_is_not_allowed(name: str) -> None:
    """QEMU would do it on its own account, whatever the other knobs say."""
    steered = pilot(Decision(capabilities={name: True, "xbzrle": True})).setup(0)
    assert steered.decision.capabilities == {"xbzrle": True}
    assert steered.clamped == (f"{name}: the objectives do not allow slowing the guest by more than 0%",)


def test_a_dirty_limit_has_no_bound_and_needs_everything_to_be_allowed() -> None:
    decision = Decision(capabilities={"dirty-limit": True})
    assert pilot(decision, Objectives(greatest_throttle=0.9)).setup(0).decision.capabilities == {}
    assert pilot(decision, Objectives(greatest_throttle=0.99)).setup(0).decision.capabilities == {"dirty-limit": True}


@pytest.mark.parametrize(
    ("wanted", "first", "most"),
    [
        (Decision(capabilities=CONVERGE), 0.2, 0.3),
        (Decision(capabilities=CONVERGE, throttle_initial=0.1), 0.1, 0.3),
        (Decision(capabilities=CONVERGE, throttle_initial=0.8, throttle_ceiling=0.9), 0.3, 0.3),
        (Decision(capabilities=CONVERGE, throttle_ceiling=0.1), 0.1, 0.1),
    ],
)
def test_auto_converge_gets_its_bound_whether_the_policy_named_one_or_not(
    wanted: Decision, first: float, most: float
) -> None:
    """QEMU's own is 99 %; and it refuses a greatest throttle below the first."""
    steered = pilot(wanted, Objectives(greatest_throttle=0.3)).setup(0)
    assert steered.decision.capabilities == CONVERGE
    assert (steered.knobs.throttle_initial, steered.knobs.throttle_ceiling) == (first, most)


def test_a_capability_that_is_switched_off_needs_no_leave() -> None:
    off = {"auto-converge": False, "dirty-limit": False}
    steered = pilot(Decision(capabilities=off)).setup(0)
    assert (steered.decision.capabilities, steered.clamped) == (off, ())
