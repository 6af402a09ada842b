"""``whimbrel sink``: where it listens, what it tells of senders, how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket

import pytest

from tests.support.command_line import here, running
from whimbrel.cli import BAD_INPUT, NOT_BEGUN, OK
from whimbrel.qmp_driver.link_probe import probe


async def test_it_swallows_a_probe_and_ends_by_ctrl_c() -> None:
    """One line says where it listens, one what came."""
    async with running("sink", "--host", "127.0.0.1") as command:
        await command.until_it_says("ctrl-C ends it")
        listening = re.search(r"listening at 127\.0\.0\.1:(\d+); ctrl-C ends it", command.seen)
        assert listening is not None
        found = await probe("127.0.0.1", int(listening[1]), limit_bytes=32 << 20)
        await command.until_it_says("B/s\n")
        command.process.send_signal(signal.SIGINT)
        assert await command.end() == OK
    assert 16 << 20 < found.sent_bytes <= (32 << 20) + 1, "all but what was not acknowledged; the kernel counts the SYN"
    assert len(command.seen.splitlines()) == 2
    assert command.seen.splitlines()[1].startswith("127.0.0.1: ")


async def test_as_json_it_tells_all_at_its_end() -> None:
    """The lines go to standard error then; one that sent nothing is told, too."""
    async with running("sink", "--host", "127.0.0.1", "--json") as command:
        await command.until_it_says("ctrl-C ends it")
        port = int(command.seen.split(":")[1].split(";")[0])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        await command.until_it_says("127.0.0.1: 0B")
        command.process.send_signal(signal.SIGTERM)
        assert await command.end() == OK
    told = json.loads(command.seen[command.seen.index("{") :])
    assert told == {"senders": [{"sender": "127.0.0.1", "taken_bytes": 0, "took_s": 0.0}]}


@pytest.mark.parametrize(
    ("arguments", "field"), [(("--host", ""), "host"), (("--host", "127.0.0.1", "--port", "70000"), "port")]
)
def test_an_address_that_can_not_be_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], field: str
) -> None:
    ran = here(capsys, "sink", *arguments)
    assert ran.code == BAD_INPUT
    assert ran.sentence.startswith(f"{field}: ")


def test_an_address_of_another_host_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A documentation address: nobody has it (RFC 5737)."""
    ran = here(capsys, "sink", "--host", "192.0.2.1")
    assert ran.code == NOT_BEGUN
    assert "cannot listen at 192.0.2.1:0" in ran.sentence


async def test_a_sink_that_could_not_take_a_sender_takes_the_next() -> None:
    """It has no file descriptors left for a while."""
    async with running("sink", "--host", "127.0.0.1", "--port", "0") as command:
        await command.until_it_says("ctrl-C ends it")
        listening = re.search(r":(\d+); ctrl-C", command.seen)
        assert listening is not None
        pid = command.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        highest = max(int(each) for each in os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        for number in set(range(highest)) - {int(each) for each in os.listdir(f"/proc/{pid}/fd")}:
            pytest.fail(f"descriptor {number} is free: it would take a sender")
        with socket.create_connection(("127.0.0.1", int(listening[1]))):
            await asyncio.sleep(0.2)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            found = await probe("127.0.0.1", int(listening[1]), limit_bytes=32 << 20)
        assert found.sent_bytes > 0
        command.process.send_signal(signal.SIGINT)
        assert await command.end() == OK
