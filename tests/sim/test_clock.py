"""Virtual time: order, shuffling by seed, and that nothing is lost."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from whimbrel.sim.clock import Clock


def happenings(clock: Clock, times_ns: list[int]) -> list[tuple[int, int]]:
    """What happens when, of things asked for in this order."""
    seen: list[tuple[int, int]] = []
    for number, when_ns in enumerate(times_ns):
        clock.at(when_ns, lambda number=number: seen.append((clock.now_ns, number)))  # type: ignore[misc]
    while clock.step():
        pass
    return seen


@given(st.lists(st.integers(0, 50)), st.integers(0, 3))
def test_everything_happens_once_at_its_time_and_in_times_order(times_ns: list[int], seed: int) -> None:
    seen = happenings(Clock(Random(seed)), times_ns)
    assert [at_ns for at_ns, _ in seen] == sorted(times_ns)
    assert sorted(number for _, number in seen) == list(range(len(times_ns)))
    assert all(at_ns == times_ns[number] for at_ns, number in seen)


def test_without_dice_what_is_due_together_happens_as_it_was_asked_for() -> None:
    assert [number for _, number in happenings(Clock(), [7] * 20)] == list(range(20))


def test_the_seed_decides_what_happens_first_of_what_is_due_together() -> None:
    """The same seed the same order; other seeds, in time, each of the possible ones."""
    orders = [tuple(number for _, number in happenings(Clock(Random(seed)), [7, 7, 7])) for seed in range(60)]
    again = [tuple(number for _, number in happenings(Clock(Random(seed)), [7, 7, 7])) for seed in range(60)]
    assert orders == again
    assert len(set(orders)) == 6


def test_what_is_cancelled_does_not_happen() -> None:
    clock = Clock()
    seen: list[str] = []
    timer = clock.after(5, lambda: seen.append("cancelled"))
    clock.after(6, lambda: seen.append("kept"))
    assert timer.pending
    timer.cancel()
    assert not timer.pending
    assert clock.next_ns() == 6
    clock.advance_to(10)
    assert (seen, clock.now_ns, clock.next_ns(), clock.step()) == (["kept"], 10, None, False)


def test_a_time_that_has_passed_means_now() -> None:
    clock = Clock(now_ns=100)
    seen: list[int] = []
    clock.at(3, lambda: seen.append(clock.now_ns))
    clock.advance_to(100)
    assert seen == [100]


def test_going_to_a_time_stops_short_of_what_comes_after_it() -> None:
    clock = Clock()
    seen: list[int] = []
    for when_ns in (5, 10, 11):
        clock.at(when_ns, lambda: seen.append(clock.now_ns))
    clock.advance_to(10)
    assert (seen, clock.now_ns) == ([5, 10], 10)


def test_what_happens_may_ask_for_more() -> None:
    """Also for the same time: it happens before time goes on."""
    clock = Clock()
    seen: list[int] = []

    def again() -> None:
        seen.append(clock.now_ns)
        if len(seen) < 3:
            clock.after(0, again)

    clock.at(4, again)
    clock.advance_to(4)
    assert seen == [4, 4, 4]


def test_running_ends_when_it_holds_at_the_limit_or_when_nothing_is_to_come() -> None:
    clock = Clock()
    seen: list[int] = []
    for when_ns in (1, 2, 3, 50):
        clock.at(when_ns, lambda: seen.append(clock.now_ns))
    assert clock.run(lambda: len(seen) == 2, 100)
    assert clock.now_ns == 2
    assert not clock.run(lambda: False, 10)
    assert seen == [1, 2, 3]
    assert not clock.run(lambda: False, 100)
    assert seen == [1, 2, 3, 50]
