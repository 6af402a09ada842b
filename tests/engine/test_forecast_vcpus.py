"""How long vCPUs run in a forecast."""

from __future__ import annotations

import pytest

from whimbrel.engine.curve import ConstantRate
from whimbrel.engine.forecast_dirt import Dirt
from whimbrel.engine.forecast_records import Setting, Writers
from whimbrel.engine.forecast_vcpus import VcpuTime, shares_of

CURVE = ConstantRate(1000.0, most_bytes=1e5)


def dirt(*writers: Writers) -> Dirt:
    return Dirt.of(Setting(writers=writers, total_bytes=10**6, bandwidth_bytes_per_s=1e6))


def test_writers_of_one_vcpu_add_up_to_no_more_than_there_is() -> None:
    guest = dirt(
        Writers(curve=CURVE, cpu_share=0.6),
        Writers(curve=CURVE, cpu_share=0.7, duty=0.5),
        Writers(curve=CURVE, cpu_share=0.2, vcpu=1, vcpus=2),
        Writers(curve=CURVE, cpu_share=None),
    )
    assert shares_of(guest.areas, 0.0) == pytest.approx((0.95, 0.2, 0.2))
    assert shares_of(guest.areas, 0.9) == pytest.approx((0.1, 0.1, 0.1))
    assert shares_of(dirt().areas, 0.0) == (0.0,)


def test_it_runs_as_much_as_it_is_let() -> None:
    guest = dirt(Writers(curve=CURVE, cpu_share=0.5))
    time = VcpuTime.of(guest)
    assert time.at(2.0) == (1.0,)
    guest.slow(0.75)
    time.changed(2.0, guest, 0.75)
    assert time.at(4.0) == (1.5,)
