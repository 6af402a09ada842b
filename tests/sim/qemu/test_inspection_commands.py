"""What a manager asks before it migrates anything: the driver's own reader is the judge."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.sim.qemu.pair import PLAIN, Pair, Seat
from whimbrel.engine.errors import QemuRefused
from whimbrel.qmp_driver.facts import read_facts
from whimbrel.qmp_driver.schema import condense
from whimbrel.sim.qemu.contract import Version

FULL = (
    f"{PLAIN} -name g1 -smp 2 -serial file:s -device virtio-blk-pci,drive=d0,id=b0 -device virtio-net-pci,addr=7"
    " -drive if=none,id=d0,file=/i.img,format=raw,read-only=on -blockdev driver=file,node-name=f0,filename=/f.img"
)


class Asking:
    """What the driver needs of a monitor, over a seat."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
        oob: bool = False,
    ) -> object:
        """Ask, in virtual time."""
        number = self._seat.say(command, oob=oob, **dict(arguments or {}))
        answer = self._seat.answer(number, timeout_s)
        message = next(each for each in self._seat.heard if each.get("id") == number)
        if "error" in message:
            raise QemuRefused(command, "GenericError", str(answer))
        return answer


@pytest.mark.parametrize("version", list(Version))
async def test_the_driver_reads_the_machine_that_the_command_line_describes(version: Version) -> None:
    """All twelve questions of its inspection."""
    pair = Pair(version, source=FULL)
    facts = await read_facts(Asking(pair.source), pid=None)
    assert facts.version == pair.source.qemu.version_numbers[:3]
    assert (facts.machine, facts.cpu, facts.cpu_count) == (pair.source.qemu.machine.type, "qemu64", 2)
    assert facts.ram_bytes == 64 << 20
    assert facts.memory_backends == ("pc.ram", "/objects/pc.ram")
    assert [(device.name, device.type, device.pci_address) for device in facts.devices] == [
        ("b0", "virtio-blk-pci", "00:01.0"),
        ("device[0]", "virtio-net-pci", None),
    ]
    assert facts.pci["07.0"] == "1af4:1000"
    assert (facts.accelerator, facts.run_state, facts.migration_status) == ("tcg", "running", None)
    assert [(node.driver, node.file, node.read_only) for node in facts.block_nodes] == [
        ("file", "/f.img", False),
        ("raw", "/i.img", True),
        ("file", "/i.img", True),
    ]
    assert len(facts.cpu_threads) == 2


@pytest.mark.parametrize("version", list(Version))
async def test_the_driver_understands_the_schema(version: Version) -> None:
    """And finds by it what tells the versions apart."""
    pair = Pair(version)
    known = condense(await Asking(pair.source).execute("query-qmp-schema"))
    assert known.has_command("migrate")
    assert known.has_argument("migrate-incoming", "exit-on-error") == (version is not Version.V7_2)
    assert known.has_event("MIGRATION")


def test_simple_questions() -> None:
    """Answers that hang on the command line alone."""
    pair = Pair(source=FULL)
    ask = pair.source.ask
    assert ask("query-name") == {"name": "g1"}
    assert ask("query-kvm") == {"enabled": False, "present": True}
    assert ask("query-memory-size-summary") == {"base-memory": 64 << 20, "plugged-memory": 0}
    assert ask("query-version")["qemu"] == {"micro": 22, "minor": 2, "major": 7}
    assert {each["name"] for each in ask("query-machines")} >= {"pc-q35-7.2", "pc-i440fx-2.4"}
    assert "qemu64" in {each["name"] for each in ask("query-cpu-definitions")}
    assert len(ask("query-hotpluggable-cpus")) == 2
    assert [(each["device"], each["qdev"]) for each in ask("query-block")] == [
        ("d0", "/machine/peripheral/b0/virtio-backend")
    ]


def test_character_devices_say_who_is_connected() -> None:
    """The monitors first, by the name that QEMU gives them."""
    pair = Pair(source=FULL)
    assert [(each["label"], each["filename"]) for each in pair.source.ask("query-chardev")] == [
        ("compat_monitor0", "unix:a.sock,server=on"),
        ("compat_monitor1", "disconnected:unix:b.sock,server=on"),
        ("serial0", "file"),
    ]


def test_objects_can_be_looked_at() -> None:
    """By path; what is not there is said to be missing."""
    pair = Pair(source=FULL)
    ask = pair.source.ask
    assert ask("qom-get", path="/machine", property="type") == "pc-q35-7.2-machine"
    assert ask("qom-get", path="/machine/peripheral/b0", property="type") == "virtio-blk-pci"
    assert ask("qom-get", path="/machine", property="nope") == "Property 'pc-q35-7.2-machine.nope' not found"
    assert ask("qom-get", path="/nope", property="type") == "Device '/nope' not found"
    assert ask("qom-list", path="/nope") == "Device '/nope' not found"
    assert ask("qom-list", path="/objects") == [
        {"name": "type", "type": "string"},
        {"name": "pc.ram", "type": "child<memory-backend-ram>"},
    ]


def test_an_old_board_has_other_chips() -> None:
    """And its own machine type."""
    pair = Pair(source=PLAIN.replace("q35", "pc"))
    buses = pair.source.ask("query-pci")
    assert [(each["slot"], each["function"]) for each in buses[0]["devices"]] == [(0, 0), (1, 0), (1, 1), (1, 3)]
    assert pair.source.ask("qom-get", path="/machine", property="type") == "pc-i440fx-7.2-machine"
