"""``calc-dirty-rate``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.qemu.pair import PLAIN, Pair
from whimbrel.sim.qemu.contract import Version

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1


@pytest.mark.parametrize(
    ("version", "arguments", "words"),
    [
        (V7, {"calc_time": 0}, "calc-time is out of range[1, 60]."),
        (V7, {"calc_time": 61}, "calc-time is out of range[1, 60]."),
        (V10, {"calc_time": 61}, "Calculation time is out of range [50ms, 60000ms]."),
        (V11, {"calc_time": 49, "calc_time_unit": "millisecond"}, "Calculation time is out of range [50ms, 60000ms]."),
        (V7, {"calc_time": 1, "sample_pages": 1}, "sample-pages is out of range[128, 16384]."),
        (V10, {"calc_time": 1, "mode": "dirty-ring"}, "mode dirty-ring is not enabled, use other method instead."),
        (
            V10,
            {"calc_time": 1, "mode": "dirty-bitmap", "sample_pages": 512},
            "sample-pages is used only in page-sampling mode",
        ),
    ],
)
def test_what_is_refused(version: Version, arguments: dict[str, Any], words: str) -> None:
    """In each version's words."""
    assert Pair(version).source.ask("calc-dirty-rate", **arguments) == words


def test_it_takes_its_time_and_there_is_one_at_a_time() -> None:
    """The result stays until the next."""
    pair = Pair(V10, rate_bytes_per_s=8 * (1 << 20))
    assert pair.source.ask("query-dirty-rate")["status"] == "unstarted"
    assert pair.source.ask("calc-dirty-rate", calc_time=1, sample_pages=16384) == {}
    assert pair.source.ask("calc-dirty-rate", calc_time=1) == "the dirty rate is already being measured."
    assert pair.source.ask("query-dirty-rate")["status"] == "measuring"
    pair.go(1.1)
    found = pair.source.ask("query-dirty-rate")
    assert (found["status"], found["mode"], found["calc-time"], found["calc-time-unit"]) == (
        "measured",
        "page-sampling",
        1,
        "second",
    )
    assert 5 <= found["dirty-rate"] <= 8, "8 MiB/s over 16 MiB, some pages more than once"
    assert pair.source.ask("query-dirty-rate", calc_time_unit="millisecond")["calc-time"] == 1000


def test_a_guest_that_stands_still_dirties_nothing() -> None:
    """Nor does TCG have a log for the other way to measure."""
    pair = Pair(V11, rate_bytes_per_s=8 * (1 << 20))
    pair.source.ask("calc-dirty-rate", calc_time=50, calc_time_unit="millisecond", mode="dirty-bitmap")
    pair.go(0.1)
    assert pair.source.ask("query-dirty-rate")["dirty-rate"] == 0
    pair.source.ask("stop")
    pair.source.ask("calc-dirty-rate", calc_time=1)
    pair.go(1.1)
    assert pair.source.ask("query-dirty-rate")["dirty-rate"] == 0


@pytest.mark.parametrize("mode", ["dirty-bitmap", "dirty-ring"])
def test_7_2_without_kvm_dies_of_the_other_ways(mode: str) -> None:
    """By SIGSEGV, with its guest."""
    pair = Pair(V7)
    pair.source.say("calc-dirty-rate", calc_time=1, mode=mode)
    pair.go(0.1)
    assert pair.source.qemu.exit_code == -11
    assert pair.source.closed


def test_a_dirty_ring_rules_the_bitmap_out() -> None:
    """With KVM."""
    line = PLAIN.replace("-accel tcg", "-accel kvm,dirty-ring-size=4096")
    pair = Pair(V10, source=line)
    words = "mode dirty-bitmap is not enabled, use other method instead."
    assert pair.source.ask("calc-dirty-rate", calc_time=1, mode="dirty-bitmap") == words
    assert pair.source.ask("calc-dirty-rate", calc_time=1, mode="dirty-ring") == {}
