"""The tables of popularity: exact probabilities that the guest can draw."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.guest.popularity import hotspot_steps, probabilities, uniform_steps, zipf_steps


@given(st.integers(1, 5000), st.floats(0, 4))
def test_zipf_covers_every_page_once(pages: int, skew: float) -> None:
    """Steps cover the class, their limits rise to the last draw, and the probabilities add up to 1."""
    steps = zipf_steps(pages, skew)
    limits = [step.limit for step in steps]
    assert sum(step.pages for step in steps) == pages
    assert all(step.pages > 0 for step in steps)
    assert all(a < b for a, b in itertools.pairwise(limits))
    assert limits[-1] == 2**32 - 1
    assert math.fsum(n * p for n, p in probabilities(steps)) == pytest.approx(1, abs=1e-12)


@given(st.integers(2, 200_000), st.floats(0.1, 1.5))
def test_zipf_is_zipf(pages: int, skew: float) -> None:
    """The first ranks are exact, the others within the bound that the table's growth gives."""
    weights = [rank**-skew for rank in range(1, pages + 1)]
    total = math.fsum(weights)
    rank = 0
    for count, probability in probabilities(zipf_steps(pages, skew)):
        for at in {rank, rank + count // 2, rank + count - 1}:
            # Within a step, ranks differ by at most a quarter (17 to 20); one draw of 2**32 is the grain.
            bound = 1.25**skew - 1 if count > 1 else 0.0
            assert probability == pytest.approx(weights[at] / total, rel=bound + 1e-6, abs=2**-31)
        rank += count


@given(st.integers(2, 10_000), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_hotspot_gives_the_share_to_the_part(pages: int, share: float, part: float) -> None:
    """The hot pages get the share of the draws; a part that rounds to all of them is uniform."""
    steps = hotspot_steps(pages, share, part)
    hot = min(max(round(pages * part), 1), pages)
    if hot == pages:
        assert steps == uniform_steps(pages)
    else:
        (count, probability), _rest = probabilities(steps)
        assert count == hot
        assert count * probability == pytest.approx(share, abs=2**-31)
