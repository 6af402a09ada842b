"""``hybrid_after``: post-copy after exactly as many passes as were asked for."""

from __future__ import annotations

import pytest

from tests.support.asking import asked, boundary, setup, tick
from tests.support.scenes import MIB, Scene, run
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import HybridAfter
from whimbrel.engine.policy import Decision, Objectives, Reason

BUSY = Scene(
    link_bytes_per_s=64 * MIB,
    pipe_bytes=MIB,
    ram_bytes=64 * MIB,
    working_set_bytes=48 * MIB,
    dirty_bytes_per_s=200 * MIB,
)


def test_the_capability_is_asked_for_before_the_start() -> None:
    decision = Decision(capabilities={"postcopy-ram": True}, because="post-copy after 1 pass")
    assert HybridAfter()(setup()) == decision


@pytest.mark.parametrize("passes", [1, 5, 20])
def test_post_copy_begins_when_the_passes_of_guestperf_were_made(passes: int) -> None:
    policy = HybridAfter(iterations=passes)
    assert policy(boundary(1.0, iteration=passes)) == Decision()
    made = Decision(start_postcopy=True, because=f"{'1 pass' if passes == 1 else f'{passes} passes'} made")
    assert policy(boundary(2.0, iteration=passes + 1)) == made


def test_with_none_to_wait_for_it_begins_as_soon_as_qemu_has_begun() -> None:
    policy = HybridAfter(iterations=0)
    assert policy(setup()).wake_after_s == 0.05
    assert policy(tick(0.05, iteration=0)) == Decision()
    assert policy(tick(0.1, iteration=1)).start_postcopy


def test_without_post_copy_the_guest_is_stopped_there_as_far_as_that_is_allowed() -> None:
    may_pause = Objectives(may_pause=True)
    assert HybridAfter()(setup(objectives=may_pause)) == Decision(
        because="post-copy after 1 pass: the objectives do not allow post-copy"
    )
    assert HybridAfter()(boundary(1.0, iteration=2, objectives=may_pause)) == Decision(
        pause=True, because="1 pass made; the objectives do not allow post-copy"
    )
    assert HybridAfter()(boundary(1.0, iteration=2, objectives=Objectives())).switch_over


def test_the_deadline_changes_nothing() -> None:
    assert HybridAfter()(asked(Reason.DEADLINE, 9.0, iteration=3)) == Decision()


def test_a_guest_that_would_never_converge_is_moved() -> None:
    course = run(BUSY, HybridAfter(), Objectives(may_postcopy=True))
    assert course.outage_s < 0.1
    # One pass over 64 MiB, and what it left dirty: nearly all of 48 MiB.
    assert course.total_s == pytest.approx(1.0 + 0.75, rel=0.15)


def test_fewer_than_no_passes_are_refused() -> None:
    with pytest.raises(BadInput, match="iterations"):
        HybridAfter(iterations=-1)
