"""Make the golden data from recorded transcripts of real QEMUs: what was asked, what was answered, what happened.

Reads a folder of ``VERSION-SCENARIO.jsonl`` files, one recorded scenario each, one JSON object a line: ``t`` (seconds
since the scenario began), ``side`` (``src``, ``dst``, ``c`` or ``-``), ``dir`` and ``msg``, where ``dir`` is ``>`` (a
command that was sent), ``<`` (its answer), ``E`` (an event), ``#`` (a note: a command line, an exit code with standard
error, an action of whoever recorded it) or ``!`` (a remark: end of file, a time-out).

Writes ``golden/VERSION.jsonl.gz``, one scenario a line: what `golden.Scenario` reads.

    python tests/conformance/distil.py FOLDER
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

GOLDEN = Path(__file__).parent / "golden"

WHOLE_ANSWERS = ("query-status", "query-yank", "query-migrate-capabilities", "query-migrate-parameters", "query-kvm")
"""Commands whose answer is kept as it is; of all others only what is compared."""

_STDERR = re.compile(r"stderr: (?P<text>.*)$", re.DOTALL)
_EXIT = re.compile(r"process had exited rc=(?P<code>-?\d+)\.")
BREAKS = ("failed", "failing", "postcopy-paused")

Row = dict[str, Any]


def distil(name: str, rows: Iterable[Row]) -> Row:
    """One scenario, as `golden.Scenario` reads it."""
    rows = list(rows)
    ends = {row["side"]: end for row in rows if row["dir"] == "#" and (end := _end(row["msg"])) is not None}
    killed = {side for side, end in ends.items() if end["exit"] in (-9, None)}  # None: when the recording was over
    steps: list[list[Any]] = []
    sides: dict[str, list[str]] = {}
    asked: dict[tuple[str, int], str] = {}
    for row in rows:
        side, kind, message, t = row["side"], row["dir"], row["msg"], row["t"]
        words = str(message)
        if kind == "#" and words.startswith("cmd: "):
            sides[side] = words.removeprefix("cmd: ").split()
            steps.append(["start", side, None, None, t])
        elif kind == ">":
            command = {key: value for key, value in message.items() if key != "id"}
            asked[side, message["id"]] = command.get("execute") or command["exec-oob"]
            steps.append(["send", side, message["id"], command, t])
        elif kind == "<" and "QMP" not in message:
            steps.append(["reply", side, message["id"], _answer(asked[side, message["id"]], message), t])
        elif kind == "E":
            if steps and _frozen(steps) == side:
                steps.append(["do", side, "thaw", None, t])
            steps.append(["event", side, message["event"], message.get("data"), t])
        else:
            _action(steps, side, words, t, killed)
    return {"name": name, "sides": sides, "steps": steps, "ends": ends}


def _frozen(steps: list[list[Any]]) -> str | None:
    """Who stands still."""
    done = [step for step in steps if step[0] == "do" and step[2] in ("freeze", "thaw")]
    return done[-1][1] if done and done[-1][2] == "freeze" else None


def _end(message: object) -> Row | None:
    if not isinstance(message, str) or (found := _STDERR.search(message)) is None:
        return None
    code = _EXIT.match(message)
    try:
        text = str(ast.literal_eval(found["text"]))
    except (SyntaxError, ValueError):
        text = ""  # cut off by whoever recorded it
    return {"exit": int(code["code"]) if code else None, "stderr": text.splitlines()}


def _answer(command: str, message: Row) -> Row:
    if "error" in message:
        return {"error": message["error"]}
    if command in WHOLE_ANSWERS or not isinstance(message["return"], dict):
        return {"return": message["return"] if command in WHOLE_ANSWERS else None}
    result = cast("Row", message["return"])
    answer: Row = {"fields": sorted(result)}
    for key in ("status", "error-desc", "socket-address", "blocked-reasons", "mode"):
        if key in result:
            answer[key] = result[key]
    if "ram" in result:
        answer["ram"] = sorted(result["ram"])
    return answer


def _action(steps: list[list[Any]], side: str, message: str, t: float, killed: set[str]) -> None:
    if message == "dst SIGSTOPped":
        steps.append(["do", "dst", "freeze", None, t])
    elif message.startswith("stray TCP"):
        steps.append(["do", "dst", "stray", None, t])
    elif message == "QMP EOF" and side in killed:
        # Whoever was killed was so before the other end could notice.
        place = len(steps)
        while place and steps[place - 1][0] == "event" and t - steps[place - 1][4] < 0.02:
            place -= 1
        told = [step[3]["status"] for step in steps[place:] if step[1] != side and step[2] == "MIGRATION"]
        late = any(status in BREAKS for status in told)
        steps.insert(place if late else len(steps), ["do", side, "kill", None, t])
    elif message.startswith("TIMEOUT "):
        steps.append(["silence", side, message.removeprefix("TIMEOUT "), None, t])


def main(folder: Path) -> None:
    """Distil a folder."""
    versions: dict[str, list[Row]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        version, _, name = path.stem.partition("-")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        versions.setdefault(version, []).append(distil(name, rows))
    GOLDEN.mkdir(exist_ok=True)
    for version, scenarios in versions.items():
        lines = "".join(json.dumps(each, separators=(",", ":"), sort_keys=True) + "\n" for each in scenarios)
        target = GOLDEN / f"{version}.jsonl.gz"
        target.write_bytes(gzip.compress(lines.encode(), compresslevel=9, mtime=0))
        print(f"{target}: {len(scenarios)} scenarios, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
