"""The QEMU command line that runs the workload guest."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from whimbrel.engine.errors import BadInput

from .spec import WorkloadSpec

__all__ = ["DEFAULT_RAM_BYTES", "FIRST_CLASS_BYTES", "LEAST_RAM_BYTES", "guest_arguments", "image_path", "ram_for"]

KIB: Final = 1024
#: 512 MiB less 64 KiB: not a multiple of 256 KiB. Under TCG, QEMU before 9.0 loses guest writes in a pre-copy
#: migration when a RAM block is such a multiple (64 pages): the dirty bitmap's fast path does not reset the vCPU's TLB.
DEFAULT_RAM_BYTES: Final = 524224 * KIB
#: Address of the first page class.
FIRST_CLASS_BYTES: Final = 2 << 20
#: Firmware takes up to this much at the end of memory.
_FIRMWARE_BYTES: Final = 256 * KIB
#: The least memory that SeaBIOS and this guest start with.
LEAST_RAM_BYTES: Final = 8128 * KIB
_LOSSY_MULTIPLE: Final = 256 * KIB
_MOST_RAM_BYTES: Final = 3 << 30
_LONGEST_SOCKET_PATH: Final = 107


def image_path() -> Path:
    """The guest's image, a multiboot ELF file for QEMU's ``-kernel``."""
    return Path(str(importlib.resources.files("whimbrel.guest") / "image" / "guest.elf"))


def ram_for(spec: WorkloadSpec) -> int:
    """The least RAM, in bytes, that a workload fits into, and not a multiple of 256 KiB."""
    need = max(FIRST_CLASS_BYTES + spec.size_bytes + _FIRMWARE_BYTES, LEAST_RAM_BYTES)
    step = 64 * KIB
    ram = (need + step - 1) // step * step
    return ram if ram % _LOSSY_MULTIPLE else ram + step


def _path_value(path: Path, what: str) -> str:
    """A socket path as QEMU's option parser reads it: a comma within a value is doubled."""
    if len(str(path).encode()) > _LONGEST_SOCKET_PATH:
        raise BadInput(what, str(path), f"a socket path of at most {_LONGEST_SOCKET_PATH} bytes")
    return str(path).replace(",", ",,")


def guest_arguments(
    spec: WorkloadSpec,
    *,
    serial_path: Path,
    qmp_paths: Sequence[Path] = (),
    binary: str = "qemu-system-x86_64",
    ram_bytes: int = DEFAULT_RAM_BYTES,
    machine: str = "pc",
    accel: str = "tcg",
    incoming: str | None = None,
    paused: bool = False,
    extra: Sequence[str] = (),
) -> list[str]:
    """Builds the arguments of a QEMU that boots the guest, or that waits for it to come in.

    Args:
        spec: the workload.
        serial_path: unix socket on which QEMU listens for :class:`whimbrel.guest.monitor.GuestMonitor`. It does not
            wait for a client, and what nobody reads is lost.
        qmp_paths: unix sockets of QMP monitors, each listening.
        binary: QEMU.
        ram_bytes: a multiple of 1024, up to 3 GiB. Other sizes than multiples of 256 KiB are safe everywhere.
        machine: ``pc`` or ``q35``, or a versioned form of them.
        accel: ``tcg`` or ``kvm``.
        incoming: value of ``-incoming``, for a destination.
        paused: ``-S``.
        extra: further arguments, at the end.

    Returns:
        The argument vector, ``binary`` first.

    Raises:
        BadInput: the memory is out of range or too small for the workload, or a socket path is too long.
    """
    if ram_bytes % KIB or not LEAST_RAM_BYTES <= ram_bytes <= _MOST_RAM_BYTES:
        raise BadInput("ram", ram_bytes, "a multiple of 1024 bytes, from 8128KiB to 3GiB")
    if FIRST_CLASS_BYTES + spec.size_bytes + _FIRMWARE_BYTES > ram_bytes:
        raise BadInput("ram", ram_bytes, f"at least {ram_for(spec)} bytes for this workload")
    arguments = [binary, "-nodefaults", "-no-user-config", "-display", "none"]
    arguments += ["-machine", machine, "-accel", accel, "-smp", "1", "-m", f"{ram_bytes // KIB}K"]
    arguments += ["-kernel", str(image_path()), "-append", spec.kernel_arguments()]
    for path in qmp_paths:
        arguments += ["-qmp", f"unix:{_path_value(path, 'qmp_path')},server=on,wait=off"]
    # Behind the monitors: QEMU opens sockets in this order, so whoever reached the guest reaches them, too.
    serial = _path_value(serial_path, "serial_path")
    arguments += ["-chardev", f"socket,id=serial0,path={serial},server=on,wait=off", "-serial", "chardev:serial0"]
    if incoming is not None:
        arguments += ["-incoming", incoming]
    if paused:
        arguments.append("-S")
    return arguments + list(extra)
