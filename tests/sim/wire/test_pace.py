"""Virtual time beside the wall clock, which these tests hold in their hands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS, Clock
from whimbrel.sim.wire.pace import Pace


@dataclass
class Wall:
    """A wall clock that a test moves."""

    now_ns: int = 50 * SECOND_NS
    each_look_ns: int = 0

    def __call__(self) -> int:
        self.now_ns += self.each_look_ns
        return self.now_ns


def nothing() -> None:
    """Nothing happens."""


async def test_what_is_due_happens_before_what_comes_from_outside() -> None:
    """At ten times the speed ten seconds are one."""
    wall, seen = Wall(), list[str]()
    pace = Pace(Clock(), 10, wall)
    pace.clock.at(9 * SECOND_NS, lambda: seen.append("due"))
    pace.clock.at(11 * SECOND_NS, lambda: seen.append("later"))
    wall.now_ns += SECOND_NS
    pace.happen(lambda: seen.append(f"outside at {pace.clock.now_ns / SECOND_NS:g}"))
    pace.close()
    assert seen == ["due", "outside at 10"]


async def test_it_wakes_by_itself() -> None:
    """Nobody need ask: the loop's own timer brings what is due."""
    rung = asyncio.Event()
    pace = Pace(Clock(), 1000)
    pace.clock.at(SECOND_NS, rung.set)
    pace.happen(nothing)
    async with asyncio.timeout(5):
        await rung.wait()
    pace.close()
    assert pace.clock.now_ns >= SECOND_NS


async def test_what_is_asked_for_inside_happens_at_once() -> None:
    """A model that calls out and is called back does not wait for its own turn to end."""
    pace, seen = Pace(Clock(), 1, Wall()), list[str]()

    def outer() -> None:
        pace.happen(lambda: seen.append("inner"))
        seen.append("outer")

    pace.happen(outer)
    pace.close()
    assert seen == ["inner", "outer"]


async def test_a_process_that_was_stopped_is_told_so() -> None:
    """It wakes up long after it meant to: what fell due meanwhile falls into the stretch in which it was stopped."""
    wall, seen = Wall(), list[object]()
    pace = Pace(Clock(), 1, wall)
    pace.on_stop = seen.append
    pace.clock.at(MILLISECOND_NS, lambda: seen.append("due"))
    pace.happen(nothing)
    wall.now_ns += 3 * SECOND_NS
    pace.happen(nothing)
    pace.close()
    assert seen == [True, "due", False]


async def test_idleness_is_no_stop() -> None:
    """Where nothing was due nothing was missed."""
    wall, seen = Wall(), list[object]()
    pace = Pace(Clock(), 1, wall)
    pace.on_stop = seen.append
    pace.happen(nothing)
    wall.now_ns += 60 * SECOND_NS
    pace.happen(nothing)
    pace.close()
    assert not seen
    assert pace.clock.now_ns == 60 * SECOND_NS


async def test_a_model_that_is_too_slow_lags_and_leaves_the_sockets_their_turn() -> None:
    """Nothing is left out; only so much is done in one turn."""
    wall, seen = Wall(), list[int]()
    pace = Pace(Clock(), 1, wall)
    for number in range(1, 101):
        pace.clock.at(number, partial(seen.append, number))
    wall.now_ns += 100
    wall.each_look_ns = 2 * MILLISECOND_NS
    pace.happen(nothing)
    assert 0 < len(seen) < 100
    while len(seen) < 100:
        pace.happen(nothing)
    pace.close()
    assert seen == list(range(1, 101))


async def test_two_processes_agree_on_the_time_of_day() -> None:
    """Whenever each of them began, at any speed."""
    first_wall = Wall()
    second_wall = Wall(first_wall.now_ns + 7 * SECOND_NS)
    first, second = Pace(Clock(), 100, first_wall), Pace(Clock(), 100, second_wall)
    # Both read the real time of day, at (nearly) one moment; by their wall clocks 7 s lie between.
    assert abs((second.epoch_s + 7) - first.epoch_s - 7 * 100) < 1
    assert first.epoch_s != second.epoch_s


async def test_the_turn_is_told() -> None:
    """What stands around the model looks at it after everything that happened."""
    pace, turns = Pace(Clock(), 1, Wall()), list[int]()
    pace.on_turn = lambda: turns.append(pace.clock.now_ns)
    pace.happen(nothing)
    pace.close()
    assert turns == [0]
