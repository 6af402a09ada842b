"""What a measured guest tells: windows, points with their errors, zero pages, deltas."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.curve import PAGE_BYTES
from whimbrel.engine.measuring import (
    ALIKE,
    LONGEST_S,
    MIB,
    UNREAD_MARK,
    ZERO_MARK,
    Look,
    Mode,
    delta_of,
    looks_for,
    needed_shares,
    pages_to_sample,
    points_of,
    rate_point,
    why_not,
    window_as_measured_s,
    windows_for,
    zero_of,
    zero_unknown,
)

# ---- what may be asked for


@pytest.mark.parametrize("version", [(7, 2, 22), (10, 0, 2), (11, 1, 0)])
def test_under_tcg_nothing_but_page_sampling_may_be_used(version: tuple[int, int, int]) -> None:
    """The others crash 7.2 and report nothing later."""
    assert why_not(Mode.PAGE_SAMPLING, version, "tcg") == ""
    assert "crashes QEMU 7.2" in why_not(Mode.DIRTY_BITMAP, version, "tcg")
    assert "crashes QEMU 7.2" in why_not(Mode.DIRTY_RING, version, "tcg")


def test_under_kvm_the_others_may_be_used_from_8_on() -> None:
    assert "before QEMU 8.0" in why_not(Mode.DIRTY_BITMAP, (7, 2, 22), "kvm")
    assert why_not(Mode.DIRTY_RING, (8, 0, 0), "kvm") == ""


@pytest.mark.parametrize(
    ("wanted_s", "seconds_s", "milliseconds_s"),
    [(0.01, 1.0, 0.05), (0.25, 1.0, 0.25), (1.0, 1.0, 1.0), (1.2345, 2.0, 1.235), (90.0, 60.0, 60.0)],
)
def test_a_window_is_as_long_as_qemu_can_have_it(wanted_s: float, seconds_s: float, milliseconds_s: float) -> None:
    """Before 8.2 it counts whole seconds."""
    assert window_as_measured_s(wanted_s, milliseconds=False) == seconds_s
    assert window_as_measured_s(wanted_s, milliseconds=True) == milliseconds_s


@pytest.mark.parametrize(
    ("span_s", "milliseconds", "windows_s"),
    [
        (0.1, False, (1.0,)),
        (4.0, False, (1.0, 2.0)),
        (7.0, False, (1.0, 2.0, 4.0)),
        (0.1, True, (0.05,)),
        (1.0, True, (0.05, 0.1, 0.2, 0.4)),
        (300.0, False, (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)),
    ],
)
def test_windows_for_calc_dirty_rate_fit_into_the_span(
    span_s: float, milliseconds: bool, windows_s: tuple[float, ...]
) -> None:
    """One after the other; the shortest is measured whatever the span, and none is longer than QEMU takes."""
    assert windows_for(span_s, milliseconds=milliseconds) == pytest.approx(windows_s)
    assert max(windows_s) <= LONGEST_S


@given(st.floats(0.01, 60.0))
def test_looks_begin_at_once_and_end_with_the_span(span_s: float) -> None:
    """Each window that begins with the first look is about twice the one before."""
    moments = looks_for(span_s)
    assert moments[0] == 0.0
    assert moments[-1] == span_s
    assert all(a < b for a, b in pairwise(moments))
    assert all(ALIKE <= b / a <= 2 * ALIKE for a, b in pairwise(moments[1:]))


def test_looks_for_a_second() -> None:
    assert looks_for(1.0) == pytest.approx((0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0))


@pytest.mark.parametrize(
    ("ram_bytes", "pages"), [(0, 16384), (1 << 28, 16384), (8 << 30, 8192), (64 << 30, 1024), (1 << 40, 512)]
)
def test_a_large_guest_is_sampled_more_thinly(ram_bytes: int, pages: int) -> None:
    """So many pages of each GiB, that QEMU does not hash for seconds."""
    assert pages_to_sample(ram_bytes) == pages


# ---- points out of rates


def test_a_rate_was_rounded_down_and_comes_from_a_sample() -> None:
    """256 MiB, 4096 pages looked at, a fifth of them dirty: binomial, and what lies within a whole MiB/s."""
    point = rate_point(51 * MIB, 1.0, 256 * MIB)
    assert point.dirtied_bytes == 51.5 * MIB
    share = 51.5 / 256
    assert point.error_bytes == pytest.approx(
        math.hypot(256 * MIB * math.sqrt(share * (1 - share) / 4096), MIB / math.sqrt(12))
    )


def test_what_counts_all_pages_has_no_error_but_its_rounding() -> None:
    point = rate_point(51 * MIB, 2.0, 256 * MIB, Mode.DIRTY_BITMAP)
    assert point.dirtied_bytes == 52 * MIB
    assert point.error_bytes == pytest.approx(2 * MIB / math.sqrt(12))


def test_no_rate_at_all_is_not_certain_to_be_none() -> None:
    point = rate_point(0.0, 1.0, 256 * MIB)
    assert point.dirtied_bytes == 0.5 * MIB
    assert point.error_bytes >= 256 * MIB / 4096


def test_no_more_than_all_of_memory_is_dirtied() -> None:
    """And where all seems to be, one page in the sample may yet have been missed."""
    point = rate_point(16.0 * MIB, 2.0, 16 * MIB)
    assert point.dirtied_bytes == 16 * MIB
    assert point.error_bytes > 0


# ---- points out of looks


def look(at_s: float, marks: list[int], took_s: float = 0.0) -> Look:
    """In two batches, of which the second is read so much later."""
    return Look((at_s, at_s + took_s), tuple(marks))


def test_every_pair_of_looks_is_a_window_as_long_as_for_the_pages_themselves() -> None:
    """Looks that take long shift all pages alike."""
    first, second = look(0.0, [5, 6, 7, 8], took_s=0.1), look(1.0, [5, 1, 7, 9], took_s=0.3)
    (point,) = points_of([first, second], 400)
    assert point.window_s == pytest.approx(1.1)
    assert point.dirtied_bytes == 200.0


def test_windows_alike_make_one_point() -> None:
    """Its error grows by how much they scatter: this guest does not do the same all the time."""
    steady = [look(at_s, [at, at, 5, 5]) for at, at_s in enumerate((0.0, 1.0, 2.0), start=10)]
    restless = [look(0.0, [1, 1, 5, 5]), look(1.0, [2, 2, 5, 5]), look(2.0, [2, 2, 5, 5])]
    short, long = points_of(steady, 400)
    assert (short.window_s, short.dirtied_bytes) == (1.0, 200.0)
    assert (long.window_s, long.dirtied_bytes) == (2.0, 200.0)
    mixed, _ = points_of(restless, 400)
    assert mixed.dirtied_bytes == 100.0
    assert mixed.error_bytes == pytest.approx(math.hypot(short.error_bytes, 100.0))


def test_windows_that_differ_a_little_do_not_scatter_by_that() -> None:
    """A saturated guest's do not grow with them, a slow one's do."""
    saturated = [look(0.0, [1, 1, 5, 5]), look(1.0, [2, 2, 5, 5]), look(2.1, [3, 3, 5, 5])]
    point = points_of(saturated, 400)[0]
    assert point.window_s == pytest.approx(1.05)
    assert point.error_bytes == points_of(saturated[:2], 400)[0].error_bytes


@given(st.lists(st.booleans(), min_size=2, max_size=40), st.integers(2, 5))
def test_what_was_read_once_alike_is_not_dirty(changes: list[bool], looks: int) -> None:
    """Points rise with their windows where nothing changes back, and never go beyond memory."""
    marks = [[(1 + at if changed else 7) for changed in changes] for at in range(looks)]
    points = points_of([look(float(at), each) for at, each in enumerate(marks)], 100)
    assert [point.window_s for point in points] == [float(window) for window in range(1, looks)]
    assert all(point.dirtied_bytes == pytest.approx(100 * sum(changes) / len(changes)) for point in points)
    assert all(point.error_bytes > 0 for point in points)


def poisson_guest(draw: random.Random, pages: int, hot: int, writes_per_s: float, looks_s: list[float]) -> list[Look]:
    """A guest with hot pages side by side that are written at random times; one page of each eight is looked at."""
    sample = [piece * 8 + draw.randrange(8) for piece in range(pages // 8)]
    version = dict.fromkeys(range(hot), 10)
    seen: list[Look] = []
    now_s = 0.0
    for at_s in looks_s:
        for page in range(hot):
            if draw.random() < 1 - math.exp(-writes_per_s * (at_s - now_s)):
                version[page] += 1
        now_s = at_s
        seen.append(Look((at_s,), tuple(version.get(page, 5) for page in sample)))
    return seen


def test_the_error_is_as_large_as_points_are_off() -> None:
    """Of 40 guests with a known curve, at each window: the mean square of what a point is off, in its errors, is about
    1 (a little less: an error counts one difference too many, so that none is not certainty)."""
    pages, hot, writes_per_s = 8192, 1024, 1.0
    squares: dict[float, list[float]] = {}
    for seed in range(40):
        looks = poisson_guest(random.Random(seed), pages, hot, writes_per_s, [0.0, 0.1, 0.3, 1.0])
        for point in points_of(looks, pages * PAGE_BYTES):
            true_bytes = hot * PAGE_BYTES * (1 - math.exp(-writes_per_s * point.window_s))
            off = (point.dirtied_bytes - true_bytes) / point.error_bytes
            squares.setdefault(round(point.window_s, 3), []).append(off**2)
    means = [sum(each) / len(each) for each in squares.values()]
    assert len(means) == 5
    assert all(0.4 < mean < 1.7 for mean in means), means


def test_busy_pages_side_by_side_make_a_small_error() -> None:
    """Half of memory is dirty, and which half is plain to see: the binomial's error would be many times that."""
    count = 1024
    first, second = look(0.0, [1] * count), look(1.0, [2] * (count // 2) + [1] * (count // 2))
    (point,) = points_of([first, second], count * PAGE_BYTES)
    binomial = count * PAGE_BYTES * math.sqrt(0.25 / count)
    assert point.error_bytes < binomial / 10


# ---- zero pages and deltas


def test_zero_pages_are_those_that_were_zero_at_every_look() -> None:
    """One that could not be looked at is none, and one that is written becomes none."""
    looks = [look(0.0, [ZERO_MARK, ZERO_MARK, UNREAD_MARK, 7]), look(1.0, [ZERO_MARK, 9, UNREAD_MARK, ZERO_MARK])]
    estimate = zero_of(looks, 400)
    assert estimate.value == 100.0
    assert estimate.spread > 0
    assert estimate.source == "sampled"


def test_no_zero_pages_at_all() -> None:
    assert zero_of([look(0.0, [7, 7])], 400).value == 0.0


def test_nothing_known_of_zero_pages_is_a_wide_estimate() -> None:
    estimate = zero_unknown(1 << 30)
    assert 0 < estimate.value < 1 << 30
    assert estimate.spread >= 1.0


def test_deltas_of_a_few_pages_say_nothing() -> None:
    assert delta_of([0.1] * 7) is None


def test_the_delta_ratio_is_the_mean_with_its_error() -> None:
    estimate = delta_of([0.2, 0.4] * 8)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.3)
    assert estimate.spread == pytest.approx(0.1 / 4 / 0.3)


# ---- vCPUs


def test_waking_up_is_nothing_that_a_vcpu_needs() -> None:
    """2000 times a second at 15 us each; a busy one sleeps seldom, and one that does little still needs something."""
    needs = needed_shares((0.09, 1.0, 0.05), (2000.0, 10.0, 2400.0), "tcg")
    assert needs == pytest.approx((0.06, 0.99985, 0.02))


def test_under_kvm_waking_up_is_cheaper() -> None:
    assert needed_shares((0.09,), (2000.0,), "kvm") == pytest.approx((0.087,))


def test_what_is_not_known_of_sleeps_is_not_taken_off() -> None:
    assert needed_shares((0.09,), (), "tcg") == (0.09,)
    assert needed_shares((0.09,), (2000.0,), "another") == (0.09,)
