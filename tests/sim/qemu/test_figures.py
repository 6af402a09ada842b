"""Which fields ``query-migrate`` has, in which status and version."""

from __future__ import annotations

import pytest

from tests.sim.qemu.pair import Pair
from whimbrel.sim.qemu import figures
from whimbrel.sim.qemu.contract import QmpMessage, Version
from whimbrel.sim.qemu.figures import Since
from whimbrel.sim.qemu.values import as_object

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1
LIVE: QmpMessage = {"ram": {"remaining": 7}, "expected-downtime": 12, "cpu-throttle-percentage": 20}
SINCE = Since(total_ns=2_500_000_000, setup_ns=4_900_000, downtime_ns=17_900_000)


def _answer(version: Version, status: str, live: QmpMessage | None = None, error: str | None = None) -> QmpMessage:
    return figures.answer(Pair(version).source.qemu, status, error, SINCE, live)


@pytest.mark.parametrize("status", ["setup", "failed", "cancelled", "failing"])
def test_at_the_beginning_and_after_a_failure_there_is_only_the_status(status: str) -> None:
    """Whoever wants the last figures has to keep them."""
    assert _answer(V11, status, LIVE) == {"status": status}
    assert _answer(V7, status, LIVE, "why") == {"status": status, "error-desc": "why"}


def test_while_it_runs() -> None:
    """Times are whole milliseconds; 11 says how much remains of everything."""
    found = _answer(V7, "active", LIVE)
    assert found == {**LIVE, "status": "active", "total-time": 2500, "setup-time": 4}
    assert _answer(V11, "active", LIVE) == {**found, "remaining": 7}
    assert "remaining" not in _answer(V10, "active", {**LIVE, "remaining": 9})
    assert _answer(V11, "active", {**LIVE, "remaining": 9})["remaining"] == 9


def test_completed() -> None:
    """The downtime stands for what was expected, and the throttle is gone."""
    for version in Version:
        assert sorted(_answer(version, "completed", LIVE)) == ["downtime", "ram", "setup-time", "status", "total-time"]
    assert _answer(V10, "completed", LIVE)["downtime"] == 17


def test_in_post_copy_versions_differ() -> None:
    """7.2 goes on to say what it expects; the others know already."""
    assert "downtime" not in _answer(V7, "postcopy-active", LIVE)
    assert "expected-downtime" not in _answer(V10, "postcopy-active", LIVE)
    assert _answer(V10, "postcopy-paused", LIVE)["downtime"] == 17


def test_before_there_is_a_thread() -> None:
    """Cancelled while it was connecting: everything is 0, but RAM's size, and on 11 the first pass."""
    old, new = _answer(V7, "cancelling"), _answer(V11, "cancelling")
    assert (old["expected-downtime"], new["expected-downtime"], new["remaining"]) == (0, 300, 0)
    ram = as_object(old["ram"])
    assert ram is not None
    assert {name: value for name, value in ram.items() if value} == {"total": (64 << 20) + 532_480, "page-size": 4096}
