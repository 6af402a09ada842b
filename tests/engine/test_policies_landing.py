"""A landing: when it is worth its time. What it brings is seen in the tests of the policies that land."""

from __future__ import annotations

from dataclasses import replace

from whimbrel.engine.link import LinkEstimate
from whimbrel.engine.policies.landing import Landing
from whimbrel.engine.policy import Objectives, Observation, Reason

MIB = 1 << 20
RATE = 20.0 * MIB
SEEN = Observation(reason=Reason.TICK, elapsed_s=2.0, iteration=1, remaining_bytes=3 * MIB, total_bytes=64 * MIB)


def landing(pipe_mib: float) -> Landing:
    """Over a link of 20 MiB/s whose pipe has taken so much at the start."""
    link = LinkEstimate()
    for step in range(1, 30):
        link.add(step * 0.05, round(pipe_mib * MIB + RATE * step * 0.05))
    return Landing(link)


def test_a_shallow_pipe_is_not_worth_it() -> None:
    assert not landing(0.05).gains(SEEN, None)
    assert landing(2.0).gains(SEEN, None)
    assert not Landing(LinkEstimate()).gains(SEEN, None)


def test_where_the_users_bound_is_what_slows_it_the_pipe_is_not_full() -> None:
    bound = replace(SEEN, objectives=Objectives(bandwidth_bytes_per_s=round(RATE)))
    assert not landing(2.0).gains(bound, None)


def test_a_guest_that_dirties_much_meanwhile_makes_up_for_what_it_gains() -> None:
    assert landing(2.0).gains(SEEN, 0.1)
    assert not landing(2.0).gains(SEEN, 0.9)


def test_one_begins_only_if_it_may_and_early_on_it_takes_too_long() -> None:
    pilot = landing(2.0)
    pilot.watch(SEEN)
    assert pilot.decide(SEEN, 0.02, may_begin=False) is None
    assert pilot.decide(SEEN, 0.02, may_begin=True) is None  # 0.15 s after 2 s of sending
    assert not pilot.under_way


def test_the_end_of_a_long_first_pass_goes_in_portions_slower_than_the_link() -> None:
    pilot = landing(2.0)
    late = replace(SEEN, elapsed_s=30.0, remaining_bytes=2 * MIB)
    decision = pilot.decide(late, 0.02, may_begin=True)
    assert decision is not None
    assert pilot.under_way
    assert decision.bandwidth_bytes_per_s is not None
    assert decision.bandwidth_bytes_per_s < RATE
    assert decision.downtime_limit_s is not None
    assert decision.downtime_limit_s < 0.02
    pilot.end()
    assert not pilot.under_way


def test_a_later_pass_ends_in_this_window_or_the_next_ones_and_not_if_next_to_nothing_is_left() -> None:
    """20 MiB/s: a window carries 2 MiB."""
    pilot = landing(0.5)
    later = replace(SEEN, iteration=2, elapsed_s=5.0)
    pilot.watch(later)
    assert pilot.decide(replace(later, remaining_bytes=MIB // 4), 0.02, may_begin=True) is None
    assert pilot.decide(replace(later, remaining_bytes=12 * MIB), 0.02, may_begin=True) is None  # too much for them
    # Its window's burst has nearly gone out: what is left goes in the next one.
    decision = pilot.decide(replace(later, elapsed_s=5.09, remaining_bytes=9 * MIB // 10), 0.02, may_begin=True)
    assert decision is not None
    assert pilot.under_way
