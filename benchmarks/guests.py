"""The guests that are moved. RAM sizes are odd on purpose: see `whimbrel.guest.boot.DEFAULT_RAM_BYTES`."""

from __future__ import annotations

from whimbrel.guest.spec import Content, PageClass, WorkloadSpec
from whimbrel.laboratory.stage import Guest

MIB = 1 << 20
BEAT_HZ = 200
FINE_BEAT_HZ = 500
"""Where single milliseconds count."""
_PAGE_BYTES = 4096


def small(beat_hz: int = BEAT_HZ) -> Guest:
    """An idle guest that is moved in no time: 32 MiB and 64 KiB, 16 MiB of them random."""
    return Guest("small", _idle(16 * MIB, beat_hz), 32 * MIB + (64 << 10))


def idle(beat_hz: int = BEAT_HZ) -> Guest:
    """An idle guest of 128 MiB and 64 KiB: 14 MiB of zeros, and then 112 MiB of random content up to the end.

    QEMU sends memory from the lowest address to the highest, and zero pages in no time. Had the zeros been last, a
    sender that stops early would stop among them, and the outage would not be what its limit lets it be.
    """
    zeros = PageClass(name="zeros", size_bytes=14144 << 10, content=Content.ZERO)
    classes = (zeros, PageClass(name="cold", size_bytes=112 * MIB))
    return Guest("idle", WorkloadSpec(classes=classes, beat_hz=beat_hz), 128 * MIB + (64 << 10))


def idle_zeros_last(beat_hz: int = BEAT_HZ) -> Guest:
    """The same with its random content first and 14 MiB of zeros at the end: kind to a sender that stops early."""
    return Guest("idle, zeros last", _idle(112 * MIB, beat_hz), 128 * MIB + (64 << 10))


def writer(share: float, goodput_bytes_per_s: float) -> Guest:
    """A guest of 512 MiB less 64 KiB, 448 MiB of them random, that rewrites whole pages of 256 MiB of it.

    Args:
        share: its rate as a share of the link's goodput, 0 to 1.
        goodput_bytes_per_s: what one TCP stream gets through the link.
    """
    rate = share * goodput_bytes_per_s // _PAGE_BYTES * _PAGE_BYTES
    spec = WorkloadSpec.uniform(448 * MIB, 256 * MIB, rate)
    return Guest(f"writes {share:.0%}", spec, 512 * MIB - (64 << 10))


def _idle(fill_bytes: int, beat_hz: int) -> WorkloadSpec:
    return WorkloadSpec(classes=WorkloadSpec.idle(fill_bytes).classes, beat_hz=beat_hz)
