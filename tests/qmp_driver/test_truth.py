"""The source's truth: its process is found, or it is said why not."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from pathlib import Path

from tests.support.bare_qemu import BARE, ODD_RAM, QEMU, bare_qemu, until_it_answers
from tests.support.relay import relay
from whimbrel.qmp_driver.destination import FromSource
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import QemuProcess
from whimbrel.qmp_driver.truth import Peer, SourceTruth, owns_threads, read_environment

REAL_QEMU = os.path.realpath(QEMU)
MACHINE = ("-machine", "q35", "-m", ODD_RAM, "-S")


async def test_process_and_facts_belong_together(tmp_path: Path) -> None:
    """Identity, vector, program and working directory of the process behind a UNIX socket."""
    async with bare_qemu(tmp_path, *BARE, *MACHINE) as qemu:
        async with await Monitor.connect(qemu.socket, side="source") as monitor:
            truth = await SourceTruth.read(monitor)
        assert truth.process is not None
        assert truth.process.identity == qemu.process.identity
        assert truth.process.argv[0] == QEMU
        assert truth.process.launcher == (REAL_QEMU,)
        assert truth.process.cwd == str(tmp_path)
        assert truth.process.same_files
        assert truth.facts.pid == qemu.process.pid


async def test_a_tcp_monitor_names_no_process(tmp_path: Path) -> None:
    """It may be anywhere; the facts are known all the same."""
    async with bare_qemu(tmp_path, *BARE, *MACHINE, "-qmp", "tcp:127.0.0.1:0,server=on,wait=off") as qemu:
        async with await Monitor.connect(qemu.socket, side="source") as monitor:
            devices = await monitor.call(list[dict[str, object]], "query-chardev")
        ports = [re.search(r"tcp:127\.0\.0\.1:(\d+)", str(each["filename"])) for each in devices]
        (port,) = [int(match[1]) for match in ports if match]
        async with await Monitor.connect(("127.0.0.1", port), side="source") as monitor:
            truth = await SourceTruth.read(monitor)
    assert truth.process is None
    assert "not a UNIX socket" in truth.no_process_because
    assert truth.facts.machine.startswith("pc-q35-")


async def test_a_socket_that_a_manager_passed_on_is_not_taken_for_its_process(tmp_path: Path) -> None:
    """The kernel names who made the listening socket: here the test itself, which is no QEMU."""
    path = str(tmp_path / "passed.qmp")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        number = listener.fileno()
        chardev = f"socket,id=m,fd={number},server=on,wait=off"
        argv = [QEMU, *BARE, *MACHINE, "-chardev", chardev, "-mon", "m,mode=control"]
        process = await asyncio.to_thread(subprocess.Popen, argv, pass_fds=[number])
        try:
            async with await Monitor.connect(path, side="source", timeout_s=20) as monitor:
                assert monitor.peer_pid == os.getpid()
                truth = await SourceTruth.read(monitor)
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
    assert truth.process is None
    assert "made by another process" in truth.no_process_because


async def test_a_working_directory_that_was_removed_is_not_known(tmp_path: Path) -> None:
    """Relative paths mean nothing any more."""
    folder = tmp_path / "gone"
    folder.mkdir()
    path = str(tmp_path / "q")
    argv = [QEMU, *BARE, *MACHINE, "-qmp", f"unix:{path},server=on,wait=off"]
    process = await QemuProcess.spawn(argv, stderr_path=tmp_path / "e", cwd=folder)
    try:
        folder.rmdir()
        await until_it_answers(process, path)
        async with await Monitor.connect(path, side="source") as monitor:
            truth = await SourceTruth.read(monitor)
        assert truth.process is not None
        assert truth.process.cwd is None
    finally:
        await process.kill()


async def test_where_its_modules_are_goes_along(tmp_path: Path) -> None:
    """A QEMU in a folder of its own finds its modules by its environment; the rest of that is nobody's business."""
    socket_path = str(tmp_path / "q")
    qemu = [QEMU, *BARE, *MACHINE, "-qmp", f"unix:{socket_path},server=on,wait=off"]
    argv = ["/usr/bin/env", "QEMU_MODULE_DIR=/some/where", "SECRET=x", *qemu]
    process = await QemuProcess.spawn(argv, stderr_path=tmp_path / "e")
    try:
        await until_it_answers(process, socket_path)
        async with await Monitor.connect(socket_path, side="source") as monitor:
            truth = await SourceTruth.read(monitor)
        assert truth.process is not None
        assert truth.process.environment == ("QEMU_MODULE_DIR=/some/where",)
        started = await FromSource(directory=tmp_path).start(truth)
        try:
            assert started.process is not None
            assert read_environment(started.process.pid) == ("QEMU_MODULE_DIR=/some/where",)
        finally:
            await started.discard()
    finally:
        await process.kill()


async def test_a_relay_is_not_taken_for_the_source(short_folder: Path) -> None:
    """Neither its process, nor its folder and pid in the facts."""
    path = short_folder / "relay"
    async with (
        bare_qemu(short_folder, *BARE, *MACHINE) as qemu,
        relay(path, qemu.socket),
        await Monitor.connect(path, side="source") as monitor,
    ):
        truth = await SourceTruth.read(monitor)
        peer = await Peer.read(monitor)
    assert truth.process is None
    assert truth.facts.pid is None
    assert "made by another process" in truth.no_process_because
    assert peer.process is None
    assert peer.cpu_threads == truth.facts.cpu_threads


async def test_a_qemu_without_a_cpu_cannot_be_told_from_a_relay(tmp_path: Path) -> None:
    """No threads prove nothing."""
    async with (
        bare_qemu(tmp_path, *BARE, "-machine", "none") as qemu,
        await Monitor.connect(qemu.socket, side="source") as monitor,
    ):
        assert await Peer.read(monitor) == Peer(None, ())


async def test_only_threads_of_its_own_prove_a_process(tmp_path: Path) -> None:
    """All of them, and not the first one: that is where a relay's own pid would match by chance."""
    async with bare_qemu(tmp_path, *BARE, *MACHINE, "-smp", "2") as qemu:
        async with await Monitor.connect(qemu.socket, side="source") as monitor:
            peer = await Peer.read(monitor)
        pid = qemu.process.pid
        assert peer.process == qemu.process.identity
        assert peer.cpu_threads
        assert owns_threads(pid, peer.cpu_threads)
        assert not owns_threads(pid, (*peer.cpu_threads, os.getpid()))
        assert not owns_threads(pid, (pid,))
        assert not owns_threads(pid, ())
        assert not owns_threads(os.getpid(), peer.cpu_threads)
