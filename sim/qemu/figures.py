"""The source's answer to ``query-migrate``: which fields there are in which status and version."""

from __future__ import annotations

from typing import NamedTuple

from .contract import QmpMessage, Version
from .host import Host
from .values import as_object

MILLISECOND_NS = 1_000_000

_PLAIN = frozenset({"setup", "failed", "cancelled"})
_POSTCOPY = frozenset(
    {"postcopy-device", "postcopy-active", "postcopy-paused", "postcopy-recover-setup", "postcopy-recover"}
)


class Since(NamedTuple):
    """How long things took so far.

    Attributes:
        total_ns: since ``migrate``.
        setup_ns: until ``active``.
        downtime_ns: of the switchover, once it is known.
    """

    total_ns: int
    setup_ns: int | None
    downtime_ns: int | None


def answer(host: Host, status: str, error: str | None, since: Since, live: QmpMessage | None) -> QmpMessage:
    """Build the answer.

    Args:
        host: the process.
        status: of the migration.
        error: its ``error-desc``.
        since: its times.
        live: what the thread has to say; ``None``: there is none yet.
    """
    found: QmpMessage = {"status": status}
    if error is not None:
        found["error-desc"] = error
    if status in _PLAIN or status == "failing":
        return found
    found["total-time"] = since.total_ns // MILLISECOND_NS
    found["setup-time"] = (since.setup_ns or 0) // MILLISECOND_NS
    old, newest = host.version is Version.V7_2, host.version is Version.V11_1
    given = dict(live) if live is not None else _nothing_yet(host)
    if status == "completed":
        given = {name: value for name, value in given.items() if name in ("ram", "xbzrle-cache")}
    in_postcopy = status in _POSTCOPY and not old
    if in_postcopy or status == "completed":
        found["downtime"] = _downtime_ms(since)
        given.pop("expected-downtime", None)
    elif "expected-downtime" not in given:
        found["expected-downtime"] = _limit(host)
    if not newest:
        given.pop("remaining", None)
    elif status != "completed" and "remaining" not in given:
        ram = as_object(given.get("ram"))
        found["remaining"] = ram.get("remaining", 0) if ram is not None else 0
    given.update(found)
    return given


def _downtime_ms(since: Since) -> int:
    return 0 if since.downtime_ns is None else since.downtime_ns // MILLISECOND_NS


def _limit(host: Host) -> int:
    return int(str(host.settings.parameters["downtime-limit"]))


def _nothing_yet(host: Host) -> QmpMessage:
    """Before the thread: ``cancelling`` while the connection is still being made."""
    newest = host.version is Version.V11_1
    total_bytes = sum(used for _, used, _ in host.machine.ram_blocks)
    names = (
        "postcopy-requests", "dirty-sync-count", "multifd-bytes", "pages-per-second", "downtime-bytes", "remaining",
        "postcopy-bytes", "mbps", "transferred", "dirty-sync-missed-zero-copy", "precopy-bytes", "duplicate",
        "dirty-pages-rate", "normal-bytes", "normal",
    )  # fmt: skip
    ram: QmpMessage = {"total": total_bytes, "page-size": 4096, **dict.fromkeys(names, 0)}
    if host.version is Version.V7_2:
        ram["skipped"] = 0
    if newest:
        ram["dirty-sync-count"] = 1
    return {"ram": ram, "expected-downtime": _limit(host) if newest else 0}
