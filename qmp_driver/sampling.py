"""QEMU's statistics in the engine's units."""

from __future__ import annotations

from whimbrel.engine.statistics import Statistics

from .replies import MigrationInfo, RamStats

MBIT_BYTES = 125_000
"""QEMU's ``mbps`` counts 10^6 bits."""

FAR_FUTURE_MS = 10**9
"""QEMU 11 says 2^63 - 1 ms while it has nothing to divide by: no such figure is passed on."""


def statistics_of(info: MigrationInfo, at_ns: int) -> Statistics:
    """One answer of ``query-migrate``.

    Args:
        info: the answer.
        at_ns: the migration's clock at its arrival.
    """
    ram = info.ram or RamStats()
    expected_ms = info.expected_downtime_ms
    return Statistics(
        at_ns=at_ns,
        status=info.status or "",
        iteration=ram.dirty_sync_count,
        remaining_bytes=ram.remaining_bytes,
        transferred_bytes=ram.transferred_bytes,
        total_bytes=ram.total_bytes,
        page_bytes=ram.page_size_bytes,
        normal_pages=ram.normal_pages,
        duplicate_pages=ram.duplicate_pages,
        dirty_bytes_per_s=float(ram.dirty_pages_per_s * ram.page_size_bytes),
        bandwidth_bytes_per_s=ram.throughput_mbit_per_s * MBIT_BYTES,
        throttle=(info.cpu_throttle_percentage or 0) / 100,
        expected_downtime_s=None if expected_ms is None or expected_ms > FAR_FUTURE_MS else expected_ms / 1000,
        qemu_downtime_s=None if info.downtime_ms is None else info.downtime_ms / 1000,
        qemu_total_s=None if info.total_time_ms is None else info.total_time_ms / 1000,
        setup_s=None if info.setup_time_ms is None else info.setup_time_ms / 1000,
    )
