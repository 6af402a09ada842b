"""How often it is looked ahead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from tests.support.driving import nothing
from tests.support.looks import MIB, SECOND, Looks
from whimbrel.engine.foresight import Outlook
from whimbrel.engine.foresight_watch import Foresight
from whimbrel.engine.lookout import LOOK_AT_SYNC_NS, LOOK_EVERY_NS, LOOKS, Lookout
from whimbrel.engine.pilot import Pilot
from whimbrel.engine.policy import Knobs, Objectives
from whimbrel.engine.statistics import Ledger, Statistics

GOAL = Objectives()


def busy(_: float) -> float:
    """More than the limit lets through, all the time."""
    return 150.0 * MIB


def looked(lookout: Lookout, pilot: Pilot, ledger: Ledger, at_s: float, *, moved: bool = False) -> list[Outlook]:
    """See it, then look ahead; the forecast that came of it, if any."""
    lookout.see(ledger, pilot)
    made = lookout.look(ledger, pilot, round(at_s * SECOND), moved=moved)
    return [made] if made is not None else []


def keeper() -> tuple[Lookout, Pilot]:
    """One that looks ahead, and a pilot that began at 0."""
    return Lookout(Foresight(objectives=GOAL)), Pilot(nothing, GOAL)


def test_it_looks_every_second_and_at_every_sync() -> None:
    lookout, pilot = keeper()
    looks = Looks(busy)
    made = [each for ledger in looks.run(4) for each in looked(lookout, pilot, ledger, looks.now_s)]
    assert {each.iteration for each in made} == {1, 2, 3, 4, 5}
    gaps = [after.at_s - before.at_s for before, after in pairwise(made)]
    assert all(LOOK_AT_SYNC_NS / SECOND <= gap <= LOOK_EVERY_NS / SECOND + 0.2 for gap in gaps)
    assert lookout.last == made[-1]


def test_a_forecast_wants_something_new() -> None:
    lookout, pilot = keeper()
    looks = Looks(busy)
    assert lookout.look(looks.ledger, pilot, 10 * SECOND, moved=False) is None
    made = [each for ledger in looks.run(1) for each in looked(lookout, pilot, ledger, looks.now_s)]
    assert lookout.look(looks.ledger, pilot, 100 * SECOND, moved=False) is None
    assert not looked(lookout, pilot, looks.ledger, made[-1].at_s + 0.05)
    assert lookout.look(looks.ledger, pilot, 100 * SECOND, moved=False) is not None, "that was not due yet"


def test_a_sync_that_came_too_soon_is_not_forgotten() -> None:
    lookout, pilot = keeper()
    looks = Looks(busy)
    made = [each for ledger in looks.run(1) for each in looked(lookout, pilot, ledger, looks.now_s)]
    last_s, pages = made[-1].at_s, looks.ledger.last
    assert pages is not None
    for step, iteration in ((1, pages.iteration + 1), (2, pages.iteration + 1)):
        at_s = last_s + step * 0.06
        looks.ledger = looks.ledger.add(replace(pages, at_ns=round(at_s * SECOND), iteration=iteration))
        assert len(looked(lookout, pilot, looks.ledger, at_s)) == step - 1, "a tenth of a second after the last"


def test_what_is_new_of_a_verdict_stays_until_there_is_more() -> None:
    lookout, pilot = keeper()
    looks = Looks(busy)
    made = [each for ledger in looks.run(8) for each in looked(lookout, pilot, ledger, looks.now_s)]
    (told,) = [each.news for each in made if each.news]
    assert lookout.news == told
    assert lookout.last is not None
    assert lookout.last.news == ""


def test_a_long_migration_is_looked_at_ever_more_seldom() -> None:
    """A sync every second for an hour: about 50 looks for each time that it takes e times as long."""
    lookout, pilot = keeper()
    looks = Looks(busy)
    count = sum(len(looked(lookout, pilot, ledger, looks.now_s)) for ledger in looks.run(1))
    ledger = looks.ledger
    for second in range(6, 3600):
        at_ns = second * SECOND
        ledger = ledger.add(
            Statistics(
                at_ns=at_ns, iteration=second, remaining_bytes=150 * MIB, transferred_bytes=second * 100 * MIB,
                total_bytes=500 * MIB,
            )
        )  # fmt: skip
        count += len(looked(lookout, pilot, ledger, second))
    assert 3 * LOOKS < count < 6 * LOOKS


def test_when_the_guest_moved_decides_whether_it_was_in_time() -> None:
    """Not when it is looked at again: pages of a guest that moved in time may follow for long."""
    for deadline_s, meets in ((5.5, 0.0), (6.5, 1.0)):
        goal, looks = Objectives(deadline_s=deadline_s), Looks(busy)
        lookout, pilot = Lookout(Foresight(objectives=goal)), Pilot(nothing, goal)
        for ledger in looks.run(1):
            looked(lookout, pilot, ledger, looks.now_s)
        for at_s in (6.0, 8.0):
            looked(lookout, pilot, looks.ledger, at_s, moved=True)
            assert lookout.last is not None
            assert lookout.last.meets == pytest.approx(meets, abs=1e-3)


def test_what_comes_out_of_a_log_is_learnt_from_and_nothing_is_said() -> None:
    lookout, pilot = keeper()
    looks = Looks(busy)
    for ledger in looks.run(3):
        lookout.see(ledger, pilot, silent=True)
        assert lookout.look(ledger, pilot, round(looks.now_s * SECOND), moved=False) is None
    assert len(looked(lookout, pilot, looks.ledger, looks.now_s)) == 1
    assert lookout.last is not None
    assert lookout.last.iteration == 4


@dataclass(slots=True, kw_only=True)
class Raises(Foresight):
    """A forecast with a defect."""

    def outlook(
        self,
        ledger: Ledger,
        knobs: Knobs,
        at_s: float,
        *,
        asked_for: frozenset[str] = frozenset(),
        moved_s: float | None = None,
    ) -> Outlook | None:
        raise ZeroDivisionError("no bandwidth")


def test_one_that_raises_is_not_asked_again() -> None:
    lookout, pilot = Lookout(Raises(objectives=GOAL)), Pilot(nothing, GOAL)
    looks = Looks(busy)
    assert not [each for ledger in looks.run(2) for each in looked(lookout, pilot, ledger, looks.now_s)]
    assert lookout.fault == "ZeroDivisionError('no bandwidth')"
    assert lookout.last is None
