"""The guests that are moved."""

from __future__ import annotations

import pytest

from benchmarks.guests import FINE_BEAT_HZ, MIB, idle, idle_zeros_last, small, writer
from whimbrel.guest.boot import ram_for
from whimbrel.laboratory.stage import Guest

ALL = [small(), small(FINE_BEAT_HZ), idle(), idle_zeros_last(), writer(0.05, 114 * MIB), writer(0.5, 114 * MIB)]


@pytest.mark.parametrize("guest", ALL, ids=lambda guest: guest.name)
def test_a_guest_fits_and_its_memory_survives_every_qemu(guest: Guest) -> None:
    """A multiple of 256 KiB would lose writes under TCG before QEMU 9.0."""
    assert guest.ram_bytes % (256 << 10)
    assert guest.ram_bytes >= ram_for(guest.spec)
    assert guest.spec.beat_hz >= 200


def test_the_idle_guest_ends_in_random_content() -> None:
    assert idle().spec.classes[-1].name == "cold"
    assert idle().ram_bytes - ram_for(idle().spec) < MIB


def test_a_writer_writes_its_share_of_the_link() -> None:
    assert writer(0.5, 100 * MIB).spec.rate_bytes_per_s == pytest.approx(50 * MIB, abs=4096)
