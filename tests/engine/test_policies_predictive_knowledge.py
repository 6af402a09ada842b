"""What ``predictive`` learns of guest and link, and how sure it is of that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.asking import ended
from whimbrel.engine.bounds import goodput
from whimbrel.engine.policies.predictive_knowledge import DOUBT, STEADY, Knowledge, own_s
from whimbrel.engine.policy import Measurement, Observation, Reason
from whimbrel.engine.slowing import Headroom
from whimbrel.engine.statistics import Iteration, Statistics

MIB = 1 << 20
LINK = 100.0 * MIB


def look(at_s: float, sent: float, *, zeros: int = 0, pages: int = 0, ran_s: float | None = None) -> Statistics:
    """`sent` in MiB."""
    return Statistics(
        at_ns=round(at_s * 1e9),
        transferred_bytes=round(sent * MIB),
        normal_pages=pages,
        duplicate_pages=zeros,
        vcpu_s=() if ran_s is None else (ran_s,),
    )


def seen(at_s: float, sent: float, *samples: Statistics, **what: Any) -> Observation:
    """In the first pass, unless it is said otherwise."""
    given: dict[str, Any] = {"iteration": 1, "remaining_bytes": 500 * MIB, "total_bytes": 1000 * MIB} | what
    return Observation(
        reason=Reason.TICK, elapsed_s=at_s, transferred_bytes=round(sent * MIB), samples=samples, **given
    )


def learnt() -> Knowledge:
    """The link, 100 MiB/s with no pipe to speak of."""
    known = Knowledge()
    for step in range(1, 13):
        known.look(seen(step * 0.06, step * 6.0))
    return known


def sync(
    known: Knowledge, *iterations: Iteration, throttle: float = 0.0, begun: Any = (), now: Any = ()
) -> Observation:
    """The last of these has ended."""
    at_s = iterations[-1].ended_ns / 1e9
    after = seen(at_s, 0.0, *now, iteration=iterations[-1].number + 1, iterations=iterations)
    known.sync(seen(iterations[-1].started_ns / 1e9, 0.0, *begun), replace(after, reason=Reason.ITERATION), throttle)
    return after


def passed(number: int, began_s: float, ended_s: float, start: float, dirtied: float, left: float = 0.0) -> Iteration:
    """Sizes in MiB."""
    return ended(
        number,
        began_s,
        ended_s,
        remaining_at_start_bytes=round(start * MIB),
        remaining_at_end_bytes=round(left * MIB),
        sent_bytes=round((start - left) * MIB),
        dirtied_bytes=round(dirtied * MIB),
    )


def test_the_link_is_known_after_a_dozen_looks() -> None:
    known = learnt()
    assert known.link_known
    assert known.bytes_per_s(seen(1.0, 0.0)) == pytest.approx(goodput(LINK), rel=0.01)
    assert known.pipe_s < 0.02
    assert known.swing == pytest.approx(STEADY)


def test_before_that_what_went_over_lately_is_all_there_is() -> None:
    assert Knowledge().bytes_per_s(seen(0.1, 0.0, bandwidth_bytes_per_s=LINK)) == goodput(LINK)
    assert Knowledge().bytes_per_s(seen(0.1, 0.0)) == goodput(1.0)


def test_later_looks_tell_whether_it_is_steady() -> None:
    steady, noisy = learnt(), learnt()
    sent_steady = sent_noisy = 72.0
    for step in range(1, 9):
        at_s = 1.0 + 0.4 * step
        before = at_s - 0.4
        steady.look(seen(at_s, 0.0, look(before, sent_steady), look(at_s, sent_steady + 40.0)))
        moved = 20.0 if step % 2 else 60.0
        noisy.look(seen(at_s, 0.0, look(before, sent_noisy), look(at_s, sent_noisy + moved)))
        sent_steady, sent_noisy = sent_steady + 40.0, sent_noisy + moved
    assert steady.swing < STEADY
    assert noisy.swing > 0.5


def test_a_link_that_halves_is_followed_and_counts_as_one_change() -> None:
    known = learnt()
    sent = 100.0
    for step in range(1, 13):
        at_s = 1.0 + 0.4 * step
        moved = 40.0 if step < 4 else 20.0
        known.look(seen(at_s, 0.0, look(at_s - 0.4, sent), look(at_s, sent + moved)))
        sent += moved
    assert known.bytes_per_s(seen(9.0, 0.0)) == pytest.approx(LINK / 2, rel=0.05)
    assert known.swing < 0.2


def test_among_zero_pages_a_look_tells_nothing_of_the_link() -> None:
    known = learnt()
    known.look(seen(2.0, 0.0, look(1.5, 150.0), look(2.0, 151.0, zeros=10_000, pages=100)))
    known.look(seen(2.5, 0.0, look(2.4, 200.0), look(2.5, 201.0)))  # too short a time
    known.look(seen(3.0, 0.0))  # no statistics
    assert known.bytes_per_s(seen(3.0, 0.0)) == pytest.approx(goodput(LINK), rel=0.01)


def test_a_first_pass_that_was_over_before_the_link_was_known_tells_of_it_all_the_same() -> None:
    known = Knowledge()
    sync(known, passed(1, 0.0, 0.2, 20.0, 1.0))
    assert known.bytes_per_s(seen(1.0, 0.0)) == pytest.approx(goodput(LINK), rel=0.01)
    nothing = Knowledge()
    sync(nothing, passed(1, 0.0, 0.0, 20.0, 1.0))
    assert nothing.known_bytes_per_s is None


def test_a_first_pass_full_of_zero_pages_does_not() -> None:
    known = Knowledge()
    sync(known, passed(1, 0.0, 0.2, 20.0, 1.0), begun=(look(0.0, 0.0),), now=(look(0.2, 20.0, zeros=900, pages=100),))
    assert known.known_bytes_per_s is None


def test_later_passes_tell_by_how_much_they_shrank_and_short_ones_do_not() -> None:
    """With XBZRLE more of the memory goes over than bytes do."""
    known = learnt()
    first, second = passed(1, 0.0, 5.0, 500.0, 200.0), passed(2, 5.0, 6.0, 200.0, 50.0)
    sync(known, first)
    sync(known, first, second)
    rate = known.bytes_per_s(seen(6.0, 0.0))
    assert LINK < rate < 200 * MIB
    sync(known, first, second, passed(3, 6.0, 6.1, 50.0, 5.0))
    assert known.bytes_per_s(seen(6.1, 0.0)) == rate


def test_each_pass_is_a_point_and_a_check_of_what_was_foretold() -> None:
    known = learnt()
    first = passed(1, 0.0, 5.0, 500.0, 200.0)
    after = sync(known, first)
    assert known.guest_known
    assert known.doubt == pytest.approx(DOUBT)
    assert known.curve(after).at(5.0) == pytest.approx(200 * MIB, rel=1e-6)
    sync(known, first, passed(2, 5.0, 7.0, 200.0, 600.0))  # three times what was thought, at least
    assert known.doubt > 0.3


def test_a_guest_that_does_what_is_foretold_takes_the_doubt_away() -> None:
    known = learnt()
    passes = [passed(1, 0.0, 5.0, 500.0, 200.0)]
    for number in range(2, 8):
        passes.append(passed(number, 5.0 * number - 5, 5.0 * number, 500.0, 200.0))
        sync(known, *passes)
    assert known.doubt < DOUBT


def test_a_pass_that_tells_nothing_is_no_point() -> None:
    known = learnt()
    sync(known, passed(1, 0.0, 5.0, 500.0, 200.0, left=400.0))
    missed = seen(9.0, 0.0, iteration=7, iterations=(passed(1, 0.0, 5.0, 500.0, 200.0),))
    known.sync(seen(0.0, 0.0), missed, 0.0)
    assert not known.guest_known


def test_under_a_throttle_the_point_belongs_to_the_time_that_the_guest_ran() -> None:
    known = learnt()
    known.headroom = Headroom((0.5,))
    after = sync(
        known, passed(1, 0.0, 5.0, 500.0, 20.0), throttle=0.9, begun=(look(0.0, 0.0, ran_s=0.0),),
        now=(look(5.0, 500.0, ran_s=0.25),),
    )  # fmt: skip
    assert known.curve(after).at(0.5) == pytest.approx(20 * MIB, rel=0.01)
    assert known.headroom.speed(0.9) == pytest.approx(0.1, rel=0.02)


def test_where_the_vcpus_are_out_of_sight_what_was_dirtied_says_how_far_a_throttle_went() -> None:
    known = learnt()
    first = passed(1, 0.0, 5.0, 500.0, 200.0)
    sync(known, first, throttle=0.5)
    assert not known.guest_known
    sync(known, first)
    before = known.headroom.speed(0.9)
    sync(known, first, passed(2, 5.0, 7.0, 200.0, 2.0), throttle=0.9)
    assert known.headroom.speed(0.9) < before


def test_what_was_measured_before_the_start_counts() -> None:
    known = Knowledge()
    window = Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=30.0 * MIB, vcpu_shares=(0.4,))
    known.measured(seen(0.0, 0.0, measurements=(window,)))
    assert known.guest_known
    assert known.headroom.shares == (0.4,)


def test_the_guests_own_time_runs_slower_under_a_throttle() -> None:
    known = Knowledge(headroom=Headroom((0.5,)))
    begun, later = seen(4.0, 0.0, look(4.0, 0.0, ran_s=2.0)), seen(6.0, 0.0, look(6.0, 0.0, ran_s=2.2))
    assert own_s(known, begun, later, 0.0) == 2.0
    assert own_s(known, begun, later, 0.9) == pytest.approx(0.4)
    assert own_s(known, begun, replace(later, samples=()), 0.9) == pytest.approx(0.4)
    assert own_s(known, begun, replace(later, reason=Reason.ITERATION), 0.9) == 0.0
