"""How often it is looked ahead."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support.driving import nothing
from tests.support.looks import MIB, SECOND, Looks
from whimbrel.engine.foresight_watch import Foresight
from whimbrel.engine.lookout import LOOK_AT_SYNC_NS, LOOK_EVERY_NS, LOOKS, Lookout
from whimbrel.engine.pilot import Pilot
from whimbrel.engine.policy import Objectives
from whimbrel.engine.statistics import Statistics

GOAL = Objectives()


def busy(_: float) -> float:
    """More than the limit lets through, all the time."""
    return 150.0 * MIB


def keeper() -> tuple[Lookout, Pilot]:
    """One that looks ahead, and a pilot that began at 0."""
    return Lookout(Foresight(objectives=GOAL)), Pilot(nothing, GOAL)


def test_it_looks_every_second_and_at_every_sync() -> None:
    lookout, pilot = keeper()
    looks = Looks(busy)
    for ledger in looks.run(4):
        lookout.look(ledger, pilot, round(looks.now_s * SECOND), moved=False)
    made = lookout.made()
    assert {each.iteration for each in made} == {1, 2, 3, 4, 5}
    gaps = [after.at_s - before.at_s for before, after in pairwise(made)]
    assert all(LOOK_AT_SYNC_NS / SECOND <= gap <= LOOK_EVERY_NS / SECOND + 0.2 for gap in gaps)
    assert lookout.last == made[-1]
    assert lookout.made() == []


def test_what_is_new_of_a_verdict_stays_until_there_is_more() -> None:
    lookout, pilot = keeper()
    looks = Looks(busy)
    for ledger in looks.run(8):
        lookout.look(ledger, pilot, round(looks.now_s * SECOND), moved=False)
    (told,) = [each.news for each in lookout.made() if each.news]
    assert lookout.news == told
    assert lookout.last is not None
    assert lookout.last.news == ""


def test_a_long_migration_is_looked_at_ever_more_seldom() -> None:
    """A sync every second for an hour: about 50 looks for each time that it takes e times as long."""
    lookout, pilot = keeper()
    looks = Looks(busy)
    for ledger in looks.run(1):
        lookout.look(ledger, pilot, round(looks.now_s * SECOND), moved=False)
    ledger, count = looks.ledger, len(lookout.made())
    for second in range(6, 3600):
        at_ns = second * SECOND
        ledger = ledger.add(
            Statistics(
                at_ns=at_ns, iteration=second, remaining_bytes=150 * MIB, transferred_bytes=second * 100 * MIB,
                total_bytes=500 * MIB,
            )
        )  # fmt: skip
        if lookout.learn(ledger, pilot) or second % 3:
            lookout.look(ledger, pilot, at_ns, moved=False)
            count += len(lookout.made())
    assert 3 * LOOKS < count < 6 * LOOKS


def test_when_the_guest_moved_decides_whether_it_was_in_time() -> None:
    """Not when it is looked at again: pages of a guest that moved in time may follow for long."""
    for deadline_s, meets in ((5.5, 0.0), (6.5, 1.0)):
        goal, looks = Objectives(deadline_s=deadline_s), Looks(busy)
        lookout, pilot = Lookout(Foresight(objectives=goal)), Pilot(nothing, goal)
        for ledger in looks.run(1):
            lookout.look(ledger, pilot, round(looks.now_s * SECOND), moved=False)
        for at_s in (6.0, 8.0):
            lookout.look(looks.ledger, pilot, round(at_s * SECOND), moved=True)
            assert lookout.last is not None
            assert lookout.last.meets == pytest.approx(meets, abs=1e-3)


def test_what_comes_out_of_a_log_is_learnt_from_and_nothing_is_said() -> None:
    lookout, pilot = keeper()
    ended = [lookout.learn(ledger, pilot) for ledger in Looks(busy).run(3)]
    assert sum(ended) == 3
    assert lookout.last is None
    assert lookout.made() == []
