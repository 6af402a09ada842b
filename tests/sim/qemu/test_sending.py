"""What a source says while it sends, and the ends that this can come to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.qemu.pair import PLAIN, WAITING, Pair
from whimbrel.sim.qemu.contract import Version

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1
ALL = list(Version)


def _times(pair: Pair) -> dict[str, int]:
    """When the source's statuses and STOP and the destination's RESUME were told, microseconds."""
    found: dict[str, int] = {}
    for seat in (pair.source, pair.destination):
        for message in seat.heard:
            if "event" not in message:
                continue
            data: Any = message.get("data", {})
            stamp: Any = message["timestamp"]
            name = f"{'src' if seat is pair.source else 'dst'} {data.get('status', message['event'])}"
            found.setdefault(name, stamp["seconds"] * 1_000_000 + stamp["microseconds"])
    return found


@pytest.mark.parametrize("version", ALL)
def test_with_a_return_path_the_source_completes_after_the_destination(version: Version) -> None:
    """Without one it does not wait for it."""
    after, before = Pair(version, capabilities=["return-path"]), Pair(version)
    for pair in (after, before):
        pair.migrate()
        pair.destination.wait_for("completed")
        pair.go(0.1)
    assert _times(after)["src completed"] > _times(after)["dst completed"]
    assert _times(before)["src completed"] < _times(before)["dst RESUME"]


@pytest.mark.parametrize("version", ALL)
def test_the_run_state_follows_the_last_word_a_little_later(version: Version) -> None:
    """And on 7.2 so do the figures."""
    pair = Pair(version, capabilities=["return-path"])
    pair.migrate()
    pair.source.wait_for("completed")
    at_once = pair.source.ask("query-migrate")
    pair.go(0.01)
    later = pair.source.ask("query-migrate")
    assert (at_once["total-time"], at_once["downtime"]) == ((0, 0) if version is V7 else tuple(
        later[name] for name in ("total-time", "downtime")))  # fmt: skip
    assert later["total-time"] > 0
    assert pair.source.ask("query-status")["status"] == "postmigrate"
    assert pair.source.ask("query-migrate") == later, "they are fixed"


def test_the_downtime_holds_the_pause() -> None:
    """From the guest's stop to the destination's answer."""
    pair = Pair(V10, capabilities=["return-path", "pause-before-switchover"])
    pair.migrate()
    pair.source.wait_for("pre-switchover")
    pair.go(1)
    pair.source.ask("migrate-continue", state="pre-switchover")
    pair.source.wait_for("completed")
    times = _times(pair)
    downtime_ms = pair.source.ask("query-migrate")["downtime"]
    assert downtime_ms == pytest.approx((times["src completed"] - times["src STOP"]) / 1000, abs=2)
    assert downtime_ms >= 1000


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("return_path", [False, True])
def test_a_destination_that_does_not_fit_fails_the_source_as_soon_as_it_is_active(
    version: Version, return_path: bool
) -> None:
    """The guest goes on running, and QEMU does not tell the reason to the source."""
    pair = Pair(
        version, destination=WAITING.replace("-m 64", "-m 128"), capabilities=["return-path"] if return_path else []
    )
    pair.migrate()
    pair.source.wait_for("failed")
    pair.go(0.1)
    assert pair.source.events == ["setup", "active", *(["failing"] if version is V11 else []), "failed"]
    assert pair.destination.events == ["setup", "active", "failed"]
    words = pair.source.ask("query-migrate")["error-desc"]
    if return_path:
        expected = "Unable to write to socket: Bad file descriptor" if version is V7 else "Sibling indicated error 1"
        assert words == expected
    else:
        assert words.startswith("Unable to write to socket: ")
    assert pair.source.qemu.guest_runs


@pytest.mark.parametrize("version", ALL)
def test_a_missing_device_is_found_too_late_without_a_return_path(version: Version) -> None:
    """The guest runs nowhere; with one the source has it back."""
    for path in (False, True):
        pair = Pair(version, source=f"{PLAIN} -device virtio-rng-pci", capabilities=["return-path"] if path else [])
        pair.migrate()
        pair.source.wait_for("failed" if path else "completed")
        pair.go(0.1)
        assert pair.destination.qemu.exit_code == 1
        assert pair.source.qemu.guest_runs == path
        if path:
            last = ["failing", "RESUME", "failed"] if version is V11 else ["failed", "RESUME"]
            assert pair.source.events[-len(last) :] == last
            words = None if version is V7 else "Sibling indicated error 1"
            assert pair.source.ask("query-migrate").get("error-desc") == words
        else:
            assert pair.source.ask("query-status")["status"] == "postmigrate"


@pytest.mark.parametrize("version", ALL)
def test_a_source_that_was_paused_before_is_so_again_after_a_failure(version: Version) -> None:
    """But 7.2 calls it postmigrate."""
    pair = Pair(version, source=f"{PLAIN} -device virtio-rng-pci", capabilities=["return-path"])
    pair.source.ask("stop")
    pair.migrate()
    pair.source.wait_for("failed")
    pair.go(0.1)
    assert pair.source.ask("query-status")["status"] == ("postmigrate" if version is V7 else "paused")
    assert "RESUME" not in pair.source.events


@pytest.mark.parametrize("version", ALL)
def test_a_destination_that_dies_while_ram_moves(version: Version) -> None:
    """The source fails at its next write; its guest never stopped."""
    pair = Pair(version, rate_bytes_per_s=50e6)
    pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.migrate()
    pair.source.wait_for("active")
    pair.go(0.35)
    pair.destination.qemu.kill()
    pair.source.wait_for("failed", within_s=0.3)
    assert pair.source.ask("query-migrate")["error-desc"] == "Unable to write to socket: Connection reset by peer"
    assert "STOP" not in pair.source.events
    assert pair.destination.qemu.exit_code == -9


@pytest.mark.parametrize("version", ALL)
def test_a_destination_that_dies_when_it_has_everything(version: Version) -> None:
    """The source waits for its answer, fails, and runs again."""
    pair = Pair(version, capabilities=["return-path", "pause-before-switchover"])
    pair.migrate()
    pair.source.wait_for("pre-switchover")
    pair.destination.qemu.freeze()
    pair.source.ask("migrate-continue", state="pre-switchover")
    pair.source.wait_for("device")
    pair.go(0.5)
    pair.destination.qemu.kill()
    pair.source.wait_for("failed")
    pair.go(0.1)
    assert pair.source.qemu.guest_runs


def test_11_survives_a_failure_before_the_destination_runs() -> None:
    """That is what ``postcopy-device`` is for."""
    pair = Pair(V11, capabilities=["postcopy-ram"], rate_bytes_per_s=100e6)
    pair.source.ask("migrate-set-parameters", max_bandwidth=20 << 20, downtime_limit=1)
    pair.migrate()
    pair.source.wait_for("active")
    pair.go(0.3)
    pair.source.ask("migrate-start-postcopy")
    pair.source.wait_for("postcopy-device")
    pair.destination.qemu.kill()
    pair.source.wait_for("failed")
    assert pair.source.events[-3:] == ["failing", "RESUME", "failed"]
    assert pair.source.qemu.guest_runs


def test_without_events_only_the_guest_s_own_are_told() -> None:
    """7.2's destination says setup all the same."""
    pair = Pair(V7)
    for seat in (pair.source, pair.destination):
        off = [{"capability": "events", "state": False}]
        assert seat.ask("migrate-set-capabilities", capabilities=off) == {}
    pair.migrate()
    pair.destination.wait_for("RESUME")
    pair.go(0.1)
    assert (pair.source.events, pair.destination.events) == (["STOP"], ["setup", "RESUME"])
    assert not any(message.get("event") == "MIGRATION_PASS" for message in pair.source.heard)
