"""What QEMU answers, as typed records, and the commands that the driver sends, as functions.

The records hold the fields that the driver reads and no others: unknown fields are ignored, and whatever
some QEMU leaves out in some state is optional here (``None``: not said). Python names carry the unit; the
name on the wire stands beside each. Status words are plain strings on purpose: QEMU adds new ones
(``postcopy-device``, ``failing``), and a word that we do not know must reach the engine, not end in an error.

The functions take an ``Executor``, which is all that they need of a monitor, so that anything that can
answer a command can stand in for one. Each raises what ``Executor.execute`` raises, and ``WhimbrelError``
where an answer does not fit its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from whimbrel.engine.driving import ANSWER_WITHIN_S
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.measuring import Mode

T = TypeVar("T")

DEFAULT_TIMEOUT_S = ANSWER_WITHIN_S

DEFAULT_SAMPLE_PAGES = 512
"""QEMU's own (``DIRTYRATE_DEFAULT_SAMPLE_PAGES``, migration/dirtyrate.h)."""


class Executor(Protocol):
    """Whatever carries out a QMP command: ``Monitor``, or a stand-in of a test."""

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        oob: bool = False,
    ) -> object:
        """Carry out one command and return what QEMU answers (see ``Monitor.execute``)."""
        ...


def fit(reply_type: type[T], command: str, reply: object, *, side: str | None = None) -> T:
    """Convert an answer to a typed record.

    Args:
        reply_type: a record of this module, or anything that ``msgspec.convert`` knows.
        command: what was asked, for the error.
        reply: what QEMU answered.
        side: ``"source"`` or ``"destination"``, for the error.

    Raises:
        WhimbrelError: the answer does not have the promised shape.
    """
    try:
        return msgspec.convert(reply, reply_type)
    except msgspec.ValidationError as error:
        raise WhimbrelError(f"the answer to {command} is not what QEMU documents: {error}", side=side) from error


class VersionTriple(msgspec.Struct, frozen=True):
    """The three numbers of a QEMU version."""

    major: int
    minor: int
    micro: int


class VersionInfo(msgspec.Struct, frozen=True):
    """``query-version``, and the ``version`` of the greeting."""

    qemu: VersionTriple
    package: str = ""
    """What the distribution adds (``Debian 1:7.2+dfsg-7+deb12u18``), or the empty string."""

    @property
    def triple(self) -> tuple[int, int, int]:
        """The version as a tuple that compares: ``(7, 2, 22)``."""
        return self.qemu.major, self.qemu.minor, self.qemu.micro


class RunStatus(msgspec.Struct, frozen=True):
    """``query-status``: what the guest's processors do."""

    status: str
    """``running``, ``paused``, ``inmigrate``, ``finish-migrate``, ``postmigrate``, ... open-ended."""
    running: bool


class RamStats(msgspec.Struct, frozen=True, rename="kebab"):
    """The ``ram`` part of ``query-migrate`` on the source."""

    transferred_bytes: int = msgspec.field(default=0, name="transferred")
    """On the wire so far, headers included; live."""
    remaining_bytes: int = msgspec.field(default=0, name="remaining")
    """Marked dirty in the migration's own bitmap: without what was dirtied since the last sync."""
    total_bytes: int = msgspec.field(default=0, name="total")
    """All RAM blocks, with ROM and video memory; constant during a run."""
    page_size_bytes: int = msgspec.field(default=4096, name="page-size")
    normal_pages: int = msgspec.field(default=0, name="normal")
    """Pages sent in full; one page may count many times."""
    normal_bytes: int = 0
    duplicate_pages: int = msgspec.field(default=0, name="duplicate")
    """Pages sent as "all zero"."""
    dirty_sync_count: int = 0
    """Dirty-bitmap syncs so far, which is the number of the last ``MIGRATION_PASS``."""
    dirty_pages_per_s: int = msgspec.field(default=0, name="dirty-pages-rate")
    """Found newly dirty per second, each page once per sync. Changes only at a sync that comes more than
    1 s after the last change; 0 until then. It is not a write rate."""
    throughput_mbit_per_s: float = msgspec.field(default=0.0, name="mbps")
    """10^6 bits per second over the last window of 100 ms or more; the average once completed."""
    pages_per_s: int = msgspec.field(default=0, name="pages-per-second")
    precopy_bytes: int = 0
    downtime_bytes: int = 0
    postcopy_bytes: int = 0
    postcopy_requests: int = 0
    multifd_bytes: int = 0


class XbzrleStats(msgspec.Struct, frozen=True, rename="kebab"):
    """The ``xbzrle-cache`` part of ``query-migrate``."""

    cache_size_bytes: int = msgspec.field(default=0, name="cache-size")
    sent_bytes: int = msgspec.field(default=0, name="bytes")
    sent_pages: int = msgspec.field(default=0, name="pages")
    cache_miss_pages: int = msgspec.field(default=0, name="cache-miss")
    cache_miss_rate: float = 0.0
    encoding_rate: float = 0.0
    overflow_pages: int = msgspec.field(default=0, name="overflow")


class SocketAddress(msgspec.Struct, frozen=True):
    """An address that QEMU listens at (QAPI ``SocketAddress``)."""

    type: str
    """``inet``, ``unix``, ``vsock`` or ``fd``."""
    host: str | None = None
    port: str | None = None
    path: str | None = None
    cid: str | None = None
    fd_name: str | None = msgspec.field(default=None, name="str")

    @property
    def uri(self) -> str:
        """The address as ``migrate`` takes it: ``tcp:10.0.0.7:40123``, ``tcp:[::1]:4444``, ``unix:/p``.

        Raises:
            WhimbrelError: an address of another kind, or one that lacks its parts.
        """
        if self.type == "inet" and self.host is not None and self.port is not None:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp:{host}:{self.port}"
        if self.type == "unix" and self.path is not None:
            return f"unix:{self.path}"
        if self.type == "vsock" and self.cid is not None and self.port is not None:
            return f"vsock:{self.cid}:{self.port}"
        raise WhimbrelError(f"QEMU listens at an address that cannot be connected to: {self}")


class MigrationInfo(msgspec.Struct, frozen=True, rename="kebab"):
    """``query-migrate``; everything is optional, and an idle QEMU answers with nothing at all."""

    status: str | None = None
    """``setup``, ``active``, ``pre-switchover``, ``device``, ``completed``, ... open-ended. ``None``: no
    migration yet. The destination of QEMU 7.2 says none while it listens."""
    ram: RamStats | None = None
    total_time_ms: int | None = msgspec.field(default=None, name="total-time")
    setup_time_ms: int | None = msgspec.field(default=None, name="setup-time")
    downtime_ms: int | None = msgspec.field(default=None, name="downtime")
    """Only when completed. With ``return-path`` the destination's load and activation are in it."""
    expected_downtime_ms: int | None = msgspec.field(default=None, name="expected-downtime")
    """QEMU's guess; QEMU 11 says 2^63 - 1 while it has no bandwidth to divide by."""
    remaining_bytes: int | None = msgspec.field(default=None, name="remaining")
    """Of everything, devices too; QEMU 11.1 and later."""
    cpu_throttle_percentage: int | None = None
    error_desc: str | None = None
    blocked_reasons: tuple[str, ...] = ()
    """Why this guest cannot be migrated, in QEMU's words; also said while idle."""
    socket_address: tuple[SocketAddress, ...] = ()
    """Where the destination listens; gone once it has completed."""
    xbzrle_cache: XbzrleStats | None = None
    postcopy_blocktime_ms: int | None = msgspec.field(default=None, name="postcopy-blocktime")


class CpuFast(msgspec.Struct, frozen=True, rename="kebab"):
    """One processor of ``query-cpus-fast``."""

    cpu_index: int
    qom_path: str
    thread_id: int
    """The thread's id on the host."""


class MemorySize(msgspec.Struct, frozen=True, rename="kebab"):
    """``query-memory-size-summary``: the guest's RAM."""

    base_bytes: int = msgspec.field(name="base-memory")
    plugged_bytes: int = msgspec.field(default=0, name="plugged-memory")


class DirtyRate(msgspec.Struct, frozen=True, rename="kebab"):
    """``query-dirty-rate``: QEMU's own measurement of how fast the guest dirties memory."""

    status: str
    """``unstarted``, ``measuring`` or ``measured``."""
    mebibytes_per_s: int | None = msgspec.field(default=None, name="dirty-rate")
    """MiB/s, rounded down; only when measured. Counts each page once per window."""
    start_time_s: int | None = msgspec.field(default=None, name="start-time")
    calc_time: int | None = None
    """Length of the window, in the unit that was asked for (seconds unless ``calc-time-unit`` was given)."""
    mode: str | None = None
    calc_time_unit: str | None = None
    """Of `calc_time`; said by QEMU 8.2 and later, which count windows in milliseconds where asked."""


class _Capability(msgspec.Struct, frozen=True):
    capability: str
    state: bool


async def query_version(executor: Executor) -> VersionInfo:
    """Ask for QEMU's version."""
    return await _ask(executor, VersionInfo, "query-version")


async def query_status(executor: Executor, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> RunStatus:
    """Ask what the guest's processors do."""
    return await _ask(executor, RunStatus, "query-status", timeout_s=timeout_s)


async def query_migrate(executor: Executor, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> MigrationInfo:
    """Ask where the migration stands."""
    return await _ask(executor, MigrationInfo, "query-migrate", timeout_s=timeout_s)


async def query_cpus_fast(executor: Executor) -> list[CpuFast]:
    """List the guest's processors, without disturbing them."""
    return await _ask(executor, list[CpuFast], "query-cpus-fast")


async def query_memory_size(executor: Executor) -> MemorySize:
    """Ask for the size of the guest's RAM."""
    return await _ask(executor, MemorySize, "query-memory-size-summary")


async def query_capabilities(executor: Executor) -> dict[str, bool]:
    """List the migration capabilities that this QEMU has (the keys) and whether each is on."""
    answer = await _ask(executor, list[_Capability], "query-migrate-capabilities")
    return {each.capability: each.state for each in answer}


async def set_capabilities(executor: Executor, capabilities: Mapping[str, bool]) -> None:
    """Switch capabilities on or off; all of them or, where QEMU refuses, none."""
    states = [{"capability": name, "state": state} for name, state in capabilities.items()]
    await executor.execute("migrate-set-capabilities", {"capabilities": states})


async def query_parameters(executor: Executor) -> dict[str, object]:
    """List the migration parameters under QEMU's names, in QEMU's units."""
    return await _ask(executor, dict[str, object], "query-migrate-parameters")


async def set_parameters(executor: Executor, parameters: Mapping[str, object]) -> None:
    """Set migration parameters under QEMU's names, in QEMU's units (``downtime-limit``: ms).

    QEMU checks all before it sets any.
    """
    await executor.execute("migrate-set-parameters", parameters)


async def migrate(executor: Executor, uri: str, *, resume: bool = False) -> None:
    """Start to migrate to ``uri``; an answer means that QEMU began to try, and nothing else.

    ``detach`` is never sent: QEMU 11.1 refuses it, and QMP never waited for the end anyway.

    Args:
        executor: the source's monitor.
        uri: ``tcp:HOST:PORT``, ``unix:PATH``, ``fd:NAME``.
        resume: go on with a post-copy migration that lost its link.
    """
    arguments: dict[str, object] = {"uri": uri}
    if resume:
        arguments["resume"] = True
    await executor.execute("migrate", arguments)


async def migrate_incoming(executor: Executor, uri: str) -> None:
    """Let a destination that was started with ``-incoming defer`` listen at ``uri``.

    A failure is final on QEMU 10 and later: the process has to be started anew.
    """
    await executor.execute("migrate-incoming", {"uri": uri})


async def migrate_continue(executor: Executor, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """Let a source that stands in ``pre-switchover`` go on. The guest's owner is in limbo from here."""
    await executor.execute("migrate-continue", {"state": "pre-switchover"}, timeout_s=timeout_s)


async def migrate_cancel(executor: Executor) -> None:
    """Ask the source to give up. An answer does not mean that it has: the status has to be awaited."""
    await executor.execute("migrate_cancel")


async def migrate_start_postcopy(executor: Executor) -> None:
    """Ask the source to switch to post-copy at its next look (up to 100 ms)."""
    await executor.execute("migrate-start-postcopy")


async def migrate_pause(executor: Executor) -> None:
    """Give the link of a post-copy migration up, on the side that is asked, so that it can be mended.

    Out of band, for the main loop may wait for that very link.
    """
    await executor.execute("migrate-pause", oob=True)


async def migrate_recover(executor: Executor, uri: str) -> None:
    """Let a destination in ``postcopy-paused`` listen at ``uri`` for its source to come back. Out of band."""
    await executor.execute("migrate-recover", {"uri": uri}, oob=True)


async def cont(executor: Executor) -> None:
    """Let the guest run. Never for a destination in ``inmigrate``: it would undo ``-S``."""
    await executor.execute("cont")


async def stop(executor: Executor) -> None:
    """Stop the guest; on a destination in ``inmigrate``: see to it that it will not start by itself."""
    await executor.execute("stop")


async def quit_(executor: Executor) -> None:
    """End the QEMU process. It may close the connection before its answer is out."""
    await executor.execute("quit")


async def yank_migration(executor: Executor, *, oob: bool = True) -> None:
    """Break the migration's connections, on the side that is asked, whatever they wait for.

    Args:
        executor: either side's monitor.
        oob: out of band, which works while QEMU's main loop is busy.
    """
    await executor.execute("yank", {"instances": [{"type": "migration"}]}, oob=oob)


async def announce_self(executor: Executor) -> None:
    """Let the destination's network cards announce themselves, with QEMU's default rounds."""
    # The defaults of QEMU's migration parameters announce-initial, -max, -rounds, -step; here all are required.
    await executor.execute("announce-self", {"initial": 50, "max": 550, "rounds": 5, "step": 100})


async def calc_dirty_rate(
    executor: Executor,
    window_s: float,
    *,
    milliseconds: bool = False,
    sample_pages: int = DEFAULT_SAMPLE_PAGES,
    mode: Mode = Mode.PAGE_SAMPLING,
) -> None:
    """Start to measure the dirty rate.

    Args:
        executor: the source's monitor.
        window_s: length of the window, 1 to 60 whole seconds; from 0.05 s with ``milliseconds``.
        milliseconds: count it in milliseconds (QEMU 8.2 and later).
        sample_pages: how many pages of each GiB are looked at, 128 to 16384; where pages are sampled.
        mode: another one than sampling only where `whimbrel.engine.measuring.why_not` has nothing against it: under TCG
            the other two crash QEMU 7.2.
    """
    arguments: dict[str, object] = {"calc-time": round(window_s)}
    if mode is Mode.PAGE_SAMPLING:
        arguments["sample-pages"] = sample_pages  # and no mode: QEMU before 6.1 has none
    else:
        arguments["mode"] = mode.value
    if milliseconds:
        arguments |= {"calc-time": round(window_s * 1000), "calc-time-unit": "millisecond"}
    await executor.execute("calc-dirty-rate", arguments)


async def query_dirty_rate(executor: Executor) -> DirtyRate:
    """Read the last measurement of the dirty rate."""
    return await _ask(executor, DirtyRate, "query-dirty-rate")


async def _ask(executor: Executor, reply_type: type[T], command: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> T:
    side: Any = getattr(executor, "side", None)
    return fit(reply_type, command, await executor.execute(command, timeout_s=timeout_s), side=side)
