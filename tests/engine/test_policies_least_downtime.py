"""``least_downtime`` against ``fixed`` in the simulator, and its single decisions."""

from __future__ import annotations

import pytest

from tests.support.scenes import MIB, Course, Scene, run
from whimbrel.engine.policies import Fixed, LeastDowntime
from whimbrel.engine.policy import Decision, Knobs, Objectives, Observation, Reason

SLOW, FAST = 22.9 * MIB, 114.1 * MIB

IDLE_SLOW = Scene(link_bytes_per_s=SLOW, pipe_bytes=1.9 * MIB, ram_bytes=112 * MIB)
IDLE_FAST = Scene(link_bytes_per_s=FAST, pipe_bytes=2.5 * MIB, ram_bytes=448 * MIB)


def busy(share: float) -> Scene:
    """A guest that dirties a share of the 1 Gbit/s link, over 256 MiB."""
    return Scene(
        link_bytes_per_s=FAST,
        pipe_bytes=2.5 * MIB,
        ram_bytes=448 * MIB,
        working_set_bytes=256 * MIB,
        dirty_bytes_per_s=share * FAST,
        limit_s=30.0,
    )


@pytest.mark.parametrize(
    ("scene", "outage_ratio"),
    [(IDLE_SLOW, 0.1), (IDLE_FAST, 0.2), (busy(0.05), 0.2), (busy(0.5), 0.2)],
    ids=["idle at 200 Mbit/s", "idle at 1 Gbit/s", "5 % at 1 Gbit/s", "50 % at 1 Gbit/s"],
)
def test_a_fraction_of_the_outage_for_five_percent_of_time(scene: Scene, outage_ratio: float) -> None:
    bare, ours = run(scene, Fixed()), run(scene, LeastDowntime())
    assert ours.outage_s < outage_ratio * bare.outage_s
    assert ours.total_s < 1.05 * bare.total_s


def test_the_pipe_is_emptied_before_the_stop() -> None:
    course = run(IDLE_SLOW, LeastDowntime())
    assert any(reason.startswith("landing:") for reason in course.reasons)
    assert course.outage_s < run(IDLE_SLOW, LeastDowntime(land=False)).outage_s / 2


@pytest.mark.parametrize("link_mib", [5, 23, 40])
@pytest.mark.parametrize("pipe_s", [0.04, 0.08, 0.12, 0.2])
@pytest.mark.parametrize("ram_mib", [112, 113, 200])
def test_landings_wherever_the_windows_fall(link_mib: int, pipe_s: float, ram_mib: int) -> None:
    """Where in its window the sender is cannot be known: whatever it is, nothing gets worse and most gets better."""
    link = link_mib * MIB
    scene = Scene(link_bytes_per_s=link, pipe_bytes=pipe_s * link, ram_bytes=ram_mib * MIB)
    bare, ours = run(scene, Fixed()), run(scene, LeastDowntime())
    assert ours.outage_s < 0.55 * bare.outage_s
    assert ours.total_s < 1.08 * bare.total_s


def test_a_short_iteration_that_began_late_in_its_window_lands_too() -> None:
    """What the window has carried already is more than its share: all that is left goes into the next ones."""
    scene = Scene(
        link_bytes_per_s=23 * MIB,
        pipe_bytes=0.03 * 23 * MIB,
        ram_bytes=300 * MIB,
        working_set_bytes=64 * MIB,
        dirty_bytes_per_s=2.3 * MIB,
        limit_s=30.0,
    )
    bare, ours = run(scene, Fixed()), run(scene, LeastDowntime())
    assert ours.outage_s < 0.2 * bare.outage_s
    assert ours.total_s < 1.05 * bare.total_s


def test_a_landing_that_turns_out_to_be_too_early_does_little_harm() -> None:
    """The guest dirtied too much meanwhile: the next iteration goes at full speed again."""
    scene = Scene(
        link_bytes_per_s=SLOW,
        pipe_bytes=1.9 * MIB,
        ram_bytes=112 * MIB,
        working_set_bytes=64 * MIB,
        dirty_bytes_per_s=0.5 * SLOW,
    )
    bare, ours = run(scene, Fixed()), run(scene, LeastDowntime())
    assert ours.outage_s < 0.5 * bare.outage_s
    assert ours.total_s < 1.08 * bare.total_s


def test_a_transfer_too_short_to_learn_from_is_left_alone() -> None:
    scene = Scene(link_bytes_per_s=40 * MIB, pipe_bytes=4 * MIB, ram_bytes=8 * MIB)
    assert run(scene, LeastDowntime()).outage_s <= run(scene, Fixed()).outage_s + 0.001


def test_no_landing_where_the_users_bound_is_what_slows_it() -> None:
    objectives = Objectives(bandwidth_bytes_per_s=int(SLOW / 2))
    course = run(IDLE_SLOW, LeastDowntime(), objectives)
    assert not any("landing" in reason for reason in course.reasons)
    assert course.outage_s < 0.05


def test_it_gives_in_when_iterations_stop_shrinking() -> None:
    """A plateau within the downtime allowed is taken as it is, not waited on."""
    scene = Scene(
        link_bytes_per_s=FAST,
        pipe_bytes=1 * MIB,
        ram_bytes=448 * MIB,
        working_set_bytes=20 * MIB,
        dirty_bytes_per_s=3 * FAST,
    )
    course = run(scene, LeastDowntime())
    assert any(reason.startswith("iterations stop shrinking") for reason in course.reasons)
    assert course.outage_s < 0.3
    assert course.total_s < 8


def test_the_outage_aimed_at_is_never_more_than_is_allowed() -> None:
    course: Course = run(IDLE_FAST, LeastDowntime(outage_s=0.1), Objectives(downtime_s=0.01))
    assert course.outage_s < 0.06


def test_a_deadline_gets_all_of_the_downtime_allowed() -> None:
    objectives = Objectives(downtime_s=0.3, deadline_s=7.5)
    hurried = run(busy(0.9), LeastDowntime(), objectives)
    patient = run(busy(0.9), LeastDowntime())
    assert hurried.total_s < patient.total_s
    assert hurried.outage_s > patient.outage_s


def test_the_deadline_itself_switches_over() -> None:
    decision = LeastDowntime()(Observation(reason=Reason.DEADLINE, objectives=Objectives(downtime_s=0.4)))
    assert decision.switch_over


def test_setup_aims_low() -> None:
    decision = LeastDowntime(outage_s=0.03)(Observation(reason=Reason.SETUP))
    assert decision == Decision(
        downtime_limit_s=0.03,
        bandwidth_bytes_per_s=0,
        wake_after_s=0.02,
        because="aim at 30 ms, of 300 ms allowed",
    )


def test_without_statistics_it_waits() -> None:
    """A QEMU that says nothing of its own time is read by ours."""
    decision = LeastDowntime()(Observation(reason=Reason.TICK, elapsed_s=1.0, remaining_bytes=5, knobs=Knobs()))
    assert decision == Decision(wake_after_s=0.02)
