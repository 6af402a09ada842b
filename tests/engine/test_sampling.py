"""QEMU's statistics in the engine's units."""

from __future__ import annotations

import msgspec
import pytest

from whimbrel.engine.sampling import statistics_of
from whimbrel.qmp_driver.replies import MigrationInfo

ACTIVE: dict[str, object] = {
    "status": "active",
    "expected-downtime": 120,
    "setup-time": 3,
    "cpu-throttle-percentage": 30,
    "ram": {
        "total": 1000 * 4096,
        "remaining": 10 * 4096,
        "transferred": 123456,
        "dirty-sync-count": 4,
        "dirty-pages-rate": 50,
        "page-size": 4096,
        "mbps": 800.0,
        "normal": 20,
        "duplicate": 7,
        "normal-bytes": 81920,
    },
}
"""An answer of QEMU 7.2, shortened."""


def info(raw: dict[str, object]) -> MigrationInfo:
    """The record of an answer, as the driver makes it."""
    return msgspec.convert(raw, MigrationInfo, strict=False)


def test_everything_is_bytes_seconds_and_shares() -> None:
    """QEMU counts pages, milliseconds, per cent and megabits."""
    seen = statistics_of(info(ACTIVE), 77)
    assert seen.at_ns == 77
    assert (seen.status, seen.iteration) == ("active", 4)
    assert (seen.total_bytes, seen.remaining_bytes, seen.transferred_bytes) == (4096000, 40960, 123456)
    assert seen.dirty_bytes_per_s == 50 * 4096
    assert seen.bandwidth_bytes_per_s == 100_000_000
    assert seen.throttle == pytest.approx(0.3)
    assert seen.expected_downtime_s == pytest.approx(0.12)
    assert seen.setup_s == pytest.approx(0.003)
    assert seen.qemu_downtime_s is None
    assert (seen.normal_pages, seen.duplicate_pages, seen.page_bytes) == (20, 7, 4096)


def test_an_answer_without_ram() -> None:
    """Before the first page and after the last, QEMU leaves it out."""
    seen = statistics_of(info({"status": "setup"}), 1)
    assert (seen.status, seen.total_bytes, seen.iteration) == ("setup", 0, 0)
    assert statistics_of(info({}), 1).status == ""


def test_no_figure_is_made_of_nothing() -> None:
    """QEMU 11 says 2^63 - 1 ms while it has nothing to divide by."""
    assert statistics_of(info(ACTIVE | {"expected-downtime": 2**63 - 1}), 1).expected_downtime_s is None


def test_qemus_own_totals() -> None:
    """In seconds, where it gives them."""
    seen = statistics_of(info({"status": "completed", "downtime": 33, "total-time": 2500}), 1)
    assert (seen.qemu_downtime_s, seen.qemu_total_s) == (0.033, 2.5)
