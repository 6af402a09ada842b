"""What policies that did not steer would have done, out of a log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest

from whimbrel.engine import records
from whimbrel.engine.machine import Learnt, Measured, Sampled, Shadowed
from whimbrel.engine.pilot import Steering
from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Abilities, Decision, Knobs, Measurement, Objectives, Observation, Reason
from whimbrel.engine.shadows import ACTUAL, Shadow, shadows
from whimbrel.engine.statistics import Statistics

SECOND = 1_000_000_000
GOAL = Objectives(may_pause=True, may_abort=True, may_postcopy=True, deadline_s=2.5)
Line = Mapping[str, Any]


def line(at_s: float, kind: str, **fields: Any) -> Line:
    return {"t_ns": round(at_s * SECOND), "kind": kind, **fields}


def sample(at_s: float, iteration: int, left: int, rate: float = 1000.0) -> Line:
    at_ns = round(at_s * SECOND)
    answer = Statistics(at_ns=at_ns, iteration=iteration, remaining_bytes=left, bandwidth_bytes_per_s=rate)
    return line(at_s, "sample", **asdict(answer))


def shadow_line(at_s: float, name: str, decision: Decision, **changes: Any) -> Line:
    steering = Steering(asked=Reason.TICK, decision=decision, knobs=Knobs(), changes=changes, clamped=())
    kind, fields = records.of_shadow(Shadowed(name, steering))
    return line(at_s, kind, **fields)


def log(*more: Line) -> list[Line]:
    """A migration whose iterations begin with 800, 400 and 200 bytes left, at 1000 bytes per second."""
    can = records.of_event(Learnt({}, Abilities(capabilities=frozenset({"xbzrle"}))))
    found = records.of_event(Measured((Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=7.0),)))
    assert can is not None
    assert found is not None
    lines = [
        line(0.0, "learnt", **can[1]),
        line(0.0, "measured", **found[1]),
        line(0.0, "note", text="so"),
        line(0.1, "command", command="prepare"),
        line(0.5, "command", command="arm"),
        line(0.5, "decision", asked="setup", because="low", changes={"downtime_limit_s": 0.25}, clamped=[]),
        line(1.0, "command", command="migrate"),
        sample(1.0, 1, 5000),  # not in pre-copy yet: no policy sees it
        line(1.0, "step", phase="precopy"),
        sample(1.1, 1, 5000),
        sample(2.0, 2, 800),
        sample(3.0, 3, 400, rate=0.0),
        sample(3.5, 3, 100),
        sample(4.0, 4, 200),
        sample(4.1, 4, 150),
    ]
    header = line(0.0, "header", objectives=asdict(GOAL))
    return [header, *sorted([*lines, *more], key=lambda each: each["t_ns"])]


def one(told: tuple[Shadow, ...], name: str) -> Shadow:
    return next(each for each in told if each.policy == name)


def test_the_one_that_steered_is_among_them() -> None:
    (actual,) = shadows(log(line(5.0, "step", phase="switchover"), line(5.1, "step", phase="handover")))
    assert actual.policy == ACTUAL
    assert [(wish.at_s, wish.because) for wish in actual.wishes] == [(0.0, "low")]
    assert (actual.ends_at_s, actual.ends_by, actual.outage_s) == (4.0, "switchover", None)
    (under_way,) = shadows(log())
    assert (under_way.ends_at_s, under_way.ends_by) == (None, "")


@pytest.mark.parametrize(
    ("limit_s", "end"),
    [(1.0, (1.0, "fits", 0.8)), (0.5, (3.0, "fits", 0.2)), (0.1, (None, "", None))],
)
def test_pre_copy_ends_at_the_first_sync_whose_rest_fits(limit_s: float, end: tuple[object, ...]) -> None:
    """Where QEMU has not measured a bandwidth it switches over at nothing: the third iteration is passed over."""
    goal = Objectives(downtime_s=1.0)
    told = one(shadows(log(), {"mine": Fixed(downtime_limit_s=limit_s)}, goal), "mine")
    assert (told.ends_at_s, told.ends_by, told.outage_s) == end


def test_a_policy_sees_what_the_log_has_seen() -> None:
    seen: list[Observation] = []

    def looks(observation: Observation) -> Decision:
        seen.append(observation)
        return Decision(wake_after_s=0.01)

    told = one(shadows(log(), {"mine": looks}), "mine")
    assert [each.reason.value for each in seen] == [
        "setup", "tick", "iteration", "iteration", "tick", "deadline", "iteration", "tick",
    ]  # fmt: skip
    assert told.asked == 8
    assert told.wishes == ()
    assert seen[0].abilities.capabilities == {"xbzrle"}
    assert seen[0].measurements[0].dirtied_bytes == 7.0
    assert [each.remaining_bytes for each in seen[1:]] == [5000, 800, 400, 100, 100, 200, 150]


@pytest.mark.parametrize(
    ("wish", "end"),
    [
        (Decision(pause=True), (2.2, "pause", 0.8)),
        (Decision(start_postcopy=True), (2.2, "post-copy", None)),
        (Decision(abort=True), (2.2, "abort", None)),
        (Decision(switch_over=True), (None, "", None)),
    ],
)
def test_those_that_watched_are_read_out_of_the_log(wish: Decision, end: tuple[object, ...]) -> None:
    """What a limit that grew would have led to is in its changes."""
    watched = [shadow_line(0.5, "low", Decision(), downtime_limit_s=0.1), shadow_line(3.2, "low", wish)]
    told = one(shadows(log(*watched)), "low")
    assert (told.ends_at_s, told.ends_by, told.outage_s) == end
    assert told.wishes[1].iteration == 3


def test_what_is_said_at_a_sync_comes_after_qemus_look_at_it() -> None:
    """A limit that is raised in answer to a sync can't have let the guest go at that sync."""
    low = shadow_line(0.5, "low", Decision(), downtime_limit_s=0.1)
    raised = shadow_line(4.0, "low", Decision(), downtime_limit_s=0.5)
    told = one(shadows(log(low, raised)), "low")
    assert (told.ends_at_s, told.ends_by) == (None, "")
    assert told.wishes[1].iteration == 4, "it was asked because that iteration began"


def test_those_that_watched_had_the_objectives_of_the_log() -> None:
    """Others that are shown it now may have others."""
    watched = log(shadow_line(0.5, "low", Decision(), throttle_trigger=0.5))
    alone = one(shadows(watched), "low")
    told = shadows(watched, {"mine": Fixed()}, Objectives(downtime_s=1.0))
    assert one(told, "low") == alone
    assert (alone.ends_at_s, one(told, "mine").ends_at_s) == (3.0, 1.0)


def test_a_wish_after_the_last_sync_counts_too() -> None:
    watched = [shadow_line(0.5, "low", Decision(), downtime_limit_s=0.1), shadow_line(4.1, "low", Decision(pause=True))]
    told = one(shadows(log(*watched)), "low")
    assert (told.ends_at_s, told.ends_by, told.outage_s) == (3.1, "pause", 0.2)


def test_a_pause_before_anything_is_known_says_nothing_of_its_outage() -> None:
    told = one(shadows(log(shadow_line(1.2, "low", Decision(pause=True)))), "low")
    assert (told.ends_by, told.outage_s) == ("pause", None)


def test_a_policy_that_fails_is_told() -> None:
    def broken(observation: Observation) -> Decision:
        raise ValueError("no")

    told = one(shadows(log(), {"mine": broken}), "mine")
    assert [bool(wish.fault) for wish in told.wishes] == [True] * 3


def test_what_is_no_log_is_refused_by_its_line() -> None:
    with pytest.raises(ValueError, match="line 1 is no header"):
        shadows([])
    with pytest.raises(ValueError, match="line 1 is no header"):
        shadows([line(0.0, "note", text="so")])
    with pytest.raises(ValueError, match="line 3 is no line of a log"):
        shadows([log()[0], line(0.0, "note", text="so"), line(0.0, "step")])


def test_a_sample_of_a_log_reads_as_it_was_written() -> None:
    event = records.of_event(Sampled(Statistics(at_ns=1, iteration=1)))
    assert event is not None
    assert one(shadows([log()[0], line(0.0, *event[:1], **event[1])]), ACTUAL).asked == 0
