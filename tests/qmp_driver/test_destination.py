"""The four ways to come by a destination, on real QEMUs."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.bare_qemu import BARE, ODD_RAM, QEMU, bare_qemu, left_in
from tests.support.facts import FACTS
from tests.support.qmp_server import Drop, Held, QmpServer
from whimbrel.engine.errors import BadInput, CannotConnect, PreflightFailed, PreparationFailed
from whimbrel.qmp_driver.destination import (
    Destination,
    Existing,
    FromArgv,
    FromCallable,
    FromSource,
    SourceTruth,
    StartedDestination,
)
from whimbrel.qmp_driver.facts import SideFacts, read_facts
from whimbrel.qmp_driver.findings import Finding
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.processes import QemuProcess, identify_peer, is_alive, read_argv
from whimbrel.qmp_driver.replies import query_status
from whimbrel.qmp_driver.sockets import Address

PLAIN = ("-machine", "q35", "-m", ODD_RAM, "-accel", "tcg", "-display", "none", "-nodefaults")
NO_PROCESS = SourceTruth(facts=FACTS, process=None, no_process_because="its monitor is elsewhere")


async def truth_of(socket: str) -> SourceTruth:
    async with await Monitor.connect(socket, side="source") as monitor:
        return await SourceTruth.read(monitor)


async def facts_of(address: Address) -> SideFacts:
    async with await Monitor.connect(address, side="destination") as monitor:
        return await read_facts(monitor, pid=monitor.peer_pid)


def codes(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.code for finding in findings]


LINES = {
    "defaults": f"-accel tcg -m {ODD_RAM} -nographic",
    "disks": f"-accel tcg -display none -m {ODD_RAM} -drive file=a.raw,format=raw,if=ide -cdrom c.iso "
    "-drive if=pflash,file=f.raw,format=raw,readonly=on -drive file=b.raw,if=virtio,format=raw",
    "json": f"-M q35,accel=tcg -display none -nodefaults -m {ODD_RAM} -smp 2 -cpu max,-avx2 "
    '-blockdev \'{"driver":"file","filename":"a.raw","node-name":"f"}\' '
    '-blockdev \'{"driver":"raw","file":"f","node-name":"n"}\' '
    '-device \'{"driver":"virtio-blk-pci","drive":"n","id":"v","addr":"0x7"}\'',
    "consoles": f"-M pc,accel=tcg -display none -nodefaults -m {ODD_RAM} -serial null -serial mon:stdio "
    "-parallel file:p.out -debugcon file:d.out -D q.log -trace file=t.out -pidfile q.pid -vnc unix:v.sock "
    "-monitor unix:m.sock,server,nowait -chardev socket,id=c0,path=c.sock,server=on,wait=off "
    "-mon chardev=c0,mode=readline",
    "backends": "-M q35 -accel tcg -display none -nodefaults "
    f"-object memory-backend-memfd,id=r,size={ODD_RAM},share=on -machine memory-backend=r -m {ODD_RAM} "
    "-netdev user,id=n0 -device e1000e,netdev=n0 -object rng-builtin,id=g -device virtio-rng-pci,rng=g "
    "-device VGA -usb -device usb-tablet -uuid 12345678-1234-1234-1234-123456789abc",
    "microvm": f"-M microvm -accel tcg -display none -nodefaults -m {ODD_RAM} -device virtio-rng-device",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
async def test_a_destination_from_the_sources_command_line_agrees_with_it(tmp_path: Path, line: str) -> None:
    """Nothing speaks against it, it comes up beside the running source, and the two are ends of one migration."""
    for name in ("a.raw", "b.raw", "c.iso", "f.raw"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    strategy = FromSource(directory=tmp_path)
    async with bare_qemu(tmp_path, *shlex.split(line)) as source:
        truth = await truth_of(source.socket)
        assert set(codes(await strategy.examine(truth))) <= {"video-memory-loss"}
        log = (tmp_path / "q.log").stat().st_ino if "-D" in line else None
        started = await strategy.start(truth)
        try:
            assert strategy.compare(truth, await facts_of(started.address)) == ()
            assert started.plan is not None
            assert started.plan.refused == ()
            assert log is None or (tmp_path / "q.log").stat().st_ino == log
        finally:
            await started.discard()
        async with await Monitor.connect(source.socket, side="source") as monitor:
            assert (await query_status(monitor)).status == "running"


async def test_a_destination_of_a_destination(tmp_path: Path) -> None:
    """What was started from a command line can be the source of the next one."""
    strategy = FromSource(directory=tmp_path)
    async with bare_qemu(tmp_path, *PLAIN, "-serial", "stdio") as source:
        first = await strategy.start(await truth_of(source.socket))
        try:
            async with await Monitor.connect(first.address, side="source") as monitor:
                truth = await SourceTruth.read(monitor)
            second = await strategy.start(truth)
            try:
                assert strategy.compare(truth, await facts_of(second.address)) == ()
                assert second.relocalised.keys() == first.relocalised.keys()
                assert not set(second.relocalised.values()) & set(first.relocalised.values())
            finally:
                await second.discard()
        finally:
            await first.discard()


async def test_a_daemonised_source_is_found(tmp_path: Path) -> None:
    """The process behind the socket is the daemon, which is nobody's child here."""
    socket = str(tmp_path / "q")
    argv = [QEMU, *PLAIN, "-daemonize", "-pidfile", str(tmp_path / "pid"), "-qmp", f"unix:{socket},server=on,wait=off"]
    await asyncio.to_thread(subprocess.check_call, argv, stdin=subprocess.DEVNULL, timeout=20)
    daemon = QemuProcess.attach(identify_peer(int((tmp_path / "pid").read_text())))
    try:
        started = await FromSource(directory=tmp_path).start(await truth_of(socket))
        assert started.process is not None
        assert started.process.pid != daemon.pid
        await started.discard()
    finally:
        await daemon.kill()


async def test_where_things_are_is_told_with_the_ports_that_the_kernel_chose(tmp_path: Path) -> None:
    """The serial line's port is looked up, for nobody could know it before."""
    async with bare_qemu(tmp_path, *PLAIN, "-serial", "tcp:127.0.0.1:0,server=on,wait=off") as source:
        started = await FromSource(directory=tmp_path).start(await truth_of(source.socket))
        try:
            host, _, port = started.relocalised["serial0"].removeprefix("tcp:").rpartition(":")
            assert host == "127.0.0.1"
            assert int(port) > 0
        finally:
            await started.discard()


async def test_refused_arguments_are_all_named_and_nothing_is_started(tmp_path: Path) -> None:
    """By ``examine`` and by ``start`` alike; a replacement settles each."""
    ports = ("-netdev", "user,id=n0,hostfwd=tcp:127.0.0.1:0-:22", "-gdb", "unix:g.sock,server=on,wait=off")
    async with bare_qemu(tmp_path, *PLAIN, *ports) as source:
        truth = await truth_of(source.socket)
        strategy = FromSource(directory=tmp_path)
        assert codes(await strategy.examine(truth)) == ["argument", "argument"]
        with pytest.raises(PreflightFailed, match=r"hostfwd.*and 1 more") as caught:
            await strategy.start(truth)
        assert len(caught.value.findings) == 2
        assert left_in(tmp_path, "whimbrel-*") == []
        settled = FromSource(directory=tmp_path, replacements={"netdev:n0": "user,id=n0", "-gdb": ""})
        assert await settled.examine(truth) == ()
        await (await settled.start(truth)).discard()
        with pytest.raises(BadInput, match="netdev:other"):
            await FromSource(directory=tmp_path, replacements={"netdev:other": ""}).start(truth)
        assert left_in(tmp_path, "whimbrel-*") == []


async def test_writable_disks_follow_where_the_files_are_the_same(tmp_path: Path) -> None:
    """On one host they are, unless the caller says otherwise; then they are refused."""
    (tmp_path / "a.raw").write_bytes(bytes(1 << 20))
    async with bare_qemu(tmp_path, *PLAIN, "-drive", "file=a.raw,format=raw,if=virtio") as source:
        truth = await truth_of(source.socket)
        assert await FromSource().examine(truth) == ()
        assert codes(await FromSource(disks_shared=False).examine(truth)) == ["argument"]


async def test_a_snapshot_since_the_start_is_noticed(tmp_path: Path) -> None:
    """The source writes to an overlay by now, which its command line does not know of."""
    for name in ("a.raw", "b.raw"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    node = "driver=file,filename={}.raw,node-name={}"
    disks = ("-blockdev", node.format("a", "a"), "-device", "virtio-blk-pci,drive=a,id=v")
    async with bare_qemu(tmp_path, *PLAIN, *disks) as source:
        async with await Monitor.connect(source.socket, side="source") as monitor:
            await monitor.execute("blockdev-add", {"driver": "file", "filename": "b.raw", "node-name": "b"})
            truth = await SourceTruth.read(monitor)
        strategy = FromSource(directory=tmp_path)
        started = await strategy.start(truth)
        try:
            findings = strategy.compare(truth, await facts_of(started.address))
        finally:
            await started.discard()
    assert codes(findings) == ["disk-missing"]
    assert str(tmp_path / "b.raw") in findings[0].seen


async def test_a_binary_that_is_missing_or_is_no_qemu(tmp_path: Path) -> None:
    """One clear sentence each; the quick look sees the first, the thorough look the second."""
    async with bare_qemu(tmp_path, *PLAIN) as source:
        truth = await truth_of(source.socket)
    (missing,) = await FromSource(binary="/nowhere/qemu").examine(truth)
    assert (missing.code, "/nowhere/qemu does not exist" in missing.seen) == ("destination-binary", True)
    (other,) = await FromSource(binary="/bin/true").examine(truth, thorough=True)
    assert other.seen == "/bin/true is not a QEMU: it does not print QEMU's version"
    with pytest.raises(PreparationFailed, match="ended while it was starting"):
        await FromSource(binary="/bin/true", directory=tmp_path).start(truth)


async def test_a_source_whose_command_line_cannot_be_read(tmp_path: Path) -> None:
    """It is said why, and which other ways there are."""
    (finding,) = await FromSource().examine(NO_PROCESS)
    assert finding.code == "source-process"
    assert "its monitor is elsewhere" in finding.advice
    with pytest.raises(PreparationFailed, match="-incoming defer"):
        await FromSource(directory=tmp_path).start(NO_PROCESS)
    assert left_in(tmp_path) == []


async def test_a_command_line_of_the_callers(tmp_path: Path) -> None:
    """What a destination needs is added to it; a relative path is meant in the folder that was given."""
    (tmp_path / "a.raw").write_bytes(bytes(1 << 20))
    strategy = FromArgv([QEMU, *PLAIN, "-drive", "file=a.raw,format=raw,if=virtio"], cwd=tmp_path, directory=tmp_path)
    started = await strategy.start(NO_PROCESS)
    try:
        facts = await facts_of(started.address)
        assert facts.run_state == "inmigrate"
        assert facts.block_nodes[0].driver == "raw"
        assert {str(tmp_path / "a.raw")} <= {node.file for node in facts.block_nodes}
        assert await facts_of(started.relocalised["qmp-human"]) is not None
    finally:
        await started.discard()
    assert await strategy.examine(NO_PROCESS, thorough=True) == ()


@pytest.mark.parametrize(
    "argv",
    [[], [QEMU, "-daemonize"], [QEMU, "-incoming", "tcp:0:4444"], [QEMU, "--incoming", "unix:/s"]],
)
def test_a_command_line_that_cannot_serve(argv: list[str]) -> None:
    """It is said at once, with the argument's name."""
    with pytest.raises(BadInput, match="argv"):
        FromArgv(argv)


async def test_what_it_has_already_is_not_added_again(tmp_path: Path) -> None:
    """``-S`` and ``-incoming defer`` stay single."""
    started = await FromArgv([QEMU, *PLAIN, "-S", "-incoming", "defer"], directory=tmp_path).start(NO_PROCESS)
    try:
        assert started.process is not None
        argv = read_argv(started.process.pid)
        assert (argv.count("-S"), argv.count("-incoming")) == (1, 1)
    finally:
        await started.discard()


async def test_one_that_waits_is_taken_as_it_is(tmp_path: Path) -> None:
    """Its monitor is free again afterwards, and ending it ends the process."""
    async with bare_qemu(tmp_path, *BARE, "-machine", "q35", "-m", ODD_RAM, "-S", "-incoming", "defer") as qemu:
        started = await Existing(qemu.socket).start(NO_PROCESS)
        assert (started.owned, started.address) == (False, qemu.socket)
        assert (await facts_of(qemu.socket)).run_state == "inmigrate"
        await started.discard()
        assert not is_alive(qemu.process.identity)


async def test_a_callers_coroutine(tmp_path: Path) -> None:
    """It is given the truth about the source, and its address is taken on; what it raises is the cause."""
    given: list[SourceTruth] = []
    async with bare_qemu(tmp_path, *BARE, "-machine", "q35", "-m", ODD_RAM, "-S", "-incoming", "defer") as qemu:

        async def begin(source: SourceTruth) -> Address:
            given.append(source)
            return qemu.socket

        started = await FromCallable(begin).start(NO_PROCESS)
        assert given == [NO_PROCESS]
        assert started.address == qemu.socket
        await started.discard()

    async def fail(source: SourceTruth) -> Address:
        raise KeyError("no quota")

    with pytest.raises(PreparationFailed, match="no quota") as caught:
        await FromCallable(fail).start(NO_PROCESS)
    assert isinstance(caught.value.__cause__, KeyError)

    async def refuse(source: SourceTruth) -> Address:
        raise CannotConnect("the other host is down")

    with pytest.raises(CannotConnect, match="is down"):
        await FromCallable(refuse).start(NO_PROCESS)


async def test_every_way_says_what_the_source_says(tmp_path: Path) -> None:
    """A source that can't be moved can't be moved anywhere."""
    strategies: list[Destination] = [
        FromSource(),
        FromArgv([QEMU]),
        Existing(str(tmp_path / "q")),
        FromCallable(lambda source: pytest.fail("nothing is started")),
    ]
    facts = replace(FACTS, run_state="shutdown")
    for strategy in strategies:
        assert "source-state" in codes(await strategy.examine(SourceTruth(facts=facts, process=None)))


async def test_it_outlives_whoever_started_it(tmp_path: Path) -> None:
    """Once the process is let go, nothing of ours holds it: it has its own session and no pipe to us."""
    started: StartedDestination = await FromArgv([QEMU, *PLAIN], directory=tmp_path).start(NO_PROCESS)
    assert started.process is not None
    assert started.directory is not None
    try:
        assert os.getsid(started.process.pid) == started.process.pid
        streams = [os.readlink(f"/proc/{started.process.pid}/fd/{number}") for number in range(3)]
        assert streams == ["/dev/null", "/dev/null", str(started.directory / "stderr.log")]
    finally:
        await started.discard()


async def test_what_a_callers_coroutine_started_does_not_stay_if_it_cannot_serve(tmp_path: Path) -> None:
    """It already listens, so it is refused, and made to quit: nobody else knows of it."""
    listening = ("-machine", "q35", "-m", ODD_RAM, "-S", "-incoming", "tcp:127.0.0.1:0")
    async with bare_qemu(tmp_path, *BARE, *listening) as qemu:

        async def begin(source: SourceTruth) -> Address:
            return qemu.socket

        with pytest.raises(PreflightFailed, match="already listens"):
            await FromCallable(begin).start(NO_PROCESS)
        assert await qemu.process.wait_exit(5) == 0


async def test_an_address_that_leads_to_a_running_guest_does_it_no_harm(tmp_path: Path) -> None:
    """The caller's coroutine gave a wrong one: it is refused and left alone."""
    async with bare_qemu(tmp_path, *PLAIN) as qemu:

        async def begin(source: SourceTruth) -> Address:
            return qemu.socket

        with pytest.raises(PreflightFailed, match="does not wait"):
            await FromCallable(begin).start(NO_PROCESS)
        async with await Monitor.connect(qemu.socket, side="source") as monitor:
            assert (await query_status(monitor)).running


async def test_a_callers_coroutine_whose_use_is_cancelled(tmp_path: Path) -> None:
    """It is seen to quit before the cancellation goes on, though one is cancelled twice."""
    gate = asyncio.Event()
    async with QmpServer(tmp_path / "q") as server:
        server.on_next("query-status", Held(gate, {"status": "inmigrate", "running": False}))
        server.on("query-status", {"status": "inmigrate", "running": False})
        server.on("query-migrate", {})
        server.on("quit", Drop())

        async def begin(source: SourceTruth) -> Address:
            return server.address

        starting = asyncio.create_task(FromCallable(begin).start(NO_PROCESS))
        await server.until_received("query-status")
        starting.cancel()
        await server.until_received("query-status", 2)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert server.received[-1].command == "quit"
