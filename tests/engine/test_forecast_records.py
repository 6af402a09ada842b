"""A setting says all that is wrong with it; writers are slowed as their share of the CPU and the limit have it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from whimbrel.engine.curve import ConstantRate, Curve
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast_records import Outage, Setting, Writers

MIB = 1 << 20


@pytest.mark.parametrize(
    ("share", "throttle", "speed"),
    [(1.0, 0.25, 0.75), (0.5, 0.25, 1.0), (0.5, 0.75, 0.5), (0.0, 0.99, 1.0), (None, 0.99, 1.0), (0.25, 0.9, 0.4)],
)
def test_a_throttle_slows_those_who_need_what_it_takes(share: float | None, throttle: float, speed: float) -> None:
    assert Writers(curve=ConstantRate(1.0), cpu_share=share).speed(throttle) == pytest.approx(speed)


def test_a_limit_holds_the_vcpus_that_write_more() -> None:
    writers = Writers(curve=ConstantRate(80.0 * MIB), vcpus=4)
    assert writers.speed_within(30.0 * MIB) == 1.0
    assert writers.speed_within(10.0 * MIB) == pytest.approx(0.5)
    assert Writers(curve=ConstantRate(80.0 * MIB), cpu_share=None).speed_within(1.0) == 1.0


GOOD: dict[str, Any] = {"writers": (), "total_bytes": 64 * MIB, "bandwidth_bytes_per_s": 1e6}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"total_bytes": 0}, "total_bytes"),
        ({"wire_ratio": -0.5}, "wire_ratio"),
        ({"bandwidth_bytes_per_s": math.inf}, "bandwidth_bytes_per_s"),
        ({"pipe_bytes": -1}, "pipe_bytes"),
        ({"latency_s": math.nan}, "latency_s"),
        ({"zero_bytes": 65 * MIB}, "zero_bytes"),
        ({"clear_chunk_bytes": 4096}, "clear_chunk_bytes"),
        ({"writers": (Writers(curve=ConstantRate(1.0), range_bytes=65 * MIB),)}, "writers"),
        ({"limit_s": 0.0, "most_iterations": 0, "zero_bytes": -1}, "limit_s, most_iterations, zero_bytes"),
    ],
)
def test_all_that_is_wrong_is_named_at_once(change: dict[str, Any], field: str) -> None:
    Setting(**GOOD)
    with pytest.raises(BadInput) as caught:
        Setting(**(GOOD | change))
    assert caught.value.field == field


def test_a_measured_curve_is_enough_for_a_setting() -> None:
    curve = Curve(((1.0, 1e6), (2.0, 2e6)), 8e6, 1e6)
    setting = Setting.of_curve(curve, bandwidth_bytes_per_s=1e6)
    assert (setting.total_bytes, setting.zero_bytes, setting.writers[0].range_bytes) == (8_000_000, 1_000_000, 7e6)
    assert setting.objectives.downtime_s == 0.3


def test_the_items_of_an_outage_add_up() -> None:
    outage = Outage(
        stop_s=1, pipe_s=2, last_ram_s=4, device_state_s=8, load_s=16, resume_s=32, last_ram_bytes=1000
    )  # fmt: skip
    assert outage.total_s == 63
