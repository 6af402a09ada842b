"""Post-copy in a forecast: every page once, and a guest that waits for those that it touches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from whimbrel.engine.costs import Costs
from whimbrel.engine.curve import ConstantRate, PoissonClasses
from whimbrel.engine.forecast_dirt import Dirt
from whimbrel.engine.forecast_postcopy import Postcopy, postcopy
from whimbrel.engine.forecast_records import Setting, Writers

MIB = 1 << 20
HOT = PoissonClasses(((16384, 20.0),))
"""64 MiB."""
GUEST = Setting(writers=(Writers(curve=HOT, range_bytes=64 * MIB),), total_bytes=128 * MIB, bandwidth_bytes_per_s=25e6)


def of(setting: Setting, *, zero_bytes: float = 0.0, preempt: bool = False) -> Postcopy:
    return postcopy(setting, Dirt.of(setting), zero_bytes, preempt=preempt)


def test_every_page_goes_over_once() -> None:
    said = of(GUEST, zero_bytes=4096.0)
    assert said.wire_bytes == 32768 * 4104 + 9
    assert said.span_s == pytest.approx(said.wire_bytes / 25e6)
    slow = replace(GUEST, costs=replace(Costs(), cpu_bytes_per_s=1e6))
    assert of(slow).span_s == pytest.approx(32768 * 4104 / 1e6)


def test_a_guest_that_touches_nothing_runs_on() -> None:
    idle = replace(GUEST, writers=())
    assert of(idle).worked_s == pytest.approx(of(idle).span_s)


def test_a_guest_that_touches_much_stands_at_each_page_for_as_long_as_the_pipe_is_deep() -> None:
    deep = replace(GUEST, pipe_bytes=2_500_000)
    quick, slow = of(GUEST), of(deep)
    assert slow.worked_s < 0.55 * slow.span_s, "half of the pages are its own"
    assert slow.worked_s < quick.worked_s < quick.span_s
    assert of(deep, preempt=True) == quick


def test_it_waits_no_longer_than_the_rest_takes() -> None:
    tiny = Setting(
        writers=(Writers(curve=ConstantRate(4096e3, most_bytes=40960.0)),),
        total_bytes=40960, bandwidth_bytes_per_s=1e6, pipe_bytes=10**9,
    )  # fmt: skip
    assert 0 < of(tiny).worked_s < of(tiny).span_s < 0.1


def test_latency_counts_both_ways() -> None:
    assert of(replace(GUEST, latency_s=0.05)).worked_s < 0.8 * of(GUEST).worked_s
