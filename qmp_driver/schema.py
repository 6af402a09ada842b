"""What a QEMU understands: its commands, their arguments, its events.

QEMU describes itself (``query-qmp-schema``), which is how a feature is found out; version numbers lie,
because distributions port features back. The description is a megabyte of objects and costs QEMU and us some
30 ms together, so what is needed of it is kept in a small file per binary.

The file is one JSON object: ``format`` (a number), ``key`` (what the binary was: path, size, time of change,
version) and ``table`` (``commands``: name to argument names; ``events``). It is written whole or not
at all. One that is damaged, or of another format, or of another binary, counts as missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from .replies import Executor, VersionInfo, fit

_FORMAT = 1

_log = logging.getLogger(__name__)


class Schema(msgspec.Struct, frozen=True):
    """The part of a QEMU's self-description that decides what it can be asked.

    Attributes:
        commands: each command's name, and the names of its arguments. For a command whose arguments
            depend on one of them (``object-add``), those of all cases.
        events: the names of all events.
    """

    commands: Mapping[str, frozenset[str]]
    events: frozenset[str]

    def has_command(self, name: str) -> bool:
        """Whether QEMU knows this command."""
        return name in self.commands

    def has_argument(self, command: str, argument: str) -> bool:
        """Whether QEMU knows this command, and this argument of it."""
        return argument in self.commands.get(command, ())

    def has_event(self, name: str) -> bool:
        """Whether QEMU can send this event."""
        return name in self.events


class _Key(msgspec.Struct, frozen=True):
    path: str
    size_bytes: int
    changed_ns: int
    version: str


class _CacheFile(msgspec.Struct, frozen=True):
    format: int
    key: _Key
    table: Schema


class _Member(msgspec.Struct, frozen=True):
    name: str = ""  # the members of an alternate have none


class _Variant(msgspec.Struct, frozen=True):
    type: str


class _Entry(msgspec.Struct, frozen=True, rename="kebab"):
    """One entity of ``query-qmp-schema``; the fields that do not apply to its kind are left out by QEMU."""

    name: str
    meta_type: str
    arg_type: str = ""
    members: list[_Member] = []
    variants: list[_Variant] = []


async def read_schema(executor: Executor, binary: Path | None, cache_dir: Path) -> Schema:
    """Find out what a QEMU understands, from the cache if this binary is known.

    Args:
        executor: a monitor of it.
        binary: the program that it runs (``processes.binary_of``); ``None``: not known, so no cache is used.
        cache_dir: where the files are kept; made if it is missing. If it cannot be written, that is
            logged and the answer is right all the same.

    Raises:
        WhimbrelError: what ``Executor.execute`` raises, and for an answer that is no schema.
    """
    version = fit(VersionInfo, "query-version", await executor.execute("query-version"))
    key = None if binary is None else await asyncio.to_thread(_identify, binary, version)
    if key is None:
        return await _ask(executor)
    path = cache_dir / f"schema-{hashlib.sha256(key.path.encode()).hexdigest()[:16]}.json"
    schema = await asyncio.to_thread(_load, path, key)
    if schema is None:
        schema = await _ask(executor)
        await asyncio.to_thread(_store, path, _CacheFile(_FORMAT, key, schema))
    return schema


def condense(answer: object) -> Schema:
    """Keep the commands, their arguments and the events of a ``query-qmp-schema`` answer.

    Raises:
        WhimbrelError: the answer is no schema.
    """
    known = {entry.name: entry for entry in fit(list[_Entry], "query-qmp-schema", answer)}
    commands: dict[str, frozenset[str]] = {}
    for entry in known.values():
        if entry.meta_type == "command":
            commands[entry.name] = _argument_names(entry.arg_type, known)
    events = frozenset(entry.name for entry in known.values() if entry.meta_type == "event")
    return Schema(commands, events)


def _argument_names(type_name: str, known: Mapping[str, _Entry]) -> frozenset[str]:
    entry = known.get(type_name)
    if entry is None:
        return frozenset()
    names = frozenset(member.name for member in entry.members)
    for variant in entry.variants:
        names |= _argument_names(variant.type, known)
    return names


async def _ask(executor: Executor) -> Schema:
    answer = await executor.execute("query-qmp-schema")
    return condense(answer)


def _identify(binary: Path, version: VersionInfo) -> _Key | None:
    try:
        status = binary.stat()
    except OSError:
        return None  # replaced or removed while it runs: nothing that a cache could go by
    major, minor, micro = version.triple
    name = f"{major}.{minor}.{micro} {version.package}".rstrip()
    return _Key(os.path.abspath(binary), status.st_size, status.st_mtime_ns, name)


def _load(path: Path, key: _Key) -> Schema | None:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_CacheFile)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # missing or damaged: asked for anew, and written anew
    return content.table if content.format == _FORMAT and content.key == key else None


def _store(path: Path, content: _CacheFile) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=path.name, suffix=".new", dir=path.parent)
    except OSError as error:
        _log.info("what this QEMU understands was not kept in %s: %s", path.parent, error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(content))
        os.replace(temporary, path)
    except OSError as error:
        _log.info("what this QEMU understands was not kept in %s: %s", path, error)
        os.unlink(temporary)
