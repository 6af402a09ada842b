"""The commands of a QEMU: one table per version, from which its self-description is made, too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from . import errors, inspection_commands, machine_commands, migration_commands, schema
from .arguments import Argument, check
from .contract import QmpMessage, Version
from .errors import Refusal
from .handlers import Arguments, Command

if TYPE_CHECKING:
    from .monitor import Client
    from .process import Qemu

Table = Mapping[str, Command]


@cache
def table(version: Version) -> Table:
    """The commands of a QEMU, by name."""
    everything = (*_OWN, *migration_commands.COMMANDS, *machine_commands.COMMANDS, *inspection_commands.COMMANDS)
    return MappingProxyType({command.name: command for command in everything if version in command.versions})


def carry_out(known: Table, qemu: Qemu, client: Client, name: str, arguments: Arguments, *, oob: bool) -> object:
    """Carry out a command.

    Args:
        known: the QEMU's commands.
        qemu: the process.
        client: who asks.
        name: of the command.
        arguments: that came with it.
        oob: it was sent out of band.

    Returns:
        What is answered.

    Raises:
        Refusal: as QEMU words it.
    """
    command = known.get(name)
    if command is None:
        raise Refusal(f"The command {name} has not been found", errors.NO_COMMAND)
    if oob and not command.oob:
        raise Refusal(f"The command {name} does not support OOB")
    given = arguments if not command.free else {each.name: arguments[each.name] for each in command.arguments
                                                if each.name in arguments}  # fmt: skip
    check(given, command.arguments, qemu.version)
    return command.handler(qemu, client, arguments)


def _negotiate(qemu: Qemu, client: Client, arguments: Arguments) -> QmpMessage:
    return client.negotiate(arguments)


def _query_commands(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    return [{"name": name} for name in table(qemu.version)]


def _query_schema(qemu: Qemu, client: Client, arguments: Arguments) -> list[QmpMessage]:
    return schema.describe(table(qemu.version).values(), qemu.version)


_OWN = (
    Command("qmp_capabilities", _negotiate, (Argument("enable", "array", required=False),)),
    Command("query-commands", _query_commands),
    Command("query-qmp-schema", _query_schema),
)
