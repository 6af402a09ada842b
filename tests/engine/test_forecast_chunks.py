"""KVM's log, cleared by chunks: what was written before a page was sent does not count again."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.engine.curve import PAGE_BYTES, ConstantRate, PoissonClasses
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_chunks import ChunkedDirt
from whimbrel.engine.forecast_dirt import Dirt
from whimbrel.engine.forecast_records import Setting, Writers
from whimbrel.engine.policies import Fixed

MIB = 1 << 20
CLASSES = PoissonClasses(((512, 3.0), (3584, 0.3)))
"""16 MiB."""
ALL = 16.0 * MIB


def chunked(*writers: Writers, chunk_mib: int = 1, total_mib: int = 16) -> ChunkedDirt:
    return ChunkedDirt.of(
        Setting(
            writers=writers,
            total_bytes=total_mib * MIB,
            bandwidth_bytes_per_s=1e6,
            clear_chunk_bytes=chunk_mib * MIB,
        )
    )


def test_one_chunk_is_cleared_when_the_sending_begins() -> None:
    """So there is nothing to choose between it and a log that is cleared at the sync."""
    late, plain = chunked(Writers(curve=CLASSES), chunk_mib=64), Dirt.of(
        Setting(writers=(Writers(curve=CLASSES),), total_bytes=16 * MIB, bandwidth_bytes_per_s=1e6)
    )  # fmt: skip
    for part in (1.0, 0.7, 0.5, 1.0):
        sent = part * plain.pending_bytes
        assert late.sync(0.5, sent, 0.5) == pytest.approx(plain.sync(0.5, sent))


def test_of_the_first_iteration_what_came_before_the_page_was_sent_does_not_count() -> None:
    """Chunks are sent one after the other: of a rate that is even, half and half a chunk's time."""
    log = chunked(Writers(curve=ConstantRate(1.0 * MIB, ALL)))
    assert log.sync(8.0, ALL, 8.0) == pytest.approx(8 * MIB * (0.5 + 0.5 / 16))


def test_pages_that_were_not_in_the_bitmap_are_logged_all_the_time() -> None:
    """Two hot pages in a thousand, and all others clean: writes to the others count from the sync on."""
    log = chunked(Writers(curve=CLASSES))
    log.sync(1.0, ALL, 1.0)
    quick, slow = chunked(Writers(curve=CLASSES)), log
    quick.sync(1.0, ALL, 0.0)
    before = slow.pending_bytes
    found = slow.sync(1.0, before, 1.0)
    assert CLASSES.at(0.5) < found < CLASSES.at(1.0)
    assert quick.sync(1.0, quick.pending_bytes, 0.0) == pytest.approx(CLASSES.at(1.0))


def test_what_was_not_sent_grows() -> None:
    log = chunked(Writers(curve=CLASSES))
    assert log.sync(0.5, 0.0, 0.0) == 0.0
    log.sync(0.5, ALL, 0.0)
    assert log.sync(0.7, 0.0, 0.0) == pytest.approx(CLASSES.at(1.2) - CLASSES.at(0.5))


def test_a_chunk_of_which_nothing_is_sent_is_not_cleared() -> None:
    log = chunked(Writers(curve=CLASSES))
    log.sync(0.0, ALL, 0.0)
    assert log.pending_bytes == pytest.approx(0.0, abs=1e-3)
    log.runs = [replace(run, density=0.0) for run in log.runs]
    assert log.sync(0.5, 0.0, 0.5) == pytest.approx(CLASSES.at(0.5))


def test_memory_that_nobody_writes_to_is_sent_once() -> None:
    log = chunked(Writers(curve=CLASSES), total_mib=32)
    log.sync(1.0, 32.0 * MIB, 1.0)
    assert log.pending_bytes <= CLASSES.at(1.0)
    log.sync(1.0, 0.0, 0.0)
    assert all(run.density == 0 for run in log.runs if run.area.writers is None)


def test_an_idle_guest_has_nothing_to_find() -> None:
    log = chunked()
    assert log.sync(1.0, ALL, 1.0) == 0.0
    assert log.sync(1.0, 0.0, 0.0) == 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0.0, 1.2)), max_size=6))
def test_bytes_add_up_and_pieces_do_not_multiply(steps: list[tuple[float, float]]) -> None:
    log = chunked(Writers(curve=CLASSES), Writers(curve=ConstantRate(1e6, 3.0 * MIB)), total_mib=20)
    for ran_s, part in steps:
        before, sent = log.pending_bytes, log.pending_bytes * part
        newly = log.sync(ran_s, sent, ran_s)
        assert log.pending_bytes == pytest.approx(max(0.0, before - sent) + newly, abs=2.0)
        assert sum(run.length_bytes for run in log.runs) == pytest.approx(20 * MIB)
    for _ in range(4):
        log.sync(0.5, log.pending_bytes, 0.5)
    assert len(log.runs) <= 20 + 2


def _draw(chance: random.Random, spans_s: list[float]) -> list[int]:
    """Pages newly marked by each sync: 4096 pages in 16 chunks, each sent in order and evenly in time."""
    rates = [3.0] * 512 + [0.3] * 3584
    chance.shuffle(rates)
    bitmap = [True] * 4096
    found: list[int] = []
    for span_s in spans_s:
        cleared = [0.0] * 16
        gone, held = 0, sum(bitmap)
        for chunk in range(16):
            cleared[chunk] = span_s * gone / held
            gone += sum(bitmap[chunk * 256 : chunk * 256 + 256])
        after: list[bool] = []
        for page, rate in enumerate(rates):
            since_s = span_s - cleared[page // 256] if bitmap[page] else span_s
            after.append(chance.random() < 1 - math.exp(-rate * since_s))
        bitmap = after
        found.append(sum(bitmap))
    return found


def test_it_is_the_mean_of_pages_that_are_really_drawn() -> None:
    """Five iterations of half a second, everything sent in each, over 12 guests.

    The first is exact. From then on the bitmap holds what windows of two lengths left there, which are taken for one
    in between: to 3 %.
    """
    log = chunked(Writers(curve=CLASSES))
    spans_s = [0.5] * 5
    expected = [log.sync(span_s, log.pending_bytes, span_s) / PAGE_BYTES for span_s in spans_s]
    drawn = [_draw(random.Random(seed), spans_s) for seed in range(12)]
    for number, pages in enumerate(expected):
        counts = [each[number] for each in drawn]
        slack = 4 * statistics.stdev(counts) / 12**0.5 + (0.03 * pages if number else 0.0)
        assert statistics.mean(counts) == pytest.approx(pages, abs=slack)


def test_a_large_guest_converges_earlier_than_with_a_log_that_is_cleared_at_once() -> None:
    """8 GiB over 10 Gbit/s; below a chunk there is no difference."""
    curve = PoissonClasses(((1_000_000, 0.2),))
    tcg = Setting(writers=(Writers(curve=curve),), total_bytes=8192 * MIB, bandwidth_bytes_per_s=1.25e9)
    kvm = replace(tcg, clear_chunk_bytes=1 << 30)
    assert forecast(kvm, Fixed()).total_s < 0.95 * forecast(tcg, Fixed()).total_s
    small = replace(tcg, total_bytes=512 * MIB)
    at_once, by_chunk = forecast(small, Fixed()), forecast(replace(small, clear_chunk_bytes=1 << 30), Fixed())
    assert by_chunk.total_s == pytest.approx(at_once.total_s, rel=1e-3)
