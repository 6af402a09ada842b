"""The closed form is the optimum: as brute-force matching finds it, and below whatever stop is looked at."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from tests.sim.bounds.worlds import changing, scenario, steady, trace, writer
from whimbrel.engine.bounds import least_left_pages
from whimbrel.sim.bounds.clairvoyant import RESOLUTION, RESOLUTION_S, Clairvoyant, front_of
from whimbrel.sim.bounds.switchover import Switchover, switchover_of
from whimbrel.sim.bounds.trace import Trace, trace_of

NOTHING = Switchover(before_s=0.0, state_bytes=0, after_s=0.0)


def matched(writes: list[tuple[float, int]], pages: int, room: list[int], stop_s: int) -> int:
    """By brute force: how many pages are left if as many as can be have a slot behind their last write."""
    last = [
        max((at_s for at_s, page in writes if page == number and at_s <= stop_s), default=0.0)
        for number in range(pages)
    ]
    slots = [second for second, count in enumerate(room[:stop_s]) for _ in range(count)]
    if not slots:
        return pages
    fits = np.array([[second >= at_s for second in slots] for at_s in last])
    matching = maximum_bipartite_matching(csr_matrix(fits), perm_type="column")
    return pages - int(np.count_nonzero(matching >= 0))


def test_what_is_left_is_what_matching_leaves_on_thousands_of_small_instances() -> None:
    random = Random(1)
    for _ in range(2000):
        pages, seconds = random.randint(1, 14), random.randint(1, 10)
        count = random.randint(0, 20)
        writes = sorted((float(random.randint(1, seconds)), random.randrange(pages)) for _ in range(count))
        room = [random.randint(0, 3) for _ in range(seconds)]
        least = Clairvoyant(trace(writes, pages, changing([float(each) for each in room])), NOTHING).left_bytes(seconds)
        assert max(0.0, round(least, 6)) == matched(writes, pages, room, seconds)


def test_over_a_steady_link_it_is_the_engines_closed_form() -> None:
    random = Random(2)
    for _ in range(200):
        pages, rate = random.randint(1, 50), random.uniform(0.5, 20.0)
        writes = sorted((random.uniform(0.0, 9.0), random.randrange(pages)) for _ in range(random.randint(0, 200)))
        last = [max((at_s for at_s, page in writes if page == number), default=0.0) for number in range(pages)]
        ours = Clairvoyant(trace(writes, pages, steady(rate)), NOTHING).left_bytes(9.0)
        assert ours == pytest.approx(least_left_pages(last, 9.0, rate), abs=1e-6)


def test_a_faster_link_never_leaves_more() -> None:
    random = Random(3)
    for _ in range(50):
        writes = sorted((random.uniform(0.0, 9.0), random.randrange(30)) for _ in range(150))
        left = [
            Clairvoyant(trace(writes, 30, steady(rate)), NOTHING).left_bytes(9.0) for rate in np.linspace(1, 40, 14)
        ]
        assert left == sorted(left, reverse=True)


@pytest.fixture(scope="module")
def heavy() -> Trace:
    """A guest that dirties more than the link carries."""
    return trace_of(scenario(writer(rate_mb_per_s=25.0)), 1)


def test_no_stop_comes_below_the_front_and_the_front_is_near(heavy: Trace) -> None:
    switchover = switchover_of(scenario())
    clairvoyant = Clairvoyant(heavy, switchover)
    front = clairvoyant.front()
    stops_s = np.linspace(0.0, heavy.horizon_s, 8000)
    due = np.array([clairvoyant.due_bytes(stop_s) for stop_s in stops_s])
    totals_s = switchover.arrivals_s(stops_s, due, heavy.capacity)
    had = front_of(totals_s + heavy.lag_s, totals_s - stops_s)
    for total_s, downtime_s in zip(had.totals_s, had.downtimes_s, strict=True):
        least_s = front.downtime_s(total_s)
        assert least_s is not None
        assert least_s <= downtime_s
        soonest_s = front.total_s(downtime_s)
        assert soonest_s is not None
        assert soonest_s <= total_s
    last_s = front.downtimes_s[-1]
    assert had.downtimes_s[-1] - last_s < 2 * (RESOLUTION_S + RESOLUTION * last_s) + 0.005


def test_the_front_is_as_near_where_a_guest_is_long_on_its_way() -> None:
    """Each wide gap between two stops that are looked at hides how little is known of those behind it."""
    long = scenario(writer(size_mib=8, rate_mb_per_s=40.0), limit_s=40.0)
    clairvoyant = Clairvoyant(trace_of(long, 1), NOTHING)
    front = clairvoyant.front()
    stops_s = np.linspace(20.0, 40.0, 500)
    least_s = min(clairvoyant.left_bytes(stop_s) / 10e6 for stop_s in stops_s)
    assert least_s > 0.1, "a guest that dirties four times what the link carries"
    assert front.downtimes_s[-1] > least_s - 2 * (RESOLUTION_S + RESOLUTION * least_s)


def test_a_front_rises_in_time_and_falls_in_downtime(heavy: Trace) -> None:
    front = Clairvoyant(heavy, NOTHING).front()
    assert list(front.totals_s) == sorted(front.totals_s)
    assert list(front.downtimes_s) == sorted(front.downtimes_s, reverse=True)
    assert front.downtime_s(front.totals_s[0] - 0.01) is None
    assert front.total_s(front.downtimes_s[-1] / 2 - 1e-9) is None
    assert front.total_s(front.downtimes_s[0]) == front.totals_s[0]


def test_each_page_once_is_the_least_that_any_migration_sends() -> None:
    zeros = trace_of(scenario(writer(zero=True, rate_mb_per_s=1.0)), 1)
    clairvoyant = Clairvoyant(zeros, NOTHING)
    once = [clairvoyant.once_bytes(stop_s) for stop_s in (0.0, 1.0, 5.0)]
    assert once == sorted(once)
    assert once[0] == zeros.fresh_bytes.sum()
    assert once[0] < once[-1] < zeros.written_bytes.sum()


def test_pages_of_different_sizes_are_bounded_as_those_of_one_size_are() -> None:
    even = trace_of(scenario(writer(rate_mb_per_s=15.0)), 1)
    alike = Clairvoyant(even, NOTHING)
    # The same trace, without its being known that all pages are alike.
    one_by_one = Clairvoyant(replace(even, even_bytes=0), NOTHING)
    for stop_s in (0.5, 1.7, 4.0):
        assert one_by_one.due_bytes(stop_s) == pytest.approx(alike.due_bytes(stop_s))
