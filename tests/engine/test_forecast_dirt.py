"""What a sync newly marks: exact for what the curve tells, and right on average for pages that are really drawn."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.engine.curve import PAGE_BYTES, ConstantRate, PoissonClasses
from whimbrel.engine.forecast_dirt import Dirt
from whimbrel.engine.forecast_records import Setting, Writers

CLASSES = PoissonClasses(((100, 3.0), (400, 0.3)))
ALL = 500.0 * PAGE_BYTES


def dirt(*writers: Writers, total_bytes: float = ALL) -> Dirt:
    return Dirt.of(Setting(writers=writers, total_bytes=int(total_bytes), bandwidth_bytes_per_s=1e6))


def test_after_all_was_sent_the_curve_is_dirty() -> None:
    log = dirt(Writers(curve=CLASSES))
    assert log.pending_bytes == ALL
    assert log.sync(0.7, ALL) == pytest.approx(CLASSES.at(0.7))
    assert log.pending_bytes == pytest.approx(CLASSES.at(0.7))


def test_what_was_not_sent_is_no_news_when_it_is_written_again() -> None:
    log = dirt(Writers(curve=CLASSES))
    assert log.sync(0.7, 0.0) == 0.0
    log.sync(0.7, ALL)
    assert log.sync(0.5, 0.0) == pytest.approx(CLASSES.at(1.2) - CLASSES.at(0.7))
    assert log.pending_bytes == pytest.approx(CLASSES.at(1.2))


def test_the_part_that_was_sent_begins_anew() -> None:
    """Half of the first iteration: half of the pages are in the bitmap as before, the others as dirtied."""
    log = dirt(Writers(curve=CLASSES))
    assert log.sync(0.7, ALL / 2) == pytest.approx(CLASSES.at(0.7) / 2)
    assert log.pending_bytes == pytest.approx(ALL / 2 + CLASSES.at(0.7) / 2)


def test_ranges_lie_one_behind_the_other_and_what_is_over_is_never_written() -> None:
    first, second = ConstantRate(1e9, 100.0 * PAGE_BYTES), ConstantRate(1e9, 50.0 * PAGE_BYTES)
    log = dirt(Writers(curve=first), Writers(curve=second))
    assert log.sync(1.0, 100.0 * PAGE_BYTES) == pytest.approx(100 * PAGE_BYTES)
    # All that was left of the first round, and half of the first range once more.
    assert log.sync(1.0, 450.0 * PAGE_BYTES) == pytest.approx((50 + 50) * PAGE_BYTES)
    assert log.pending_bytes == pytest.approx(150 * PAGE_BYTES)


def test_a_curve_of_more_than_there_is_ends_there() -> None:
    log = dirt(Writers(curve=ConstantRate(1e12)))
    assert log.sync(1.0, ALL) == ALL


def test_a_throttle_slows_the_vcpus_and_not_the_devices() -> None:
    half = ConstantRate(1e5, ALL / 2)
    log = dirt(Writers(curve=half), Writers(curve=half, cpu_share=None))
    log.slow(0.75)
    assert log.speed == 0.25
    assert log.logged_bytes(1.0) == pytest.approx(1.25e5)
    assert log.sync(1.0, ALL) == pytest.approx(1.25e5)


def test_a_limit_slows_those_that_write_more() -> None:
    log = dirt(Writers(curve=ConstantRate(1e5, ALL / 2)), Writers(curve=ConstantRate(1e3, 100.0)))
    log.limit(2e4)
    assert log.sync(1.0, ALL) == pytest.approx(2e4 + 100)


def test_an_idle_guest_dirties_nothing() -> None:
    log = dirt()
    assert (log.sync(5.0, ALL), log.pending_bytes, log.speed) == (0.0, 0.0, 1.0)
    log.slow(0.5)
    log.limit(1.0)
    assert log.speed == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0.0, 1.2)), max_size=12))
def test_the_bitmap_holds_what_was_left_and_what_is_new(steps: list[tuple[float, float]]) -> None:
    """Whatever the sender does, bytes add up, and nothing is in the bitmap twice."""
    log = dirt(Writers(curve=CLASSES), total_bytes=600 * PAGE_BYTES)
    for ran_s, part in steps:
        before, sent = log.pending_bytes, log.pending_bytes * part
        newly = log.sync(ran_s, sent)
        assert 0.0 <= newly <= CLASSES.at(ran_s) + 1.0
        assert log.pending_bytes == pytest.approx(max(0.0, before - sent) + newly, abs=2.0)
        assert log.pending_bytes <= 600 * PAGE_BYTES + 1
        assert sum(run.length_bytes for run in log.runs) == pytest.approx(600 * PAGE_BYTES)


def _draw(chance: random.Random, syncs: list[tuple[float, int]]) -> list[int]:
    """Pages newly marked by each sync: really written, at random places, with a sender that goes round."""
    rates = [3.0] * 100 + [0.3] * 400
    chance.shuffle(rates)
    bitmap, log = set(range(500)), set[int]()
    cursor, found = 0, list[int]()
    for ran_s, to_send in syncs:
        while to_send and bitmap:
            if cursor in bitmap:
                bitmap.remove(cursor)
                to_send -= 1
            cursor = (cursor + 1) % 500
        log = {page for page, rate in enumerate(rates) if chance.expovariate(rate) < ran_s}
        found.append(len(log - bitmap))
        bitmap |= log
    return found


@pytest.mark.parametrize("part", [0.9, 0.5, 0.2])
def test_it_is_the_mean_of_pages_that_are_really_drawn(part: float) -> None:
    """A sender that is made to sync when a part of the bitmap has been sent: six times, over 60 guests."""
    log = dirt(Writers(curve=CLASSES))
    syncs: list[tuple[float, int]] = []
    expected: list[float] = []
    for _ in range(6):
        to_send = round(log.pending_bytes / PAGE_BYTES * part)
        syncs.append((0.4, to_send))
        expected.append(log.sync(0.4, to_send * PAGE_BYTES) / PAGE_BYTES)
    drawn = [_draw(random.Random(seed), syncs) for seed in range(60)]
    for number, pages in enumerate(expected):
        counts = [each[number] for each in drawn]
        spread = statistics.stdev(counts) / 60**0.5
        assert abs(statistics.mean(counts) - pages) <= 4 * spread + 1.0


def test_a_speed_that_changes_between_two_syncs_counts_for_its_part() -> None:
    log = dirt(Writers(curve=CLASSES))
    log.slow(0.5, 0.2)
    log.slow(0.8, 0.4)
    own_s = 0.2 + 0.5 * 0.2 + 0.2 * 0.6
    assert log.mean_speed(1.0) == pytest.approx(own_s)
    assert log.logged_bytes(1.0) == pytest.approx(CLASSES.at(own_s))
    assert log.sync(1.0, ALL) == pytest.approx(CLASSES.at(own_s))
    assert log.mean_speed(1.0) == log.speed == pytest.approx(0.2)
    assert log.sync(1.0, ALL) == pytest.approx(CLASSES.at(0.2))
    log.slow(0.0, 0.5)
    assert log.mean_speed(0.0) == 1.0


def test_of_a_throttle_and_a_limit_the_slower_counts() -> None:
    log = dirt(Writers(curve=ConstantRate(1e5, most_bytes=1e6)), total_bytes=1e6)
    log.slow(0.5)
    log.limit(8e4)
    assert log.speed == pytest.approx(0.5)
    log.slow(0.0)
    assert log.speed == pytest.approx(0.8, rel=1e-6)
