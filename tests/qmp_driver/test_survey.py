"""Surveys of a guest: of scripted monitors that say no, and of real QEMUs."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bare_qemu import bare_qemu
from tests.support.guests import Guest, World, ask, until
from tests.support.qmp_server import RUNNING, Drop, QmpServer, Refusal
from whimbrel.engine.belief import CPU, Kind, Typical
from whimbrel.engine.errors import BadInput, CannotConnect, QemuRefused, WhimbrelError
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.measuring import Mode
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver.link_probe import sink
from whimbrel.qmp_driver.survey import FIXED, QEMU_PIPE_BYTES, SHARED_SPREAD, STARTED_HERE, STARTED_THERE, survey

MIB = 1 << 20
LINK = Estimate(1e8, 0.0, "given")
HEADING = "              Block Name    PSize              Offset               Used              Total\n"
RAM = "                  pc.ram    4 KiB  0x0000000000000000 0x0000000001400000 0x0000000001400000\n"
LATER = (
    b'{"QMP": {"version": {"qemu": {"major": 9, "minor": 2, "micro": 0}, "package": ""}, "capabilities": ["oob"]}}\r\n'
)
BUSY = {"status": "measuring", "start-time": 0, "calc-time": 1}
MEASURED = {"status": "measured", "start-time": 0, "calc-time": 1, "dirty-rate": 8, "calc-time-unit": "millisecond"}


def human(arguments: Any) -> object:
    """What the human monitor of the scripted QEMU says."""
    return HEADING + RAM if arguments["command-line"] == "info ramblock" else ""


def script(server: QmpServer) -> None:
    """What a QEMU with a small guest answers."""
    server.on("query-status", RUNNING)
    server.on("query-cpus-fast", [])
    server.on("qom-get", "pc-q35-8.2-machine")
    server.on("human-monitor-command", human)
    server.on("query-memdev", [{"id": "pc.ram", "share": False}])
    server.on("qom-list", [])
    server.on("query-pci", [])
    server.on("query-kvm", {"enabled": True, "present": True})
    server.on("query-named-block-nodes", [])
    server.on("query-migrate", {})
    server.on("query-migrate-capabilities", [{"capability": "xbzrle", "state": False}])
    server.on("query-migrate-parameters", {"max-bandwidth": 1})
    server.on("query-dirty-rate", MEASURED)
    server.on("calc-dirty-rate", {})


@pytest.fixture
async def faraway() -> AsyncGenerator[QmpServer]:
    """A QEMU on another host, as far as anybody can tell: its monitor is on TCP."""
    async with QmpServer() as server:
        script(server)
        yield server


# ---- what it refuses


@pytest.mark.parametrize("span_s", [0.0, 0.05, 61.0, float("nan")])
async def test_a_span_out_of_range_is_refused(faraway: QmpServer, span_s: float) -> None:
    with pytest.raises(BadInput, match=r"measure: .* is not allowed; allowed: 0.1 s to 60 s"):
        await survey(faraway.address, span_s=span_s, link=LINK)
    assert faraway.connections == 0


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf")])
async def test_a_link_that_carries_nothing_is_refused(faraway: QmpServer, value: float) -> None:
    with pytest.raises(BadInput, match="link"):
        await survey(faraway.address, link=Estimate(value))


@pytest.mark.parametrize("may_probe", [False, True])
async def test_a_link_of_which_nothing_may_be_known_is_refused(faraway: QmpServer, may_probe: bool) -> None:
    """Also where probing is allowed: nobody knows whether the source is on this host."""
    with pytest.raises(BadInput, match="link: 'unknown' is not allowed; allowed: --link RATE, --probe HOST:PORT"):
        await survey(faraway.address, may_probe=may_probe)
    assert not [each for each in faraway.received if each.command == "calc-dirty-rate"]


async def test_a_guest_that_does_not_run_is_not_measured(faraway: QmpServer) -> None:
    faraway.on("query-status", {"status": "paused", "running": False})
    with pytest.raises(WhimbrelError, match=r"does not run \(it is paused\), so what it dirties can't be measured"):
        await survey(faraway.address, link=LINK)


@pytest.mark.parametrize("status", ["wait-unplug", "active", "postcopy-active", "postcopy-paused"])
async def test_a_guest_that_is_being_migrated_is_not_measured(faraway: QmpServer, status: str) -> None:
    """Nor one that has just arrived, and whose pages still follow: nobody may wait for one of those."""
    faraway.on("query-migrate", {"status": status})
    with pytest.raises(WhimbrelError, match="is being migrated already"):
        await survey(faraway.address, link=LINK)


async def test_a_qemu_without_memory_is_not_measured(faraway: QmpServer) -> None:
    faraway.on("human-monitor-command", HEADING)
    with pytest.raises(WhimbrelError, match="no guest with memory worth measuring"):
        await survey(faraway.address, link=LINK)


async def test_somebody_elses_measurement_is_waited_for_a_little(faraway: QmpServer) -> None:
    faraway.on("query-dirty-rate", BUSY)
    with pytest.raises(WhimbrelError, match=r"somebody else is measuring the guest \(calc-dirty-rate\)"):
        await survey(faraway.address, link=LINK)
    assert not [each for each in faraway.received if each.command == "calc-dirty-rate"]


async def test_a_qemu_that_can_not_measure_far_away_can_not_be_measured(faraway: QmpServer) -> None:
    refusal = Refusal("The command query-dirty-rate has not been found", "CommandNotFound")
    faraway.on("query-dirty-rate", refusal)
    with pytest.raises(
        WhimbrelError,
        match="its QEMU has no calc-dirty-rate, and its memory can't be looked at from here: its process is not",
    ):
        await survey(faraway.address, link=LINK)


async def test_a_mode_that_is_not_known_to_work_is_never_tried(faraway: QmpServer) -> None:
    """This QEMU says that it is 7.2."""
    with pytest.raises(BadInput, match=r"mode: 'dirty-bitmap' .* is not known to be safe before QEMU 8.0"):
        await survey(faraway.address, link=LINK, mode=Mode.DIRTY_BITMAP)
    assert not [each for each in faraway.received if each.command == "calc-dirty-rate"]


async def test_one_that_works_counts_every_page() -> None:
    """KVM, and a later QEMU."""
    async with QmpServer(greeting=LATER) as server:
        script(server)
        found = await survey(server.address, link=LINK, span_s=0.1, mode=Mode.DIRTY_BITMAP)
        (asked,) = [each.arguments for each in server.received if each.command == "calc-dirty-rate"]
    assert asked["mode"] == "dirty-bitmap"
    assert found.belief.points[0].error_bytes == pytest.approx(0.05 * MIB / 12**0.5)
    assert "(dirty-bitmap): it was asked for" in found.belief.notes[0]


async def test_a_measurement_that_qemu_refuses(faraway: QmpServer) -> None:
    faraway.on("calc-dirty-rate", Refusal("not today"))
    with pytest.raises(QemuRefused, match="not today"):
        await survey(faraway.address, link=LINK)


async def test_a_monitor_that_goes_away_meanwhile(faraway: QmpServer) -> None:
    faraway.on("calc-dirty-rate", Drop())
    with pytest.raises(WhimbrelError, match="the guest's QEMU went away while it was measured"):
        await survey(faraway.address, link=LINK)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [("SHUTDOWN", "shut down"), ("STOP", "was stopped"), ("GUEST_PANICKED", "panicked")],
)
async def test_a_guest_that_stops_meanwhile_is_seen_to(faraway: QmpServer, event: str, sentence: str) -> None:
    """At once, not with the end of the window."""

    def begin(_: Any) -> object:
        faraway.emit(event)
        return {}

    faraway.on("calc-dirty-rate", begin)
    async with asyncio.timeout(2):
        with pytest.raises(WhimbrelError, match=f"the guest {sentence} while it was measured"):
            await survey(faraway.address, link=LINK, span_s=60.0)


async def test_nobody_listens_where_the_probe_is_to_go(faraway: QmpServer) -> None:
    async with sink("127.0.0.1", 0) as (host, port):
        pass
    with pytest.raises(CannotConnect, match="can't be reached"):
        await survey(faraway.address, probe=(host, port))


# ---- from far away


async def test_far_away_qemu_itself_measures(faraway: QmpServer) -> None:
    """In windows twice as long each time, with the error of its sample, and a note of why."""
    found = await survey(faraway.address, span_s=0.4, link=LINK, local=False)
    belief = found.belief
    assert [point.window_s for point in belief.points] == pytest.approx([0.05, 0.1, 0.2])
    assert [point.dirtied_bytes for point in belief.points] == pytest.approx([8.5 * MIB * w for w in (0.05, 0.1, 0.2)])
    assert all(point.error_bytes > 0 for point in belief.points)
    assert any("calc-dirty-rate" in note for note in belief.notes)
    assert any("how many pages are zero is not known" in note.lower() for note in belief.notes)
    assert belief.zero_bytes.spread >= 1.0
    assert belief.total_bytes == 0x1400000
    assert (belief.fixed_s, belief.preparation_s) == (FIXED, STARTED_THERE)
    assert belief.pipe_bytes.value == QEMU_PIPE_BYTES
    assert belief.accelerator == "kvm"
    assert (found.costs.read_bytes, found.costs.link_bytes) == (0, 0)
    assert found.kind == Kind(machine="pc-q35-8.2", ram_bytes=0x1400000, vcpus=0, accelerator="kvm", version=(7, 2, 22))
    assert found.abilities.capabilities == {"xbzrle"}
    assert found.abilities.measuring
    assert not found.abilities.outside_throttle
    assert found.pid is None


async def test_what_history_says_comes_before_a_cap_and_before_defaults(faraway: QmpServer) -> None:
    """It is asked once, with the kind of guest that was found."""
    asked: list[tuple[Kind, str]] = []
    said = Typical(
        bandwidth_bytes_per_s=Estimate(2e8, 0.05, "from 3 migrations"),
        pipe_bytes=Estimate(1e5, 0.1, "from 3 migrations"),
        fixed_s=Estimate(0.02, 0.1, "from 3 migrations"),
        preparation_s=Estimate(0.03, 0.1, "from 3 migrations"),
        cpu_bytes_per_s=Estimate(9e8, 0.1, "from 3 migrations"),
        model_time=Estimate(1.02, 0.04, "from 3 migrations"),
        model_bytes=Estimate(1.01, 0.02, "from 3 migrations"),
        model_downtime=Estimate(0.9, 0.2, "from 3 migrations"),
        device_state_part=0.5,
    )

    def typical(kind: Kind, host: str) -> Typical:
        asked.append((kind, host))
        return said

    found = await survey(
        faraway.address, span_s=0.1, capped_bytes_per_s=10**7, may_probe=False, local=False, typical=typical
    )
    belief = found.belief
    # Not proven to be of this host, so it is known by its address.
    assert asked == [(found.kind, "127.0.0.1")]
    assert all(getattr(belief, name) == getattr(said, name) for name in said.__dataclass_fields__)


async def test_a_given_link_comes_before_all_else(faraway: QmpServer) -> None:
    known = Typical(bandwidth_bytes_per_s=Estimate(2e8, 0.05, "from 3 migrations"))
    found = await survey(
        faraway.address, span_s=0.1, link=LINK, probe=("nowhere", 1), typical=lambda _kind, _host: known
    )
    assert found.belief.bandwidth_bytes_per_s == LINK


async def test_a_cap_is_better_than_nothing(faraway: QmpServer) -> None:
    found = await survey(faraway.address, span_s=0.1, capped_bytes_per_s=10**7, may_probe=False)
    assert found.belief.bandwidth_bytes_per_s.value == 10**7
    assert "taken for no less than the cap" in found.belief.notes[0]


async def test_a_named_sink_is_probed(faraway: QmpServer) -> None:
    """Rather than history believed; what that cost the link is told."""
    said: list[str] = []
    known = Typical(bandwidth_bytes_per_s=Estimate(1.0, 0.05, "from 3 migrations"))
    async with sink("127.0.0.1", 0) as (host, port):
        found = await survey(
            faraway.address, span_s=0.1, probe=(host, port), typical=lambda _kind, _host: known, tell=said.append
        )
    assert found.belief.bandwidth_bytes_per_s.source == "probed"
    assert found.costs.link_bytes > MIB
    assert said[0] == "probing the link to 127.0.0.1"
    assert said[1] == "measuring what the guest dirties, for 0.1 s"


# ---- this process in the place of QEMU's

TREE = "  0000000000000000-00000000013fffff (prio 0, ram): pc.ram\n"


class Nearby:
    """A QEMU of this host: its process is this one, with a thread for its vCPU and a mapping for its guest's memory."""

    def __init__(self, server: QmpServer, thread: int, address: int) -> None:
        self.server = server
        self.lines = {
            "info ramblock": HEADING + RAM,
            "info mtree -f": TREE,
            "gpa2hva 0x0": f"Host virtual address for 0x0 (pc.ram) is {address:#x}",
        }
        """What the human monitor says; to all else a page of zeros."""
        script(server)
        cpu = {"cpu-index": 0, "qom-path": "/cpu", "thread-id": thread, "target": "x86_64"}
        server.on("query-cpus-fast", [cpu])
        server.on("human-monitor-command", self.say)

    def say(self, asked: Any) -> object:
        line = str(asked["command-line"])
        otherwise = f"Host virtual address for {line[8:]} (pc.ram) is 0x1000" if "gpa2hva" in line else "0x" + "0" * 16
        return self.lines.get(line, otherwise)


@pytest.fixture
async def nearby(tmp_path: Path) -> AsyncGenerator[Nearby]:
    gate = threading.Event()
    vcpu = threading.Thread(target=gate.wait)
    vcpu.start()
    assert vcpu.native_id is not None
    with mmap.mmap(-1, 0x1400000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        first = ctypes.c_char.from_buffer(memory)
        async with QmpServer(tmp_path / "q") as server:
            yield Nearby(server, vcpu.native_id, ctypes.addressof(first))
        del first
    gate.set()
    vcpu.join()


async def test_memory_that_is_found_is_looked_at(nearby: Nearby) -> None:
    """Nobody ever touched it."""
    found = await survey(nearby.server.address, span_s=0.1, link=LINK)
    assert found.pid == os.getpid()
    assert found.belief.zero_bytes.value == 0x1400000
    assert all(point.dirtied_bytes == 0 for point in found.belief.points)
    assert found.belief.delta_ratio is None
    assert (found.belief.notes, found.costs.read_bytes) == ((), 0)
    assert found.belief.pipe_bytes.value < QEMU_PIPE_BYTES


async def test_memory_that_the_guest_does_not_show_leaves_the_measuring_to_qemu(nearby: Nearby) -> None:
    """One of two backends: what could be looked at would not be all."""
    nearby.lines["info ramblock"] += RAM.replace("pc.ram", " spare")
    nearby.server.on("query-memdev", [{"id": "pc.ram"}, {"id": "spare"}])
    found = await survey(nearby.server.address, span_s=0.1, link=LINK)
    assert found.pid == os.getpid()
    assert "the guest does not show where spare lies" in found.belief.notes[0]
    assert len(found.belief.notes) == 1
    assert found.belief.zero_bytes.value == 2 * 0x1400000


# ---- real QEMUs

KNOWN = WorkloadSpec.parse(("hot:size=4MiB,rate=8MiB/s", "cold:size=8MiB"), beat_hz=200)


async def test_a_guest_on_this_host_is_looked_at_and_left_as_it_was(world: World) -> None:
    """It beats on, its settings are as before, its monitor is free again; with what it all cost."""
    guest = await world.boot(spec=KNOWN)
    before = guest.settings()
    found = await survey(guest.qmp, span_s=0.8)
    belief = found.belief
    assert found.pid == guest.pid
    assert min(point.window_s for point in belief.points) < 0.2
    assert 0.7 < belief.points[-1].window_s < 1.0
    longest = belief.points[-1]
    assert abs(longest.dirtied_bytes - KNOWN.dirtied_bytes(longest.window_s)) < 1.5 * MIB
    assert 0 < belief.vcpu_shares[0] <= 1
    assert belief.delta_ratio is not None
    assert belief.bandwidth_bytes_per_s.value <= CPU.value
    assert belief.bandwidth_bytes_per_s.spread >= SHARED_SPREAD
    assert belief.preparation_s == STARTED_HERE
    assert found.abilities.measuring
    assert "auto-converge" in found.abilities.capabilities
    assert 10 * MIB < found.costs.read_bytes < 400 * MIB
    assert 0 < found.costs.cpu_s < found.costs.took_s
    assert guest.settings() == before
    assert ask(guest.qmp, "query-status")[0]["running"]
    await world.check_beats("source")


def by_signal(number: signal.Signals) -> Callable[[Guest], None]:
    """How a QEMU ends that is sent it."""
    return lambda guest: os.kill(guest.pid, number)


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (by_signal(signal.SIGTERM), "the guest shut down while it was measured"),
        (by_signal(signal.SIGKILL), "the guest's QEMU went away while it was measured"),
        (Guest.stop, "the guest was stopped while it was measured"),
    ],
    ids=["shut down", "killed", "stopped"],
)
async def test_a_real_guest_that_ends_meanwhile(world: World, end: Callable[[Guest], None], sentence: str) -> None:
    """One sentence, and soon."""
    guest = await world.boot()
    said: list[str] = []
    surveying = asyncio.create_task(survey(guest.qmp, span_s=30.0, link=LINK, tell=said.append))
    await until(lambda: bool(said), "measuring has begun")
    await asyncio.to_thread(end, guest)
    async with asyncio.timeout(5):
        with pytest.raises(WhimbrelError, match=sentence):
            await surveying


async def test_called_off_it_lets_go_of_the_monitor(world: World) -> None:
    guest = await world.boot()
    said: list[str] = []
    surveying = asyncio.create_task(survey(guest.qmp, span_s=30.0, link=LINK, tell=said.append))
    await until(lambda: bool(said), "measuring has begun")
    surveying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await surveying
    assert ask(guest.qmp, "query-status")[0]["running"]


async def test_a_machine_of_nothing_has_nothing_to_measure(tmp_path: Path) -> None:
    async with bare_qemu(tmp_path, "-machine", "none") as qemu:
        with pytest.raises(WhimbrelError, match="no guest with memory worth measuring"):
            await survey(qemu.socket, link=LINK)
