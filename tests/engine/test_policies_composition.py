"""``first``, ``then`` and ``when``: who is asked, when, and what becomes of what they say."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.support.asking import ALL_ALLOWED, asked, boundary, setup, tick
from tests.support.scenes import MIB, Scene, run
from whimbrel.engine.errors import BadInput
from whimbrel.engine.pilot import GREATEST_WAKE_S, Nonsense, Pilot
from whimbrel.engine.policies import Condition, Fixed, HybridAfter, LeastDowntime, first, then, when
from whimbrel.engine.policies.composition import decides, merged
from whimbrel.engine.policy import Decision, Knobs, Objectives, Observation, Policy, Reason
from whimbrel.engine.statistics import Ledger, Statistics

SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class Scripted:
    """Answers what it was told to, and keeps what it was asked."""

    answers: dict[Reason, Decision] = field(default_factory=dict[Reason, Decision])
    seen: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])

    def __call__(self, seen: Observation) -> Decision:
        self.seen.append((seen.reason.value, round(seen.elapsed_s, 3)))
        return self.answers.get(seen.reason, Decision())

    @property
    def ticks(self) -> list[float]:
        return [at_s for reason, at_s in self.seen if reason == "tick"]


def says(**what: Any) -> Scripted:
    """The same at every occasion, but for the capabilities, which are asked for at the start only."""
    start = Decision(**what)
    later = replace(start, capabilities={}, measure_s=(), not_yet_s=None)
    return Scripted({reason: start if reason is Reason.SETUP else later for reason in Reason})


def at_setup(**what: Any) -> Scripted:
    return Scripted({Reason.SETUP: Decision(**what)})


def steer(policy: Policy, until_s: float, *, boundaries_s: tuple[float, ...] = ()) -> Pilot:
    """Let a pilot ask it, with statistics every 10 ms, up to a time; iterations begin at some times."""
    pilot = Pilot(policy, ALL_ALLOWED)
    pilot.setup(0)
    pilot.start(0)
    ledger, pending = Ledger(), list(boundaries_s)
    for step in range(1, round(until_s * 100) + 1):
        now_ns = step * SECOND_NS // 100
        ledger = ledger.add(Statistics(at_ns=now_ns, iteration=1 + len(boundaries_s) - len(pending)))
        if pending and now_ns >= pending[0] * SECOND_NS:
            pending.pop(0)
            pilot.ask(Reason.ITERATION, ledger, now_ns)
        elif pilot.tick_due(now_ns):
            pilot.ask(Reason.TICK, ledger, now_ns)
    assert pilot.faults == 0
    return pilot


# ---- first


def test_the_first_that_decides_something_has_its_answer_taken_whole() -> None:
    one, two = says(downtime_limit_s=0.1), says(downtime_limit_s=0.2, bandwidth_bytes_per_s=5)
    assert first(one, two)(boundary(1.0)) == Decision(downtime_limit_s=0.1)
    assert two.seen == []


def test_one_that_has_nothing_to_say_leaves_the_word_to_the_next() -> None:
    """A cadence and a sentence alone decide nothing."""
    silent, two = says(because="hm", wake_after_s=1.0), says(bandwidth_bytes_per_s=0)
    decision = first(silent, two)(boundary(1.0))
    assert decision == Decision(bandwidth_bytes_per_s=0, wake_after_s=1.0)
    assert silent.seen == [("iteration", 1.0)]


def test_when_nobody_decides_nothing_is_decided() -> None:
    assert first(says(), says())(boundary(1.0)) == Decision()


def test_before_the_start_all_are_asked_and_the_first_to_state_a_setting_sets_it() -> None:
    one = says(downtime_limit_s=0.1, because="one", capabilities={"postcopy-ram": True, "xbzrle": False})
    two = says(downtime_limit_s=0.2, bandwidth_bytes_per_s=0, because="two", capabilities={"xbzrle": True})
    assert first(one, two)(setup()) == Decision(
        downtime_limit_s=0.1,
        bandwidth_bytes_per_s=0,
        capabilities={"postcopy-ram": True, "xbzrle": True},
        because="one; two",
    )


def test_of_two_capabilities_that_qemu_does_not_take_together_the_first_is_asked_for() -> None:
    """QEMU would refuse both, and the migration would not begin."""
    limited, throttled = ({name: True} for name in ("dirty-limit", "auto-converge"))
    for one, other in ((limited, throttled), (throttled, limited)):
        together = first(at_setup(capabilities=one), at_setup(capabilities=other))(setup())
        assert {name for name, on in together.capabilities.items() if on} == set(one)
        assert together.because == f"{next(iter(other))} left out, which QEMU does not take with {next(iter(one))}"


def test_the_dirty_limit_of_one_whose_turn_comes_later_slows_nobody_before() -> None:
    """QEMU's own would be 1 MB/s."""
    later = at_setup(capabilities={"dirty-limit": True}, dirty_limit_bytes_per_s=20 * MIB)
    whole = then(says(), later, after_s=1.0)
    assert whole(setup()).dirty_limit_bytes_per_s == 1 << 50
    assert whole(boundary(2.0)).dirty_limit_bytes_per_s == 20 * MIB


def test_a_dirty_limit_is_lifted_when_its_policy_is_done() -> None:
    whole = then(at_setup(capabilities={"dirty-limit": True}, dirty_limit_bytes_per_s=MIB), says(), after_s=1.0)
    assert whole(setup()).dirty_limit_bytes_per_s == MIB
    assert whole(boundary(2.0)).dirty_limit_bytes_per_s == 1 << 50


def test_one_that_was_never_asked_is_asked_at_the_first_occasion() -> None:
    """As after a manager's death: nobody is asked before the start again, and the first occasion is a tick."""
    inner = says(wake_after_s=0.5)
    whole = then(inner, says(), after_s=60.0)
    assert whole(tick(10.0)).wake_after_s == 0.5
    whole(tick(10.2))
    assert inner.ticks == [10.0]


def test_where_nothing_may_slow_the_guest_no_throttle_is_set_at_a_change() -> None:
    allowed = replace(ALL_ALLOWED, greatest_throttle=0.0)
    whole = then(says(), at_setup(capabilities={"auto-converge": True}, throttle_initial=0.5), after_s=1.0)
    pilot = Pilot(whole, allowed)
    pilot.setup(0)
    pilot.start(0)
    changed = pilot.ask(Reason.ITERATION, Ledger(), 2 * SECOND_NS)
    assert "hands over" in changed.decision.because
    assert not [each for each in changed.clamped if each.startswith("throttle ceiling")]


def test_a_capability_that_nobody_wants_stays_off() -> None:
    assert first(says(capabilities={"xbzrle": False}), says())(setup()).capabilities == {"xbzrle": False}


def test_all_may_measure_and_the_longest_wait_counts() -> None:
    one, two = at_setup(not_yet_s=2.0, measure_s=(1.0,)), at_setup(not_yet_s=3.0, measure_s=(5.0,))
    decision = first(one, two)(setup())
    assert (decision.not_yet_s, decision.measure_s) == (3.0, (1.0,))


def test_each_keeps_its_own_cadence() -> None:
    quick, slow = at_setup(wake_after_s=0.1), at_setup(wake_after_s=0.25)
    steer(first(quick, slow), 1.0)
    assert quick.ticks == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert slow.ticks == [0.25, 0.5, 0.75, 1.0]


def test_a_cadence_is_what_it_would_be_alone() -> None:
    """Whoever else is asked; an iteration puts the next tick off, as everywhere."""
    alone, other = at_setup(wake_after_s=0.3), at_setup(wake_after_s=0.3)
    steer(alone, 2.0, boundaries_s=(0.5, 1.2))
    steer(first(at_setup(wake_after_s=0.07), other), 2.0, boundaries_s=(0.5, 1.2))
    assert alone.seen == other.seen
    assert alone.ticks == [0.3, 0.8, 1.1, 1.5, 1.8]


def test_one_that_was_not_asked_because_another_decided_is_asked_soon() -> None:
    """Its turn was at 0.5, together with the other's."""
    loud = Scripted({Reason.SETUP: Decision(wake_after_s=0.5), Reason.TICK: Decision(downtime_limit_s=0.1)})
    patient = at_setup(wake_after_s=0.5)
    steer(first(loud, patient), 1.2)
    assert loud.ticks == [0.5, 1.0]
    assert patient.ticks == [0.51, 1.01]


def test_fewer_than_two_are_no_choice() -> None:
    with pytest.raises(BadInput, match="two policies or more"):
        first(Fixed())


# ---- then


def test_one_until_a_time_then_the_other() -> None:
    one, two = says(downtime_limit_s=0.1), says(downtime_limit_s=0.2)
    policy = then(one, two, after_s=30.0)
    assert policy(setup()).downtime_limit_s == 0.1
    assert policy(boundary(29.9)).downtime_limit_s == 0.1
    decision = policy(tick(30.0))
    assert decision.downtime_limit_s == 0.2
    assert decision.because == "Scripted hands over to Scripted"
    assert policy(boundary(31.0)) == Decision(downtime_limit_s=0.2, wake_after_s=GREATEST_WAKE_S)
    assert one.seen[-1] == ("iteration", 29.9)


def test_it_wakes_by_itself_for_that() -> None:
    two = at_setup()
    steer(then(at_setup(), two, after_s=0.7), 2.0)
    assert two.seen == [("setup", 0.0), ("tick", 0.7)]


def test_iterations_may_say_when() -> None:
    policy = then(says(downtime_limit_s=0.1), says(downtime_limit_s=0.2), iterations=2)
    said = [policy(boundary(number, iteration=number)).downtime_limit_s for number in range(1, 5)]
    assert said == [0.1, 0.1, 0.2, 0.2]


def test_a_condition_may_say_when_and_it_is_for_good() -> None:
    policy = then(says(downtime_limit_s=0.1), says(downtime_limit_s=0.2), until=Condition("remaining_bytes", "<", 50))
    policy(setup())
    said = [policy(tick(at_s, remaining_bytes=left)).downtime_limit_s for at_s, left in ((1, 90), (2, 40), (3, 90))]
    assert said[1:] == [0.2, None]  # nobody's time had come at the first and the last


def test_whichever_comes_first_counts() -> None:
    policy = then(at_setup(), says(downtime_limit_s=0.2), after_s=9.0, iterations=1, until=never)
    assert policy(boundary(1.0, iteration=2)).downtime_limit_s == 0.2


def test_what_holds_before_the_start_does_not_count_yet() -> None:
    """Nothing remains before there is something."""
    policy = then(says(downtime_limit_s=0.1), says(downtime_limit_s=0.2), until=lambda seen: seen.remaining_bytes == 0)
    assert policy(setup()).downtime_limit_s == 0.1


def test_a_time_has_to_be_said() -> None:
    with pytest.raises(BadInput, match="after, iterations or until"):
        then(Fixed(), Fixed())


def test_the_settings_of_the_later_one_are_applied_when_its_turn_comes() -> None:
    later = at_setup(downtime_limit_s=0.05, bandwidth_bytes_per_s=7, multifd_channels=4, capabilities={"multifd": True})
    policy = then(at_setup(downtime_limit_s=0.1), later, iterations=1)
    start = policy(setup())
    assert (start.downtime_limit_s, start.bandwidth_bytes_per_s) == (0.1, None)
    assert (start.multifd_channels, start.capabilities) == (4, {"multifd": True})
    decision = policy(boundary(1.0, iteration=2))
    assert (decision.downtime_limit_s, decision.bandwidth_bytes_per_s) == (0.05, 7)
    assert (decision.multifd_channels, decision.capabilities) == (None, {})


def test_what_it_does_not_set_is_as_it_is_without_any_policy() -> None:
    """What the one before took from the guest is given back."""
    policy = then(says(downtime_limit_s=0.1), at_setup(), iterations=1)
    policy(setup())
    decision = policy(boundary(1.0, iteration=2, knobs=Knobs(outside_throttle=0.5)))
    assert (decision.downtime_limit_s, decision.bandwidth_bytes_per_s, decision.outside_throttle) == (10.0, 0, 0.0)


def test_what_it_decides_at_once_goes_before_its_settings() -> None:
    later = Scripted({Reason.SETUP: Decision(downtime_limit_s=0.05), Reason.ITERATION: Decision(downtime_limit_s=0.2)})
    policy = then(at_setup(), later, iterations=1)
    policy(setup())
    assert policy(boundary(1.0, iteration=2)).downtime_limit_s == 0.2


def test_a_deadline_that_has_passed_is_told_to_the_new_one_once() -> None:
    later = Scripted({Reason.DEADLINE: Decision(switch_over=True, because="late")})
    policy = then(says(), later, after_s=10.0)
    policy(setup())
    policy(asked(Reason.DEADLINE, 5.0))
    decision = policy(tick(10.0))
    assert decision.switch_over
    assert decision.because == "Scripted hands over to Scripted: late"
    policy(boundary(11.0))
    assert [reason for reason, _ in later.seen] == ["setup", "deadline", "iteration"]


def test_functions_are_called_by_their_name() -> None:
    def patient(seen: Observation) -> Decision:
        return Decision()

    policy = then(patient, Fixed(), iterations=1)
    assert policy(boundary(1.0, iteration=2)).because == "patient hands over to Fixed"


def test_only_one_in_charge_postpones_the_start() -> None:
    assert then(at_setup(not_yet_s=4.0), at_setup(), iterations=1)(setup()).not_yet_s == 4.0
    decision = then(at_setup(), at_setup(not_yet_s=4.0, measure_s=(1.0,)), iterations=1)(setup())
    assert (decision.not_yet_s, decision.measure_s) == (None, (1.0,))


# ---- QEMU's throttle in compositions


def test_qemus_throttle_sleeps_while_one_is_in_charge_that_does_not_want_it() -> None:
    throttling = at_setup(capabilities={"auto-converge": True}, throttle_increment=0.3)
    policy = then(at_setup(), throttling, iterations=1)
    start = policy(setup())
    assert (start.throttle_initial, start.throttle_increment, start.throttle_ceiling) == (0.01, 0.01, 0.01)
    decision = policy(boundary(1.0, iteration=2))
    assert (decision.throttle_initial, decision.throttle_increment, decision.throttle_ceiling) == (0.2, 0.3, 0.99)
    assert (decision.throttle_trigger, decision.throttle_tailslow) == (0.5, False)


def test_it_goes_to_sleep_when_its_policy_is_done() -> None:
    policy = then(at_setup(capabilities={"auto-converge": True}), at_setup(), iterations=1)
    assert policy(setup()).throttle_ceiling is None
    assert policy(boundary(1.0, iteration=2)).throttle_ceiling == 0.01


def test_where_nothing_may_slow_the_guest_there_is_nothing_to_put_to_sleep() -> None:
    policy = then(at_setup(), at_setup(capabilities={"auto-converge": True}), iterations=1)
    assert policy(setup(objectives=Objectives())).throttle_ceiling is None


# ---- when


def never(_: Observation) -> bool:
    return False


def test_a_condition_chooses_back_and_forth() -> None:
    many, few = says(downtime_limit_s=0.1), says(downtime_limit_s=0.2)
    policy = when(Condition("iteration", ">", 3), many, few)
    assert policy(setup()).downtime_limit_s == 0.2
    said = [policy(boundary(at_s, iteration=number)) for at_s, number in ((1, 3), (2, 4), (3, 5), (4, 1))]
    assert [each.downtime_limit_s for each in said] == [0.2, 0.1, 0.1, 0.2]
    assert len(many.seen) == len(few.seen) == 3


def test_it_may_hold_from_the_start() -> None:
    policy = when(lambda seen: seen.objectives.may_postcopy, says(downtime_limit_s=0.1), says(downtime_limit_s=0.2))
    assert policy(setup()).downtime_limit_s == 0.1
    assert policy(setup(objectives=Objectives())).downtime_limit_s == 0.2


@pytest.mark.parametrize(
    ("test", "wakes"),
    [
        (Condition("iteration", ">", 3), []),
        (Condition("elapsed_s", ">=", 0.75), [0.75]),
        (Condition("elapsed_s", ">", 0.75), [0.76]),
        (Condition("remaining_bytes", "<", 0), [0.5, 1.0, 1.5, 2.0]),
        (never, [0.5, 1.0, 1.5, 2.0]),
    ],
    ids=["iteration", "from then on", "after then", "remaining", "function"],
)
def test_it_is_looked_at_as_often_as_it_can_change(test: Callable[[Observation], bool], wakes: list[float]) -> None:
    policy = when(test, at_setup(), at_setup())
    looked: list[float] = []

    def watched(seen: Observation) -> Decision:
        if seen.reason is Reason.TICK:
            looked.append(round(seen.elapsed_s, 3))
        return policy(seen)

    steer(watched, 2.2)
    assert looked == wakes


# ---- what holds for all


def test_they_nest_and_inner_cadences_hold() -> None:
    one, two, three = at_setup(wake_after_s=0.3), at_setup(wake_after_s=0.2), at_setup(wake_after_s=0.5)
    steer(first(then(one, two, after_s=1.0), three), 2.0)
    assert one.ticks == [0.3, 0.6, 0.9]
    assert two.ticks == [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
    assert three.ticks == [0.5, 1.01, 1.51]  # at 1 s the other changed hands, which is a decision


def test_an_answer_that_is_none_is_named() -> None:
    def broken(seen: Observation) -> Decision:
        return Decision(downtime_limit_s=-1.0)

    with pytest.raises(Nonsense, match="broken, in it, is wrong: it answered downtime_limit_s=-1"):
        first(broken, Fixed())(setup())


def test_they_can_be_copied_and_sent_elsewhere() -> None:
    """The simulator copies a policy for each run; a sweep sends it to another process."""
    policy = then(LeastDowntime(), HybridAfter(), after_s=1.0, until=Condition("progress", "<", 0.1))
    for twin in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert twin(setup()) == copy.deepcopy(policy)(setup())


def test_merging_takes_zero_and_false_for_something_said() -> None:
    zero = Decision(bandwidth_bytes_per_s=0, throttle_tailslow=False, outside_throttle=0.0)
    other = Decision(bandwidth_bytes_per_s=5, throttle_tailslow=True, outside_throttle=0.5, downtime_limit_s=1.0)
    assert merged([zero, other]) == replace(zero, downtime_limit_s=1.0)
    assert decides(zero)


def test_in_the_simulator_the_second_saves_what_the_first_can_not() -> None:
    scene = Scene(
        link_bytes_per_s=64 * MIB,
        pipe_bytes=MIB,
        ram_bytes=64 * MIB,
        working_set_bytes=48 * MIB,
        dirty_bytes_per_s=200 * MIB,
    )
    policy = then(LeastDowntime(), HybridAfter(iterations=1), after_s=3.0)
    course = run(scene, policy, Objectives(may_postcopy=True))
    assert course.outage_s < 0.1
    assert 3.0 < course.total_s < 4.5
