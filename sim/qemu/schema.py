"""``query-qmp-schema``: QEMU's description of itself, made from the same table that carries commands out.

It holds what feature detection goes by: commands with their arguments, the values of enumerations, and events. What
commands return is described as ``any``.
"""

from __future__ import annotations

from collections.abc import Iterable

from .arguments import ALL, LATER, Argument
from .contract import QmpMessage, Version
from .handlers import Command

EVENTS: dict[str, tuple[Version, ...]] = {
    "SHUTDOWN": ALL,
    "POWERDOWN": ALL,
    "RESET": ALL,
    "STOP": ALL,
    "RESUME": ALL,
    "MIGRATION": ALL,
    "MIGRATION_PASS": ALL,
    "UNPLUG_PRIMARY": ALL,
    "DEVICE_DELETED": ALL,
    "GUEST_PANICKED": ALL,
    "BLOCK_IO_ERROR": ALL,
    "BLOCK_JOB_COMPLETED": ALL,
    "BLOCK_JOB_CANCELLED": ALL,
    "BLOCK_JOB_ERROR": ALL,
    "BLOCK_JOB_READY": ALL,
    "JOB_STATUS_CHANGE": ALL,
    "VFIO_MIGRATION": LATER,
}

_BUILTIN = {
    "string": ("str", "string"),
    "boolean": ("bool", "boolean"),
    "integer": ("int", "int"),
    "number": ("number", "number"),
    "uint8_t": ("int", "int"),
    "uint32_t": ("int", "int"),
    "uint64": ("int", "int"),
}


def describe(commands: Iterable[Command], version: Version) -> list[QmpMessage]:
    """Make the answer.

    Args:
        commands: all that the QEMU has.
        version: whose arguments and events.
    """
    types = _Types(version)
    entries: list[QmpMessage] = []
    for command in commands:
        entry: QmpMessage = {"name": command.name, "ret-type": "any", "meta-type": "command"}
        entry["arg-type"] = types.object_of(command.arguments)
        if command.oob:
            entry["allow-oob"] = True
        entries.append(entry)
    empty = types.object_of(())
    events: list[QmpMessage] = [
        {"name": name, "meta-type": "event", "arg-type": empty} for name, has in EVENTS.items() if version in has
    ]
    entries += events
    return entries + types.entries


class _Types:
    """The types that were met, under numbers for names, as QEMU hides its own."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._known: dict[object, str] = {}
        builtin: dict[str, str] = dict(_BUILTIN.values())
        self.entries: list[QmpMessage] = []
        for name, json_type in builtin.items():
            self.entries.append({"name": name, "json-type": json_type, "meta-type": "builtin"})
        others: list[QmpMessage] = [
            {"name": "any", "json-type": "value", "meta-type": "builtin"},
            {"name": "null", "json-type": "null", "meta-type": "builtin"},
            {"name": "[any]", "element-type": "any", "meta-type": "array"},
        ]
        self.entries += others

    def object_of(self, arguments: tuple[Argument, ...]) -> str:
        mine = tuple(each for each in arguments if self._version in each.versions)
        members: list[QmpMessage] = []
        for each in mine:
            member: QmpMessage = {"name": each.name, "type": self._of(each)}
            if not each.required:
                member["default"] = None
            members.append(member)
        return self._name(mine, {"members": members, "meta-type": "object"})

    def _of(self, argument: Argument) -> str:
        if argument.kind in _BUILTIN:
            return _BUILTIN[argument.kind][0]
        if argument.kind == "enum":
            values = list(argument.values)
            named: list[QmpMessage] = [{"name": value} for value in values]
            return self._name(argument.values, {"meta-type": "enum", "members": named, "values": values})
        if argument.kind == "StrOrNull":
            members: list[QmpMessage] = [{"type": "str"}, {"type": "null"}]
            return self._name("StrOrNull", {"meta-type": "alternate", "members": members})
        if argument.kind == "array" and argument.members:
            inner = self.object_of(argument.members)
            name = f"[{inner}]"
            if name not in self._known.values():
                self._known[name] = name
                self.entries.append({"name": name, "element-type": inner, "meta-type": "array"})
            return name
        return "[any]" if argument.kind == "array" else "any"

    def _name(self, key: object, entry: QmpMessage) -> str:
        if key not in self._known:
            self._known[key] = str(len(self._known))
            self.entries.append({"name": self._known[key], **entry})
        return self._known[key]
