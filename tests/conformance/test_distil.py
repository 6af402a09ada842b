"""How the golden data are made of transcripts."""

from __future__ import annotations

from typing import Any

from tests.conformance.distil import distil

CMD = "cmd: qemu-system-x86_64 -m 256"


def _row(t: float, side: str, kind: str, message: object) -> dict[str, Any]:
    return {"t": t, "side": side, "dir": kind, "msg": message}


def _event(status: str) -> dict[str, Any]:
    return {"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION", "data": {"status": status}}


def test_a_scenario_keeps_what_is_compared() -> None:
    """Command lines, commands, the fields of answers, events, exit codes; no ids in commands, no times in events."""
    found = distil("name", [
        _row(0.0, "src", "#", CMD),
        _row(0.1, "src", "<", {"QMP": {}}),
        _row(0.2, "src", ">", {"execute": "query-migrate", "id": 3}),
        _row(0.3, "src", "<", {"return": {"status": "active", "ram": {"total": 1}, "total-time": 2}, "id": 3}),
        _row(0.4, "src", ">", {"execute": "query-status", "id": 4}),
        _row(0.5, "src", "<", {"return": {"status": "running", "running": True}, "id": 4}),
        _row(0.6, "src", "E", _event("active")),
        _row(0.7, "src", "#", "process had exited rc=1. stderr: 'one\\ntwo\\n'"),
    ])  # fmt: skip
    assert found["sides"] == {"src": ["qemu-system-x86_64", "-m", "256"]}
    assert found["ends"] == {"src": {"exit": 1, "stderr": ["one", "two"]}}
    assert found["steps"] == [
        ["start", "src", None, None, 0.0],
        ["send", "src", 3, {"execute": "query-migrate"}, 0.2],
        ["reply", "src", 3, {"fields": ["ram", "status", "total-time"], "status": "active", "ram": ["total"]}, 0.3],
        ["send", "src", 4, {"execute": "query-status"}, 0.4],
        ["reply", "src", 4, {"return": {"status": "running", "running": True}}, 0.5],
        ["event", "src", "MIGRATION", {"status": "active"}, 0.6],
    ]


def test_what_was_done_to_the_processes_is_found_in_the_remarks() -> None:
    """A kill comes before what the other end said of it; a frozen one went on before it spoke again."""
    found = distil("name", [
        _row(0.0, "src", "#", CMD),
        _row(0.0, "dst", "#", CMD),
        _row(1.0, "-", "#", "dst SIGSTOPped"),
        _row(2.0, "dst", "E", _event("active")),
        _row(3.0, "src", "E", _event("failed")),
        _row(3.001, "dst", "!", "QMP EOF"),
        _row(3.2, "src", "!", "TIMEOUT query-status"),
        _row(3.3, "src", "!", "QMP EOF"),
        _row(3.4, "dst", "#", "process had exited rc=-9. stderr: ''"),
        _row(3.5, "src", "#", "harness killed it (was alive). stderr: 'cut o"),
    ])  # fmt: skip
    assert [step[:3] for step in found["steps"][2:]] == [
        ["do", "dst", "freeze"],
        ["do", "dst", "thaw"],
        ["event", "dst", "MIGRATION"],
        ["do", "dst", "kill"],
        ["event", "src", "MIGRATION"],
        ["silence", "src", "query-status"],
        ["do", "src", "kill"],
    ]
    assert found["ends"] == {"dst": {"exit": -9, "stderr": []}, "src": {"exit": None, "stderr": []}}


def test_refusals_are_kept_whole() -> None:
    """Their words are what is compared."""
    error = {"class": "GenericError", "desc": "no"}
    found = distil("name", [
        _row(0.0, "src", "#", CMD),
        _row(0.1, "src", ">", {"exec-oob": "migrate-pause", "id": 1}),
        _row(0.2, "src", "<", {"error": error, "id": 1}),
    ])  # fmt: skip
    assert found["steps"][-1] == ["reply", "src", 1, {"error": error}, 0.2]
