"""Procedures in virtual time."""

from __future__ import annotations

from functools import partial

import pytest

from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver_tasks import CutShort, Loop, Promise, Task, Work


class Trouble(Exception):
    """Raised by the procedures of these tests."""


def napping(loop: Loop, span_s: float, value: str, said: list[str]) -> Work[str]:
    """Sleep, say something, and end with it."""
    try:
        yield loop.sleep(span_s)
        said.append(value)
    finally:
        said.append(f"{value} over")
    return value


def failing(loop: Loop, span_s: float) -> Work[str]:
    """Sleep, and fail."""
    yield loop.sleep(span_s)
    raise Trouble


def test_a_procedure_goes_on_when_what_it_waits_for_has_come() -> None:
    clock = Clock()
    loop = Loop(clock)
    promise: Promise[int] = Promise()

    def work() -> Work[int]:
        number: int = yield promise
        return number + 1

    task = loop.start(work())
    assert not task.done
    loop.run(lambda: promise.keep(41))
    assert task.result() == 42


def test_what_is_asked_for_at_one_time_happens_in_that_order_and_never_in_the_middle_of_something() -> None:
    loop = Loop(Clock())
    said: list[str] = []

    def first() -> None:
        loop.soon(lambda: said.append("second"))
        said.append("first")

    loop.run(first)
    assert said == ["first", "second"]


def test_an_error_is_raised_where_it_was_waited_for() -> None:
    clock = Clock()
    loop = Loop(clock)
    caught: list[str] = []

    def work() -> Work[None]:
        try:
            yield loop.start(failing(loop, 1.0))
        except Trouble:
            caught.append("here")

    loop.start(work())
    clock.advance_to(2 * SECOND_NS)
    assert caught == ["here"]


def test_an_error_that_nobody_waits_for_is_a_defect_and_comes_out() -> None:
    clock = Clock()
    Loop(clock).start(failing(Loop(clock), 1.0))
    with pytest.raises(Trouble):
        clock.advance_to(2 * SECOND_NS)


def test_one_that_is_cut_short_cleans_up_and_goes_no_further() -> None:
    clock = Clock()
    loop = Loop(clock)
    said: list[str] = []
    task = loop.start(napping(loop, 1.0, "a", said))
    task.cancel()
    clock.advance_to(2 * SECOND_NS)
    assert said == ["a over"]
    assert isinstance(task.error, CutShort)


def test_a_time_limit_cuts_short_what_takes_longer() -> None:
    clock = Clock()
    loop = Loop(clock)
    said: list[str] = []

    def work() -> Work[None]:
        said.append((yield from loop.within(napping(loop, 1.0, "short", said), 2.0)))
        try:
            yield from loop.within(napping(loop, 3.0, "long", said), 2.0)
        except TimeoutError:
            said.append(f"too long at {clock.now_ns // SECOND_NS} s")

    loop.start(work())
    clock.advance_to(20 * SECOND_NS)
    assert said == ["short", "short over", "short", "long over", "too long at 3 s"]


def test_several_at_once_end_with_all_that_they_came_to() -> None:
    clock = Clock()
    loop = Loop(clock)
    said: list[str] = []
    task = loop.start(loop.together(napping(loop, 2.0, "late", said), napping(loop, 1.0, "early", said)))
    clock.advance_to(3 * SECOND_NS)
    assert task.result() == ["late", "early"]
    assert said[0] == "early"


def test_the_first_error_of_several_is_raised_at_once_and_the_others_go_on() -> None:
    clock = Clock()
    loop = Loop(clock)
    said: list[str] = []
    caught: list[int] = []

    def work() -> Work[None]:
        try:
            yield from loop.together(failing(loop, 1.0), napping(loop, 2.0, "b", said))
        except Trouble:
            caught.append(clock.now_ns)

    loop.start(work())
    clock.advance_to(3 * SECOND_NS)
    assert caught == [SECOND_NS]
    assert said == ["b", "b over"]


def test_each_of_several_is_seen_to_its_end_where_that_is_asked_for() -> None:
    clock = Clock()
    loop = Loop(clock)
    said: list[str] = []
    task = loop.start(loop.settled(failing(loop, 2.0), failing(loop, 1.0), napping(loop, 1.5, "c", said)))
    clock.advance_to(3 * SECOND_NS)
    ended: list[Task[str]] = task.result()
    assert [type(each.error) for each in ended] == [Trouble, Trouble, type(None)]


@pytest.mark.parametrize("way", ["together", "settled"])
def test_who_is_cut_short_cuts_short_what_it_began(way: str) -> None:
    clock = Clock()
    loop = Loop(clock)
    said: list[str] = []
    works = (napping(loop, 2.0, "d", said), napping(loop, 2.0, "e", said))
    task = loop.start(loop.together(*works) if way == "together" else loop.settled(*works))
    clock.advance_to(SECOND_NS)
    task.cancel()
    clock.advance_to(9 * SECOND_NS)
    assert said == ["d over", "e over"]


def test_nothing_happens_in_a_process_that_has_ended_and_all_of_it_later_in_one_that_was_stopped() -> None:
    clock = Clock()
    stopped, ended = Loop(clock), Loop(clock)
    said: list[str] = []
    for loop, name in ((stopped, "stopped"), (ended, "ended")):
        loop.after(SECOND_NS, partial(said.append, name))
    stopped.time.freeze()
    ended.end()
    clock.advance_to(5 * SECOND_NS)
    assert said == []
    stopped.time.thaw()
    clock.advance_to(6 * SECOND_NS)
    assert said == ["stopped"]
