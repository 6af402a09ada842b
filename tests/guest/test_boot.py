"""The QEMU command line of the guest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.guest.boot import DEFAULT_RAM_BYTES, LEAST_RAM_BYTES, guest_arguments, image_path, ram_for
from whimbrel.guest.spec import PAGE_BYTES, WorkloadSpec

MIB = 1 << 20


def test_the_image_is_shipped_and_small() -> None:
    """It lies in the package and is a 32-bit ELF file of a few KiB with a multiboot header near its start."""
    image = image_path().read_bytes()
    assert image[:5] == b"\x7fELF\x01"
    assert (0x1BADB002).to_bytes(4, "little") in image[:8192]
    assert len(image) < 20_000


def test_the_default_memory_is_safe() -> None:
    """Not a multiple of 256 KiB, which QEMU before 9.0 loses writes with."""
    assert DEFAULT_RAM_BYTES % (256 * 1024) != 0
    assert DEFAULT_RAM_BYTES == 524224 * 1024


@given(st.integers(0, 700_000))
def test_the_memory_for_a_workload_is_safe_and_enough(pages: int) -> None:
    """Never a multiple of 256 KiB, and accepted by the command line."""
    spec = WorkloadSpec.idle(pages * PAGE_BYTES) if pages else WorkloadSpec()
    ram_bytes = ram_for(spec)
    assert ram_bytes % (256 * 1024) != 0
    assert ram_bytes - spec.size_bytes < 10 * MIB
    assert guest_arguments(spec, serial_path=Path("/s"), ram_bytes=ram_bytes)


def test_the_arguments() -> None:
    """Word for word; a comma in a path is doubled."""
    spec = WorkloadSpec.idle(MIB)
    argv = guest_arguments(
        spec,
        serial_path=Path("/tmp/a,b"),
        qmp_paths=[Path("/tmp/q1"), Path("/tmp/q2")],
        binary="/opt/qemu",
        ram_bytes=32704 * 1024,
        machine="q35",
        accel="kvm",
        incoming="defer",
        paused=True,
        extra=["-name", "x"],
    )
    assert argv == [
        *("/opt/qemu", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35", "-accel", "kvm", "-smp", "1", "-m", "32704K"),
        *("-kernel", str(image_path()), "-append", spec.kernel_arguments()),
        *("-qmp", "unix:/tmp/q1,server=on,wait=off", "-qmp", "unix:/tmp/q2,server=on,wait=off"),
        *("-chardev", "socket,id=serial0,path=/tmp/a,,b,server=on,wait=off", "-serial", "chardev:serial0"),
        *("-incoming", "defer", "-S", "-name", "x"),
    ]


@pytest.mark.parametrize("ram_bytes", [LEAST_RAM_BYTES - 1024, 4 << 30, 64 * MIB + 1])
def test_memory_out_of_range_is_refused(ram_bytes: int) -> None:
    """Too small for the firmware, too large for 32 bits, or no whole KiB."""
    with pytest.raises(BadInput) as caught:
        guest_arguments(WorkloadSpec(), serial_path=Path("/s"), ram_bytes=ram_bytes)
    assert caught.value.field == "ram"


def test_memory_too_small_for_the_workload_is_refused() -> None:
    """And the error says how much would do."""
    spec = WorkloadSpec.idle(64 * MIB)
    with pytest.raises(BadInput, match=str(ram_for(spec))):
        guest_arguments(spec, serial_path=Path("/s"), ram_bytes=64 * MIB)


@pytest.mark.parametrize("field", ["serial_path", "qmp_path"])
def test_a_long_socket_path_is_refused(field: str) -> None:
    """The kernel takes 107 bytes; QEMU would fail with less clear words."""
    long, short = Path("/" + "x" * 107), Path("/s")
    with pytest.raises(BadInput) as caught:
        guest_arguments(
            WorkloadSpec(),
            serial_path=long if field == "serial_path" else short,
            qmp_paths=[long if field == "qmp_path" else short],
        )
    assert caught.value.field == field
