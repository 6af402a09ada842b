"""A verdict in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from whimbrel.engine.foresight import Verdict
from whimbrel.engine.foresight_words import drawn, seconds, taken_back
from whimbrel.engine.policy import Objectives

MIB = 1 << 20
VERDICT = Verdict(
    iteration=3,
    confidence=0.97,
    left_bytes=149.0 * MIB,
    bandwidth_bytes_per_s=114.0 * MIB,
    outage_s=1.33,
    least_throttle=0.85,
    sentence="",
)
GOAL = Objectives(downtime_s=0.3, greatest_throttle=0.9, may_postcopy=True)


HAD = frozenset({"auto-converge", "postcopy-ram"})


def test_a_verdict_has_its_numbers_and_what_would_help() -> None:
    assert drawn(VERDICT, GOAL, asked_for=HAD) == (
        "no pre-copy of the guest as it is can do: 149 MiB are left after every pass; at 114 MiB/s that is 1.3 s of "
        "outage, where 300 ms is allowed. What would help: a throttle of at least 85%, or post-copy, or a bandwidth of "
        "about 535 MiB/s."
    )


def test_what_is_not_allowed_is_named_as_that() -> None:
    said = drawn(VERDICT, Objectives(downtime_s=0.3), asked_for=HAD)
    assert "85% (not allowed)" in said
    assert "post-copy (not allowed)" in said


def test_what_qemu_was_not_asked_for_it_may_not_have() -> None:
    assert "85% (if this QEMU has it), or post-copy (if this QEMU has it)" in drawn(VERDICT, GOAL)
    assert "post-copy (not allowed; if this QEMU has it)" in drawn(VERDICT, Objectives(downtime_s=0.3))
    assert "85%, or post-copy (if this QEMU has it)" in drawn(VERDICT, GOAL, throttle=0.2)


def test_where_the_pipe_and_the_fixed_cost_alone_take_longer_than_allowed_nothing_else_is_offered() -> None:
    said = drawn(replace(VERDICT, least_throttle=None), Objectives(downtime_s=0.01), asked_for=HAD)
    assert said.endswith("where 10 ms is allowed. Only a longer downtime would help.")


def test_a_throttle_that_does_not_exist_is_not_named() -> None:
    assert "throttle" not in drawn(replace(VERDICT, least_throttle=None), GOAL)


def test_a_guest_that_is_slowed_already_is_said_to_be() -> None:
    assert "slowed by 40% already" in drawn(VERDICT, GOAL, throttle=0.4)


def test_a_deadline_is_named_where_it_alone_is_missed() -> None:
    short = replace(VERDICT, left_bytes=10.0 * MIB, outage_s=0.1)
    said = drawn(short, replace(GOAL, deadline_s=20.0))
    assert "the deadline of 20.0 s passes first" in said
    assert "bandwidth" not in said
    assert "deadline" not in drawn(short, GOAL)


def test_taking_back_says_what_has_changed() -> None:
    said = taken_back(VERDICT, after=6, left_bytes=40.0 * MIB, confidence=0.2)
    assert said.startswith("the verdict drawn after iteration 3 is taken back after iteration 6: 40 MiB are left now")
    assert "20% likely" in said


@pytest.mark.parametrize(("span_s", "said"), [(0.05, "50 ms"), (0.9996, "1000 ms"), (1.0, "1.0 s"), (75.0, "75.0 s")])
def test_times_have_the_unit_that_suits_them(span_s: float, said: str) -> None:
    assert seconds(span_s) == said
