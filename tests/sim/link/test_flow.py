"""How a pipe fills and drains."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from whimbrel.sim.link.flow import NEVER_NS, UNIT, Pipe

MILLISECOND_NS = 1_000_000
rates = st.integers(min_value=1, max_value=10**10)
spans = st.integers(min_value=0, max_value=10**11)
sizes = st.integers(min_value=1, max_value=10**8)


@st.composite
def pipes(draw: st.DrawFn) -> Pipe:
    """A pipe in any state that it can be in."""
    size = draw(sizes) * UNIT
    return Pipe(
        size,
        level=draw(st.integers(min_value=0, max_value=size)),
        waiting=draw(st.integers(min_value=0, max_value=10**18)),
        speed=draw(rates),
    )


@given(pipes(), rates, spans)
def test_nothing_is_lost_and_the_pipe_is_never_over_its_size(pipe: Pipe, share: int, span_ns: int) -> None:
    before = pipe.held + pipe.passed
    pipe.flow(share, span_ns)
    assert pipe.held + pipe.passed == before
    assert 0 <= pipe.level <= pipe.size
    assert pipe.waiting >= 0


@given(pipes(), rates, spans, spans)
def test_time_in_two_parts_is_the_same_as_at_once(pipe: Pipe, share: int, first_ns: int, then_ns: int) -> None:
    """So it does not matter when somebody looks."""
    at_once = pipe.copy()
    at_once.flow(share, first_ns + then_ns)
    pipe.flow(share, first_ns)
    pipe.flow(share, then_ns)
    assert pipe == at_once


@given(pipes(), rates, rates, spans)
def test_a_faster_link_never_carries_less(pipe: Pipe, share: int, more: int, span_ns: int) -> None:
    faster = pipe.copy()
    pipe.flow(share, span_ns)
    faster.flow(share + more, span_ns)
    assert faster.passed >= pipe.passed
    assert faster.waiting <= pipe.waiting


@given(pipes(), rates)
def test_what_waits_is_in_when_it_was_said_and_not_before(pipe: Pipe, share: int) -> None:
    due_ns = pipe.enters_within_ns(share)
    if due_ns:
        early = pipe.copy()
        early.flow(share, due_ns - 1)
        assert early.waiting > 0
    pipe.flow(share, due_ns)
    assert pipe.waiting == 0


@given(pipes(), rates, st.integers(min_value=0, max_value=10**18))
def test_an_amount_has_passed_when_it_was_said_and_not_before(pipe: Pipe, share: int, amount: int) -> None:
    amount = min(amount, pipe.held)
    due_ns = pipe.passes_within_ns(amount, share)
    if due_ns:
        early = pipe.copy()
        early.flow(share, due_ns - 1)
        assert early.passed < amount
    pipe.flow(share, due_ns)
    assert pipe.passed >= amount


@given(pipes(), rates, spans, rates)
def test_a_writer_gets_in_exactly_the_room_that_was_promised(pipe: Pipe, share: int, span_ns: int, speed: int) -> None:
    pipe.waiting = 0
    room = pipe.room(share, span_ns, speed)
    pipe.waiting, pipe.speed = room, speed
    assert pipe.enters_within_ns(share) <= span_ns
    pipe.waiting += 1
    assert pipe.enters_within_ns(share) > span_ns


def test_what_waits_already_takes_its_part_of_the_room() -> None:
    """100 units, of which 30 are spoken for; and never less than none."""
    assert Pipe(100, waiting=30, speed=10).room(5, 10, 10) == 70
    assert Pipe(100, waiting=130, speed=10).room(5, 10, 10) == 0


def test_what_waits_already_comes_first() -> None:
    pipe = Pipe(100 * UNIT, waiting=30 * UNIT, speed=10**9)
    assert pipe.room(0, MILLISECOND_NS, 10**9) == 70 * UNIT
    assert pipe.room(10**9, 50, 10**9) == 20 * UNIT
    assert pipe.room(10**9, 20, 10**9) == 0


def test_a_writer_whose_excess_fits_in_is_done_when_it_has_written_all() -> None:
    """100 units at 10 a nanosecond, against a drain of 9: the room of 90 would do for ten times as many."""
    pipe = Pipe(90, waiting=100, speed=10)
    assert pipe.enters_within_ns(9) == 10
    pipe.flow(9, 9)
    assert pipe.waiting == 10


def test_a_pipe_that_does_not_drain_takes_what_it_holds_and_no_more() -> None:
    pipe = Pipe(100 * UNIT, waiting=150 * UNIT, speed=10**9)
    assert pipe.enters_within_ns(0) >= NEVER_NS
    assert pipe.passes_within_ns(UNIT, 0) >= NEVER_NS
    pipe.flow(0, MILLISECOND_NS)
    assert (pipe.level, pipe.waiting, pipe.passed) == (100 * UNIT, 50 * UNIT, 0)
