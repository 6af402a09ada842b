"""Iterations and rates are read out of the answers as a careful person would."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.statistics import WINDOW_NS, Iteration, Iterations, Ledger, Statistics

MS = 1_000_000


def at(ms: int, *, iteration: int = 1, sent: int = 0, left: int = 0) -> Statistics:
    """An answer of a guest whose pages have one byte, so that every byte sent is a page handled."""
    return Statistics(
        at_ns=ms * MS,
        iteration=iteration,
        transferred_bytes=sent,
        remaining_bytes=left,
        normal_pages=sent,
        page_bytes=1,
    )


def fold(*answers: Statistics) -> Ledger:
    ledger = Ledger()
    for answer in answers:
        ledger = ledger.add(answer)
    return ledger


def test_a_new_sync_closes_the_iteration_before() -> None:
    ledger = fold(
        at(0, left=1000), at(100, sent=600, left=400), at(200, iteration=2, sent=1000, left=300), at(210, iteration=2)
    )
    (first,) = ledger.iterations
    assert first == Iteration(
        number=1,
        started_ns=0,
        ended_ns=200 * MS,
        remaining_at_start_bytes=1000,
        remaining_at_end_bytes=0,
        sent_bytes=1000,
        dirtied_bytes=300,
    )
    assert first.duration_s == pytest.approx(0.2)
    assert first.bandwidth_bytes_per_s == pytest.approx(5000)
    assert first.dirty_bytes_per_s == pytest.approx(1500)


def ended(number: int) -> Iteration:
    return Iteration(
        number=number, started_ns=0, ended_ns=MS, remaining_at_start_bytes=1, remaining_at_end_bytes=0, sent_bytes=1,
        dirtied_bytes=0,
    )  # fmt: skip


def test_iterations_are_kept_as_they_were_whatever_is_added_later() -> None:
    none = Iterations()
    two = none.add(ended(1)).add(ended(2))
    three, other = two.add(ended(3)), two.add(ended(9))
    assert [len(each) for each in (none, two, three, other)] == [0, 2, 3, 3]
    assert [each.number for each in two] == [1, 2]
    assert [each.number for each in three] == [1, 2, 3]
    assert [each.number for each in other] == [1, 2, 9]
    assert [each.number for each in three.add(ended(4))] == [1, 2, 3, 4]


def test_thousands_that_are_all_kept_cost_no_more_than_the_last() -> None:
    """A tuple each would come to 16 MB: a forecast that never converges was quadratic by it, and so was its memory."""
    one, kept = ended(1), [Iterations()]
    tracemalloc.start()
    for _ in range(2000):
        kept.append(kept[-1].add(one))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000
    assert len(kept[-1]) == 2000


def test_iterations_behave_as_a_tuple_does() -> None:
    plain = tuple(ended(number) for number in range(5))
    grown = Iterations()
    for each in plain:
        grown = grown.add(each)
    longer = grown.add(ended(5))
    assert (grown[0], grown[-1], grown[4], grown[-5]) == (plain[0], plain[-1], plain[4], plain[0])
    assert (grown[1:3], grown[-2:], grown[::-1], grown[3:99]) == (plain[1:3], plain[-2:], plain[::-1], plain[3:])
    for beyond in (5, -6):
        with pytest.raises(IndexError):
            grown[beyond]
    assert grown == plain
    assert (hash(grown), repr(grown)) == (hash(plain), repr(plain))
    assert grown != longer
    assert grown != list(plain)
    assert plain[2] in grown
    assert ended(5) not in grown


def test_an_iteration_too_short_to_tell_has_no_rates() -> None:
    short = Iteration(
        number=2, started_ns=5, ended_ns=6, remaining_at_start_bytes=1, remaining_at_end_bytes=0, sent_bytes=1,
        dirtied_bytes=1,
    )  # fmt: skip
    assert short.bandwidth_bytes_per_s == 0.0
    assert short.dirty_bytes_per_s == 0.0


def test_bandwidth_is_taken_over_the_window() -> None:
    assert Ledger().sent_bandwidth_bytes_per_s == 0.0
    assert fold(at(0)).sent_bandwidth_bytes_per_s == 0.0
    assert fold(at(0), at(0, sent=5)).sent_bandwidth_bytes_per_s == 0.0
    assert fold(at(0), at(500, sent=1000)).sent_bandwidth_bytes_per_s == pytest.approx(2000)


def test_the_window_forgets() -> None:
    ledger = fold(at(0), at(1), at(2 * WINDOW_NS // MS, sent=7))
    assert [answer.at_ns for answer in ledger.window] == [2 * WINDOW_NS]


def test_an_old_answer_is_passed_over() -> None:
    ledger = fold(at(100, sent=5), at(50, sent=1))
    assert ledger.last is not None
    assert ledger.last.transferred_bytes == 5


def test_of_two_answers_at_the_same_moment_the_later_counts() -> None:
    assert fold(at(100, sent=5), at(100, sent=6)).last == at(100, sent=6)


def test_the_last_byte_that_was_sent_is_remembered() -> None:
    """What the stall detector goes by: an answer without news does not count."""
    assert fold(at(0, sent=1, left=9), at(100, sent=1, left=9)).moved_ns == 0
    assert fold(at(0, sent=1, left=9), at(100, sent=2, left=8)).moved_ns == 100 * MS


def test_zero_pages_count_as_handled() -> None:
    """A zero page costs next to no bytes: what was left before the sync is known from the pages."""
    before = Statistics(at_ns=0, iteration=1, remaining_bytes=3 * 4096)
    after = Statistics(at_ns=MS, iteration=2, remaining_bytes=4096, normal_pages=1, duplicate_pages=2)
    (first,) = fold(before, after).iterations
    assert (after.pages, first.remaining_at_end_bytes, first.dirtied_bytes) == (3, 0, 4096)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(0, 1000), st.integers(0, 1000)), max_size=30)
)
def test_any_sequence_of_answers_gives_sane_iterations(steps: list[tuple[int, int, int, int]]) -> None:
    """Numbers rise, times do not overlap, nothing is negative."""
    ledger, ms, number, sent = Ledger(), 0, 1, 0
    for wait, syncs, more, left in steps:
        ms, number, sent = ms + wait, number + syncs, sent + more
        ledger = ledger.add(at(ms, iteration=number, sent=sent, left=left))
    for before, after in zip(ledger.iterations, ledger.iterations[1:], strict=False):
        assert before.number < after.number
        assert before.ended_ns == after.started_ns
    for each in ledger.iterations:
        assert each.sent_bytes >= 0
        assert each.dirtied_bytes >= 0
        assert each.remaining_at_end_bytes >= 0
        assert each.duration_s >= 0


def ran(at_s: float, *vcpu_s: float) -> Statistics:
    """An answer at which the vCPUs had run for so long."""
    return Statistics(at_ns=round(at_s * 1e9), vcpu_s=vcpu_s)


@pytest.mark.parametrize(
    ("answers", "shares"),
    [
        ([ran(0, 1.0, 5.0), ran(0.5, 1.1, 5.5)], (0.2, 1.0)),
        ([ran(0, 1.0), ran(0.5, 1.9)], (1.0,)),  # clocks of two kinds: never more than all of it
        ([ran(0, 1.0), ran(0.5, 0.9)], (0.0,)),
        ([ran(0), ran(0.5)], ()),
        ([ran(0, 1.0), ran(0.4), ran(0.5, 1.25)], (0.5,)),  # one look at the host failed
        ([ran(0, 1.0), ran(0.5, 1.0, 2.0)], ()),  # a vCPU came
        ([ran(0, 1.0), ran(0.0000001, 1.0)], ()),
        ([ran(0, 1.0)], ()),
    ],
)
def test_how_much_each_vcpu_ran(answers: list[Statistics], shares: tuple[float, ...]) -> None:
    ledger = Ledger()
    for answer in answers:
        ledger = ledger.add(answer)
    assert ledger.vcpu_shares == pytest.approx(shares)
