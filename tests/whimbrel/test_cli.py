"""The command line: what it refuses and how, what it prints, and what its exit codes say."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import PROGRAM, SMALL_DEMO, Ran, hear_log, here, running, whimbrel
from tests.support.guests import PATIENCE_S, World, until
from whimbrel.cli import BAD_INPUT, CANCELLED, FAILED, NOT_BEGUN, OK, UNSETTLED
from whimbrel.engine._version import __version__

COMMANDS = (
    *("demo", "migrate", "plan", "sink", "preflight", "cancel", "resolve", "history"),
    *("policies", "simulate", "compare", "sweep", "report", "shadow", "guest", "doctor", "version"),
)


# ---- bad input

MOVE = ("migrate", "/nowhere/qmp.sock")

BAD = [
    ((*MOVE, "--downtime", "soon"), "downtime", "soon"),
    ((*MOVE, "--downtime", "0s"), "downtime", "0 s"),
    ((*MOVE, "--downtime", "9h"), "downtime", "32400 s"),
    ((*MOVE, "--deadline", "-1"), "deadline", "-1"),
    ((*MOVE, "--bandwidth", "50M"), "bandwidth", "50M"),
    ((*MOVE, "--bandwidth", "0"), "bandwidth", "0"),
    ((*MOVE, "--port", "99999"), "port", "99999"),
    ((*MOVE, "--host", "0.0.0.0"), "host", "0.0.0.0"),
    ((*MOVE, "--policy", "nosuch"), "policy", "nosuch"),
    ((*MOVE, "--policy", "nosuch.py:It"), "policy", "nosuch.py"),
    ((*MOVE, "--policy", "fixed:speed=3"), "policy", "fixed:speed=3"),
    ((*MOVE, "--policy", "least_downtime:worth=much"), "policy parameter worth", "much"),
    ((*MOVE, "--replace", "netdev"), "replace", "netdev"),
    ((*MOVE, "--to", "other.sock", "--replace", "a=b"), "replace", "a=b"),
    ((*MOVE, "--to", ":1"), "to", ":1"),
    ((*MOVE, "--log", "/proc/nowhere/log"), "log", "/proc/nowhere/log"),
    ((*MOVE, "--log", "/dev/null"), "log", "/dev/null"),
    ((*MOVE, "--log", "/"), "log", "/"),
    (("migrate", ""), "SOURCE_QMP", ""),
    (("migrate", "host:70000"), "SOURCE_QMP", "host:70000"),
    (("demo", "--ram", "lots"), "ram", "lots"),
    (("demo", "--ram", "1KiB"), "ram", "1024"),
    (("demo", "--class", "hot:size=64MiB,speed=1"), "class hot", "speed"),
    (("demo", "--seed", "-1"), "seed", "-1"),
    (("demo", "--machine", "toaster"), "machine", "toaster"),
    (("demo", "--source-qemu", "/bin/true"), "source-qemu", "/bin/true"),
    (("demo", "--source-qemu", "/nowhere/qemu"), "source-qemu", "/nowhere/qemu"),
    (("demo", "--destination-qemu", "/bin/true"), "destination-qemu", "/bin/true"),
    (("guest", "--qemu", "/bin/true"), "qemu", "/bin/true"),
    (("guest", "--seconds", "a while"), "seconds", "a while"),
    (("guest", "--class", "hot"), "class", "hot"),
    (("report", "/nowhere/log"), "log", "/nowhere/log"),
    (("report", "/dev/zero"), "log", "/dev/zero"),
    (("report", "/etc/passwd"), "log", "/etc/passwd"),
    (("cancel", "/nowhere/log"), "log", "/nowhere/log"),
    (("cancel", "/etc/passwd"), "log", "/etc/passwd"),
    (("resolve", "/nowhere/log"), "log", "/nowhere/log"),
    (("resolve", "/dev/zero"), "log", "/dev/zero"),
    (("resolve", "/etc/passwd"), "log", "/etc/passwd"),
    (("history", "--folder", "/nowhere"), "folder", "/nowhere"),
    (("history", "--folder", "/etc/passwd"), "folder", "/etc/passwd"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "field", "given"), BAD, ids=lambda value: " ".join(value) or "-")
def test_bad_input_is_named(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], field: str, given: str
) -> None:
    """One sentence: the field, what was given, what is allowed; the same as an object with ``--json``."""
    ran = here(capsys, *arguments, "--json")
    assert ran.code == BAD_INPUT
    assert ran.sentence.startswith(f"{field}")
    assert given in ran.sentence
    assert "allowed: " in ran.sentence
    assert ran.object == {"error": {"kind": "BadInput", "message": ran.sentence, "exit_code": BAD_INPUT}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("migrate",), "SOURCE_QMP"),
        (("migrate", "a", "--bogus"), "--bogus"),
        (("migrate", "a", "--port", "any"), "--port"),
        (("demo", "--beats", "0"), "--beats"),
        (("emigrate",), "emigrate"),
        (("migrate", "a", "b"), "b"),
        (("resolve", "log", "--i-fenced", "both"), "--i-fenced"),
        (("history", "-n", "0"), "-n"),
    ],
)
def test_a_wrong_use_is_told_once(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    ran = here(capsys, *arguments, "--json")
    assert ran.code == BAD_INPUT
    (line,) = [line for line in ran.err.splitlines() if line.startswith("Error: ")]
    assert words in line
    assert ran.object["error"]["message"] in line
    assert ran.object["error"]["exit_code"] == BAD_INPUT


def test_a_log_that_holds_something_is_not_written_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("dear to somebody\n")
    ran = here(capsys, *MOVE, "--log", log)
    assert ran.code == BAD_INPUT
    assert "holds something already" in ran.sentence
    assert log.read_text() == "dear to somebody\n"


# ---- sources and destinations that will not do


async def not_begun(*arguments: str | Path) -> str:
    """Run what must not begin; the sentence that says why, checked against the object of ``--json``."""
    ran = await whimbrel(*arguments, "--json")
    assert ran.code == NOT_BEGUN, ran.err
    assert ran.object["error"]["message"] == ran.sentence
    assert ran.object["error"]["exit_code"] == NOT_BEGUN
    return ran.sentence


async def test_a_source_that_cannot_be_reached(short_folder: Path) -> None:
    """No socket; a file; nobody behind it; no such port; each in one sentence with the address in it."""
    plain, dead = short_folder / "plain", short_folder / "dead"
    plain.touch()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        cases = {
            str(short_folder / "none"): "there is no such socket",
            str(plain): "not a socket",
            str(dead): "nobody listens",
            address: "connection refused",
        }
        said = await asyncio.gather(*(not_begun("migrate", each) for each in cases))
    for (given, words), sentence in zip(cases.items(), said, strict=True):
        assert given in sentence
        assert words in sentence


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not a QMP monitor"),
        (b"{}\r\n", "not a QMP monitor"),
        (b"", ""),
        (b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}\r\n', ""),
    ],
    ids=["other", "empty object", "dies at once", "dies after its greeting"],
)
async def test_a_source_that_is_no_monitor_or_dies_while_connecting(
    short_folder: Path, greeting: bytes, words: str
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_unix_server(talk, short_folder / "q")
    async with server:
        sentence = await not_begun("migrate", short_folder / "q")
    assert words in sentence
    assert str(short_folder / "q") in sentence


async def test_a_monitor_that_another_client_holds(world: World) -> None:
    """QEMU serves one client: the next one is connected and never greeted."""
    source = await world.boot(listen=False)
    with socket.socket(socket.AF_UNIX) as holder:
        holder.connect(str(source.qmp))
        sentence = await not_begun("migrate", source.qmp)
    assert "another client holds this monitor" in sentence
    assert source.status() == "running"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ram_bytes": 25024 << 10}, "the RAM block pc.ram has"),
        ({"machine": "pc-i440fx-6.2"}, "the destination a pc-i440fx-6.2"),
        ({}, "start it with -incoming defer"),
    ],
    ids=["RAM", "machine", "not waiting"],
)
async def test_a_destination_that_does_not_fit(world: World, options: dict[str, Any], words: str) -> None:
    """``--to`` one that differs, or that does not wait for a guest: refused by name, and the source beats on."""
    source = await world.boot()
    incoming = "defer" if options else None
    other = await world.boot(listen=False, paused=True, incoming=incoming, **options)
    findings = (await whimbrel("preflight", source.qmp, "--to", other.qmp, "--json")).object
    sentence = await not_begun("migrate", source.qmp, "--to", other.qmp)
    assert findings["refused"] is True
    assert any(each["seen"] in sentence for each in findings["findings"])
    assert words in sentence
    await world.check_beats("source")


async def test_a_port_in_use_and_binaries_that_are_no_qemu(world: World) -> None:
    """Each is found while the destination is prepared: the source was not touched."""
    source = await world.boot()
    before = source.settings()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sentence = await not_begun("migrate", source.qmp, "--port", str(taken.getsockname()[1]))
    assert "Address already in use" in sentence
    assert "/nowhere/qemu" in await not_begun("migrate", source.qmp, "--destination-qemu", "/nowhere/qemu")
    ran = await whimbrel("migrate", source.qmp, "--destination-qemu", "/bin/true")
    assert (ran.code, ran.sentence.partition(":")[0]) == (BAD_INPUT, "destination-qemu")
    assert source.settings() == before
    await world.check_beats("source")


async def test_ram_at_which_qemu_loses_writes_is_refused_unless_it_is_accepted(world: World) -> None:
    """``preflight`` shows it as a table and as an object; ``--accept-memory-loss`` makes a warning of it."""
    source = await world.boot(ram_bytes=24 << 20, listen=False)
    table = await whimbrel("preflight", source.qmp)
    assert table.code == NOT_BEGUN
    assert "refused" in table.out
    assert "memory-loss" in table.out
    assert all(len(line) <= 80 for line in table.out.splitlines())
    accepted = await whimbrel("preflight", source.qmp, "--accept-memory-loss", "--json")
    assert accepted.code == OK
    (finding,) = accepted.object["findings"]
    assert (finding["code"], finding["severity"]) == ("memory-loss", "warning")
    refused = await not_begun("demo", "--ram", "24MiB", "--class", "hot:size=2MiB")
    assert "loses guest writes" in refused


async def test_a_second_migration_of_the_same_source(world: World, tmp_path: Path) -> None:
    """It is refused, and the first goes on as if nothing had been."""
    source = await world.boot()
    async with running("migrate", source.qmp, "--bandwidth", "3MiB/s", "--log", tmp_path / "log") as first:
        await first.until_it_says("2/5 transfer")
        sentence = await not_begun("migrate", source.spare)
        assert await first.end() == OK
    assert f"another manager (process {first.process.pid}) is moving this guest" in sentence
    hear_log(world, tmp_path / "log")
    await world.check_beats("destination")


# ---- one JSON object


async def test_a_migration_as_one_object(world: World, tmp_path: Path) -> None:
    """Of one that was moved, with the progress on standard error; and of one that was called off."""
    source = await world.boot()
    log = tmp_path / "log"
    moved = await whimbrel("migrate", source.qmp, "--json", "--log", log)
    assert moved.code == OK
    assert (moved.object["outcome"], moved.object["owner"]) == ("completed", "destination")
    assert "2/5 transfer" in moved.err
    again = await whimbrel("report", log, "--json")
    assert again.object == moved.object
    hear_log(world, log)


async def test_a_failure_with_a_report_is_that_report(world: World, tmp_path: Path) -> None:
    """The destination dies under way: the report on standard output, the sentence beside it."""
    source = await world.boot()
    log = tmp_path / "log"
    pipe = asyncio.subprocess.PIPE
    words = ("migrate", source.qmp, "--json", "--bandwidth", "1MiB/s", "--log", log)
    process = await asyncio.create_subprocess_exec(PROGRAM, *map(str, words), stdout=pipe, stderr=pipe)
    await until(lambda: log.exists() and '"phase":"precopy"' in log.read_text(), "it moves")
    hear_log(world, log)
    (pid,) = world.pids
    os.kill(pid, signal.SIGKILL)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    ran = Ran(process.returncode or 0, out.decode(), err.decode())
    assert ran.code == FAILED
    assert (ran.object["outcome"], ran.object["owner"], ran.object["guest"]) == ("failed", "source", "running")
    assert "the guest runs on; it can be tried again" in ran.sentence
    await world.check_beats("source")


async def test_a_demo_as_one_object(tmp_path: Path) -> None:
    ran = await whimbrel(*SMALL_DEMO, "--json", "--log", tmp_path / "log")
    assert ran.code == OK
    assert ran.object["memory_verified"] is True
    assert ran.object["log"] == str(tmp_path / "log")
    assert "asking the guest" in ran.err


async def test_a_demo_leaves_nothing_but_its_report(short_folder: Path) -> None:
    """No log unless it is asked for, and no line about a destination that is gone."""
    ran = await whimbrel(*SMALL_DEMO)
    assert (ran.code, ran.err) == (OK, "")
    assert "Seen by the guest" in ran.out
    assert "destination QMP" not in ran.out
    assert "log:" not in ran.out
    assert list((short_folder / "state").rglob("*.jsonl")) == []
    assert list((short_folder / "tmp").iterdir()) == []


# ---- output that goes nowhere


@pytest.mark.parametrize("sink", ["closed pipe", "full disk"])
async def test_a_migration_outlives_its_output(world: World, tmp_path: Path, sink: str) -> None:
    """``whimbrel migrate … | true`` moves the guest all the same; what is lost is told once where it can be."""
    source = await world.boot()
    log = tmp_path / "log"
    if sink == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    try:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "migrate", str(source.qmp), "--log", str(log), stdout=writer, stderr=asyncio.subprocess.PIPE
        )
    finally:
        os.close(writer)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    told = "" if sink == "closed pipe" else "whimbrel: the output can't be written: No space left on device\n"
    assert (process.returncode, err.decode()) == (OK, told)
    assert hear_log(world, log)[-1]["report"]["outcome"] == "completed"
    await world.check_beats("destination")


# ---- help


def test_help_lists_commands_and_exit_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = here(capsys, "--help")
    assert ran.code == OK
    rows = ran.out.partition("Commands:\n")[2].partition("\n\n")[0]
    listed = [line.split()[0] for line in rows.splitlines()]
    assert listed == list(COMMANDS)
    assert "..." not in rows, "a summary was cut"
    codes = [line.split()[0] for line in ran.out.partition("Exit codes:\n")[2].splitlines() if line[4:5].isdigit()]
    assert [int(code) for code in codes] == [OK, FAILED, BAD_INPUT, NOT_BEGUN, CANCELLED, UNSETTLED]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Each example on a line of its own that can be copied, within 80 columns; ``--json`` and the codes explained."""
    monkeypatch.setenv("COLUMNS", "80")
    ran = here(capsys, command, "--help")
    assert ran.code == OK
    examples = [line.strip() for line in ran.out.splitlines() if line.startswith("    whimbrel ")]
    assert any(example.split()[1] == command for example in examples)
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert "Exit codes:" in ran.out
    if command != "version":
        assert '{"error": {"kind":' in ran.out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert here(capsys, "--version").out == here(capsys, "version").out == f"{__version__}\n"
