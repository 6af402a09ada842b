"""The popularity of pages: sums to one, and is that of the workload guest."""

from __future__ import annotations

import math
from typing import Any

import pytest

from whimbrel.guest import popularity as guest
from whimbrel.sim.guests.popularity import groups_of, stride_for
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


@pytest.mark.parametrize("pages", SIZES)
def test_ranks_are_scattered_as_in_the_workload_guest_each_to_a_page_of_its_own(pages: int) -> None:
    assert stride_for(pages) == guest.stride_for(pages)
    assert len({rank * stride_for(pages) % pages for rank in range(pages)}) == pages


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
