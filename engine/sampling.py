"""QEMU's statistics in the engine's units."""

from __future__ import annotations

from typing import Protocol

from .statistics import Statistics

MBIT_BYTES = 125_000
"""QEMU's ``mbps`` counts 10^6 bits."""

FAR_FUTURE_MS = 10**9
"""QEMU 11 says 2^63 - 1 ms while it has nothing to divide by: no such figure is passed on."""


class RamFigures(Protocol):
    """The ``ram`` part of an answer of ``query-migrate``, as a driver reads it."""

    @property
    def transferred_bytes(self) -> int: ...
    @property
    def remaining_bytes(self) -> int: ...
    @property
    def total_bytes(self) -> int: ...
    @property
    def page_size_bytes(self) -> int: ...
    @property
    def normal_pages(self) -> int: ...
    @property
    def duplicate_pages(self) -> int: ...
    @property
    def dirty_sync_count(self) -> int: ...
    @property
    def dirty_pages_per_s(self) -> int: ...
    @property
    def throughput_mbit_per_s(self) -> float: ...


class Figures(Protocol):
    """An answer of ``query-migrate``, as a driver reads it; ``None``: not said."""

    @property
    def status(self) -> str | None: ...
    @property
    def ram(self) -> RamFigures | None: ...
    @property
    def total_time_ms(self) -> int | None: ...
    @property
    def setup_time_ms(self) -> int | None: ...
    @property
    def downtime_ms(self) -> int | None: ...
    @property
    def expected_downtime_ms(self) -> int | None: ...
    @property
    def cpu_throttle_percentage(self) -> int | None: ...


def statistics_of(info: Figures, at_ns: int, *, vcpu_s: tuple[float, ...] = ()) -> Statistics:
    """One answer of ``query-migrate``.

    Args:
        info: the answer.
        at_ns: the migration's clock at its arrival.
        vcpu_s: how long each vCPU has run by then, where the host can be asked.
    """
    ram, expected_ms = info.ram, info.expected_downtime_ms
    expected_s = None if expected_ms is None or expected_ms > FAR_FUTURE_MS else expected_ms / 1000
    status, throttle = info.status or "", (info.cpu_throttle_percentage or 0) / 100
    downtime_s, total_s, setup_s = (
        _seconds(info.downtime_ms),
        _seconds(info.total_time_ms),
        _seconds(info.setup_time_ms),
    )
    if ram is None:
        return Statistics(
            at_ns=at_ns,
            status=status,
            throttle=throttle,
            expected_downtime_s=expected_s,
            qemu_downtime_s=downtime_s,
            qemu_total_s=total_s,
            setup_s=setup_s,
            vcpu_s=vcpu_s,
        )
    return Statistics(
        at_ns=at_ns,
        status=status,
        iteration=ram.dirty_sync_count,
        remaining_bytes=ram.remaining_bytes,
        transferred_bytes=ram.transferred_bytes,
        total_bytes=ram.total_bytes,
        page_bytes=ram.page_size_bytes,
        normal_pages=ram.normal_pages,
        duplicate_pages=ram.duplicate_pages,
        dirty_bytes_per_s=float(ram.dirty_pages_per_s * ram.page_size_bytes),
        bandwidth_bytes_per_s=ram.throughput_mbit_per_s * MBIT_BYTES,
        throttle=throttle,
        expected_downtime_s=expected_s,
        qemu_downtime_s=downtime_s,
        qemu_total_s=total_s,
        setup_s=setup_s,
        vcpu_s=vcpu_s,
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
