"""What is asked of the outage, and where."""

from __future__ import annotations

import pytest

from benchmarks.outage import RATES, cases


@pytest.mark.parametrize(("rate", "asked"), [("200mbit", [0.1, None]), ("1gbit", [0.2, 0.2])])
def test_the_guests_of_each_link(rate: str, asked: list[float | None]) -> None:
    found = cases(rate, RATES[rate])
    assert [case.greatest_ratio for case in found] == asked
    assert len({case.name for case in found}) == len(found)


def test_the_writers_write_5_and_50_percent_of_what_the_link_takes() -> None:
    rates = [case.guest.spec.rate_bytes_per_s / 100e6 for case in cases("1gbit", 100e6)]
    assert rates == pytest.approx([0.05, 0.5], rel=0.01)
