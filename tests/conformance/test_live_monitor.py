"""A monitor's words, on the real QEMU and on the simulated one: the same bytes are sent to both."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.live_stage import Kind, Side, plain, set_up
from tests.conformance.live_watch import Refused

NO_MESSAGES = (
    b"foo\n",
    b"[1]",
    b"1\n",
    b"null ",
    b'{"a" 1}',
    b'{"execute":"query-name",}',
    b"}\n",
    b"]",
    b'{"execute":"query-name"\xff{"execute":"query-name"}',
    b'{"a":"\x01"}',
    b'{"a":01}\n',
    b'{"a":-}\n',
    b'{"a":tru}',
    b'{"a":"\\q"}',
    b'{"a":"\\ud800"}',
    b'{"execute":"query-name","id":%d}',
    b'{"execute":"query-name" "id":1}',
    b"{1:2}",
    b'@\n{"execute":"query-name"}',
    b'{"execute":"query-name","execute":"query-name"}',
    b"{'execute':'query-name','id':'it\"s'}",
    b'{"execute":"query-name"}{"execute":"query-name","id":[1,{"b":null}]}',
    b'{"execute":"query-name","foo":1}',
    b'{"execut":"query-name"}',
    b'{"execute":1}',
    b'{"execute":"query-name","arguments":1}',
    b'{"execute":"nosuch","id":7}',
    b'{"exec-oob":"query-name","id":8}',
    b'{"execute":"query-name","exec-oob":"yank"}',
    b'{"execute":"query-name","arguments":{"a":1}}',
    b'{"execute":"qmp_capabilities"}',
    b'{"execute":"getfd","arguments":{"fdname":"x"}}',
    b'{"id":null,"execute":"query-name"}',
    b'{"execute":"query-name","control":1}',
    b"{}",
    b'{"id":1}',
)

COMMANDS: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("query-status", None),
    ("query-migrate", None),
    ("query-name", None),
    ("query-kvm", None),
    ("migrate_cancel", None),
    ("migrate-continue", {"state": "pre-switchover"}),
    ("migrate-continue", {"state": "nonsense"}),
    ("migrate-continue", {}),
    ("migrate-start-postcopy", None),
    ("migrate-pause", None),
    ("migrate-recover", {"uri": "tcp:127.0.0.1:0"}),
    ("migrate-incoming", {"uri": "tcp:127.0.0.1:0"}),
    ("migrate", {"uri": "nonsense"}),
    ("migrate", {"uri": "fd:nobody"}),
    ("migrate", {"uri": "tcp:127.0.0.1:1", "resume": True}),
    ("migrate", {}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "nonsense", "state": True}]}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "events"}]}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "postcopy-preempt", "state": True}]}),
    ("migrate-set-parameters", {"nonsense": 1}),
    ("migrate-set-parameters", {"downtime-limit": "much"}),
    ("migrate-set-parameters", {"downtime-limit": 3_000_000}),
    ("migrate-set-parameters", {"cpu-throttle-initial": 100}),
    ("migrate-set-parameters", {"max-bandwidth": -1}),
    ("migrate-set-parameters", {"multifd-channels": 0}),
    ("migrate-set-parameters", {"xbzrle-cache-size": 5000}),
    ("query-migrate-parameters", None),
    ("query-migrate-capabilities", None),
    ("query-yank", None),
    ("object-del", {"id": "nobody"}),
    ("object-add", {"qom-type": "nonsense", "id": "x"}),
    ("object-add", {"qom-type": "secret", "id": "badge", "data": "badge"}),
    ("object-add", {"qom-type": "secret", "id": "badge", "data": "badge"}),
    ("object-del", {"id": "badge"}),
    ("stop", None),
    ("stop", None),
    ("query-status", None),
    ("cont", None),
    ("query-status", None),
    ("qom-get", {"path": "/machine", "property": "type"}),
    ("qom-get", {"path": "/nowhere", "property": "type"}),
    ("human-monitor-command", {"command-line": "info ramblock"}),
    ("device_add", {"driver": "nonsense"}),
    ("query-memdev", None),
)


def converse(path: Path) -> list[list[Any]]:
    """Send all that is no message, one after the other, and give what came back to each, ends of lines and all."""
    said: list[list[Any]] = []
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        with client.makefile("rb") as stream:
            stream.readline()
            client.sendall(b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')
            assert stream.readline() == b'{"return": {}}\r\n'
            for data in NO_MESSAGES:
                client.sendall(data + b'{"execute":"query-name","id":"mark"}')
                answers: list[Any] = []
                while True:
                    line = stream.readline()
                    assert line.endswith(b"\r\n")
                    answer = json.loads(line)
                    if answer.get("id") == "mark":
                        break
                    answers.append(answer)
                said.append(answers)
    return said


async def ask_all(side: Side) -> list[tuple[str, object]]:
    """Send every command; what came back, or the class and words of the refusal."""
    said: list[tuple[str, object]] = []
    for command, arguments in COMMANDS:
        try:
            said.append((command, await side.watch.ask(command, arguments)))
        except Refused as refusal:
            said.append((command, (refusal.error_class, refusal.words)))
    return said


@pytest.mark.parametrize("what", ["no messages", "commands"])
async def test_both_say_the_same(short_folder: Path, what: str) -> None:
    """Class and words of every refusal, and every answer."""

    async def on(kind: Kind) -> list[object]:
        folder = short_folder / kind
        folder.mkdir()
        async with set_up(folder, kind) as stage:
            if what == "no messages":
                return [*zip(NO_MESSAGES, await asyncio.to_thread(converse, stage.source.guest.spare), strict=True)]
            return [(command, _comparable(answer)) for command, answer in await ask_all(stage.source)]

    real, simulated = await asyncio.gather(on(Kind.REAL), on(Kind.SIMULATED))
    assert [pair for pair in zip(real, simulated, strict=True) if pair[0] != pair[1]] == []


def _comparable(answer: object) -> object:
    """An answer without what is of no account: where in QEMU's own numbering a block of RAM begins."""
    if isinstance(answer, str):
        return re.sub(r"(iB +)0x[0-9a-f]+", r"\1OFFSET", answer)
    return answer


UNREACHABLE = "Failed to connect to '127.0.0.1:1': Connection refused"


async def test_nobody_listens(short_folder: Path) -> None:
    """`migrate` itself goes well; the failure comes after it, in the kernel's words."""

    async def on(kind: Kind) -> tuple[str, Any, list[str]]:
        folder = short_folder / kind
        folder.mkdir()
        async with set_up(folder, kind) as stage:
            watch = stage.source.watch
            await watch.ask("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
            await watch.ask("migrate", {"uri": "tcp:127.0.0.1:1"})
            await watch.until_status("failed")
            return watch.course, await watch.ask("query-migrate"), [plain(line, stage) for line in stage.source.stderr]

    real, simulated = await asyncio.gather(on(Kind.REAL), on(Kind.SIMULATED))
    assert real == simulated
    assert real[0] == "setup failed"
    assert real[1] == {"status": "failed", "error-desc": UNREACHABLE}


SOURCE_SAYS = ("source", "run state", "fields", "error")
EITHER_END = (
    ("setup p1 active STOP p+ completed", "postmigrate", ["downtime", "ram", "setup-time", "status", "total-time"], ""),
    ("setup p1 active STOP p+ failed RESUME", "running", ["status"], ""),
)


@pytest.mark.parametrize(("what", "return_path"), [("RAM", True), ("device", False), ("device", True)])
async def test_a_destination_that_does_not_fit(short_folder: Path, what: str, return_path: bool) -> None:
    """Without a driver that looks first: what each side says, does and becomes."""

    async def on(kind: Kind) -> dict[str, Any]:
        folder = short_folder / kind
        folder.mkdir()
        other = {"ram_bytes": 24576 << 10} if what == "RAM" else {}
        extra = ("-device", "virtio-rng-pci,addr=5") if what == "device" else ()
        async with set_up(folder, kind, other=other, source_extra=extra) as stage:
            names = ["events", *(["return-path"] if return_path else [])]
            wanted = {"capabilities": [{"capability": name, "state": True} for name in names]}
            source, destination = stage.source.watch, stage.destination.watch
            for watch in (source, destination):
                await watch.ask("migrate-set-capabilities", wanted)
            await destination.ask("migrate-incoming", {"uri": "tcp:127.0.0.1:0"})
            port = (await destination.ask("query-migrate"))["socket-address"][0]["port"]
            await source.ask("migrate", {"uri": f"tcp:127.0.0.1:{port}"})
            await source.until(
                lambda: bool(source.words) and source.words[-1] in ("failed", "completed", "RESUME"), "its end"
            )
            code = await stage.destination.exit_code()
            seen = len(source.looks)
            await source.until(
                lambda: len(source.looks) > seen + 1 and source.looks[-1].run_state != "finish-migrate", "its run state"
            )
            answer = await source.ask("query-migrate")
            return {
                "source": source.course,
                "destination": destination.course,
                "run state": source.looks[-1].run_state,
                "fields": sorted(answer),
                # Which of the kernel's words a write into a dying connection gets is chance.
                "error": re.sub(r"(socket): .*", r"\1", answer.get("error-desc", "")),
                "exit code": code,
                "its words": [plain(line, stage) for line in stage.destination.stderr],
            }

    real, simulated = await asyncio.gather(on(Kind.REAL), on(Kind.SIMULATED))
    assert real["exit code"] == simulated["exit code"] == 1
    if not return_path:
        # Whether the source's last write comes before the destination hangs up is a race of two processes: nothing
        # but a failed write tells a source without a return path. Each side must show one of the two ends, whole.
        for ended in (real, simulated):
            assert tuple(ended.pop(part) for part in SOURCE_SAYS) in EITHER_END
    assert real == simulated
