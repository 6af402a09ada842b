"""Each writer's own realised pages against its exact expected curve.

Distinct pages of independent draws are negatively associated, so the variance of their number is at most the sum of
``q (1 - q)`` over the pages, with q the probability of being hit (Dubhashi and Ranjan, Balls and bins, 1998); with
draws at random times pages are independent and it is just that. The bound is five standard deviations, and one page
for the fraction of a draw.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whimbrel.sim.guests.plan import Area, areas_of
from whimbrel.sim.guests.popularity import groups_of, stride_for
from whimbrel.sim.guests.realised import PageWriter, writers_of
from whimbrel.sim.guests.streams import Stream
from whimbrel.sim.guests.trace import Trace, read_trace, write_trace
from whimbrel.sim.scenario import GuestPlan, Pattern, Writer

MIB = 1 << 20
SEED = 20
SIZE = 16 * MIB
PHASES = {"period_s": 1.5, "duty": 0.4, "shift_s": 0.2}
BURSTS = {"period_s": 4.0, "duty": 0.05}


class Realised:
    """The pages of one writer, window by window."""

    def __init__(self, plan: GuestPlan, seed: int = SEED) -> None:
        self.area: Area = areas_of(plan)[0]
        self.stream = Stream(self.area.per_s, self.area.phases)
        self.writers: tuple[PageWriter, ...] = writers_of(plan, self.area, seed)
        self.draws = 0

    def pages(self, until_s: float) -> set[int]:
        """Distinct pages from the last call up to this time."""
        hit: set[int] = set()
        for writer in self.writers:
            for pages in writer.until(self.stream.draws(until_s)):
                self.draws += len(pages)
                hit.update(pages.tolist())
        return hit


def plan_of(pattern: Pattern, **more: Any) -> GuestPlan:
    writer = Writer(name="w", size_bytes=SIZE, rate_bytes_per_s=8.0 * MIB, pattern=pattern, **more)
    return GuestPlan(ram_bytes=SIZE, writers=(writer,))


def sigma(area: Area, draws: float) -> float:
    """The greatest standard deviation of the distinct pages of so many draws; a sweep has none."""
    if area.writer.pattern is Pattern.SWEEP:
        return 0.0
    hit = [(count, 1 - (1 - p) ** draws) for count, p in groups_of(area.writer, area.pages)]
    return math.sqrt(sum(count * q * (1 - q) for count, q in hit))


@pytest.mark.parametrize("pattern", Pattern)
@pytest.mark.parametrize("phases", [{}, PHASES, BURSTS], ids=["steady", "phases", "bursts"])
@pytest.mark.parametrize(("start_s", "window_s"), [(0.0, 0.1), (0.7, 1.0), (3.1, 6.0)])
def test_the_pages_of_a_window_are_as_many_as_its_curve_says(
    pattern: Pattern, phases: dict[str, Any], start_s: float, window_s: float
) -> None:
    plan = plan_of(pattern, **phases)
    realised = Realised(plan)
    area = realised.area
    realised.pages(start_s)
    hit = realised.pages(start_s + window_s)
    expected = area.dirtied_pages(window_s, start_s)
    draws = area.per_s * area.phases.on_in(start_s, window_s)
    assert abs(len(hit) - expected) <= 5 * sigma(area, draws) + 1
    assert all(0 <= page < area.pages for page in hit)


@pytest.mark.parametrize("pattern", Pattern)
def test_over_all_beginnings_the_pages_are_the_mean_curve(pattern: Pattern) -> None:
    """60 windows that lie anywhere in the period: the mean is within five of its standard deviations, which has a
    part from chance and one from the windows' places (at most the range over the root of 12 and of their number)."""
    plan, windows, window_s = plan_of(pattern, **PHASES), 60, 0.4
    realised, area = Realised(plan), Realised(plan).area
    counts: list[int] = []
    begin_s = 0.0
    for i in range(windows):
        begin_s = math.ceil(begin_s / 1.5) * 1.5 + (i * 0.618 % 1) * 1.5
        realised.pages(begin_s)
        counts.append(len(realised.pages(begin_s + window_s)))
        begin_s += window_s
    most = area.dirtied_pages(window_s, 1.3)
    error = math.sqrt(sigma(area, area.per_s * window_s) ** 2 + most**2 / 12) / math.sqrt(windows)
    assert abs(sum(counts) / windows - area.dirtied_pages(window_s)) <= 5 * error + 1


@pytest.mark.parametrize("pattern", [Pattern.UNIFORM, Pattern.ZIPF, Pattern.HOTSPOT, Pattern.POISSON])
def test_each_rank_is_drawn_as_often_as_its_popularity_says(pattern: Pattern) -> None:
    """Counts of groups of ranks: binomial, so within five standard deviations (Poisson's for random times)."""
    plan = plan_of(pattern)
    realised = Realised(plan)
    area = realised.area
    drawn = np.concatenate([pages for writer in realised.writers for pages in writer.until(100_000.0)])
    stride = stride_for(area.pages)
    rank_of = np.empty(area.pages, dtype=np.int64)
    rank_of[np.arange(area.pages) * stride % area.pages] = np.arange(area.pages)
    ranks, first = rank_of[drawn], 0
    for count, p in groups_of(area.writer, area.pages):
        found = int(np.count_nonzero((ranks >= first) & (ranks < first + count)))
        mean = len(drawn) * p * count
        assert abs(found - mean) <= 5 * math.sqrt(max(mean, 1))
        first += count


def test_what_a_writer_writes_does_not_depend_on_when_it_is_asked() -> None:
    for pattern in Pattern:
        once, often = Realised(plan_of(pattern)), Realised(plan_of(pattern))
        hit: set[int] = set()
        for i in range(1, 41):
            hit |= often.pages(i * 0.05)
        assert once.pages(2.0) == hit
        assert once.draws == often.draws


def test_another_seed_gives_other_pages_and_the_same_seed_the_same() -> None:
    plan = plan_of(Pattern.UNIFORM)
    assert Realised(plan, 1).pages(0.1) == Realised(plan, 1).pages(0.1) != Realised(plan, 2).pages(0.1)


def test_evenly_spread_draws_are_as_many_as_the_rate_says_and_random_ones_are_poisson() -> None:
    even, random = Realised(plan_of(Pattern.UNIFORM)), Realised(plan_of(Pattern.POISSON))
    even.pages(10.0)
    random.pages(10.0)
    assert abs(even.draws - 20480) <= 1
    assert 1 < abs(random.draws - 20480) <= 5 * math.sqrt(20480)


@pytest.mark.parametrize("pattern", [Pattern.UNIFORM, Pattern.ZIPF, Pattern.HOTSPOT, Pattern.POISSON])
def test_draws_of_a_long_time_are_the_same_at_once_or_step_by_step(pattern: Pattern) -> None:
    """More than are drawn, and kept, at a time: what is past is forgotten, not lost."""
    leap, steps = Realised(plan_of(pattern)), Realised(plan_of(pattern))
    leap.pages(100.0)
    assert abs(leap.draws - 204_800) <= 5 * math.sqrt(204_800)
    for i in range(1, 21):
        steps.pages(5.0 * i)
    assert steps.draws == leap.draws
    assert steps.pages(100.1) == leap.pages(100.1)


def test_a_measured_curve_is_realised_exactly() -> None:
    """Sweeps with random beginnings: windows of one length differ by a page for each sweep at most."""
    points = ((0.5, 2.0 * MIB), (1.0, 4.0 * MIB), (2.0, 6.0 * MIB), (4.0, 7.0 * MIB))
    plan = GuestPlan(ram_bytes=SIZE, zero_bytes=4 * MIB, curve=points)
    realised = Realised(plan)
    assert len(realised.writers) == 3
    begin_s = 0.0
    for window_s in (0.1, 0.5, 0.8, 2.0, 4.0, 9.0):
        realised.pages(begin_s)
        hit = realised.pages(begin_s + window_s)
        assert abs(len(hit) - realised.area.dirtied_pages(window_s)) <= 2 * len(realised.writers)
        begin_s += window_s + 0.37


def test_a_recording_is_replayed_page_by_page_in_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    write_trace(path, Trace(1000, 2.0, ((0.5, ((10, 3),)), (1.5, ((11, 1), (900, 2))))))
    plan = GuestPlan(ram_bytes=SIZE, trace=str(path))
    realised = Realised(plan)
    for begin_s, window_s in ((0.0, 0.4), (0.4, 0.2), (0.6, 1.0), (1.6, 1.0), (2.6, 40.0)):
        hit = realised.pages(begin_s + window_s)
        assert len(hit) == read_trace(path).dirtied_pages(begin_s, window_s)
    assert Realised(plan).pages(1.0) == {10, 11, 12}


def test_a_leap_over_many_rounds_of_a_sweep_ends_where_small_steps_do() -> None:
    leap, steps = Realised(plan_of(Pattern.SWEEP)), Realised(plan_of(Pattern.SWEEP))
    assert len(leap.pages(100.3)) == leap.area.pages
    for i in range(1, 101):
        steps.pages(float(i))
    steps.pages(100.3)
    assert leap.pages(100.4) == steps.pages(100.4)


@pytest.mark.parametrize("pattern", Pattern)
def test_the_next_touch_is_that_of_the_first_draw_to_come_that_hits(pattern: Pattern) -> None:
    """Looked for ahead, then made: nothing is lost or drawn twice by looking."""
    ahead, plain = Realised(plan_of(pattern)), Realised(plan_of(pattern))
    before = ahead.pages(0.3)
    assert before == plain.pages(0.3)
    missing = np.zeros(ahead.area.pages, dtype=np.bool_)
    missing[100:200] = True
    touch = ahead.writers[0].next_touch(missing)
    assert touch is not None
    clock, page = touch
    assert missing[page]
    at_s = ahead.stream.when(clock)
    quiet = ahead.pages(at_s - 1e-6)
    assert not any(missing[one] for one in quiet)
    assert ahead.pages(at_s + 1e-6) == {page}
    assert quiet | {page} == plain.pages(at_s + 1e-6)


def test_on_the_way_to_the_next_touch_it_stays_the_next() -> None:
    """Also once some of what was looked at has been made, and until it is made itself; then comes another."""
    realised = Realised(plan_of(Pattern.UNIFORM))
    missing = np.zeros(realised.area.pages, dtype=np.bool_)
    missing[100:110] = True
    touch = realised.writers[0].next_touch(missing)
    assert touch is not None
    at_s = realised.stream.when(touch[0])
    for part in (0.2, 0.7, 0.99):
        realised.pages(at_s * part)
        assert realised.writers[0].next_touch(missing) == touch
    missing[touch[1]] = False
    later = realised.writers[0].next_touch(missing)
    assert later is not None
    assert later[0] > touch[0]
    realised.pages(realised.stream.when(later[0]) - 1e-6)
    assert realised.writers[0].next_touch(missing) == later


def test_of_pages_that_nobody_touches_there_is_no_next_touch() -> None:
    realised = Realised(plan_of(Pattern.UNIFORM))
    assert realised.writers[0].next_touch(np.zeros(realised.area.pages, dtype=np.bool_)) is None
