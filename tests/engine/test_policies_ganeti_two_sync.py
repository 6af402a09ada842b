"""``ganeti_two_sync``: post-copy at the first look that finds two syncs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asking import boundary, setup, tick
from tests.support.scenes import MIB, Scene, run
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import GanetiTwoSync
from whimbrel.engine.policy import Decision, Objectives


def test_before_the_start_it_sets_ganetis_defaults() -> None:
    assert GanetiTwoSync()(setup()) == Decision(
        downtime_limit_s=0.03,
        bandwidth_bytes_per_s=33554432,
        capabilities={"postcopy-ram": True},
        wake_after_s=1.0,
        because="post-copy from sync 2 on",
    )


def test_it_looks_once_a_second_and_sees_no_iteration_between() -> None:
    """So a guest whose second iteration began at once still gets a second of pre-copy."""
    policy = GanetiTwoSync()
    policy(setup())
    assert policy(boundary(0.2, iteration=2)) == Decision(wake_after_s=0.8)
    assert policy(tick(1.0, iteration=2)) == Decision(
        start_postcopy=True, wake_after_s=1.0, because="2 syncs, post-copy from 2 on"
    )


def test_one_sync_is_the_one_at_the_start_and_does_not_count() -> None:
    policy = GanetiTwoSync()
    policy(setup())
    assert not policy(tick(1.0, iteration=1)).start_postcopy
    assert policy(tick(2.0, iteration=3)).start_postcopy


def test_without_post_copy_it_is_plain_pre_copy_and_says_so() -> None:
    policy = GanetiTwoSync()
    decision = policy(setup(objectives=Objectives()))
    assert decision.capabilities == {}
    assert decision.because == "the objectives do not allow post-copy: plain pre-copy"
    assert policy(tick(9.0, iteration=9, objectives=Objectives())) == Decision(wake_after_s=1.0)


def test_a_guest_that_would_never_converge_is_moved_after_one_pass() -> None:
    scene = Scene(
        link_bytes_per_s=64 * MIB,
        pipe_bytes=MIB,
        ram_bytes=64 * MIB,
        working_set_bytes=48 * MIB,
        dirty_bytes_per_s=90 * MIB,
    )
    course = run(scene, GanetiTwoSync(), Objectives(may_postcopy=True))
    # 64 MiB at its 32 MiB/s, and up to a second until it looks; then what was dirtied by then.
    assert 2.0 < course.total_s < 5.0
    assert course.outage_s < 0.1


@pytest.mark.parametrize("wrong", [{"poll_s": 0.0}, {"downtime_limit_s": -1.0}, {"bandwidth_bytes_per_s": -1}])
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        GanetiTwoSync(**wrong)
