"""Guests that the tests of both memories share."""

from __future__ import annotations

from typing import Any

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.memory.contract import Memory
from whimbrel.sim.memory.expected import ExpectedMemory
from whimbrel.sim.memory.paged import PagedMemory
from whimbrel.sim.scenario import GuestPlan, Pattern, Writer

MIB = 1 << 20
SEED = 11


def writer(name: str = "w", size_mib: int = 16, rate_mib_per_s: float = 8.0, **more: Any) -> Writer:
    """A writer, by sizes that are easy to read."""
    return Writer(name=name, size_bytes=size_mib * MIB, rate_bytes_per_s=rate_mib_per_s * MIB, **more)


def plan(*writers: Writer, ram_mib: int = 64, zero_mib: int = 16, **more: Any) -> GuestPlan:
    """A guest, by sizes that are easy to read."""
    return GuestPlan(ram_bytes=ram_mib * MIB, zero_bytes=zero_mib * MIB, writers=writers, vcpus=4, **more)


MIXED = plan(
    writer("zipf", 16, 8.0, pattern=Pattern.ZIPF),
    writer("sweep", 8, 4.0, pattern=Pattern.SWEEP, vcpu=None),
    writer("bursts", 8, 16.0, period_s=1.0, duty=0.2),
    writer("fresh", 4, 2.0, zero=True, pattern=Pattern.POISSON),
)


def memory_at(level: str, guest: GuestPlan, *, kvm: bool = False, seed: int = SEED) -> Memory:
    """The memory of a level: ``expected`` or ``paged``."""
    if level == "expected":
        return ExpectedMemory(guest, seed=seed, kvm=kvm)
    return PagedMemory(guest, seed=seed, kvm=kvm)


def begun(memory: Memory, after_s: float = 2.0) -> int:
    """A migration that begins when the guest has run for a while; the time, ns."""
    now_ns = round(after_s * SECOND_NS)
    memory.run(0)
    memory.begin(now_ns)
    memory.sync(now_ns)
    return now_ns


def send_all(memory: Memory, now_ns: int) -> None:
    """Send what is in the bitmap, at once."""
    while memory.remaining_pages:
        memory.send(now_ns, 1 << 40)
