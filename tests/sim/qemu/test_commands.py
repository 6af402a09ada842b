"""The table of commands, and how one is carried out."""

from __future__ import annotations

import pytest

from tests.sim.qemu.pair import Pair
from whimbrel.sim.qemu import commands
from whimbrel.sim.qemu.contract import Version


def test_no_version_has_two_commands_of_one_name() -> None:
    """Where versions differ, each has its own."""
    for version in Version:
        assert all(name == command.name for name, command in commands.table(version).items())
        assert {"migrate", "query-migrate", "query-qmp-schema", "cont", "quit"} <= set(commands.table(version))


def test_the_process_names_all_of_them() -> None:
    """``query-commands`` and ``query-qmp-schema`` agree."""
    pair = Pair(Version.V10_0)
    named = {each["name"] for each in pair.source.ask("query-commands")}
    described = {each["name"] for each in pair.source.ask("query-qmp-schema") if each["meta-type"] == "command"}
    assert named == described == set(commands.table(Version.V10_0))


@pytest.mark.parametrize("name", ["device-add", "query-migrationthreads"])
def test_a_command_that_there_is_not(name: str) -> None:
    """Its class is its own."""
    pair = Pair()
    assert pair.source.ask(name) == f"The command {name} has not been found"
    error = pair.source.heard[-1]["error"]
    assert isinstance(error, dict)
    assert error["class"] == "CommandNotFound"


def test_some_commands_take_more_than_the_model_knows() -> None:
    """Properties of devices, objects and nodes; all others are checked."""
    pair = Pair()
    assert pair.source.ask("object-add", qom_type="secret", id="s", data="x", format="raw") == {}
    assert pair.source.ask("query-status", format="raw") == "Parameter 'format' is unexpected"
