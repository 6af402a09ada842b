"""QEMU's description of itself."""

from __future__ import annotations

from typing import Any

from whimbrel.sim.qemu import commands, schema
from whimbrel.sim.qemu.contract import Version

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1


def _described(version: Version) -> dict[str, dict[str, Any]]:
    entries: list[dict[str, Any]] = schema.describe(commands.table(version).values(), version)
    found = {entry["name"]: entry for entry in entries}
    assert len(found) == len(entries), "two entries of one name"
    return found


def _arguments(known: dict[str, dict[str, Any]], command: str) -> dict[str, Any]:
    return {member["name"]: member for member in known[known[command]["arg-type"]]["members"]}


def test_it_has_exactly_what_can_be_carried_out() -> None:
    """By name."""
    for version in Version:
        told = {name for name, entry in _described(version).items() if entry["meta-type"] == "command"}
        assert told == set(commands.table(version))


def test_features_are_detected_by_it() -> None:
    """What tells the versions apart."""
    old, middle, new = (_described(version) for version in (V7, V10, V11))
    assert "blk" in _arguments(old, "migrate")
    assert "channels" in _arguments(middle, "migrate")
    assert [("detach" in _arguments(known, "migrate")) for known in (old, middle, new)] == [True, True, False]
    assert [("exit-on-error" in _arguments(known, "migrate-incoming")) for known in (old, new)] == [False, True]
    assert [("query-migrationthreads" in known) for known in (old, middle, new)] == [False, True, False]
    assert [("VFIO_MIGRATION" in known) for known in (old, middle, new)] == [False, True, True]


def test_every_type_that_is_named_is_there() -> None:
    """So that whoever follows a reference finds something."""
    for version in Version:
        known = _described(version)
        for entry in known.values():
            named = [entry[key] for key in ("arg-type", "ret-type", "element-type") if key in entry]
            named += [member["type"] for member in entry.get("members", []) if "type" in member]
            assert set(named) <= set(known), entry


def test_optional_arguments_and_out_of_band_commands_are_marked() -> None:
    """As QEMU marks them; capabilities can be read as values of a type."""
    known = _described(V10)
    arguments = _arguments(known, "migrate")
    assert arguments["resume"]["default"] is None
    assert "default" not in _arguments(_described(V7), "migrate")["uri"]
    oob = {name for name, entry in known.items() if entry.get("allow-oob")}
    assert oob == {"migrate-pause", "migrate-recover", "yank", "query-yank"}
    rows = known[_arguments(known, "migrate-set-capabilities")["capabilities"]["type"]]
    members = {member["name"]: member for member in known[rows["element-type"]]["members"]}
    assert "mapped-ram" in known[members["capability"]["type"]]["values"]
