"""The popularity of pages: sums to one, and is that of the workload guest."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.guest import popularity as guest
from whimbrel.sim.guests.popularity import groups_of, rank_groups, stride_for
from whimbrel.sim.scenario import Pattern, Writer

SIZES = (1, 7, 16, 17, 1000, 65536)


def writer(pattern: Pattern, **more: Any) -> Writer:
    return Writer(name="w", size_bytes=4096, pattern=pattern, **more)


@pytest.mark.parametrize("pattern", Pattern)
@pytest.mark.parametrize("pages", SIZES)
def test_every_page_is_in_one_group_and_the_probabilities_sum_to_one(pattern: Pattern, pages: int) -> None:
    groups = groups_of(writer(pattern), pages)
    assert sum(count for count, _ in groups) == pages
    assert math.fsum(count * p for count, p in groups) == pytest.approx(1)


@pytest.mark.parametrize("skew", [0.0, 0.5, 0.99, 1.0, 1.7])
@pytest.mark.parametrize("pages", SIZES)
def test_zipf_is_the_workload_guests_own_table(pages: int, skew: float) -> None:
    """That draws 32-bit numbers, so its probabilities are rounded to 2**-32 over the pages of a step."""
    ours = groups_of(writer(Pattern.ZIPF, skew=skew), pages)
    theirs = guest.probabilities(guest.zipf_steps(pages, skew))
    assert [count for count, _ in ours] == [count for count, _ in theirs]
    assert [p for _, p in ours] == pytest.approx([p for _, p in theirs], abs=2.0**-31)


@pytest.mark.parametrize(("share", "part"), [(0.95, 0.2), (0.5, 0.01), (0.9, 0.999)])
def test_hotspot_is_the_workload_guests_own_table(share: float, part: float) -> None:
    ours = groups_of(writer(Pattern.HOTSPOT, share=share, part=part), 500)
    theirs = guest.probabilities(guest.hotspot_steps(500, share, part))
    assert [p for _, p in ours] == pytest.approx([p for _, p in theirs], abs=2.0**-31)
    assert [count for count, _ in ours] == [count for count, _ in theirs]


@given(st.integers(1, 1_000_000))
def test_ranks_are_grouped_without_a_gap_and_alike_within_a_group(pages: int) -> None:
    """The first sixteen alone; of the others no group's last rank is more than a quarter above its first."""
    groups = rank_groups(pages)
    assert [ranks.start for ranks in groups] == [1, *(ranks.stop for ranks in groups[:-1])]
    assert groups[-1].stop == pages + 1
    assert all(len(ranks) == 1 for ranks in groups[:16])
    assert all(0 < ranks[-1] / ranks[0] <= 1.25 for ranks in groups)
    assert all(len(b) >= len(a) for a, b in itertools.pairwise(groups[:-1]))


@given(st.integers(1, 1_000_000))
def test_the_stride_gives_each_rank_a_page_of_its_own(pages: int) -> None:
    """Coprime with the number of pages, and below it (or 1)."""
    stride = stride_for(pages)
    assert math.gcd(stride, pages) == 1
    assert 1 <= stride <= max(1, pages - 1)


def test_neighbours_in_rank_lie_apart() -> None:
    """The hundred hottest of 16384 pages are spread over all quarters of the class."""
    stride = stride_for(16384)
    quarters = {rank * stride % 16384 // 4096 for rank in range(100)}
    assert quarters == {0, 1, 2, 3}


@pytest.mark.parametrize("skew", [0.3, 1.0, 2.5])
def test_long_groups_of_ranks_are_summed_exactly(skew: float) -> None:
    pages = 200_000
    groups = groups_of(writer(Pattern.ZIPF, skew=skew), pages)
    total = math.fsum(rank**-skew for rank in range(1, pages + 1))
    count, p = groups[-1]
    assert count > 2048
    assert p * count * total == pytest.approx(
        math.fsum(rank**-skew for rank in range(pages - count + 1, pages + 1)), rel=1e-8
    )
