"""What the guest alone needs for its curve of distinct dirtied bytes, against brute force."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.guest.curve import Range, range_law, share_of_range
from whimbrel.guest.popularity import Step, hotspot_steps, probabilities, uniform_steps, zipf_steps
from whimbrel.sim.guests.laws import Independent
from whimbrel.sim.guests.popularity import stride_for
from whimbrel.sim.guests.streams import Phases, dirtied_pages

RANGES = (Range(100, 30), Range(64, 64), Range(7, 1))


def draw(steps: tuple[Step, ...], stride: int, pages: int, rng: random.Random) -> int:
    """One choice, made the way that the guest makes it."""
    number, start = rng.getrandbits(32), 0
    for step in steps:
        if number <= step.limit:
            return (start + rng.randrange(step.pages)) * stride % pages
        start += step.pages
    raise AssertionError("the limits do not cover all draws")


@pytest.mark.parametrize(
    "steps",
    [uniform_steps(200), zipf_steps(200, 0.99), hotspot_steps(200, 0.95, 0.2)],
    ids=["uniform", "zipf", "hotspot"],
)
@pytest.mark.parametrize("draws", [1, 37, 400])
def test_the_guests_own_draws_agree_with_the_law_of_their_table(steps: tuple[Step, ...], draws: int) -> None:
    """The mean over 2000 trials is within 6 standard errors of the law (variance at most that of independent pages)."""
    rng, stride, trials = random.Random(draws), stride_for(200), 2000
    law = Independent(probabilities(steps))
    mean = sum(len({draw(steps, stride, 200, rng) for _ in range(draws)}) for _ in range(trials)) / trials
    clean = [(n, (1 - p) ** draws) for n, p in probabilities(steps)]
    variance = sum(n * q * (1 - q) for n, q in clean)
    assert mean == pytest.approx(law.at(draws), abs=6 * (variance / trials) ** 0.5 + 1e-9)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_sweep_meets_a_range_as_counted(pages: int, part: int, draws: int) -> None:
    """Over all beginnings of a sweep, counted one by one."""
    part = min(part, pages)
    hits = sum(any((begin + step) % pages < part for step in range(min(draws, pages))) for begin in range(pages))
    assert range_law((), pages, 0, part).at(draws) == pytest.approx(hits / pages)


@given(st.integers(1, 200), st.integers(1, 40), st.data())
def test_independent_draws_meet_a_range_as_chance_has_it(pages: int, draws: int, data: st.DataObject) -> None:
    """Each misses it with what its share leaves over."""
    begin = data.draw(st.integers(0, pages - 1))
    end = data.draw(st.integers(begin + 1, pages))
    steps = zipf_steps(pages, 0.9)
    missed = (1 - share_of_range(steps, pages, begin, end)) ** draws
    assert range_law(steps, pages, begin, end).at(draws) == pytest.approx(1 - missed)


@pytest.mark.parametrize("law", RANGES, ids=repr)
@pytest.mark.parametrize("draws", [0.3, 1.0, 17.6, 40.0, 123.4])
def test_integrals_are_those_of_the_laws(law: Range, draws: float) -> None:
    """The closed integral agrees with a fine sum of midpoints."""
    cells = 20_000
    width = draws / cells
    summed = sum(law.at((cell + 0.5) * width) for cell in range(cells)) * width
    assert law.integral(draws) == pytest.approx(summed, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("law", RANGES, ids=repr)
@pytest.mark.parametrize("tau_s", [0.05, 0.31, 1.0, 1.45, 7.2])
def test_the_mean_over_phases_is_the_mean_over_starts(law: Range, tau_s: float) -> None:
    """Averaging windows that begin at many evenly spaced moments gives the same, whatever the shift."""
    phases, starts = Phases(period_s=1.0, on_s=0.3, shift_s=0.2), 4000
    summed = sum(dirtied_pages(law, 40.0, phases, tau_s, (k + 0.5) / starts) for k in range(starts)) / starts
    assert dirtied_pages(law, 40.0, phases, tau_s) == pytest.approx(summed, rel=2e-3)


@given(st.integers(2, 400), st.data())
def test_the_share_of_a_range_is_the_sum_of_its_pages(pages: int, data: st.DataObject) -> None:
    """Page by page, with the ranks scattered as the guest does; a sweep's are alike."""
    begin = data.draw(st.integers(0, pages - 1))
    end = data.draw(st.integers(begin + 1, pages))
    steps = zipf_steps(pages, 0.9)
    each = [p for n, p in probabilities(steps) for _ in range(n)]
    stride = stride_for(pages)
    summed = sum(p for rank, p in enumerate(each) if begin <= rank * stride % pages < end)
    assert share_of_range(steps, pages, begin, end) == pytest.approx(summed)
    assert share_of_range((), pages, begin, end) == share_of_range(uniform_steps(pages), pages, begin, end)
    assert share_of_range((), pages, begin, end) == (end - begin) / pages


def test_the_curve_needs_no_numpy() -> None:
    """Whoever starts a guest does not pay for the page level of the simulator, with which it shares its laws."""
    program = "import sys, whimbrel.guest.spec, whimbrel.guest_plan; print('numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"
