"""The source's end: its commands and its connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim.qemu.pair import PLAIN, WAITING, Pair
from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.link.contract import Channel
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import LinkPlan

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1
ALL = list(Version)
SLOW = 1 << 20


class Unanswered(LocalNetwork):
    """A network in which nobody answers for two minutes, if then."""

    def __init__(self, clock: Clock, answers: LocalNetwork | None = None) -> None:
        super().__init__(clock, LinkPlan(), 1)
        self._answers = answers

    def connect(self, uri: str, connected: Callable[[Channel], None], failed: Callable[[str], None]) -> None:
        """See `LocalNetwork`."""
        if self._answers is None:
            self.clock.after(120 * SECOND_NS, lambda: failed("Connection timed out"))
        else:
            answers = self._answers
            self.clock.after(120 * SECOND_NS, lambda: answers.connect(uri, connected, failed))


def _slow(version: Version, *capabilities: str) -> Pair:
    """A migration that goes on for ever."""
    pair = Pair(version, capabilities=capabilities)
    pair.source.ask("migrate-set-parameters", max_bandwidth=SLOW)
    pair.migrate()
    pair.source.wait_for("active")
    pair.go(0.3)
    return pair


@pytest.mark.parametrize("version", ALL)
def test_cancel_while_active(version: Version) -> None:
    """The guest has run all the time; the destination fails and ends."""
    pair = _slow(version)
    assert pair.source.ask("migrate_cancel") == {}
    found = pair.source.ask("query-migrate")
    assert found["status"] == "cancelling"
    assert found["ram"]["remaining"] > 0, "the figures are those of before"
    pair.source.wait_for("cancelled")
    assert pair.source.events == ["setup", "active", "cancelling", "cancelled"]
    assert pair.source.ask("query-migrate") == {"status": "cancelled"}
    pair.go(0.1)
    assert pair.destination.events == ["setup", "active", "failed"]
    assert pair.destination.qemu.exit_code == 1
    assert pair.source.ask("migrate_cancel") == {}
    assert pair.source.events[-1] == "cancelled"


@pytest.mark.parametrize("version", ALL)
def test_cancel_in_pre_switchover_gives_the_guest_back(version: Version) -> None:
    """RESUME comes before the last word, and each version says why in its way."""
    pair = Pair(version, capabilities=["pause-before-switchover"])
    pair.migrate()
    pair.source.wait_for("pre-switchover")
    assert pair.source.ask("query-status")["status"] == "finish-migrate"
    assert pair.source.ask("cont") == "Migration is not finalized yet"
    pair.source.ask("migrate_cancel")
    pair.source.wait_for("cancelled")
    assert pair.source.events[-3:] == ["cancelling", "RESUME", "cancelled"]
    why = {V7: None, V10: "Channel error: Input/output error", V11: "Switchover is interrupted"}[version]
    assert pair.source.ask("query-migrate").get("error-desc") == why
    assert pair.source.qemu.guest_runs


@pytest.mark.parametrize("version", ALL)
def test_cancel_behind_continue_is_a_race(version: Version) -> None:
    """7.2 and 10.0 lose it: both sides run. 11 wins it."""
    pair = Pair(version, capabilities=["pause-before-switchover", "return-path"])
    pair.migrate()
    pair.source.wait_for("pre-switchover")
    pair.source.say("migrate-continue", state="pre-switchover")
    pair.source.say("migrate_cancel")
    pair.source.wait_for("cancelled")
    pair.go(0.5)
    assert pair.source.qemu.guest_runs
    assert pair.destination.qemu.guest_runs == (version is not V11)
    assert ("device" in pair.source.events) == (version is not V11)


@pytest.mark.parametrize("version", ALL)
def test_continue_needs_the_state_that_it_names(version: Version) -> None:
    """There is but one that has a meaning."""
    pair = Pair(version, capabilities=["pause-before-switchover", "return-path"])
    pair.migrate()
    pair.source.wait_for("pre-switchover")
    ask = pair.source.ask
    assert ask("migrate-continue", state="device") == "Migration not in expected state: pre-switchover"
    assert ask("migrate-continue", state="pre-switchover") == {}
    pair.source.wait_for("completed")
    assert ask("migrate-continue", state="pre-switchover") == "Migration not in expected state: completed"


@pytest.mark.parametrize("version", ALL)
def test_a_connection_that_nobody_answers_holds_the_source(version: Version) -> None:
    """10.0 says cancelled at once and is not free either; the others say so when the kernel gives up."""
    pair = Pair(version)
    network = Unanswered(pair.clock)
    pair.source.qemu.network = network
    assert pair.source.ask("migrate", uri="tcp:10.0.0.9:1") == {}
    pair.go(1)
    assert pair.source.ask("query-migrate") == {"status": "setup"}
    assert pair.source.ask("migrate", uri="tcp:10.0.0.9:1") == "There's a migration process in progress"
    pair.source.ask("migrate_cancel")
    pair.source.ask("yank", oob=True, instances=[{"type": "migration"}])
    pair.go(10)
    again = pair.source.ask("migrate", uri="tcp:10.0.0.9:1")
    if version is V10:
        assert pair.source.events == ["setup", "cancelling", "cancelled", "setup"]
        assert again == "duplicate yank instance"
        pair.source.wait_for("failed", within_s=120)
    else:
        assert pair.source.events == ["setup", "cancelling"]
        assert again == "There's a migration process in progress"
        pair.source.wait_for("cancelled", within_s=120)
    pair.source.qemu.network = pair.network
    pair.migrate()
    pair.source.wait_for("completed")


@pytest.mark.parametrize("version", ALL)
def test_nobody_listens(version: Version) -> None:
    """The command is answered, and fails afterwards; another try is possible."""
    pair = Pair(version)
    assert pair.source.ask("migrate", uri="tcp:127.0.0.1:1") == {}
    pair.source.wait_for("failed")
    assert pair.source.events == ["setup", *(["failing"] if version is V11 else []), "failed"]
    words = "Failed to connect to '127.0.0.1:1': Connection refused"
    assert pair.source.ask("query-migrate") == {"status": "failed", "error-desc": words}
    assert (f"qemu-system-x86_64: {words}" in pair.source.qemu.stderr) == (version is not V11)
    pair.migrate()
    pair.source.wait_for("completed")


def test_a_uri_that_can_t_be_read() -> None:
    """7.2 begins before it reads; the others don't."""
    old, new = Pair(V7), Pair(V10)
    assert old.source.ask("migrate", uri="bogus:1") == "Parameter 'uri' expects a valid migration protocol"
    assert new.source.ask("migrate", uri="bogus:1") == "unknown migration protocol: bogus:1"
    old.go(0.1)
    new.go(0.1)
    assert (old.source.events, new.source.events) == (["setup", "failed"], [])


@pytest.mark.parametrize("version", ALL)
def test_a_source_that_completed_is_done_until_cont(version: Version) -> None:
    """Then it may migrate again."""
    pair = Pair(version, destination=f"{WAITING} -S", capabilities=["return-path"])
    pair.migrate()
    pair.source.wait_for("completed")
    pair.go(0.1)
    words = "Can't migrate the vm that was paused due to previous migration"
    assert pair.source.ask("migrate", uri="tcp:127.0.0.1:1") == words
    pair.destination.qemu.kill()
    assert pair.source.ask("cont") == {}
    assert pair.source.ask("migrate", uri="tcp:127.0.0.1:1") == {}


@pytest.mark.parametrize("version", ALL)
def test_a_stream_that_nobody_drains_hangs_until_it_is_cancelled(version: Version) -> None:
    """7.2 calls that failed where it has a return path."""
    pair = Pair(version, capabilities=["return-path"], rate_bytes_per_s=50e6)
    pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0")
    uri = pair.uri
    pair.source.ask("migrate", uri=uri)
    pair.source.wait_for("active")
    pair.destination.qemu.freeze()
    pair.go(5)
    sent = pair.source.ask("query-migrate")["ram"]["transferred"]
    pair.go(5)
    assert pair.source.ask("query-migrate")["ram"]["transferred"] == sent
    pair.source.ask("migrate_cancel")
    end = "failed" if version is V7 else "cancelled"
    pair.source.wait_for(end)
    assert ("cancelling" in pair.source.events) == (version is not V7)
    assert pair.source.qemu.guest_runs


@pytest.mark.parametrize("version", ALL)
def test_post_copy(version: Version) -> None:
    """Each version has its own statuses on the way."""
    pair = Pair(version, capabilities=["postcopy-ram"], rate_bytes_per_s=100e6)
    pair.source.ask("migrate-set-parameters", max_bandwidth=20 * SLOW, downtime_limit=1)
    pair.migrate()
    pair.source.wait_for("active")
    pair.go(0.5)
    assert pair.source.ask("migrate-start-postcopy") == {}
    pair.source.wait_for("completed")
    pair.destination.wait_for("completed")
    pair.go(0.1)
    source = {
        V7: ["postcopy-active", "STOP", "completed"],
        V10: ["STOP", "device", "postcopy-active", "completed"],
        V11: ["STOP", "device", "postcopy-device", "postcopy-active", "completed"],
    }[version]
    assert pair.source.events == ["setup", "active", *source]
    device = ["postcopy-device"] if version is V11 else []
    assert pair.destination.events == ["setup", "active", *device, "postcopy-active", "RESUME", "completed"]
    assert pair.source.ask("query-status")["status"] == "postmigrate"
    assert pair.source.ask("query-migrate")["ram"]["postcopy-bytes"] > 0


@pytest.mark.parametrize("version", [V7, V10])
def test_a_destination_that_fails_in_post_copy_does_not_give_the_guest_back(version: Version) -> None:
    """Whatever it says of its failure: a source in ``postcopy-active`` can only wait for a new stream."""
    pair = Pair(version, capabilities=["postcopy-ram"], rate_bytes_per_s=100e6, costs=Costs(load_s=1.0))
    pair.source.ask("migrate-set-parameters", max_bandwidth=20 * SLOW, downtime_limit=1)
    pair.migrate()
    pair.source.wait_for("active")
    pair.source.ask("migrate-start-postcopy")
    pair.destination.wait_for("postcopy-active")
    pair.go(0.2)
    pair.destination.qemu.fail_incoming("a device does not fit")
    pair.go(2.0)
    assert pair.destination.qemu.exit_code == 1
    assert (pair.source.qemu.migration_status, pair.source.qemu.guest_runs) == ("postcopy-paused", False)


def _in_postcopy(version: Version, *more: str) -> Pair:
    pair = Pair(version, capabilities=["postcopy-ram", *more], rate_bytes_per_s=100e6)
    pair.source.ask("migrate-set-parameters", max_bandwidth=20 * SLOW, downtime_limit=1, max_postcopy_bandwidth=SLOW)
    pair.migrate()
    pair.source.wait_for("active")
    pair.go(0.3)
    pair.source.ask("migrate-start-postcopy")
    pair.destination.wait_for("RESUME")
    pair.go(0.2)
    return pair


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("more", [(), ("postcopy-preempt",)])
def test_post_copy_is_paused_and_goes_on_over_another_connection(version: Version, more: tuple[str, ...]) -> None:
    """A try that fails leaves it paused; a second one finds the destination."""
    pair = _in_postcopy(version, *more)
    assert pair.source.ask("migrate-pause", oob=True) == {}
    pair.source.wait_for("postcopy-paused")
    pair.destination.wait_for("postcopy-paused")
    assert pair.destination.ask("query-status")["status"] == "running"
    assert pair.source.ask("query-status")["status"] == "finish-migrate"
    words = None if version is V7 else "Postcopy migration is paused by the user"
    assert pair.source.ask("query-migrate").get("error-desc") == words
    assert pair.source.ask("migrate", uri="tcp:127.0.0.1:1", resume=True) == {}
    pair.go(0.1)
    assert pair.source.events[-1] == "postcopy-paused"
    assert pair.destination.ask("migrate-recover", oob=True, uri="tcp:127.0.0.1:0") == {}
    given_up = pair.uri
    assert pair.destination.ask("migrate-recover", oob=True, uri="tcp:127.0.0.1:0") == {}
    assert pair.uri != given_up, "it listens elsewhere now"
    pair.source.ask("migrate-set-parameters", max_postcopy_bandwidth=0)
    assert pair.source.ask("migrate", uri=pair.uri, resume=True) == {}
    pair.source.wait_for("completed")
    pair.destination.wait_for("completed")
    setup = [] if version is V7 else ["postcopy-recover-setup"]
    assert pair.source.events[-len(setup) - 3 :] == [*setup, "postcopy-recover", "postcopy-active", "completed"]
    assert pair.destination.events[-3:] == ["postcopy-recover", "postcopy-active", "completed"]


@pytest.mark.parametrize("version", ALL)
def test_cancel_in_post_copy(version: Version) -> None:
    """7.2 takes it, and the guest is lost; the others know better."""
    pair = _in_postcopy(version)
    answer = pair.source.ask("migrate_cancel")
    pair.go(1)
    if version is V7:
        assert answer == {}
        assert pair.source.ask("query-status")["status"] == "postmigrate"
        assert pair.source.events[-2:] == ["cancelling", "cancelled"]
        assert pair.destination.events[-1] == "postcopy-paused"
    else:
        assert answer == "Postcopy migration in progress, cannot cancel."
        assert pair.source.events[-1] == "postcopy-active"


@pytest.mark.parametrize("version", ALL)
def test_a_destination_that_dies_in_post_copy_takes_the_guest_with_it(version: Version) -> None:
    """The source stands paused for ever; on 7.2 a cancel never ends."""
    pair = _in_postcopy(version)
    pair.destination.qemu.kill()
    pair.source.wait_for("postcopy-paused")
    assert pair.source.ask("cont") == "Migration is not finalized yet"
    answer = pair.source.ask("migrate_cancel")
    pair.go(30)
    assert (answer == {}) == (version is V7)
    assert pair.source.events[-1] == ("cancelling" if version is V7 else "postcopy-paused")


def test_a_second_hop_from_where_the_first_one_ended() -> None:
    """The process that was a destination is a source then, with the settings that it had."""
    pair = Pair(V10, capabilities=["return-path"])
    pair.migrate()
    pair.source.wait_for("completed")
    hop = Pair(V10, destination=PLAIN + " -incoming tcp:127.0.0.1:9999")
    hop.destination.qemu.kill()
    pair.destination.wait_for("completed")
    assert pair.destination.ask("migrate", uri="tcp:127.0.0.1:1") == {}
    pair.destination.wait_for("failed")
    assert pair.destination.ask("query-migrate")["status"] == "failed"
    assert pair.destination.qemu.guest_runs


def test_parameters_reach_a_thread_that_runs() -> None:
    """An unlimited bandwidth ends what would have gone on for minutes."""
    pair = _slow(V10, "return-path")
    pair.go(5)
    assert pair.source.events[-1] == "active"
    pair.source.ask("migrate-set-parameters", max_bandwidth=0)
    pair.source.wait_for("completed", within_s=5)


@pytest.mark.parametrize("version", ALL)
def test_a_connection_that_is_made_after_the_cancel_is_given_up(version: Version) -> None:
    """The destination sees somebody come and go."""
    pair = Pair(version)
    pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0")
    uri = pair.uri
    pair.source.qemu.network = Unanswered(pair.clock, pair.network)
    pair.source.ask("migrate", uri=uri)
    pair.source.ask("migrate_cancel")
    pair.go(121)
    assert pair.source.events == ["setup", "cancelling", "cancelled"]
    assert pair.destination.qemu.exit_code == 1
    assert pair.source.ask("query-yank") == pair.source.ask("query-yank")[:2]


def test_a_post_copy_that_loses_its_second_connection_is_paused_again() -> None:
    """Right after it was made, before the destination has answered."""
    pair = _in_postcopy(V10)
    pair.destination.ask("migrate-pause", oob=True)
    pair.source.wait_for("postcopy-paused")
    pair.destination.ask("migrate-recover", oob=True, uri="tcp:127.0.0.1:0")
    uri = pair.uri
    pair.destination.qemu.freeze()
    pair.source.ask("migrate", uri=uri, resume=True)
    pair.source.wait_for("postcopy-recover")
    pair.network.reset_all()
    pair.go(0.2)
    assert pair.source.events[-1] == "postcopy-paused"
    pair.destination.qemu.thaw()
    pair.go(0.2)
    assert pair.destination.events[-1] == "postcopy-paused"
    assert pair.destination.ask("migrate-recover", oob=True, uri="tcp:127.0.0.1:0") == {}
    pair.source.ask("migrate-set-parameters", max_postcopy_bandwidth=0)
    pair.source.ask("migrate", uri=pair.uri, resume=True)
    pair.source.wait_for("completed")


def test_a_pause_in_the_middle_of_a_recovery() -> None:
    """10.0 and later take it there, too."""
    pair = _in_postcopy(V10)
    pair.source.ask("migrate-pause", oob=True)
    pair.source.wait_for("postcopy-paused")
    pair.destination.ask("migrate-recover", oob=True, uri="tcp:127.0.0.1:0")
    uri = pair.uri
    pair.destination.qemu.freeze()
    pair.source.ask("migrate", uri=uri, resume=True)
    pair.source.wait_for("postcopy-recover")
    assert pair.source.ask("migrate-pause", oob=True) == {}
    pair.go(0.2)
    assert pair.source.events[-1] == "postcopy-paused"


def test_the_guest_may_be_stopped_and_started_at_the_destination_in_post_copy() -> None:
    """Pages keep arriving, and none is asked for while it stands still."""
    pair = _in_postcopy(V10)
    pair.destination.ask("stop")
    pair.go(0.5)
    asked = pair.source.ask("query-migrate")["ram"]["postcopy-requests"]
    pair.go(2)
    assert pair.source.ask("query-migrate")["ram"]["postcopy-requests"] == asked
    pair.destination.ask("cont")
    pair.go(2)
    assert pair.source.ask("query-migrate")["ram"]["postcopy-requests"] > asked


def test_a_link_that_is_lost_behind_the_last_page_leaves_only_the_source_in_doubt() -> None:
    """The destination has everything, and says so; nobody hears it."""
    pair = Pair(V10, capabilities=["postcopy-ram"], rate_bytes_per_s=50e6, costs=Costs(load_s=3.0))
    pair.source.ask("migrate-set-parameters", max_bandwidth=20 * SLOW, downtime_limit=1)
    pair.migrate()
    pair.source.wait_for("active")
    pair.go(0.2)
    pair.source.ask("migrate-start-postcopy")
    pair.source.wait_for("postcopy-active")
    pair.go(2)
    pair.network.reset_all()
    pair.source.wait_for("postcopy-paused")
    pair.destination.wait_for("completed")
    assert pair.destination.qemu.guest_runs


def test_a_yank_at_the_destination() -> None:
    """It fails, and the source with it."""
    pair = _slow(V10)
    pair.destination.ask("yank", oob=True, instances=[{"type": "migration"}])
    pair.source.wait_for("failed")
    pair.go(0.1)
    assert pair.destination.qemu.exit_code == 1


def test_switchover_ack() -> None:
    """The destination has nothing against it, and says so."""
    pair = Pair(V11, capabilities=["return-path", "switchover-ack"])
    pair.migrate()
    pair.source.wait_for("completed")


def test_a_frozen_source_sends_nothing() -> None:
    """And goes on where it was."""
    pair = _slow(V7)
    before = pair.memory.remaining_pages
    pair.source.qemu.freeze()
    pair.go(5)
    assert pair.memory.remaining_pages == before
    pair.source.qemu.thaw()
    pair.go(1)
    assert pair.memory.remaining_pages < before
