"""``xen_classic``: its three bounds, each by itself, and the guest of the paper that it stops by force."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import GIB, boundary, ended, setup, tick
from tests.support.scenes import MIB, Scene, run
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import XenClassic
from whimbrel.engine.policy import Decision, Objectives

LAST = (ended(1, 0.0, 1.0, sent_bytes=100 * MIB),)


def test_fewer_than_50_pages_are_put_to_qemu_as_a_limit() -> None:
    """50 pages of 4096 bytes at 10 MB/s are 20.48 ms."""
    seen = boundary(1.0, iteration=2, iterations=LAST, remaining_bytes=4096 * 60, bandwidth_bytes_per_s=10e6)
    assert XenClassic()(seen) == Decision(downtime_limit_s=50 * 4096 / 10e6, because="60 pages dirty")


def test_the_limit_is_never_below_what_qemu_takes_nor_above_what_is_allowed() -> None:
    fast = boundary(1.0, iteration=2, iterations=LAST, bandwidth_bytes_per_s=1e9)
    assert XenClassic()(fast).downtime_limit_s == 0.001
    slow = boundary(1.0, iteration=2, iterations=LAST, bandwidth_bytes_per_s=1e3, objectives=Objectives(downtime_s=0.2))
    assert XenClassic()(slow).downtime_limit_s == 0.2
    assert XenClassic()(boundary(1.0, iteration=2, iterations=LAST)).downtime_limit_s == 0.001


def test_29_passes_are_made_and_the_30th_is_the_last_with_the_guest_stopped() -> None:
    assert not XenClassic()(boundary(9.0, iteration=29, iterations=LAST)).pause
    assert XenClassic()(boundary(9.0, iteration=30, iterations=LAST)) == Decision(pause=True, because="29 passes made")
    assert XenClassic(passes=5)(boundary(9.0, iteration=6, iterations=LAST)).pause


def test_more_than_three_times_the_ram_is_not_sent() -> None:
    exactly = boundary(9.0, iteration=9, iterations=LAST, transferred_bytes=6 * GIB)
    assert not XenClassic()(exactly).pause
    more = boundary(9.0, iteration=9, iterations=LAST, transferred_bytes=6 * GIB + 1)
    assert XenClassic()(more) == Decision(pause=True, because="more than 3 times the RAM sent")


def test_without_a_pause_the_bounds_lead_to_all_of_the_downtime_allowed() -> None:
    decision = XenClassic()(boundary(9.0, iteration=30, iterations=LAST, objectives=Objectives()))
    assert decision.switch_over
    assert decision.because == "29 passes made; pausing is not allowed: only if the rest fits 300 ms"


def test_it_decides_at_the_end_of_a_pass_only() -> None:
    assert XenClassic()(tick(9.0, iteration=99)) == Decision()
    assert XenClassic()(boundary(0.0)) == Decision()
    assert XenClassic()(setup()).because == "until fewer than 50 pages, 29 passes or 3 times the RAM"


def test_a_guest_that_writes_all_the_time_is_stopped_after_three_times_its_ram() -> None:
    """As the constant writer of the NSDI paper, that costs seconds of outage."""
    scene = Scene(
        link_bytes_per_s=64 * MIB,
        pipe_bytes=MIB,
        ram_bytes=64 * MIB,
        working_set_bytes=32 * MIB,
        dirty_bytes_per_s=200 * MIB,
    )
    course = run(scene, XenClassic(), Objectives(may_pause=True))
    assert "more than 3 times the RAM sent" in course.reasons
    assert course.outage_s == pytest.approx(0.5, abs=0.1)  # 32 MiB, nearly all dirty, at 64 MiB/s
    assert 3.0 < course.total_s < 4.2


@pytest.mark.parametrize("wrong", [{"pages": -1}, {"passes": 0}, {"factor": 0.0}])
def test_bounds_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        XenClassic(**wrong)
