"""Which hosts a migration is between and what kind of guest it moves, in the words in which a log keeps it.

That is what makes migrations alike: what one of them cost is what the next one is likely to cost
(`whimbrel.calibration`).
"""

from __future__ import annotations

from typing import Any

from whimbrel.engine.belief import Kind

from .adoption import Host
from .facts import SideFacts
from .sockets import Address


def kind_of(facts: SideFacts) -> Kind:
    """What kind of guest this QEMU runs."""
    return Kind(
        machine=facts.machine,
        ram_bytes=facts.ram_bytes,
        vcpus=facts.cpu_count,
        accelerator=facts.accelerator,
        version=facts.version,
    )


def host_of(address: Address, *, here: bool) -> str:
    """The name of the host that a QEMU runs on, or the address by which its monitor is reached.

    Args:
        address: of its monitor.
        here: its process was proven to be one of this host. (A UNIX socket alone proves nothing: it may be forwarded.)

    Returns:
        Empty where nothing is known of it.
    """
    if here:
        return Host.here().name
    return str(address[0]) if isinstance(address, tuple) else ""


def summary(facts: SideFacts, host: str) -> dict[str, Any]:
    """What a report keeps of one side."""
    return {
        "host": host,
        "machine": facts.machine,
        "run_state": facts.run_state,
        "ram_bytes": facts.ram_bytes,
        "vcpus": facts.cpu_count,
        "accelerator": facts.accelerator,
        "version": list(facts.version),
    }
