"""What a manager leaves behind: written by one, read by the next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.facts import FACTS
from whimbrel.engine.errors import PreparationFailed, WhimbrelError
from whimbrel.engine.policy import Objectives
from whimbrel.engine.protocol import Waits
from whimbrel.engine.states import Side
from whimbrel.qmp_driver.adoption import (
    DestinationLeft,
    Host,
    Judged,
    Legacy,
    NoDestination,
    find_process,
    hooks_of,
    record_options,
    recorded_options,
    started_again,
)
from whimbrel.qmp_driver.hooks import HookContext, Hooks
from whimbrel.qmp_driver.known import Known, Likeness
from whimbrel.qmp_driver.launch import StartedDestination
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.processes import ProcessIdentity, QemuProcess
from whimbrel.qmp_driver.truth import SourceTruth

HERE = Host(boot_id="b", machine_id="m", name="h", namespaces="n")
OPTIONS = Options(
    host="10.0.0.2",
    port=4444,
    keep_source=True,
    stall_s=7.0,
    reconnect_s=2.0,
    own_stream=False,
    waits=Waits(handover_ns=5),
    objectives=Objectives(downtime_s=0.1, bandwidth_bytes_per_s=9),
)


@pytest.fixture
async def sleeper(tmp_path: Path) -> AsyncGenerator[QemuProcess, None]:
    """A process in the place of a QEMU."""
    process = await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / "stderr")
    try:
        yield process
    finally:
        await process.kill()


def header(options: Options = OPTIONS) -> dict[str, Any]:
    """The first line, as the runner writes it."""
    return {
        "t_ns": 0,
        "kind": "header",
        "monotonic_ns": 1000,
        "policy": "fixed",
        "objectives": asdict(options.objectives),
        "host": asdict(HERE),
        "options": record_options(options, "relative.sock"),
    }


def written(*lines: dict[str, Any]) -> Legacy:
    """Read back what was written, through JSON."""
    stamped = [{"t_ns": number, **line} for number, line in enumerate((header(), *lines))]
    return Legacy.read(json.loads(json.dumps(stamped, default=str)))


@pytest.mark.parametrize(
    ("then", "judged"),
    [
        (HERE, Judged.SAME),
        (replace(HERE, boot_id="c"), Judged.REBOOTED),
        (replace(HERE, boot_id="c", machine_id="other"), Judged.ELSEWHERE),
        (replace(HERE, namespaces="of a container"), Judged.ELSEWHERE),
        (replace(HERE, boot_id=""), Judged.ELSEWHERE),
        (replace(HERE, boot_id="c", name="other"), Judged.ELSEWHERE),
        (replace(HERE, boot_id="c", machine_id=""), Judged.ELSEWHERE),
        (Host(), Judged.ELSEWHERE),
    ],
)
def test_what_a_pid_means(then: Host, judged: Judged) -> None:
    """Only in the same boot and namespaces is it a process; only on the same host is a reboot its end."""
    assert HERE.judge(then) is judged


def test_nothing_is_known_where_nothing_can_be_read() -> None:
    """An empty boot id is no boot id that two hosts share."""
    assert Host().judge(Host()) is Judged.ELSEWHERE


def test_this_host_is_itself() -> None:
    """And says so in every part."""
    here = Host.here()
    assert here.judge(Host.here()) is Judged.SAME
    assert here.boot_id
    assert here.namespaces


def test_options_come_back() -> None:
    """All but those that are code."""
    found = recorded_options(json.loads(json.dumps(header())))
    assert found == replace(OPTIONS, policy_name="fixed")


def test_hooks_and_locks_are_named() -> None:
    """So that a new manager knows what it lacks."""

    async def hook(context: HookContext) -> None:
        """Agree."""

    options = Options(hooks=Hooks(before_resume=hook, failed=None))
    assert hooks_of(options) == ["before_resume"]
    assert record_options(options, "s")["hooks"] == ["before_resume"]
    assert record_options(options, "s")["locked"] is False


def test_a_socket_is_written_down_in_full() -> None:
    """The next manager may live in another folder."""
    assert written().source_address == str(Path("relative.sock").absolute())


def test_everything_is_found_again() -> None:
    """Both QEMUs, the destination's things, and the settings as they were before the first change."""
    source = Known(
        address=("h", 1), process=ProcessIdentity(5, 6), likeness=Likeness(((7, 2, 22), "d"), (8, 9)), had_status=False
    )
    legacy = written(
        {"kind": "side", "side": "source", **asdict(source)},
        {"kind": "starting", "directory": "/run/d"},
        {
            "kind": "destination", "address": "/run/d/q", "process": {"pid": 3, "start_ticks": 4}, "owned": True,
            "directory": "/run/d", "relocalised": {"serial0": "/run/d/s"}, "stderr": "/run/d/e",
        },
        {"kind": "settings", "side": "source", "capabilities": {"events": False}, "parameters": {"downtime-limit": 3}},
        {"kind": "settings", "side": "source", "capabilities": {"events": True}, "parameters": {}},
        {"kind": "learnt", "facts": {"uri": "tcp:h:2"}},
        {"kind": "qmp", "side": "source", "event": "MIGRATION", "data": {"status": "active"}},
        {"kind": "something of a later version"},
    )  # fmt: skip
    assert legacy.known(Side.SOURCE) == replace(source, had_status=True)
    identity = ProcessIdentity(3, 4)
    assert legacy.destination == DestinationLeft(
        address="/run/d/q",
        known=Known(address="/run/d/q", process=identity),
        owned=True,
        directory=Path("/run/d"),
        relocalised={"serial0": "/run/d/s"},
        stderr=Path("/run/d/e"),
    )
    assert legacy.known(Side.DESTINATION) == Known(address="/run/d/q", process=identity)
    assert legacy.directory == Path("/run/d")
    assert legacy.settings["source"].capabilities == {"events": False}
    assert legacy.settings["source"].parameters == {"downtime-limit": 3}
    assert legacy.uri == "tcp:h:2"
    assert legacy.last_t_ns == 8


def test_a_pid_means_what_it_meant_to_who_wrote_it() -> None:
    """A manager that took over after a reboot may have found a side's new process."""
    rebooted = replace(HERE, boot_id="c")
    side = {"kind": "side", "side": "source", "address": "/s", "process": {"pid": 5, "start_ticks": 6}}
    legacy = written(side)
    assert legacy.judge(Side.SOURCE, rebooted) is Judged.REBOOTED
    legacy = written(side, {"kind": "adopted", "host": asdict(rebooted)}, side)
    assert legacy.judge(Side.SOURCE, rebooted) is Judged.SAME
    assert legacy.judge(Side.DESTINATION, rebooted) is Judged.REBOOTED


def test_a_started_destination_is_written_as_it_is_read(tmp_path: Path) -> None:
    """The writer's words are the reader's."""
    started = StartedDestination("/s", None, owned=False, relocalised={"a": "b"})
    left = written({"kind": "destination", **started.as_written()}).destination
    assert left is not None
    again = started_again(left, None)
    assert again == started


@pytest.mark.parametrize(
    "line",
    [{"kind": "starting"}, {"kind": "side", "side": "north"}, {"kind": "destination", "address": 5}, {"no": "kind"}],
)
def test_a_line_that_lacks_something_is_named(line: dict[str, Any]) -> None:
    """By its number."""
    with pytest.raises(WhimbrelError, match="line 2 of the log"):
        written(line)


def test_a_log_of_an_earlier_version_is_refused() -> None:
    """It kept too little for a new manager."""
    with pytest.raises(WhimbrelError, match="line 1 of the log lacks"):
        Legacy.read([{"t_ns": 0, "kind": "header", "objectives": {}}])
    with pytest.raises(WhimbrelError, match="empty"):
        Legacy.read([])


def test_the_clock_goes_on() -> None:
    """In the same boot it is the same clock; otherwise it goes on from the last line; it never goes backwards."""
    legacy = written({"kind": "note"})
    legacy.last_t_ns = 500
    assert legacy.started_ns(HERE, 10_000) == 1000
    assert legacy.started_ns(HERE, 1_200) == 700
    assert legacy.started_ns(replace(HERE, boot_id="c"), 10_000) == 9_500


async def test_a_process_is_found_where_its_pid_means_something(sleeper: QemuProcess) -> None:
    """In another boot it has ended, whoever has its pid now; from elsewhere nothing is known of it."""
    known = Known(address="/s", process=sleeper.identity)
    same, process = find_process(known, Judged.SAME)
    assert same == known
    assert process is not None
    assert not process.exited
    process.close()
    _, rebooted = find_process(known, Judged.REBOOTED)
    assert rebooted is not None
    assert rebooted.exited
    assert find_process(known, Judged.ELSEWHERE) == (Known(address="/s"), None)
    assert find_process(Known(address="/s"), Judged.SAME) == (Known(address="/s"), None)
    await sleeper.kill()
    _, dead = find_process(known, Judged.SAME)
    assert dead is not None
    assert dead.exited


def test_a_migration_that_was_taken_over_starts_no_destination() -> None:
    """Whatever was started is in the log."""
    truth = SourceTruth(facts=FACTS, process=None)
    with pytest.raises(PreparationFailed):
        asyncio.run(NoDestination().start(truth))
    assert asyncio.run(NoDestination().examine(truth)) == ()
    assert NoDestination().compare(truth, FACTS) == ()
