"""The laws are distributions' own mathematics: against numeric derivatives and integrals, and brute force."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest

from whimbrel.engine.curve import Curve
from whimbrel.sim.guests.laws import Independent, Law, Measured, Recurring, Scattered, Sweep

GROUPS = ((4, 0.05), (100, 0.006), (1000, 0.0002))
CURVE = Curve(((0.5, 400 * 4096.0), (1.0, 800 * 4096.0), (4.0, 1100 * 4096.0)), 2000 * 4096.0)
LAWS: dict[str, Law] = {
    "independent": Independent(GROUPS),
    "scattered": Scattered(GROUPS),
    "sweep": Sweep(500),
    "measured": Measured(CURVE),
    "recurring": Recurring([0.5, 1.0, 2.5, 4.0, 3.0, 1.0], 3, 4.0),
}


@pytest.mark.parametrize("name", LAWS)
def test_a_law_begins_at_nothing_never_falls_and_ends_at_its_most(name: str) -> None:
    law = LAWS[name]
    values = [law.at(i * 0.37) for i in range(400)]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(values))
    assert law.at(1e7) == pytest.approx(law.most)


@pytest.mark.parametrize("name", LAWS)
def test_the_integral_is_that_of_the_law(name: str) -> None:
    """Trapezoids over pieces so small that a kink of a piecewise law costs less than the bound."""
    law, end, steps = LAWS[name], 7.3, 20_000
    step = end / steps
    area = sum((law.at(i * step) + law.at((i + 1) * step)) / 2 * step for i in range(steps))
    assert law.integral(end) == pytest.approx(area, rel=1e-6)
    assert law.integral(0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("draws", [0.2, 0.7, 3.3, 8.6])
def test_the_slope_is_the_derivative(name: str, draws: float) -> None:
    """Evenly spread draws make steps of whole draws, within which the slope is that of the step."""
    law, step = LAWS[name], 1e-4
    assert law.slope(draws) == pytest.approx((law.at(draws + step) - law.at(draws)) / step, rel=1e-4, abs=1e-9)


def test_independent_draws_leave_pages_clean_as_chance_has_it() -> None:
    """Two pages, one hit with probability 3/4: worked out by hand over all sequences of three draws."""
    chances = {0: 0.75, 1: 0.25}
    expected = sum(
        math.prod(chances[page] for page in sequence) * len(set(sequence))
        for sequence in itertools.product((0, 1), repeat=3)
    )
    assert Independent([(1, 0.75), (1, 0.25)]).at(3) == pytest.approx(expected)


def test_a_fraction_of_a_draw_is_the_mean_of_windows_that_see_it_and_windows_that_do_not() -> None:
    law = Independent(GROUPS)
    assert law.at(5.25) == pytest.approx(0.75 * law.at(5) + 0.25 * law.at(6))


def test_random_times_are_the_poisson_mixture_of_known_numbers_of_draws() -> None:
    mixed = sum(Independent(GROUPS).at(k) * math.exp(-4 + k * math.log(4) - math.lgamma(k + 1)) for k in range(60))
    assert Scattered(GROUPS).at(4) == pytest.approx(mixed)


def test_a_measured_law_is_the_engines_curve() -> None:
    law = Measured(CURVE)
    for window_s in (0.1, 0.5, 0.8, 2.0, 4.0, 9.0, 50.0):
        assert law.at(window_s) * 4096 == pytest.approx(CURVE.at(window_s))


def test_no_time_dirties_nothing_whatever_offset_was_measured() -> None:
    offset = Curve(((1.0, 4096.0 * 100), (2.0, 4096.0 * 110)), 4096.0 * 1000)
    assert offset.at(0) > 0
    assert Measured(offset).at(0) == 0


def test_a_concave_curve_is_the_sum_of_its_sweeps() -> None:
    law = Measured(CURVE)
    sweeps = law.sweeps()
    for window_s in (0.05, 0.5, 0.75, 1.0, 2.5, 4.0, 8.0, 100.0):
        total = sum(pages * min(window_s / period_s, 1) for pages, period_s in sweeps)
        assert total == pytest.approx(law.at(window_s))


def test_of_a_curve_that_is_not_concave_the_sweeps_are_the_least_concave_one_above() -> None:
    bent = Measured(Curve(((1.0, 4096.0 * 100), (2.0, 4096.0 * 300), (3.0, 4096.0 * 400)), 4096.0 * 400))
    sweeps = bent.sweeps()
    for window_s, pages in ((1.0, 150.0), (2.0, 300.0), (3.0, 400.0)):
        assert sum(size * min(window_s / period_s, 1) for size, period_s in sweeps) == pytest.approx(pages)


def test_recurring_writes_are_counted_as_by_trying_every_beginning() -> None:
    dice, seconds = Random(3), 10.0
    writes = sorted((dice.uniform(0, seconds), dice.randrange(8)) for _ in range(30))
    gaps: list[float] = []
    for page in {page for _, page in writes}:
        times = [at for at, other in writes if other == page]
        gaps += [b - a for a, b in itertools.pairwise([*times, times[0] + seconds])]
    law = Recurring(gaps, len({page for _, page in writes}), seconds)
    for tau in (0.3, 1.7, 4.0, 9.9):
        starts = [i * seconds / 20_000 for i in range(20_000)]
        mean = sum(
            len({page for at, page in writes if start < at <= start + tau or start < at + seconds <= start + tau})
            for start in starts[::20]
        ) / len(starts[::20])
        assert law.at(tau) == pytest.approx(mean, abs=0.05)
