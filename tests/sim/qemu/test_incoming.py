"""The destination's end."""

from __future__ import annotations

import pytest

from tests.sim.qemu.pair import WAITING, Pair
from whimbrel.sim.link.contract import Channel
from whimbrel.sim.qemu.contract import Costs, Version

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1
ALL = list(Version)


@pytest.mark.parametrize("version", ALL)
def test_it_listens_once(version: Version) -> None:
    """7.2 has no status then; its event comes whether or not it is wanted."""
    pair = Pair(version)
    ask = pair.destination.ask
    assert ask("query-migrate") == {}
    assert ask("migrate-incoming", uri="tcp:127.0.0.1:0") == {}
    found = ask("query-migrate")
    assert found.pop("socket-address")[0]["host"] == "127.0.0.1"
    assert found == ({} if version is V7 else {"status": "setup"})
    assert ask("migrate-incoming", uri="tcp:127.0.0.1:0") == "The incoming migration has already been started"
    assert pair.destination.events == ["setup"]
    assert ask("migrate", uri="tcp:h:1") == "Guest is waiting for an incoming migration"


@pytest.mark.parametrize("version", ALL)
def test_after_an_address_that_it_can_t_listen_at(version: Version) -> None:
    """7.2 takes another; later ones are stuck."""
    pair = Pair(version)
    pair.network.listen("tcp:127.0.0.1:5555", lambda channel: None)
    ask = pair.destination.ask
    assert ask("migrate-incoming", uri="tcp:127.0.0.1:5555") == "Failed to bind socket: Address already in use"
    again = ask("migrate-incoming", uri="tcp:127.0.0.1:0")
    assert again == ({} if version is V7 else "Illegal migration incoming state: setup")


def test_one_that_was_told_where_to_listen_by_its_command_line() -> None:
    """Listens at once."""
    pair = Pair(destination=WAITING.replace("defer", "tcp:127.0.0.1:4444"))
    words = "The incoming migration has already been started"
    assert pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0") == words
    assert pair.source.ask("migrate", uri="tcp:127.0.0.1:4444") == {}
    pair.source.wait_for("completed")


@pytest.mark.parametrize("version", ALL)
def test_a_stray_connection_uses_it_up(version: Version) -> None:
    """It fails and ends; 11 looks at the first bytes before it calls itself active."""
    pair = Pair(version)
    pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0")

    def stray(channel: Channel) -> None:
        channel.close()

    pair.network.connect(pair.uri, stray, lambda words: None)
    pair.go(0.1)
    assert pair.destination.events == ["setup", *([] if version is V11 else ["active"]), "failed"]
    assert pair.destination.qemu.exit_code == 1
    assert pair.destination.closed


@pytest.mark.parametrize("version", [V10, V11])
def test_exit_on_error_can_be_switched_off(version: Version) -> None:
    """It stays, says why, and can't be used again."""
    pair = Pair(version)
    pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0", exit_on_error=False)
    pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.source.ask("migrate", uri=pair.uri)
    pair.source.wait_for("active")
    pair.source.qemu.kill()
    pair.destination.wait_for("failed")
    pair.go(0.1)
    found = pair.destination.ask("query-migrate")
    assert (found["status"], sorted(found)) == ("failed", ["error-desc", "status"])
    assert found["error-desc"].startswith("load of migration failed")
    assert pair.destination.ask("query-status")["status"] == "inmigrate"
    words = "The incoming migration has already been started"
    assert pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0") == words


def test_a_failing_destination_answers_nothing_any_more() -> None:
    """It is inside its exit: a ``quit`` comes too late to make it 0."""
    pair = Pair()
    pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.migrate()
    pair.destination.wait_for("active")
    pair.source.qemu.kill()
    pair.destination.wait_for("failed")
    pair.destination.say("quit")
    pair.go(0.1)
    assert pair.destination.qemu.exit_code == 1
    assert "SHUTDOWN" not in pair.destination.events


@pytest.mark.parametrize(("line", "state"), [(WAITING, "running"), (f"{WAITING} -S", "paused")])
def test_the_guest_starts_by_itself_or_waits_for_cont(line: str, state: str) -> None:
    """RESUME comes before ``completed``; afterwards the addresses are gone."""
    pair = Pair(destination=line, capabilities=["return-path"])
    pair.migrate()
    pair.destination.wait_for("completed")
    pair.go(0.1)
    assert pair.destination.events == ["setup", "active", *(["RESUME"] if state == "running" else []), "completed"]
    assert pair.destination.ask("query-status")["status"] == state
    assert pair.destination.ask("query-migrate") == {"status": "completed"}
    assert pair.destination.qemu.memory is pair.memory, "it is the same guest"
    pair.destination.ask("cont")
    assert pair.destination.qemu.guest_runs


def test_stop_and_cont_beforehand_decide_whether_it_starts() -> None:
    """``cont`` takes back what ``-S`` said."""
    pair = Pair(destination=f"{WAITING} -S")
    pair.destination.ask("cont")
    pair.migrate()
    pair.destination.wait_for("RESUME")


@pytest.mark.parametrize("version", ALL)
def test_a_guest_that_stood_still_stands_still(version: Version) -> None:
    """Whatever the destination would do by itself."""
    pair = Pair(version)
    pair.source.ask("stop")
    pair.migrate()
    pair.destination.wait_for("completed")
    pair.go(0.1)
    assert pair.destination.ask("query-status")["status"] == "paused"
    assert pair.source.ask("query-status")["status"] == "postmigrate"
    assert pair.source.events[0] == "STOP"
    assert pair.source.events.count("STOP") == 1


def test_a_load_can_be_made_to_fail() -> None:
    """For a reason of the tester's; with a return path the source keeps its guest."""
    pair = Pair(capabilities=["return-path", "pause-before-switchover"])
    pair.migrate()
    pair.source.wait_for("pre-switchover")
    pair.destination.qemu.fail_incoming("it is broken")
    pair.source.ask("migrate-continue", state="pre-switchover")
    pair.source.wait_for("RESUME")
    pair.go(0.1)
    assert pair.destination.qemu.stderr[0] == "qemu-system-x86_64: it is broken"
    assert pair.destination.qemu.exit_code == 1
    assert pair.source.qemu.guest_runs


def test_a_frozen_destination_accepts_and_does_nothing() -> None:
    """Until it goes on: then all of it happens."""
    pair = Pair()
    pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0")
    uri = pair.uri
    pair.destination.qemu.freeze()
    pair.source.ask("migrate", uri=uri)
    pair.go(3)
    assert pair.destination.events == ["setup"]
    assert pair.source.ask("query-migrate")["status"] == "active"
    pair.destination.qemu.thaw()
    pair.source.wait_for("completed")
    pair.destination.wait_for("completed")


@pytest.mark.parametrize("version", [V7, V10, V11])
def test_disks_are_taken_over(version: Version) -> None:
    """7.2 takes them though paused, unless told otherwise; then the source can't have its guest back."""
    disk = "-blockdev driver=file,node-name=f0,filename=s.img"
    pair = Pair(version, source=f"{WAITING.partition(' -incoming')[0]} {disk}", destination=f"{WAITING} -S {disk}")
    pair.migrate()
    pair.destination.wait_for("completed")
    pair.go(0.1)
    assert pair.destination.qemu.disks.active == (version is V7)
    back = pair.source.ask("cont")
    assert back == ('Failed to get "write" lock' if version is V7 else {})
    if version is not V7:
        assert pair.destination.ask("cont") == 'Failed to get "write" lock'
        assert "Is another process using the image [s.img]?" in pair.destination.qemu.stderr


def test_late_block_activate_leaves_7_2_s_disks_to_the_source() -> None:
    """Until the guest is to run here."""
    disk = "-blockdev driver=file,node-name=f0,filename=s.img"
    pair = Pair(
        source=f"{WAITING.partition(' -incoming')[0]} {disk}",
        destination=f"{WAITING} -S {disk}",
        capabilities=["late-block-activate", "return-path"],
    )
    pair.migrate()
    pair.source.wait_for("completed")
    pair.go(0.1)
    assert not pair.destination.qemu.disks.active
    assert pair.destination.ask("cont") == {}
    assert pair.source.ask("cont") == 'Failed to get "write" lock'


@pytest.mark.parametrize(("version", "alive"), [(V7, True), (V10, False), (V11, False)])
def test_another_number_of_channels(version: Version, alive: bool) -> None:
    """Both fail, but 7.2's destination hangs: it neither answers nor ends."""
    pair = Pair(version, capabilities=["multifd"])
    pair.source.ask("migrate-set-parameters", multifd_channels=3)
    pair.migrate()
    pair.source.wait_for("failed")
    pair.go(1)
    assert pair.destination.qemu.alive == alive
    if alive:
        number = pair.destination.say("query-status")
        pair.go(60)
        assert all(message.get("id") != number for message in pair.destination.heard)


@pytest.mark.parametrize("version", ALL)
def test_pages_may_all_be_there_before_the_devices_are_loaded(version: Version) -> None:
    """Post-copy is over when both are."""
    pair = Pair(version, capabilities=["postcopy-ram"], rate_bytes_per_s=50e6, costs=Costs(load_s=2.0))
    pair.source.ask("migrate-set-parameters", max_bandwidth=20 << 20, downtime_limit=1)
    pair.migrate()
    pair.source.wait_for("active")
    pair.go(0.2)
    pair.source.ask("migrate-start-postcopy")
    pair.source.wait_for("postcopy-active")
    pair.source.ask("migrate-set-parameters", max_postcopy_bandwidth=0)
    pair.source.wait_for("completed")
    pair.go(0.5)
    assert pair.destination.events[-3:] == ["postcopy-active", "RESUME", "completed"]
    assert pair.destination.qemu.guest_runs


def test_pages_that_are_still_to_come_can_t_be_made_to_fail() -> None:
    """The devices are loaded, the guest runs: what breaks now is the stream, not the load."""
    pair = Pair(V10, capabilities=["postcopy-ram"], rate_bytes_per_s=50e6)
    pair.source.ask("migrate-set-parameters", max_bandwidth=20 << 20, downtime_limit=1)
    pair.migrate()
    pair.source.wait_for("active")
    pair.go(0.2)
    pair.source.ask("migrate-start-postcopy")
    pair.destination.wait_for("RESUME")
    pair.destination.qemu.fail_incoming("too late")
    pair.source.wait_for("completed")
    assert pair.destination.qemu.stderr == []


def test_a_second_connection_finds_nobody() -> None:
    """Once the stream has begun; the first one is not disturbed."""
    pair = Pair()
    pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0")
    uri = pair.uri
    pair.source.ask("migrate", uri=uri)
    pair.source.wait_for("active")
    refused: list[str] = []
    pair.network.connect(uri, lambda channel: channel.close(), refused.append)
    pair.go(0.5)
    assert refused == ["Connection refused"]
    assert pair.source.events[-1] == "active"
