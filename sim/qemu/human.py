"""The few lines of the human monitor that managers read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .contract import Version

if TYPE_CHECKING:
    from .process import Qemu

_SILENT = ("qemu-io ", "delvm ", "set_link ")
"""What works, and prints where nobody reads: on QEMU's own standard error."""


def answer(qemu: Qemu, line: str) -> str:
    """What ``human-monitor-command`` gives for a line; lines end in CR and LF."""
    words = line.split()
    if line == "info ramblock":
        return _ram_blocks(qemu)
    if line == "info status":
        return f"VM status: {'running' if qemu.run_state == 'running' else f'paused ({qemu.run_state})'}\r\n"
    if line == "info version":
        major, minor, micro, package = qemu.version_numbers
        return f"{major}.{minor}.{micro}{package}\r\n"
    if line.startswith(_SILENT):
        return ""
    return f"unknown command: '{words[0] if words else ''}'\r\n"


def _ram_blocks(qemu: Qemu) -> str:
    old = qemu.version is Version.V7_2
    titles = f"{'Block Name':>24} {'PSize':>8}  {'Offset':>18} {'Used':>18} {'Total':>18}"
    rows = [titles if old else f"{titles} {'HVA':>18}  RO"]
    offsets = qemu.machine.ram_offsets()
    for name, used, total in qemu.machine.ram_blocks:
        offset = offsets[name]
        row = f"{name:>24} {'4 KiB':>8}  0x{offset:016x} 0x{used:016x} 0x{total:016x}"
        rows.append(row if old else f"{row} 0x{0x7F0000000000 + offset:016x}  rw")
    return "".join(f"{row}\r\n" for row in rows)
