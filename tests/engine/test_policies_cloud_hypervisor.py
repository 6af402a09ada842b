"""``cloud_hypervisor``: its own tests' numbers, the timeout's two strategies, and its place in the simulator."""

from __future__ import annotations

import pytest

from tests.support.asking import boundary, ended, setup, tick
from tests.support.scenes import MIB, Scene, run
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import CloudHypervisor
from whimbrel.engine.policy import Decision, Objectives

STRICT = Objectives(downtime_s=0.3)


def test_1024_bytes_at_1024_bytes_a_second_are_a_downtime_of_a_second() -> None:
    """The worked example of its own unit test."""
    last = ended(1, 0.0, 1.0, sent_bytes=1024)
    seen = boundary(1.0, iteration=2, iterations=(last,), remaining_bytes=1024)
    assert CloudHypervisor(downtime_s=0.999)(seen) == Decision(
        downtime_limit_s=0.001, because="this pass takes 1000 ms, 999 ms are allowed"
    )
    assert CloudHypervisor(downtime_s=1.0)(seen) == Decision(
        downtime_limit_s=1.0, because="this pass takes 1000 ms, of 1000 ms"
    )


def test_nothing_dirty_is_converged() -> None:
    seen = boundary(1.0, iteration=2, iterations=(ended(1, 0.0, 1.0, sent_bytes=9),), objectives=STRICT)
    assert CloudHypervisor()(seen).downtime_limit_s == 0.3


def test_without_a_bandwidth_there_is_no_estimate() -> None:
    seen = boundary(1.0, iteration=2, iterations=(ended(1, 0.0, 0.0),), remaining_bytes=5, objectives=STRICT)
    assert CloudHypervisor()(seen) == Decision(
        downtime_limit_s=0.001, because="this pass takes not known, 300 ms are allowed"
    )


def test_it_decides_at_the_start_of_a_pass_only() -> None:
    assert CloudHypervisor()(tick(5000.0, iteration=2)) == Decision()
    assert CloudHypervisor()(boundary(0.0, iteration=1)) == Decision()
    assert CloudHypervisor()(setup(objectives=STRICT)) == Decision(
        downtime_limit_s=0.001, because="whole passes until one fits 300 ms"
    )


@pytest.mark.parametrize(
    ("strategy", "objectives", "wanted"),
    [
        ("cancel", Objectives(may_abort=True), Decision(abort=True, because="not converged in 3600 s")),
        ("ignore", Objectives(may_pause=True), Decision(pause=True, because="not converged in 3600 s")),
        (
            "cancel",
            Objectives(may_pause=True),
            Decision(pause=True, because="not converged in 3600 s; giving up is not allowed"),
        ),
        (
            "ignore",
            STRICT,
            Decision(
                switch_over=True,
                because="not converged in 3600 s; pausing is not allowed: only if the rest fits 300 ms",
            ),
        ),
    ],
)
def test_after_an_hour_its_strategy_counts(strategy: str, objectives: Objectives, wanted: Decision) -> None:
    last = ended(1, 0.0, 3600.0, sent_bytes=1024)
    seen = boundary(3600.0, iteration=2, iterations=(last,), remaining_bytes=1024, objectives=objectives)
    assert CloudHypervisor(timeout_strategy=strategy)(seen) == wanted


def test_it_sends_whole_passes_and_stops_before_the_first_that_fits() -> None:
    """At half the link the passes shrink by half: 64 MiB, 32, 16, 8, 4 and not 2, for the pass of 4 takes 62 ms."""
    scene = Scene(
        link_bytes_per_s=64 * MIB,
        pipe_bytes=MIB,
        ram_bytes=64 * MIB,
        working_set_bytes=10_000 * MIB,
        dirty_bytes_per_s=32 * MIB,
    )
    course = run(scene, CloudHypervisor(downtime_s=0.1))
    assert course.reasons[-1].startswith("this pass takes")
    assert course.outage_s < 0.1 + 0.05
    assert course.outage_s > run(scene, CloudHypervisor(downtime_s=0.03)).outage_s


def test_another_strategy_is_refused() -> None:
    with pytest.raises(BadInput, match="cancel, ignore"):
        CloudHypervisor(timeout_strategy="hope")
