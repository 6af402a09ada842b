"""Whatever a policy does, whoever asks it gets an answer or an error in time."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from whimbrel.engine.pilot import Pilot
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason
from whimbrel.engine.statistics import Ledger
from whimbrel.qmp_driver.supervision import Supervised

TICK = Observation(reason=Reason.TICK)


def forever(seen: Observation) -> Decision:
    while True:
        pass


def stubborn(seen: Observation) -> Decision:
    while True:
        try:
            while True:
                pass
        except Exception:  # as policies do that must never fail
            pass


def asleep(seen: Observation) -> Decision:
    time.sleep(60)
    return Decision()


def test_an_answer_is_passed_on() -> None:
    assert Supervised(lambda seen: Decision(because=seen.reason.value))(TICK) == Decision(because="tick")


@pytest.mark.parametrize("policy", [forever, stubborn])
def test_a_policy_that_loops_is_stopped(policy: type) -> None:
    it = Supervised(policy, within_s=0.05)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        it(TICK)
    thread = it._thread  # pyright: ignore[reportPrivateUsage]
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()


def test_a_policy_that_can_not_be_stopped_is_left_behind_and_not_asked_again() -> None:
    it = Supervised(asleep, within_s=0.05)
    for said in ("no answer within", "has not answered a question from before"):
        with pytest.raises(TimeoutError, match=said):
            it(TICK)


def test_one_that_answers_too_late_leaves_no_thread_that_waits_for_more() -> None:
    """It caught the order to end, and answers after all."""
    asked, may_answer = threading.Event(), threading.Event()

    def late(seen: Observation) -> Decision:
        asked.set()
        try:
            while not may_answer.wait(5):
                pass
        except BaseException:  # the order to end, which is what such a policy does not obey
            may_answer.wait(5)
        return Decision()

    it = Supervised(late, within_s=0.05)
    with pytest.raises(TimeoutError):
        it(TICK)
    thread = it._thread  # pyright: ignore[reportPrivateUsage]
    assert thread is not None
    may_answer.set()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_what_it_raises_is_raised_where_it_was_asked_and_it_may_be_asked_again(error: BaseException) -> None:
    answers: Iterator[BaseException | Decision] = iter([error, Decision(because="better")])

    def policy(seen: Observation) -> Decision:
        answer = next(answers)
        if isinstance(answer, Decision):
            return answer
        raise answer

    it = Supervised(policy)
    with pytest.raises(type(error)):
        it(TICK)
    assert it(TICK).because == "better"


def test_the_first_answer_may_take_longer() -> None:
    """Here without waiting: the limit before the start is another one."""
    it = Supervised(forever, within_s=30.0, first_within_s=0.05)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        it(Observation(reason=Reason.SETUP))


@dataclass(slots=True)
class Counting:
    asked: int = 0

    def __call__(self, seen: Observation) -> Decision:
        self.asked += 1
        return Decision(because=str(self.asked))


def test_a_copy_asks_a_copy() -> None:
    first = Supervised(Counting())
    first(TICK)
    second = copy.deepcopy(first)
    assert second(TICK).because == "2"
    assert first(TICK).because == "2"


def test_nothing_stays_behind() -> None:
    before = threading.active_count()
    it = Supervised(Counting())
    it(TICK)
    thread = it._thread  # pyright: ignore[reportPrivateUsage]
    assert thread is not None
    assert "Counting" in repr(it)
    del it
    thread.join(5)
    assert threading.active_count() <= before


def test_the_engine_says_it_once_and_goes_on() -> None:
    pilot = Pilot(Supervised(forever, within_s=0.05), Objectives(), "mine.py:loop")
    said = [pilot.ask(Reason.TICK, Ledger(), 0).fault for _ in range(2)]
    assert said[0].startswith(
        "the policy mine.py:loop failed when it was asked (tick at 0.00 s): no answer within 0.05 s"
    )
    assert said[1] == ""
