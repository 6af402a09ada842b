"""What stands in the log: one line for what came in, one for where it led, one for what goes out."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import inf

from tests.support.driving import Recorder, drive, to_precopy
from whimbrel.engine import records
from whimbrel.engine.estimate import Range
from whimbrel.engine.foresight import Outlook, Verdict
from whimbrel.engine.machine import Happened, Inspected, Learnt, Marked, Measured, Order, Probe, Sampled, Shadowed, Tune
from whimbrel.engine.pilot import Steering
from whimbrel.engine.policy import Abilities, Decision, Knobs, Measurement, Reason
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.statistics import Statistics
from whimbrel.engine.timeline import Mark


def test_a_signal_is_written_as_it_is_taken_and_not_before() -> None:
    assert records.of_event(Happened(Signal.START)) is None
    machine = drive().at(0, Signal.START).machine
    (taken,) = machine.taken()
    assert list(records.of_taken(taken)) == [("signal", {"signal": "start", "phase": "preflight", "detail": ""})]


def test_a_signal_that_moves_it_is_followed_by_where_it_stands() -> None:
    machine = drive().at(0, Signal.START, Signal.INSPECT_REFUSED).machine
    lines = [line for taken in machine.taken() for line in records.of_taken(taken)]
    assert [kind for kind, _ in lines] == ["signal", "signal", "step"]
    step = lines[-1][1]
    assert (step["phase"], step["owner"], step["facts"]) == ("cancelling", "source", ["DISCARDING"])


def test_every_other_event_has_its_line() -> None:
    statistics = Statistics(at_ns=1, iteration=2, transferred_bytes=3)
    assert records.of_event(Sampled(statistics)) == ("sample", asdict(statistics))
    assert records.of_event(Marked(Mark.SOURCE_STOP, 1.5)) == ("mark", {"mark": "source-stop", "at_s": 1.5})
    found = Inspected(SourceClass.GONE, DestinationClass.READY)
    assert records.of_event(found) == ("inspected", {"source": "gone", "destination": "ready"})
    learnt = {"facts": {"pid": 7}, "note": "so", "paused_before": True, "abilities": None}
    assert records.of_event(Learnt({"pid": 7}, paused_before=True, note="so")) == ("learnt", learnt)
    can = Abilities(capabilities=frozenset({"b", "a"}), parameters=frozenset({"p"}))
    kept = {"capabilities": ["a", "b"], "parameters": ["p"], "outside_throttle": False, "measuring": False}
    assert records.of_event(Learnt({}, can)) == (
        "learnt",
        {"facts": {}, "note": None, "paused_before": False, "abilities": kept},
    )


def test_an_order_is_announced_with_the_decision_that_it_carries() -> None:
    policy = Recorder({Reason.SETUP: Decision(downtime_limit_s=0.1, because="low"), Reason.ITERATION: Decision()})
    it = to_precopy(drive(policy))
    lines = {order.command: list(records.of_order(order, it.machine)) for order in it.out if isinstance(order, Order)}
    assert [kind for kind, _ in lines[Command.MIGRATE]] == ["command"]
    (_, command), (kind, decision) = lines[Command.ARM]
    assert command == {"command": "arm", "phase": "precopy", "owner": "source"}
    assert (kind, decision["asked"], decision["because"]) == ("decision", "setup", "low")
    assert decision["changes"] == {"downtime_limit_s": 0.1}


def test_what_was_decided_before_the_start_tells_the_capabilities_that_were_asked_for() -> None:
    policy = Recorder({Reason.SETUP: Decision(capabilities={"xbzrle": True, "multifd": False, "events": True})})
    it = to_precopy(drive(policy))
    (arm,) = [order for order in it.out if isinstance(order, Order) and order.command is Command.ARM]
    _, (_, decision) = records.of_order(arm, it.machine)
    assert decision["capabilities"] == ["events", "xbzrle"]


def test_knobs_alone_are_a_decision_and_no_command() -> None:
    policy = Recorder({Reason.ITERATION: Decision(downtime_limit_s=0.1, because="now")})
    it = to_precopy(drive(policy)).sample(5, iteration=1).sample(6, iteration=2)
    (tune,) = it.tunes
    assert isinstance(tune, Tune)
    ((kind, decision),) = records.of_order(tune, it.machine)
    assert (kind, decision["asked"], decision["because"]) == ("decision", "iteration", "now")


def steering(decision: Decision) -> Steering:
    return Steering(
        asked=Reason.TICK, decision=decision, knobs=Knobs(), changes={"downtime_limit_s": 0.1}, clamped=("so",)
    )


def test_what_is_to_be_measured_and_what_was_have_their_lines() -> None:
    machine = drive().machine
    lines = list(records.of_order(Probe(steering(Decision()), (1.0, 2.0), 5.0), machine))
    assert [kind for kind, _ in lines] == ["decision", "probe"]
    assert lines[1][1] == {"windows_s": [1.0, 2.0], "wait_s": 5.0}
    found = Measurement(at_s=1.0, window_s=1.0, dirtied_bytes=7.0, vcpu_shares=(0.5,))
    assert records.of_event(Measured((found,))) == ("measured", {"measurements": [asdict(found)]})


def test_what_a_watching_policy_would_have_done_has_its_line() -> None:
    told = Shadowed("low", steering(Decision(switch_over=True, abort=True, because="enough")))
    assert records.of_shadow(told) == (
        "shadow",
        {
            "policy": "low",
            "wishes": ["switch_over", "abort"],
            "fault": "",
            "asked": "tick",
            "because": "enough",
            "changes": {"downtime_limit_s": 0.1},
            "clamped": ["so"],
        },
    )


def test_a_live_forecast_has_its_line_in_which_never_is_null() -> None:
    verdict = Verdict(
        iteration=3, confidence=0.97, left_bytes=1.0, bandwidth_bytes_per_s=2.0, outage_s=3.0, least_throttle=None,
        sentence="none can",
    )  # fmt: skip
    made = Outlook(
        at_s=1.23456,
        iteration=4,
        ends_s=Range(2.0, 3.00049, inf),
        downtime_s=Range(0.1, 0.20004, 0.3),
        transferred_bytes=Range(1.4, 2.0, inf),
        meets=0.12345,
        hopeless=0.5,
        verdict=verdict,
    )
    plain = {
        "at_s": 1.235,
        "iteration": 4,
        "basis": "iterations",
        "ends_s": [2.0, 3.0, None],
        "downtime_s": [0.1, 0.2, 0.3],
        "transferred_bytes": [1.0, 2.0, None],
        "meets": 0.123,
        "hopeless": 0.5,
    }
    assert records.of_outlook(made) == ("outlook", plain)
    told = plain | {"news": "none can", "verdict": asdict(verdict)}
    assert records.of_outlook(replace(made, news="none can")) == ("outlook", told)
    taken_back = plain | {"hopeless": None, "news": "it can", "verdict": None}
    assert records.of_outlook(replace(made, news="it can", verdict=None, hopeless=None)) == ("outlook", taken_back)
