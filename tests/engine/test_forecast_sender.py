"""The sender's windows, slices and limits; taking many windows in one step changes nothing."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.engine.forecast_records import Costs, Setting
from whimbrel.engine.forecast_sender import SLICE_S, Sending, channels_bytes_per_s
from whimbrel.engine.policy import Objectives

MIB = 1 << 20
PAGE_WIRE = 4104
LINK = PAGE_WIRE * 25000.0


def sender(**change: Any) -> Sending:
    given: dict[str, Any] = {
        "writers": (),
        "total_bytes": 1024 * MIB,
        "bandwidth_bytes_per_s": LINK,
        "objectives": Objectives(downtime_s=0.3),
    }
    return Sending.of(Setting(**(given | change)), 0.0)


def run(it: Sending, until_s: float = math.inf, step_s: float = math.inf) -> float:
    """Send until what is left is below the threshold, or until a time; in steps, so that nothing is leapt over."""
    while it.now_s < until_s:
        if it.advance(min(until_s, it.now_s + step_s)) and it.pending_bytes < max(it.threshold_bytes, 1.0):
            break
    return it.now_s


def test_a_slice_ends_at_the_first_look_after_fifty_milliseconds() -> None:
    """25000 pages a second: 64 of them in 2.56 ms, so 20 looks."""
    it = sender()
    assert it.advance(math.inf)
    assert it.now_s == pytest.approx(0.0512)
    assert it.sent_bytes == pytest.approx(LINK * 0.0512)


def test_two_slices_make_a_window_whose_bandwidth_makes_the_threshold() -> None:
    it = sender()
    it.advance(math.inf)
    assert it.threshold_bytes == 0.0
    it.advance(math.inf)
    assert it.bandwidth_bytes_per_s == pytest.approx(LINK)
    assert it.threshold_bytes == pytest.approx(LINK * 0.3)


def test_the_first_window_runs_ahead_by_the_pipe() -> None:
    it = sender(pipe_bytes=2 * MIB)
    it.advance(math.inf)
    it.advance(math.inf)
    assert it.level_bytes == 2 * MIB
    assert it.bandwidth_bytes_per_s == pytest.approx(LINK + 2 * MIB / 0.1024)


def test_the_look_comes_up_to_a_slice_below_the_threshold() -> None:
    it = sender()
    run(it)
    assert LINK * 0.3 - 25000 * 4096 * 0.0512 <= it.pending_bytes < LINK * 0.3
    assert it.sent_bytes == pytest.approx((1024 * MIB - it.pending_bytes) * PAGE_WIRE / 4096)


def test_where_the_threshold_is_less_than_a_slice_all_is_sent() -> None:
    it = sender(objectives=Objectives(downtime_s=0.01))
    run(it)
    assert it.pending_bytes == 0.0
    assert it.now_s == pytest.approx(1024 * MIB / 4096 / 25000)


def test_a_limit_sends_at_once_and_sleeps() -> None:
    """A tenth of it for each window, and the bandwidth that it measures is the limit's."""
    it = sender(pipe_bytes=64 * MIB, costs=Costs(cpu_bytes_per_s=1e9))
    it.limit_bandwidth(20e6)
    assert not it.advance(0.002)
    assert not it.advance(0.05)
    assert (it.now_s, it.sent_bytes) == pytest.approx((0.05, 2e6))
    assert it.advance(math.inf)
    assert it.now_s == pytest.approx(0.1)
    assert (it.bandwidth_bytes_per_s, it.level_bytes) == pytest.approx((20e6, 0.0))


def test_a_limit_is_heeded_at_once_and_lifted_at_once() -> None:
    it = sender()
    it.advance(0.03)
    it.limit_bandwidth(1e6)
    assert it.advance(math.inf)
    assert it.now_s == pytest.approx(0.1)
    it.limit_bandwidth(0)
    it.advance(math.inf)
    assert it.sent_bytes == pytest.approx(LINK * 0.0812)


def test_the_same_limit_again_is_no_news() -> None:
    it = sender()
    it.limit_bandwidth(0)
    assert it == sender()


def test_a_cpu_that_is_slower_than_the_link_leaves_the_pipe_empty() -> None:
    it = sender(pipe_bytes=MIB, costs=Costs(cpu_bytes_per_s=LINK / 2))
    run(it, 1.0)
    assert (it.level_bytes, it.sent_bytes) == pytest.approx((0.0, LINK / 2))


def test_zero_pages_cost_time_and_next_to_no_bytes() -> None:
    """8 GiB of them: 0.3 µs and 9 bytes each, while the pipe drains."""
    it = sender(total_bytes=8192 * MIB, zero_bytes=8192 * MIB, pipe_bytes=MIB)
    it.level_bytes = float(MIB)
    run(it)
    assert it.zero_sent_bytes == pytest.approx(8192 * MIB - it.pending_bytes)
    assert it.now_s > 0.4
    assert it.sent_bytes == pytest.approx(it.zero_sent_bytes / 4096 * 9)
    assert it.now_s == pytest.approx(it.zero_sent_bytes / 4096 * 0.3e-6)
    assert it.level_bytes == 0.0


def test_zero_pages_come_last_and_then_first() -> None:
    it = sender(total_bytes=64 * MIB, zero_bytes=32 * MIB)
    it.advance(0.01)
    assert (it.zero_bytes, it.normal_bytes < 32 * MIB) == (32 * MIB, True)
    it.zero_first = True
    it.advance(0.011)
    assert it.zero_bytes < 32 * MIB


def test_zero_pages_that_cost_nothing_are_gone_at_once() -> None:
    it = sender(zero_bytes=1024 * MIB, costs=Costs(zero_page_s=0.0), bandwidth_bytes_per_s=1e9)
    run(it)
    assert it.now_s < 0.2


def test_while_it_idles_the_pipe_drains() -> None:
    it = sender(pipe_bytes=MIB)
    it.level_bytes = float(MIB)
    it.idle(0.001)
    assert it.level_bytes == pytest.approx(MIB - LINK * 0.001)
    it.idle(1.0)
    assert (it.level_bytes, it.now_s) == (0.0, 1.0)


_SETTINGS = st.fixed_dictionaries(
    {
        "bandwidth_bytes_per_s": st.floats(5e6, 2e9),
        "total_bytes": st.integers(16 * MIB, 4096 * MIB),
        "pipe_bytes": st.sampled_from([0, MIB // 4, 3 * MIB]),
        "objectives": st.builds(Objectives, downtime_s=st.sampled_from([0.01, 0.05, 0.3, 2.0])),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    _SETTINGS,
    st.sampled_from([0.0, 0.3, 0.98, 1.0, 1.01, 5.0]),
    st.floats(0, 0.9),
    st.sampled_from([0.2e9, 1.5e9]),
)
def test_many_windows_in_one_step_are_the_same_as_one_by_one(
    given: dict[str, Any], limit: float, zero: float, cpu: float
) -> None:
    """Windows that are leapt over against the same ones walked in steps of 30 ms: the same moment, the same state."""
    given["zero_bytes"] = int(given["total_bytes"] * zero)
    leaping = sender(**given, costs=Costs(cpu_bytes_per_s=cpu))
    leaping.limit_bandwidth(int(limit * given["bandwidth_bytes_per_s"]))
    walking = copy.copy(leaping)
    until_s = 20.0
    run(leaping, until_s)
    run(walking, until_s, step_s=0.03)
    for name in ("now_s", "pending_bytes", "sent_bytes", "zero_sent_bytes", "level_bytes", "threshold_bytes"):
        assert getattr(leaping, name) == pytest.approx(getattr(walking, name), rel=1e-6, abs=64.0), name


def test_a_slice_is_at_least_fifty_one_milliseconds() -> None:
    assert SLICE_S == 0.051


def test_pages_that_are_packed_smaller_go_faster_at_the_links_rate() -> None:
    it = sender(total_bytes=64 * MIB)
    it.pack(0.25, 1.5e9)
    run(it)
    left = it.pending_bytes
    assert it.sent_bytes == pytest.approx(0.25 * (64 * MIB - left))
    assert it.sent_bytes == pytest.approx(LINK * it.now_s, rel=0.02)


@pytest.mark.parametrize(("channels", "times"), [(None, 2), (1, 1), (4, 4), (255, 4096 / (0.32 * 0.3e-6) / 1.5e9)])
def test_channels_send_side_by_side_until_the_main_thread_is_the_limit(channels: int | None, times: float) -> None:
    assert channels_bytes_per_s(Costs(), channels) == pytest.approx(times * 1.5e9)


def test_a_bandwidth_that_is_measured_too_high_lets_more_through() -> None:
    it = sender()
    it.off = 1.1
    run(it)
    assert it.threshold_bytes == pytest.approx(1.1 * LINK * 0.3)
    assert it.bandwidth_bytes_per_s == pytest.approx(LINK)
