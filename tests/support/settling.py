"""Migrations that were left behind by their manager: how a test comes to one, and what it reads in its log."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.guests import End, Guest, World, end_of, read_log
from tests.support.left_behind import Death, die
from whimbrel.qmp_driver.adoption import Host
from whimbrel.resolving import resolve

SLOWLY = 1 << 20
"""Bytes per second: holds a migration in pre-copy for a quarter of a minute."""

IN_PRECOPY: dict[str, Any] = {"kind": "signal", "fields": {"signal": "source-active"}}


def at_command(name: str) -> dict[str, Any]:
    """The moment before a command is carried out."""
    return {"kind": "command", "fields": {"command": name}}


async def leave(world: World, source: Guest, **death: Any) -> Path:
    """Have a manager die on the way; its log."""
    log = world.folder / "left.jsonl"
    await die(Death(source=str(source.qmp), log=str(log), **death))
    for line in read_log(log):
        if line["kind"] == "learnt":
            world.hear(line["facts"])
    return log


async def settle(log: Path, **given: Any) -> End:
    """Settle it, as short of patience as the manager that died."""
    return end_of(await resolve(log, **given), log)


def commands_of(log: Path) -> list[str]:
    """The commands of the whole log, those of the manager that died too."""
    return [line["command"] for line in read_log(log) if line["kind"] == "command"]


def destination_of(log: Path) -> dict[str, Any]:
    """The destination that the log names."""
    return next(line for line in read_log(log) if line["kind"] == "destination")


def rewrite(log: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Change lines of a log."""
    log.write_text("".join(json.dumps(change(line)) + "\n" for line in read_log(log)))


def with_host(line: dict[str, Any], **changed: str) -> dict[str, Any]:
    """The header as a manager on another host, or before a reboot, would have written it."""
    if line["kind"] != "header":
        return line
    assert set(changed) <= set(Host.__dataclass_fields__)
    return line | {"host": {**line["host"], **changed}}
