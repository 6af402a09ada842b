"""``qemu_default`` holds QEMU's own defaults, whatever the user allows more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import boundary, setup, tick
from whimbrel.engine.bounds import goodput
from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Setting, Writers
from whimbrel.engine.policies.qemu_default import QemuDefault
from whimbrel.engine.policy import Decision, Objectives

MIB = 1 << 20


def test_it_is_300_ms_and_128_mib_a_second() -> None:
    assert QemuDefault()(setup()) == Decision(
        downtime_limit_s=0.3, bandwidth_bytes_per_s=128 * MIB, because="held at 300 ms"
    )


def test_later_it_decides_nothing() -> None:
    policy = QemuDefault()
    assert policy(boundary(9.0)) == policy(tick(9.0)) == Decision()


def test_xbzrle_has_the_capability_and_the_cache() -> None:
    decision = QemuDefault(xbzrle=True)(setup())
    assert (decision.capabilities, decision.xbzrle_cache_bytes) == ({"xbzrle": True}, 64 * MIB)
    assert decision.because == "held at 300 ms, XBZRLE with 64 MiB"


def test_multifd_has_the_capability_and_its_channels() -> None:
    decision = QemuDefault(multifd_channels=4)(setup())
    assert (decision.capabilities, decision.multifd_channels) == ({"multifd": True}, 4)
    assert decision.because == "held at 300 ms, 4 channels"


@pytest.mark.parametrize(
    "wrong",
    [{"downtime_limit_s": 0.0}, {"xbzrle_cache_bytes": 0}, {"bandwidth_bytes_per_s": -1}, {"multifd_channels": -1}],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        QemuDefault(**wrong)


def test_a_link_of_10_gbit_is_used_to_a_tenth() -> None:
    """1 GiB takes the 8 s that it takes at 128 MiB/s."""
    scene = Setting(
        writers=(Writers(curve=PoissonClasses(((64, 1.0),))),),
        total_bytes=1024 * MIB,
        bandwidth_bytes_per_s=1.25e9,
        objectives=Objectives(downtime_s=0.3),
    )
    course = forecast(scene, QemuDefault())
    assert course.converged
    assert course.total_s == pytest.approx(1024 * MIB / goodput(128 * MIB), rel=0.05)
