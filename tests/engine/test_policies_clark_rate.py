"""``clark_rate``: the paper's rule in its own numbers."""

from __future__ import annotations

import pytest

from tests.support.asking import boundary, ended, setup, tick
from tests.support.scenes import MIB, Scene, run
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import ClarkRate
from whimbrel.engine.policies.clark_rate import MBIT
from whimbrel.engine.policy import Decision, Objectives, Observation


def seen(dirty_mbit: int, *, left: int = 99 * MIB, **what: object) -> Observation:
    """The start of a pass, after one of ten seconds in which so much was dirtied per second."""
    last = ended(1, 0.0, 10.0, dirtied_bytes=10 * dirty_mbit * MBIT, sent_bytes=1)
    return boundary(10.0, **({"iteration": 2, "iterations": (last,), "remaining_bytes": left} | what))


def test_the_first_pass_is_sent_at_the_least_rate() -> None:
    assert ClarkRate()(setup()) == Decision(
        downtime_limit_s=0.001, bandwidth_bytes_per_s=100 * MBIT, because="first pass at 100 Mbit/s"
    )


@pytest.mark.parametrize(("dirty", "rate"), [(0, 100), (40, 100), (50, 100), (51, 101), (150, 200), (450, 500)])
def test_a_pass_is_sent_at_the_dirty_rate_of_the_one_before_and_50_more(dirty: int, rate: int) -> None:
    decision = ClarkRate()(seen(dirty))
    assert decision.bandwidth_bytes_per_s == rate * MBIT
    assert decision.downtime_limit_s == 0.001
    assert decision.because == f"{dirty} Mbit/s dirtied, {dirty + 50} Mbit/s wanted"


def test_when_that_is_more_than_the_greatest_the_guest_is_stopped() -> None:
    assert ClarkRate()(seen(451)) == Decision(
        pause=True,
        bandwidth_bytes_per_s=500 * MBIT,
        because="451 Mbit/s dirtied, 501 Mbit/s wanted, 500 Mbit/s allowed",
    )


def test_when_less_than_256_kb_are_left_the_guest_is_stopped() -> None:
    assert not ClarkRate()(seen(10, left=256 << 10)).pause
    assert ClarkRate()(seen(10, left=(256 << 10) - 1)) == Decision(
        pause=True, bandwidth_bytes_per_s=500 * MBIT, because="255 KiB left"
    )


def test_the_bandwidth_that_is_allowed_is_the_greatest() -> None:
    tight = Objectives(bandwidth_bytes_per_s=80 * MBIT)
    assert ClarkRate()(setup(objectives=tight)).bandwidth_bytes_per_s == 80 * MBIT
    decision = ClarkRate()(seen(40, objectives=tight))
    assert decision.switch_over
    assert decision.bandwidth_bytes_per_s == 80 * MBIT


def test_the_bounds_of_its_code_hold_too() -> None:
    assert ClarkRate()(seen(10, iteration=30)).because == "29 passes made"


def test_it_decides_at_the_start_of_a_pass_only() -> None:
    assert ClarkRate()(tick(3.0)) == Decision()
    assert ClarkRate()(boundary(0.0)) == Decision()


def test_an_idle_guest_is_sent_once_at_the_least_rate() -> None:
    """100 Mbit/s for 64 MiB: 5.4 s, though the link could do it in 1 s."""
    scene = Scene(link_bytes_per_s=64 * MIB, pipe_bytes=MIB, ram_bytes=64 * MIB)
    course = run(scene, ClarkRate(), Objectives(may_pause=True))
    assert course.total_s == pytest.approx(64 * MIB / (100 * MBIT), rel=0.05)
    assert course.outage_s < 0.05


@pytest.mark.parametrize(
    "wrong",
    [{"least_bytes_per_s": 0}, {"most_bytes_per_s": 0}, {"step_bytes_per_s": -1}, {"small_bytes": -1}, {"passes": 0}],
)
def test_rates_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        ClarkRate(**wrong)  # type: ignore[arg-type]
