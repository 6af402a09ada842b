"""The commands of a migration, as refusals and settings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.qemu.pair import Pair
from whimbrel.sim.qemu.contract import Version

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1


def _on(*names: str) -> list[dict[str, object]]:
    return [{"capability": name, "state": True} for name in names]


def test_capabilities_are_set_all_or_none_and_not_while_migrating() -> None:
    """``events`` was set by the pair."""
    pair = Pair()
    ask = pair.source.ask
    assert ask("migrate-set-capabilities", capabilities=_on("xbzrle", "postcopy-preempt")).startswith("Postcopy")
    on = [each["capability"] for each in ask("query-migrate-capabilities") if each["state"]]
    assert on == ["events"]
    ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.migrate()
    assert ask("migrate-set-capabilities", capabilities=_on("xbzrle")) == "There's a migration process in progress"


def test_parameters_are_set_at_any_time() -> None:
    """And read back."""
    pair = Pair()
    pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.migrate()
    assert pair.source.ask("migrate-set-parameters", downtime_limit=77) == {}
    found = pair.source.ask("query-migrate-parameters")
    assert (found["downtime-limit"], found["max-bandwidth"]) == (77, 1 << 20)


@pytest.mark.parametrize(
    ("version", "command", "arguments", "words"),
    [
        (V7, "migrate", {}, "Parameter 'uri' is missing"),
        (V10, "migrate", {}, "need either 'uri' or 'channels' argument"),
        (V10, "migrate", {"uri": "tcp:h:1", "channels": []}, "need either 'uri' or 'channels' argument, but not both"),
        (V11, "migrate", {"uri": "tcp:h:1", "detach": True}, "Parameter 'detach' is unexpected"),
        (V7, "migrate", {"uri": "tcp:h:1", "resume": True}, "Cannot resume if there is no paused migration"),
        (V7, "migrate-incoming", {"uri": "tcp:h:1"}, "'-incoming' was not specified on the command line"),
        (V7, "migrate-continue", {"state": "zz"}, "Parameter 'state' does not accept value 'zz'"),
        (V7, "migrate-continue", {"state": "pre-switchover"}, "Migration not in expected state: none"),
        (V7, "migrate-recover", {"uri": "tcp:h:1"}, "Migrate recover can only be run when postcopy is paused."),
        (V7, "migrate-pause", {}, "migrate-pause is currently only supported during postcopy-active state"),
        (
            V10,
            "migrate-pause",
            {},
            "migrate-pause is currently only supported during postcopy-active or postcopy-recover state",
        ),
        (
            V7,
            "migrate-start-postcopy",
            {},
            "Enable postcopy with migrate_set_capability before the start of migration",
        ),
        (V7, "announce-self", {}, "Parameter 'initial' is missing"),
        (V7, "client_migrate_info", {"protocol": "x", "hostname": "h"}, "Parameter 'protocol' expects 'spice'"),
        (
            V7,
            "set-vcpu-dirty-limit",
            {"dirty_rate": 10},
            "dirty page limit feature requires KVM with accelerator property 'dirty-ring-size' set'",
        ),
    ],
)
def test_what_an_idle_source_refuses(version: Version, command: str, arguments: dict[str, Any], words: str) -> None:
    """In each version's words."""
    assert Pair(version).source.ask(command, **arguments) == words


def test_what_an_idle_source_takes() -> None:
    """And does nothing for."""
    pair = Pair()
    assert pair.source.ask("migrate_cancel") == {}
    assert pair.source.ask("announce-self", initial=50, max=550, rounds=5, step=100) == {}
    assert pair.source.ask("client_migrate_info", protocol="spice", hostname="h") == {}
    assert pair.source.ask("cancel-vcpu-dirty-limit") == {}
    assert pair.source.ask("query-vcpu-dirty-limit") == []
    assert pair.source.ask("query-migrate") == {}
    assert pair.source.events == []


def test_post_copy_can_t_begin_before_the_migration() -> None:
    """Though the capability is there."""
    pair = Pair(capabilities=["postcopy-ram"])
    words = "Postcopy must be started after migration has been started"
    assert pair.source.ask("migrate-start-postcopy") == words


def test_yank_breaks_what_it_lists() -> None:
    """Sockets are always listed; a migration while there is one."""
    pair = Pair()
    sockets = [{"type": "chardev", "id": "compat_monitor0"}, {"type": "chardev", "id": "compat_monitor1"}]
    migration = [{"type": "migration"}]
    assert pair.source.ask("query-yank") == sockets
    assert pair.source.ask("yank", instances=migration) == "Instance not found"
    assert pair.source.ask("yank", instances=[{"type": "block-node", "node-name": "x"}]) == "Instance not found"
    pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.migrate()
    pair.source.wait_for("active")
    assert pair.source.ask("query-yank", oob=True) == [*sockets, *migration]
    assert pair.source.ask("yank", oob=True, instances=migration) == {}
    pair.source.wait_for("failed")
    pair.go(0.2)
    assert pair.source.ask("query-yank") == sockets
    assert pair.source.ask("query-status")["status"] == "running"
    assert pair.destination.qemu.exit_code == 1


def test_a_descriptor_is_used_up() -> None:
    """The source connects to where it leads; a second time there is none."""
    pair = Pair()
    pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0")
    uri = pair.uri
    assert pair.source.client is not None
    pair.source.client.hand_over("mig", uri)
    assert pair.source.ask("getfd", fdname="mig") == {}
    assert pair.source.ask("migrate", uri="fd:mig") == {}
    pair.source.wait_for("completed")


@pytest.mark.parametrize(("version", "ends"), [(V7, ["failed"]), (V10, ["failed"]), (V11, ["failing", "failed"])])
def test_a_descriptor_that_nobody_handed_over(version: Version, ends: list[str]) -> None:
    """The command is refused, and the migration has failed."""
    pair = Pair(version)
    words = "File descriptor named 'nobody' has not been found"
    assert pair.source.ask("migrate", uri="fd:nobody") == words
    pair.go(0.01)
    assert pair.source.events == ["setup", *ends]
    assert pair.destination.ask("migrate-incoming", uri="fd:nobody") == words


def test_channels_are_as_good_as_a_uri() -> None:
    """From 8.2 on."""
    pair = Pair(V10)
    pair.destination.ask("migrate-incoming", uri="tcp:127.0.0.1:0")
    _, host, port = pair.uri.split(":")
    address = {"transport": "socket", "type": "inet", "host": host, "port": port}
    assert pair.source.ask("migrate", channels=[{"channel-type": "main", "addr": address}]) == {}
    pair.source.wait_for("completed")
