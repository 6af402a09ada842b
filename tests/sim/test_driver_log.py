"""The log of a simulated migration."""

from __future__ import annotations

import json

from whimbrel.engine.machine import Happened, Learnt, Marked, Sampled
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.signals import Signal
from whimbrel.engine.statistics import Statistics
from whimbrel.engine.timeline import Mark
from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.driver_log import EPOCH_S, Log


def test_lines_are_numbered_and_carry_both_clocks() -> None:
    log = Log()
    log.write("header", 0, 5 * SECOND_NS, {"format": 1})
    log.write("note", SECOND_NS, 6 * SECOND_NS, {"text": "ü"})
    first, second = log.lines()
    assert json.loads(first) == {"n": 1, "t_ns": 0, "wall_s": EPOCH_S + 5.0, "kind": "header", "format": 1}
    assert second == f'{{"n":2,"t_ns":1000000000,"wall_s":{EPOCH_S + 6}.0,"kind":"note","text":"ü"}}'
    assert len(log) == 2


def test_events_are_written_as_a_real_manager_writes_them_and_signals_are_not() -> None:
    log = Log()
    log.write_event(Happened(Signal.START), 0, 0)
    log.write_event(Sampled(Statistics(at_ns=3, remaining_bytes=7)), 0, 0)
    log.write_event(Marked(Mark.CONT_SENT, 1.5), 0, 0)
    log.write_event(Learnt({"a": 1}, note="b"), 0, 0)
    assert [line["kind"] for line in log.records()] == ["sample", "mark", "learnt"]
    assert [line["n"] for line in log.records()] == [1, 2, 3]
    assert [each.remaining_bytes for each in log.statistics()] == [7]


def test_the_end_holds_the_report() -> None:
    log = Log()
    report = CompletedReport(outcome="failed", owner="source", guest="running", why="so", total_s=1.0)
    log.write_report(report, 0, 0)
    (line,) = log.records()
    assert (line["kind"], line["report"]["why"]) == ("end", "so")


def of_notes(*texts: str) -> Log:
    log = Log()
    for text in texts:
        log.write("note", 0, 0, {"text": text})
    return log


def test_logs_are_equal_if_their_lines_are() -> None:
    assert of_notes("a", "b") == of_notes("a", "b")
    assert of_notes("a", "b") != of_notes("a", "c")
    assert of_notes("a", "b") != of_notes("a")
    assert of_notes("a") != list(of_notes("a"))


def test_it_is_gone_through_by_line_and_its_bytes_are_those_of_a_file() -> None:
    log = of_notes("ü", "b")
    assert list(log) == list(log.lines())
    assert bytes(log) == "".join(f"{line}\n" for line in log).encode()
    assert bytes(log).decode().count("\n") == 2
    assert bytes(Log()) == b""
