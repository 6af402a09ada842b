"""``clark_rate``: the paper's rule in its own numbers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import boundary, ended, setup, tick
from tests.support.scenes import MIB, Scene, run
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import ClarkRate
from whimbrel.engine.policies.clark_rate import MBIT
from whimbrel.engine.policy import Decision, Objectives, Observation


def clark(**parameters: Any) -> ClarkRate:
    """With the rates of the paper's time."""
    policy = ClarkRate(**({"link_bytes_per_s": 500 * MBIT} | parameters))
    policy(setup())
    return policy


def seen(dirty_mbit: int, *, left: int = 99 * MIB, **what: Any) -> Observation:
    """The start of a pass, after one of ten seconds in which so much was dirtied per second."""
    last = ended(1, 0.0, 10.0, dirtied_bytes=10 * dirty_mbit * MBIT, sent_bytes=1)
    return boundary(10.0, **({"iteration": 2, "iterations": (last,), "remaining_bytes": left} | what))


def test_the_first_pass_is_sent_at_the_least_rate() -> None:
    decision = ClarkRate(link_bytes_per_s=500 * MBIT)(setup())
    assert (decision.bandwidth_bytes_per_s, decision.downtime_limit_s) == (100 * MBIT, 0.001)
    assert decision.because == "first pass at 100 Mbit/s, of 500 Mbit/s"


@pytest.mark.parametrize(("dirty", "rate"), [(0, 100), (40, 100), (50, 100), (51, 101), (150, 200), (450, 500)])
def test_a_pass_is_sent_at_the_dirty_rate_of_the_one_before_and_50_more(dirty: int, rate: int) -> None:
    decision = clark()(seen(dirty))
    assert decision.bandwidth_bytes_per_s == rate * MBIT
    assert decision.downtime_limit_s == 0.001
    assert decision.because == f"{dirty} Mbit/s dirtied, {dirty + 50} Mbit/s wanted"


def test_when_that_is_more_than_the_greatest_the_guest_is_stopped() -> None:
    assert clark()(seen(451)) == Decision(
        pause=True,
        bandwidth_bytes_per_s=500 * MBIT,
        because="451 Mbit/s dirtied, 501 Mbit/s wanted, 500 Mbit/s allowed",
    )


def test_when_less_than_256_kb_are_left_the_guest_is_stopped() -> None:
    assert not clark()(seen(10, left=256 << 10)).pause
    assert clark()(seen(10, left=(256 << 10) - 1)) == Decision(
        pause=True, bandwidth_bytes_per_s=500 * MBIT, because="255 KiB left"
    )


def test_without_a_pause_the_rest_must_fit() -> None:
    decision = clark()(seen(451, objectives=Objectives()))
    assert decision.switch_over
    assert decision.bandwidth_bytes_per_s == 500 * MBIT


def test_the_link_is_the_bandwidth_that_is_allowed() -> None:
    policy = ClarkRate()
    decision = policy(setup(objectives=Objectives(bandwidth_bytes_per_s=80 * MBIT)))
    assert decision.bandwidth_bytes_per_s == 16 * MBIT


def test_otherwise_it_is_what_full_speed_shows() -> None:
    """1000 Mbit/s, after about 0.7 s: then the rest of the first pass goes at a fifth of it."""
    policy = ClarkRate()
    start = policy(setup())
    assert (start.bandwidth_bytes_per_s, start.wake_after_s) == (0, 0.05)
    said = [
        policy(tick(step / 20, transferred_bytes=step * 50 * MBIT, remaining_bytes=99 * MIB)) for step in range(1, 15)
    ]
    assert said[:10] == [Decision()] * 10
    (first,) = [decision for decision in said if decision != Decision()]
    assert first.bandwidth_bytes_per_s == pytest.approx(200 * MBIT, rel=0.01)
    assert first.because == "first pass at 200 Mbit/s, of 1000 Mbit/s"


def test_a_first_pass_that_is_over_too_soon_is_all_there_is_to_go_by() -> None:
    """100 MB in 0.1 s: 8 Gbit/s, of which a tenth more than the 1.6 Gbit/s dirtied is 2.4."""
    policy = ClarkRate()
    policy(setup())
    last = ended(1, 0.0, 0.1, sent_bytes=100_000_000, dirtied_bytes=20_000_000)
    decision = policy(boundary(0.1, iteration=2, iterations=(last,), remaining_bytes=20_000_000))
    assert decision.bandwidth_bytes_per_s == 2400 * MBIT
    nothing = ended(1, 0.0, 0.0)
    other = ClarkRate()
    other(setup())
    assert other(boundary(0.1, iteration=2, iterations=(nothing,), remaining_bytes=20_000_000)).because.startswith(
        "0 Mbit/s"
    )


def test_the_bounds_of_its_code_hold_too() -> None:
    assert clark()(seen(10, iteration=30)).because == "29 passes made"


def test_it_decides_at_the_start_of_a_pass_only() -> None:
    assert clark()(tick(3.0)) == clark()(boundary(0.0)) == Decision()


def test_an_idle_guest_is_sent_once_at_the_least_rate() -> None:
    """A fifth of 64 MiB/s for 64 MiB, after 0.7 s at full speed: 2.2 s more than at full speed."""
    scene = Scene(link_bytes_per_s=64 * MIB, pipe_bytes=MIB, ram_bytes=64 * MIB)
    course = run(scene, ClarkRate(), Objectives(may_pause=True))
    assert course.total_s == pytest.approx(0.7 + 5 * 0.3, abs=0.5)
    assert course.outage_s < 0.05


@pytest.mark.parametrize(
    "wrong",
    [{"least": 0.0}, {"most": 1.5}, {"step": -1.0}, {"small_bytes": -1}, {"passes": 0}, {"link_bytes_per_s": 0}],
)
def test_rates_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        ClarkRate(**wrong)
