"""Draws in time: phases, speeds, and the mean over all beginnings of a window."""

from __future__ import annotations

import math

import pytest

from whimbrel.sim.guests.laws import Independent, Sweep
from whimbrel.sim.guests.streams import ALWAYS, Phases, Stream, dirtied_pages

PHASES = Phases(2.0, 0.5, 0.3)


def test_it_is_on_at_the_beginning_of_each_period() -> None:
    """The first has 0.3 s behind it when the guest begins, so 0.2 s of being on are left."""
    assert PHASES.on_in(0, 0.2) == pytest.approx(0.2)
    assert PHASES.on_in(0.2, 1.5) == 0
    assert PHASES.on_in(1.7, 0.5) == pytest.approx(0.5)
    assert PHASES.on_in(0, 20) == pytest.approx(5)
    assert PHASES.duty == 0.25


@pytest.mark.parametrize("on_s", [0.31, 0.5, 0.51, 1.0, 3.75])
def test_when_is_the_first_moment_at_which_it_was_on_for_so_long(on_s: float) -> None:
    at_s = PHASES.when(on_s)
    assert PHASES.on_by(at_s) == pytest.approx(on_s)
    assert PHASES.on_by(at_s - 1e-6) < on_s


def test_a_stream_counts_what_it_did_at_each_speed() -> None:
    stream = Stream(100.0)
    assert stream.draws(2.0) == pytest.approx(200)
    stream.go_at(2.0, 0.25)
    assert stream.draws(4.0) == pytest.approx(250)
    stream.go_at(4.0, 1.0)
    assert stream.draws(4.5) == pytest.approx(300)


def test_a_change_of_speed_in_mid_phase_counts_from_there_on() -> None:
    """On from 1.7 s to 2.2 s; slowed at 1.9 s."""
    stream = Stream(100.0, PHASES)
    before = stream.draws(1.9)
    assert before == pytest.approx(20 + 20)
    stream.go_at(1.9, 0.5)
    assert stream.draws(1.9) == pytest.approx(before)
    assert stream.draws(3.0) == pytest.approx(before + 15)


def test_a_stream_says_when_it_will_have_made_so_many_draws() -> None:
    stream = Stream(100.0, PHASES)
    stream.go_at(1.0, 0.5)
    for more in (0.5, 10.0, 26.0, 99.0):
        draws = stream.draws(1.0) + more
        assert stream.draws(stream.when(draws)) == pytest.approx(draws)
    stream.go_at(5.0, 0.0)
    assert stream.when(1e9) == math.inf


@pytest.mark.parametrize("law", [Independent([(1, 0.1), (900, 0.001)]), Sweep(60)], ids=["independent", "sweep"])
@pytest.mark.parametrize("window_s", [0.05, 0.4, 1.9, 2.0, 2.7, 13.1])
def test_the_mean_over_all_beginnings_is_the_mean_over_all_beginnings(
    law: Independent | Sweep, window_s: float
) -> None:
    """Closed form against 4000 beginnings in a period, with the midpoint rule, whose error is second order."""
    steps = 4000
    starts = [(i + 0.5) * PHASES.period_s / steps for i in range(steps)]
    mean = sum(dirtied_pages(law, 100.0, PHASES, window_s, start_s) for start_s in starts) / steps
    assert dirtied_pages(law, 100.0, PHASES, window_s) == pytest.approx(mean, rel=2e-4)


def test_nothing_is_dirtied_in_no_time_or_by_no_draws() -> None:
    assert dirtied_pages(Sweep(9), 5.0, ALWAYS, 0.0) == 0
    assert dirtied_pages(Sweep(9), 0.0, ALWAYS, 1.0) == 0
