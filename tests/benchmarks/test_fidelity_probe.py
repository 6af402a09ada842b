"""The stream of our own that measures the link and its pipe."""

from __future__ import annotations

import pytest

from benchmarks.fidelity.probe import probe
from whimbrel.laboratory.link import can_link, paced_link

WHY_NOT = can_link()


@pytest.mark.skipif(bool(WHY_NOT), reason=f"no paced link can be made here: {WHY_NOT}")
def test_goodput_lies_just_below_the_rate_and_the_pipe_holds_something() -> None:
    with paced_link("200mbit") as link:
        found = probe(link, 0.5)
    assert 0.85 * 25e6 < found.goodput_bytes_per_s < 1.02 * 25e6
    assert 20_000 < found.pipe_bytes < 4_000_000
