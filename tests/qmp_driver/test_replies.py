"""What QEMU answers, as records; and what is sent, as QMP has it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from tests.support.bare_qemu import BARE, bare_qemu
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.measuring import Mode
from whimbrel.qmp_driver import replies
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.replies import (
    CpuFast,
    DirtyRate,
    Executor,
    MemorySize,
    MigrationInfo,
    RunStatus,
    SocketAddress,
    VersionInfo,
    VersionTriple,
    fit,
)


class Recorder:
    """Answers every command with ``answer`` and keeps what was asked."""

    side = "source"

    def __init__(self, answer: object = None) -> None:
        self.answer: object = {} if answer is None else answer
        self.sent: list[tuple[str, Mapping[str, object] | None]] = []
        self.oob: list[bool] = []
        self.timeouts_s: list[float] = []

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
        oob: bool = False,
    ) -> object:
        self.sent.append((command, arguments))
        self.oob.append(oob)
        self.timeouts_s.append(timeout_s)
        return self.answer


ACTIVE = {
    "expected-downtime": 1318,
    "status": "active",
    "setup-time": 2,
    "total-time": 2011,
    "cpu-throttle-percentage": 20,
    "ram": {
        "total": 268967936,
        "postcopy-requests": 0,
        "dirty-sync-count": 2,
        "multifd-bytes": 0,
        "pages-per-second": 22772,
        "downtime-bytes": 0,
        "page-size": 4096,
        "remaining": 56205312,
        "postcopy-bytes": 0,
        "mbps": 747.6608316831683,
        "transferred": 198223952,
        "dirty-sync-missed-zero-copy": 0,
        "precopy-bytes": 198223952,
        "duplicate": 33797,
        "dirty-pages-rate": 22891,
        "skipped": 0,
        "normal-bytes": 197533696,
        "normal": 48226,
    },
    "xbzrle-cache": {
        "bytes": 10,
        "pages": 2,
        "cache-size": 67108864,
        "cache-miss": 3,
        "cache-miss-rate": 0.5,
        "encoding-rate": 1.5,
        "overflow": 1,
    },
}
"""What QEMU 7.2 said of a running migration, with the two parts that it says only at times."""


async def test_an_active_migration() -> None:
    """Every number stands under its unit, unknown fields are passed over."""
    info = await replies.query_migrate(Recorder(ACTIVE))
    assert info.status == "active"
    assert (info.total_time_ms, info.setup_time_ms, info.expected_downtime_ms) == (2011, 2, 1318)
    assert (info.downtime_ms, info.error_desc, info.blocked_reasons) == (None, None, ())
    assert info.cpu_throttle_percentage == 20
    ram = info.ram
    assert ram is not None
    assert (ram.total_bytes, ram.remaining_bytes, ram.transferred_bytes) == (268967936, 56205312, 198223952)
    assert (ram.normal_pages, ram.normal_bytes, ram.duplicate_pages) == (48226, 197533696, 33797)
    assert (ram.dirty_sync_count, ram.dirty_pages_per_s, ram.pages_per_s) == (2, 22891, 22772)
    assert ram.throughput_mbit_per_s == pytest.approx(747.66, abs=0.01)
    assert (ram.page_size_bytes, ram.precopy_bytes) == (4096, 198223952)
    cache = info.xbzrle_cache
    assert cache is not None
    assert (cache.cache_size_bytes, cache.sent_bytes, cache.sent_pages) == (67108864, 10, 2)
    assert (cache.cache_miss_pages, cache.cache_miss_rate, cache.encoding_rate) == (3, 0.5, 1.5)
    assert cache.overflow_pages == 1


async def test_an_idle_qemu_says_nothing() -> None:
    assert await replies.query_migrate(Recorder({})) == MigrationInfo()


@pytest.mark.parametrize("word", ["postcopy-device", "failing", "a-word-of-the-future"])
async def test_a_status_that_nobody_knows_is_no_error(word: str) -> None:
    assert (await replies.query_migrate(Recorder({"status": word}))).status == word


async def test_a_number_too_large_for_a_float_stays_exact() -> None:
    """QEMU 11 says 2^63 - 1 for "no idea"."""
    info = await replies.query_migrate(Recorder({"expected-downtime": 2**63 - 1}))
    assert info.expected_downtime_ms == 9223372036854775807


async def test_blockers_and_errors_come_through() -> None:
    answer = {"status": "failed", "error-desc": "no route", "blocked-reasons": ["9p is mounted", "vdi"]}
    info = await replies.query_migrate(Recorder(answer))
    assert (info.status, info.error_desc, info.blocked_reasons) == ("failed", "no route", ("9p is mounted", "vdi"))


@pytest.mark.parametrize(
    ("said", "uri"),
    [
        ({"type": "inet", "host": "127.0.0.1", "port": "40123"}, "tcp:127.0.0.1:40123"),
        ({"type": "inet", "host": "::1", "port": "4444", "keep-alive": False}, "tcp:[::1]:4444"),
        ({"type": "unix", "path": "/run/m,1.sock", "abstract": False}, "unix:/run/m,1.sock"),
        ({"type": "vsock", "cid": "3", "port": "9"}, "vsock:3:9"),
    ],
)
async def test_where_a_destination_listens_can_be_given_to_the_source(said: object, uri: str) -> None:
    info = await replies.query_migrate(Recorder({"socket-address": [said]}))
    assert [address.uri for address in info.socket_address] == [uri]


@pytest.mark.parametrize("address", [SocketAddress("fd", fd_name="7"), SocketAddress("inet", host="h")])
def test_an_address_that_leads_nowhere_is_an_error(address: SocketAddress) -> None:
    with pytest.raises(WhimbrelError, match="an address that cannot be connected to"):
        _ = address.uri


def test_an_answer_of_another_shape_names_command_side_and_place() -> None:
    with pytest.raises(WhimbrelError) as failed:
        fit(MigrationInfo, "query-migrate", {"ram": {"total": "many"}}, side="destination")
    text = str(failed.value)
    assert text.startswith("destination: the answer to query-migrate is not what QEMU documents")
    assert "$.ram.total" in text


async def test_a_query_that_does_not_fit_names_the_side_it_came_from() -> None:
    with pytest.raises(WhimbrelError, match="source: the answer to query-status"):
        await replies.query_status(Recorder([]))


Call = Callable[[Executor], Awaitable[object]]


SENT: list[tuple[Call, str, Mapping[str, object] | None]] = [
    (replies.migrate_cancel, "migrate_cancel", None),
    (replies.migrate_start_postcopy, "migrate-start-postcopy", None),
    (replies.migrate_continue, "migrate-continue", {"state": "pre-switchover"}),
    (replies.cont, "cont", None),
    (replies.stop, "stop", None),
    (replies.quit_, "quit", None),
    (replies.yank_migration, "yank", {"instances": [{"type": "migration"}]}),
    (replies.announce_self, "announce-self", {"initial": 50, "max": 550, "rounds": 5, "step": 100}),
    (lambda on: replies.migrate(on, "tcp:h:1"), "migrate", {"uri": "tcp:h:1"}),
    (lambda on: replies.migrate(on, "unix:/p", resume=True), "migrate", {"uri": "unix:/p", "resume": True}),
    (lambda on: replies.migrate_incoming(on, "tcp:h:0"), "migrate-incoming", {"uri": "tcp:h:0"}),
    (
        lambda on: replies.set_capabilities(on, {"events": True, "multifd": False}),
        "migrate-set-capabilities",
        {"capabilities": [{"capability": "events", "state": True}, {"capability": "multifd", "state": False}]},
    ),
    (
        lambda on: replies.set_parameters(on, {"downtime-limit": 300}),
        "migrate-set-parameters",
        {"downtime-limit": 300},
    ),
    (lambda on: replies.calc_dirty_rate(on, 1), "calc-dirty-rate", {"calc-time": 1, "sample-pages": 512}),
    (
        lambda on: replies.calc_dirty_rate(on, 0.25, milliseconds=True, mode=Mode.DIRTY_RING),
        "calc-dirty-rate",
        {"calc-time": 250, "calc-time-unit": "millisecond", "mode": "dirty-ring"},
    ),
]


@pytest.mark.parametrize(("call", "command", "arguments"), SENT)
async def test_what_is_sent(call: Call, command: str, arguments: Mapping[str, object] | None) -> None:
    """One command each, with these arguments and no others; only the yank goes out of band."""
    recorder = Recorder()
    await call(recorder)
    assert recorder.sent == [(command, arguments)]
    assert recorder.oob == [command == "yank"]


async def test_a_yank_can_go_in_band() -> None:
    recorder = Recorder()
    await replies.yank_migration(recorder, oob=False)
    assert recorder.oob == [False]


async def test_deadlines_are_passed_on() -> None:
    recorder = Recorder({"status": "running", "running": True})
    await replies.query_status(recorder, timeout_s=1.5)
    await replies.query_migrate(recorder, timeout_s=2.5)
    await replies.migrate_continue(recorder, timeout_s=3.5)
    assert recorder.timeouts_s == [1.5, 2.5, 3.5]


def test_a_version_compares() -> None:
    version = msgspec.convert({"qemu": {"major": 10, "minor": 0, "micro": 2}}, VersionInfo)
    assert version == VersionInfo(VersionTriple(10, 0, 2))
    assert (9, 0, 0) < version.triple < (10, 1, 0)


async def test_a_real_qemu_fits_every_record(tmp_path: Path) -> None:
    """Each query's record, and each setting read back, on the QEMU that is installed."""
    arguments = (*BARE, "-machine", "q35", "-m", "20000K", "-smp", "2", "-S")
    async with (
        bare_qemu(tmp_path, *arguments) as qemu,
        await Monitor.connect(qemu.socket, side="source") as monitor,
    ):
        assert (await replies.query_version(monitor)).triple == monitor.version
        assert await replies.query_status(monitor) == RunStatus("prelaunch", False)
        assert (await replies.query_migrate(monitor)).blocked_reasons == ()
        assert await replies.query_memory_size(monitor) == MemorySize(20000 * 1024)
        processors = await replies.query_cpus_fast(monitor)
        assert [type(each) for each in processors] == [CpuFast, CpuFast]
        assert [each.cpu_index for each in processors] == [0, 1]
        assert str(processors[0].thread_id) in os.listdir(f"/proc/{qemu.process.pid}/task")
        await replies.set_capabilities(monitor, {"events": True, "return-path": False})
        capabilities = await replies.query_capabilities(monitor)
        assert (capabilities["events"], capabilities["return-path"]) == (True, False)
        await replies.set_parameters(monitor, {"downtime-limit": 123, "max-bandwidth": 5 << 20})
        parameters = await replies.query_parameters(monitor)
        assert (parameters["downtime-limit"], parameters["max-bandwidth"]) == (123, 5 << 20)
        assert await replies.query_dirty_rate(monitor) == DirtyRate("unstarted", None, 0, 0, "page-sampling")


async def test_a_real_destination_says_where_it_listens(tmp_path: Path) -> None:
    """A port of the kernel's choice is known before anything is sent to it."""
    arguments = (*BARE, "-machine", "q35", "-m", "20000K", "-S", "-incoming", "defer")
    async with (
        bare_qemu(tmp_path, *arguments) as qemu,
        await Monitor.connect(qemu.socket, side="destination") as monitor,
    ):
        assert (await replies.query_status(monitor)).status == "inmigrate"
        await replies.migrate_incoming(monitor, "tcp:127.0.0.1:0")
        info = await replies.query_migrate(monitor)
        assert info.socket_address[0].uri.startswith("tcp:127.0.0.1:")
        assert int(info.socket_address[0].port or 0) > 0
