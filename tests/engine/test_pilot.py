"""What a policy decides is carried out within the user's objectives, and what was not allowed is said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from whimbrel.engine.pilot import Pilot
from whimbrel.engine.policy import Abilities, Decision, Knobs, Objectives, Observation, Reason
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


def test_a_cadence_goes_on_until_it_is_changed() -> None:
    """Also where the policy decides nothing when it is asked: else it would be asked at every look from then on."""
    said = iter([Decision(wake_after_s=0.5), Decision(), Decision()])
    it = Pilot(lambda seen: next(said), Objectives())
    it.setup(0)
    it.start(0)
    for asked_ns in (SECOND // 2, SECOND + SECOND // 4):
        assert it.tick_due(asked_ns)
        it.ask(Reason.TICK, Ledger(), asked_ns)
        assert not it.tick_due(asked_ns + SECOND // 2 - 1)
        assert it.tick_due(asked_ns + SECOND // 2)


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


FAULTY = [
    (Decision(downtime_limit_s=math.nan), "downtime_limit_s=nan, where 0 or more is possible"),
    (Decision(downtime_limit_s=-0.1), "downtime_limit_s=-0.1, where 0 or more is possible"),
    (Decision(downtime_limit_s="50ms"), "downtime_limit_s='50ms', which is no number"),  # type: ignore[arg-type]
    (Decision(throttle_initial=1.5), "throttle_initial=1.5, where from 0 to 1 is possible"),
    (Decision(outside_throttle=-1), "outside_throttle=-1, where from 0 to 1 is possible"),
    (Decision(bandwidth_bytes_per_s=True), "bandwidth_bytes_per_s=True, which is no number"),
    (Decision(wake_after_s=math.nan), "wake_after_s=nan, where 0 or more is possible"),
    (Decision(switch_over="yes"), "switch_over='yes', which is neither true nor false"),  # type: ignore[arg-type]
    (Decision(measure_s=[1.0]), "measure_s=[1.0], which is no tuple of seconds"),  # type: ignore[arg-type]
    (Decision(measure_s=(-1.0,)), "measure_s=-1, where from 0 to 3600 is possible"),
    (
        Decision(capabilities={"xbzrle"}),  # type: ignore[arg-type]
        "capabilities={'xbzrle'}, which is no mapping of names to true or false",
    ),
    (
        Decision(capabilities={5: True}),  # type: ignore[dict-item]
        "capabilities with 5: True, which is no name with true or false",
    ),
    (
        Decision(capabilities={"xbzrle": "no"}),  # type: ignore[dict-item]
        "capabilities with 'xbzrle': 'no', which is no name with true or false",
    ),
    (Decision(because=7), "because=7, which is no text"),  # type: ignore[arg-type]
    (None, "None, which is no Decision"),
]


@pytest.mark.parametrize(("answer", "fault"), FAULTY)
def test_nonsense_changes_nothing_and_names_policy_observation_and_fault(answer: Decision, fault: str) -> None:
    """It would reach QEMU, or the clock, as an error in the middle of a migration."""
    it = Pilot(lambda seen: answer, Objectives(greatest_throttle=0.5), "mine.py:Wild")
    ledger = Ledger().add(Statistics(at_ns=0, iteration=3, remaining_bytes=3 << 20))
    steered = it.ask(Reason.TICK, ledger, 2 * SECOND)
    assert (steered.changes, it.wake_every_ns, steered.decision.abort) == ({}, None, False)
    assert steered.fault == (
        "the policy mine.py:Wild failed when it was asked (tick at 2.00 s, iteration 3, 3.0 MiB to send): "
        f"it answered {fault}; the last good settings stay"
    )


def test_a_policy_that_fails_leaves_the_last_good_settings_and_may_do_better_next_time() -> None:
    answers = iter([Decision(downtime_limit_s=0.1), Decision(downtime_limit_s=-1), Decision(downtime_limit_s=0.2)])
    it = Pilot(lambda seen: next(answers), Objectives())
    limits = [it.ask(Reason.TICK, Ledger(), 0).knobs.downtime_limit_s for _ in range(3)]
    assert limits == [0.1, 0.1, 0.2]


@pytest.mark.parametrize("error", [KeyError("thing"), SystemExit(1)])
def test_a_policy_that_raises_three_times_is_not_asked_again(error: BaseException) -> None:
    asked: list[Reason] = []

    def raises(seen: Observation) -> Decision:
        asked.append(seen.reason)
        raise error

    it = Pilot(raises, Objectives())
    faults = [it.ask(Reason.TICK, Ledger(), 0).fault for _ in range(5)]
    assert len(asked) == 3
    assert it.dismissed
    assert f"raised {error!r}; the last good settings stay" in faults[0]
    assert faults[2].endswith("the last good settings stay, and it is not asked again")
    assert faults[3:] == ["", ""]


def test_a_policy_that_does_not_answer_is_not_asked_again() -> None:
    def hangs(seen: Observation) -> Decision:
        raise TimeoutError("no answer within 1 s")

    it = Pilot(hangs, Objectives())
    fault = it.ask(Reason.TICK, Ledger(), 0).fault
    assert "no answer within 1 s; the last good settings stay, and it is not asked again" in fault
    assert it.dismissed


def test_an_error_that_can_not_say_what_it_is_goes_by_its_name() -> None:
    class Mute(Exception):
        def __repr__(self) -> str:
            raise ValueError("not me either")

    def raises(seen: Observation) -> Decision:
        raise Mute

    assert "raised Mute; the last" in Pilot(raises, Objectives()).ask(Reason.TICK, Ledger(), 0).fault


def test_a_time_out_without_words_is_told_as_what_it_is() -> None:
    def raises(seen: Observation) -> Decision:
        raise TimeoutError

    assert "raised TimeoutError(); the last" in Pilot(raises, Objectives()).ask(Reason.TICK, Ledger(), 0).fault


@pytest.mark.parametrize("because", ["\ud800", "word " * 10_000])
def test_a_policys_sentence_can_always_be_written(because: str) -> None:
    told = pilot(Decision(because=because)).ask(Reason.TICK, Ledger(), 0).decision.because
    assert 0 < len(told.encode()) <= 1000


def test_whoever_asked_for_it_has_the_migration_called_off_by_a_fault() -> None:
    it = Pilot(lambda seen: Decision(downtime_limit_s=-1), Objectives(abort_on_fault=True))
    steered = it.ask(Reason.TICK, Ledger(), 0)
    assert steered.decision.abort
    assert steered.fault.endswith("the migration is called off")


def test_numbers_of_other_kinds_are_as_good() -> None:
    """A researcher's numbers come out of numpy, and rates out of divisions."""
    decision = Decision(bandwidth_bytes_per_s=np.float64(1e6), downtime_limit_s=np.float32(0.25))  # type: ignore[arg-type]
    steered = pilot(decision).ask(Reason.TICK, Ledger(), 0)
    assert steered.changes == {"bandwidth_bytes_per_s": 1_000_000, "downtime_limit_s": 0.25}
    assert [type(each) for each in steered.changes.values()] == [float, int]


def test_a_pause_needs_leave_and_lets_the_outage_be_of_any_length() -> None:
    refused = pilot(Decision(pause=True)).ask(Reason.TICK, Ledger(), 0)
    assert (refused.changes, refused.decision.pause) == ({}, False)
    assert refused.clamped == ("pause: the objectives do not allow an outage of any length",)
    heeded = pilot(Decision(pause=True), Objectives(may_pause=True)).ask(Reason.TICK, Ledger(), 0)
    assert heeded.knobs.downtime_limit_s == 2000.0


POSTCOPY = {"postcopy-ram": True}


@pytest.mark.parametrize(
    ("setup", "goal", "why_not"),
    [
        (POSTCOPY, Objectives(), "the objectives do not allow it"),
        ({}, Objectives(may_postcopy=True), "the policy did not ask for postcopy-ram at the start"),
        (POSTCOPY, Objectives(may_postcopy=True), None),
    ],
)
def test_post_copy_needs_leave_and_the_capability(
    setup: dict[str, bool], goal: Objectives, why_not: str | None
) -> None:
    answers = iter([Decision(capabilities=setup), Decision(start_postcopy=True)])
    it = Pilot(lambda seen: next(answers), goal)
    it.setup(0)
    steered = it.ask(Reason.ITERATION, Ledger(), 0)
    assert steered.decision.start_postcopy is (why_not is None)
    assert steered.clamped == (() if why_not is None else (f"post-copy: {why_not}",))


def test_post_copy_can_not_be_chosen_before_the_start() -> None:
    decision = Decision(start_postcopy=True, capabilities=POSTCOPY)
    steered = pilot(decision, Objectives(may_postcopy=True)).setup(0)
    assert steered.clamped == ("post-copy: it can't be chosen before the start",)


def test_a_throttle_from_outside_needs_a_host_that_can() -> None:
    goal = Objectives(greatest_throttle=0.8)
    it = pilot(Decision(outside_throttle=0.9), goal)
    steered = it.ask(Reason.TICK, Ledger(), 0)
    assert steered.changes == {}
    assert steered.clamped == ("throttle from outside: this host can't slow the source's vCPUs",)
    it.abilities = Abilities(outside_throttle=True)
    assert it.ask(Reason.TICK, Ledger(), 0).changes == {"outside_throttle": 0.8}


def test_a_throttle_from_outside_is_lifted_by_nothing() -> None:
    it = pilot(Decision(outside_throttle=0.0))
    it.knobs = Knobs(outside_throttle=0.5)
    assert it.ask(Reason.TICK, Ledger(), 0).changes == {"outside_throttle": 0.0}


@pytest.mark.parametrize(("asked", "given"), [(1, 1 << 16), (100 << 20, 64 << 20), (1 << 26, 1 << 26)])
def test_a_cache_is_a_power_of_two(asked: int, given: int) -> None:
    assert pilot(Decision(xbzrle_cache_bytes=asked)).setup(0).knobs.xbzrle_cache_bytes == given


def test_channels_are_chosen_before_the_start_only() -> None:
    it = pilot(Decision(multifd_channels=400))
    assert it.ask(Reason.TICK, Ledger(), 0).changes == {}
    assert it.setup(0).knobs.multifd_channels == 255


def test_what_is_to_be_measured_is_asked_for_before_the_start_only() -> None:
    it = pilot(Decision(measure_s=(1.0,), not_yet_s=2.0))
    later = it.ask(Reason.TICK, Ledger(), 0).decision
    assert (later.measure_s, later.not_yet_s) == ((), None)
    assert it.setup(0).decision.measure_s == (1.0,)


def test_the_start_is_put_off_by_an_hour_in_all_at_most() -> None:
    it = pilot(Decision(not_yet_s=2400.0, measure_s=(0.5, 0.5)))
    waits = [it.setup(0).decision.not_yet_s for _ in range(3)]
    assert waits == [2400.0, 3600.0 - 2402.0 - 2.0, None], "a window takes a whole second"
    assert it.setup(0).clamped == ("not yet: the start was put off 2 times, by 3600 s, already",)


def test_times_before_the_start_are_plain_numbers_for_the_log() -> None:
    decision = pilot(Decision(not_yet_s=np.float32(0.5), measure_s=(np.float32(1.5),))).setup(0).decision  # type: ignore[arg-type]
    assert (decision.not_yet_s, decision.measure_s) == (0.5, (1.5,))
    assert [type(decision.not_yet_s), type(decision.measure_s[0])] == [float, float]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (Decision(throttle_ceiling=0.1), {"throttle_ceiling": 0.1, "throttle_initial": 0.1}),
        (Decision(throttle_ceiling=0.4), {"throttle_ceiling": 0.4}),
        (Decision(throttle_initial=0.6, throttle_ceiling=0.3), {"throttle_initial": 0.3, "throttle_ceiling": 0.3}),
    ],
)
def test_the_first_throttle_stays_below_the_ceiling(asked: Decision, told: dict[str, float]) -> None:
    """QEMU would refuse both, and the downtime limit that is set along with them."""
    assert pilot(asked, Objectives(greatest_throttle=0.8)).ask(Reason.TICK, Ledger(), 0).changes == told


def test_what_was_asked_for_at_a_start_that_was_put_off_counts_no_more() -> None:
    answers = iter([Decision(capabilities=POSTCOPY, not_yet_s=1.0), None, Decision(start_postcopy=True)])
    it = Pilot(lambda seen: next(answers), Objectives(may_postcopy=True))  # type: ignore[arg-type, return-value]
    it.setup(0)
    assert it.setup(1).fault
    assert not it.ask(Reason.ITERATION, Ledger(), 2).decision.start_postcopy


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


def test_a_throttle_that_can_not_be_had_any_more_is_not_taken_any_more() -> None:
    it = pilot(Decision(outside_throttle=0.5), Objectives(greatest_throttle=0.9))
    it.learn(Abilities(outside_throttle=True))
    assert it.setup(0).knobs.outside_throttle == 0.5
    it.learn(Abilities(outside_throttle=True, measuring=True))
    assert it.knobs.outside_throttle == 0.5
    it.learn(Abilities())
    assert it.knobs.outside_throttle == 0.0
    asked = it.ask(Reason.TICK, Ledger(), 0)
    assert asked.knobs.outside_throttle == 0.0
    assert "can't slow the source's vCPUs" in asked.clamped[0]
