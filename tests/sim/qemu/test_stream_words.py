"""What the ends of a stream say of themselves, and where they don't fit."""

from __future__ import annotations

import json

import pytest

from whimbrel.sim.qemu import stream_words
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.machine import Machine, read
from whimbrel.sim.qemu.stream_words import Greeting

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1
BASE = "-machine q35 -m 64 -nodefaults"


def _machine(more: str = "", version: Version = V7) -> Machine:
    return read(f"{BASE} {more}".split(), version)


def _greeting(machine: Machine, *, postcopy: bool = False) -> Greeting:
    return Greeting(machine.type, stream_words.blocks(machine), stream_words.sections(machine), postcopy, True, 0)


def test_a_greeting_survives_the_stream() -> None:
    """As JSON, so that it can go over a real socket."""
    greeting = _greeting(_machine("-device virtio-blk-pci,num-queues=4"), postcopy=True)
    assert stream_words.read_greeting(json.loads(json.dumps(greeting.as_message()))) == greeting
    with pytest.raises(KeyError):
        stream_words.read_greeting({"kind": "hello"})


def test_equal_machines_fit() -> None:
    """At the start and at the end."""
    machine = _machine("-device virtio-net-pci,id=n0")
    for version in Version:
        assert stream_words.misfit_at_the_start(_greeting(machine), machine, version, postcopy=False) is None
        assert stream_words.misfit_of_devices(_greeting(machine), machine, version) is None


def test_the_machine_type_is_seen_before_the_return_path_is_open() -> None:
    """So the source hears nothing of it."""
    other = read(["-machine", "pc", "-m", "64", "-nodefaults"], V7)
    misfit = stream_words.misfit_at_the_start(_greeting(_machine()), other, V7, postcopy=False)
    assert misfit is not None
    assert misfit.early
    assert misfit.stderr[0] == "Machine type received is 'pc-q35-7.2' and local is 'pc-i440fx-7.2'"
    newest = stream_words.misfit_at_the_start(_greeting(_machine()), other, V11, postcopy=False)
    assert newest is not None
    assert len(newest.stderr) == 1
    assert newest.stderr[0].endswith(misfit.stderr[0])


@pytest.mark.parametrize(
    ("theirs", "mine", "words"),
    [
        ("", "-m 128", "Size mismatch: pc.ram: 0x4000000 != 0x8000000: Invalid argument"),
        (
            "-device virtio-net-pci",
            "-device virtio-net-pci,romfile=",
            'Unknown ramblock "0000:00:01.0/virtio-net-pci.rom", cannot accept migration',
        ),
    ],
)
def test_ram_blocks_have_to_be_alike(theirs: str, mine: str, words: str) -> None:
    """In name and size."""
    misfit = stream_words.misfit_at_the_start(_greeting(_machine(theirs)), _machine(mine), V10, postcopy=False)
    assert misfit is not None
    assert misfit.stderr[0] == words
    assert not misfit.early


def test_post_copy_has_to_be_on_at_both() -> None:
    """The destination does not understand the source's word for it."""
    misfit = stream_words.misfit_at_the_start(_greeting(_machine(), postcopy=True), _machine(), V7, postcopy=False)
    assert misfit is not None
    assert misfit.stderr[0] == "RAM postcopy is disabled but have 16 byte advise"
    assert stream_words.misfit_at_the_start(_greeting(_machine()), _machine(), V7, postcopy=True) is None


def test_devices_are_seen_at_the_very_end() -> None:
    """One that is missing, and one that is otherwise; each version in its words."""
    source = _greeting(_machine("-device virtio-blk-pci,num-queues=4 -device virtio-rng-pci"))
    alone = _machine("-device virtio-blk-pci,num-queues=4")
    other = _machine("-device virtio-blk-pci,num-queues=1 -device virtio-rng-pci")
    for version, kind in ((V7, "savevm section"), (V11, "section")):
        misfit = stream_words.misfit_of_devices(source, alone, version)
        assert misfit is not None
        assert f"Unknown {kind} or instance '0000:00:02.0/virtio-rng' 0. Make sure" in misfit.stderr[0]
        misfit = stream_words.misfit_of_devices(source, other, version)
        assert misfit is not None
        assert misfit.stderr[0] == (
            "get_pci_config_device: Bad config data: i=0x9a read: 4 device: 1 cmask: ff wmask: 0 w1cmask:0"
        )


def test_a_device_more_at_the_destination_is_not_seen() -> None:
    """QEMU does not miss what it was not sent."""
    assert stream_words.misfit_of_devices(_greeting(_machine()), _machine("-device virtio-rng-pci"), V7) is None


def test_vectors_may_be_given() -> None:
    """They are counted from 0 in PCI's own table."""
    sections = stream_words.sections(_machine("-device virtio-net-pci,vectors=10 -device pcie-root-port,bus=x"))
    assert sections == (("0000:00:01.0/virtio-net", 9),)


def test_words_for_a_stream_that_ends_and_one_that_is_none() -> None:
    """11 says in one line what the others say in two."""
    assert stream_words.cut_off(V7)[1] == stream_words.cut_off(V10)[1] == "load of migration failed: Invalid argument"
    assert stream_words.cut_off(V11)[1].endswith("Section footer error, section_id: 1")
    assert stream_words.stray(V7)[0] == "Not a migration stream"
    assert stream_words.stray(V11) == ("Failed to peek at channel",)
