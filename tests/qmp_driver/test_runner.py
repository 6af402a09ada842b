"""The whole protocol on real QEMUs: called off, or robbed of a process, at every point at which it can be left.

Every test ends in the same question: does what the report says agree with what the processes, the monitors
and the guest itself say?
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.support.breakpoints import Breakpoints
from tests.support.guests import BRISK, End, Tap, World, read_log
from tests.support.taps import (
    CALLED_OFF,
    FAILED,
    LOST,
    MOVED,
    Verdict,
    both,
    call_off,
    freeze_destination,
    kill,
    kill_destination,
    on_command,
    on_signal,
)
from whimbrel.engine.policy import Objectives
from whimbrel.engine.protocol import SECOND_NS
from whimbrel.engine.report import OngoingReport
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver.hooks import HookContext, Hooks
from whimbrel.qmp_driver.runner import Runner

BOTH_LOOPS = True

MIB = 1 << 20
SLOWLY = Objectives(bandwidth_bytes_per_s=MIB)
"""Holds a migration in pre-copy: at this speed it would take a quarter of a minute."""


async def never() -> None:
    """A hook that holds the switchover until it is cancelled."""
    await asyncio.Event().wait()


async def test_a_migration_completes(world: World) -> None:
    """The guest goes on at the destination, whole; the source process is gone; the report has its figures."""
    source = await world.boot()
    end = await world.migrate(source)
    assert end.verdict == MOVED
    await world.check(source, end)
    report = end.report
    assert [stage.stage for stage in report.stages] == [1, 2, 3, 4, 5]
    assert sum(stage.seconds for stage in report.stages) == pytest.approx(report.total_s, abs=1e-6)
    assert report.downtime is not None
    assert 0 < report.downtime.total_s < report.total_s
    # 6 MiB never change and 2 MiB do: all of them went over, and the rest of the RAM was zero.
    assert report.ram_transferred_bytes > 3 * MIB
    assert report.duplicate_pages > 0
    assert report.facts["qemu_source"] == report.facts["qemu_destination"]
    assert end.phases() == ["preparing", "precopy", "switchover", "handover", "activating", "releasing", "completed"]


@pytest.mark.parametrize(
    ("command", "phase", "verdict"),
    [
        ("inspect", "preflight", ("cancelled", "source", "unconfirmed")),
        ("prepare", "preparing", CALLED_OFF),
        ("arm", "preparing", CALLED_OFF),
        ("migrate", "precopy", CALLED_OFF),
        ("quiesce", "switchover", CALLED_OFF),
        ("continue", "handover", MOVED),
        ("resume-destination", "activating", MOVED),
        ("release-source", "releasing", MOVED),
    ],
)
async def test_called_off_in_every_phase(world: World, command: str, phase: str, verdict: Verdict) -> None:
    """Up to the switchover the guest stays and all is as it was; after it the move ends first."""
    source = await world.boot()
    before = source.settings()
    seen: list[str] = []

    def look_and_call_off(runner: Runner) -> None:
        seen.append(runner.machine.phase.value)
        call_off(runner)

    end = await world.migrate(source, tap=on_command(command, look_and_call_off))
    assert seen == [phase]
    assert end.verdict == verdict
    await world.check(source, end, before=before)
    if verdict != MOVED:
        assert end.report.why == "called off by the user"


@pytest.mark.parametrize("signal_name", ["destination-active", "source-active"])
async def test_called_off_while_ram_moves(world: World, signal_name: str) -> None:
    """Between the first page and the last; the destination is gone and the source's settings are back."""
    source = await world.boot()
    before = source.settings()
    end = await world.migrate(
        source,
        tap=on_signal(signal_name, call_off),
        objectives=SLOWLY,
        own_stream=False,  # a connection of ours makes the destination active while it is still being prepared
    )
    assert end.verdict == CALLED_OFF
    assert end.phases() == ["preparing", "precopy", "cancelling", "cancelled"]
    await world.check(source, end, before=before)


async def test_a_live_forecast_is_in_the_log_and_in_a_glance(world: World) -> None:
    """Called off at the first: of one that needs several seconds it comes in the first of them."""
    source = await world.boot()
    glances: list[OngoingReport] = []

    def at_the_first(runner: Runner) -> Tap:
        def tap(kind: str, fields: Mapping[str, object]) -> None:
            if kind == "outlook" and not glances:
                glances.append(runner.machine.progress())
                runner.cancel()

        return tap

    end = await world.migrate(source, tap=at_the_first, objectives=SLOWLY)
    assert end.verdict == CALLED_OFF
    (glance,) = glances
    assert glance.outlook is not None
    assert 0 < glance.outlook.at_s <= glance.since_migrate_s
    lines = [line for line in read_log(end.log) if line["kind"] == "outlook"]
    assert lines[0]["iteration"] == glance.outlook.iteration == 1
    assert lines[0]["ends_s"][0] > glance.outlook.at_s


async def test_called_off_while_a_hook_holds_the_switchover(world: World) -> None:
    """The guest stands stopped at that moment, and runs again on the source."""
    source = await world.boot()
    before = source.settings()
    stopped: list[str] = []
    runners: list[Runner] = []

    async def hook(_: HookContext) -> None:
        stopped.append(source.status())
        runners[0].cancel()
        await never()

    def keep(runner: Runner) -> Tap:
        runners.append(runner)
        return lambda kind, fields: None

    end = await world.migrate(source, tap=keep, hooks=Hooks(source_stopped=hook))
    assert stopped == ["finish-migrate"]
    assert end.verdict == CALLED_OFF
    await world.check(source, end, before=before)


async def test_a_hook_that_refuses_calls_the_move_off(world: World) -> None:
    """Its words stand in the report, and the guest runs on."""
    source = await world.boot()
    before = source.settings()

    async def hook(_: HookContext) -> None:
        raise RuntimeError("the database is not ready")

    end = await world.migrate(source, hooks=Hooks(source_stopped=hook))
    assert end.verdict == FAILED
    assert "the database is not ready" in end.report.why
    await world.check(source, end, before=before)


async def test_a_hook_that_never_answers_is_waited_for_only_so_long(world: World) -> None:
    """The guest stands stopped while it is asked: then the move is called off."""
    source = await world.boot()
    hooks = Hooks(source_stopped=lambda _: never())
    end = await world.migrate(source, hooks=hooks, waits=replace(BRISK, switchover_ns=SECOND_NS // 2))
    assert end.verdict == FAILED
    assert end.report.why == "waited too long in switchover"
    await world.check(source, end)


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ("inspect", ("failed", "source", "unconfirmed")),
        ("prepare", LOST),
        ("arm", LOST),
        ("migrate", LOST),
        ("continue", LOST),
        ("resume-destination", MOVED),
        ("release-source", MOVED),
    ],
)
async def test_source_killed(world: World, command: str, verdict: Verdict) -> None:
    """Before the destination has everything the guest is lost, and said to be; afterwards it goes on there."""
    source = await world.boot()
    end = await world.migrate(source, tap=on_command(command, kill(source)))
    assert end.verdict == verdict
    await world.check(source, end)


async def test_source_killed_while_ram_moves(world: World) -> None:
    """The guest is lost with it; the half-filled destination is not left behind."""
    source = await world.boot()
    end = await world.migrate(source, tap=on_signal("source-active", kill(source)), objectives=SLOWLY)
    assert end.verdict == LOST
    await world.check(source, end)


async def test_source_killed_in_the_switchover(world: World) -> None:
    """While a hook is asked: nothing was handed over yet."""
    source = await world.boot()

    async def hook(_: HookContext) -> None:
        os.kill(source.pid, signal.SIGKILL)
        await never()

    end = await world.migrate(source, hooks=Hooks(source_stopped=hook))
    assert end.verdict == LOST
    assert "continue" not in end.commands()
    await world.check(source, end)


async def test_source_killed_in_the_handover(world: World) -> None:
    """It is killed while the rest is on its way to a destination that does not read.

    Whether the rest was on its way as a whole is the kernel's secret: the guest goes on at the destination, or
    it is lost. Whichever it is, the report and the world agree.
    """
    source = await world.boot()

    def thaw(runner: Runner) -> None:
        os.kill(runner.machine.facts["destination_pid"], signal.SIGCONT)

    end = await world.migrate(
        source,
        tap=both(
            on_command("continue", freeze_destination),
            on_signal("source-device", kill(source)),
            on_signal("source-ended", thaw),
        ),
    )
    assert end.verdict in (MOVED, LOST)
    await world.check(source, end)


@pytest.mark.parametrize("command", ["arm", "migrate"])
async def test_destination_killed_before_ram_moves(world: World, command: str) -> None:
    """The guest never notices."""
    source = await world.boot()
    before = source.settings()
    end = await world.migrate(source, tap=on_command(command, kill_destination))
    assert end.verdict == FAILED
    await world.check(source, end, before=before)


async def test_destination_killed_while_ram_moves(world: World) -> None:
    """The source runs on, with its settings as they were."""
    source = await world.boot()
    before = source.settings()
    end = await world.migrate(source, tap=on_signal("source-active", kill_destination), objectives=SLOWLY)
    assert end.verdict == FAILED
    await world.check(source, end, before=before)


async def test_destination_killed_in_the_switchover(world: World) -> None:
    """While a hook is asked: the guest, which stands stopped, runs again on the source."""
    source = await world.boot()
    before = source.settings()
    runners: list[Runner] = []

    async def hook(_: HookContext) -> None:
        kill_destination(runners[0])
        await never()

    def keep(runner: Runner) -> Tap:
        runners.append(runner)
        return lambda kind, fields: None

    end = await world.migrate(source, tap=keep, hooks=Hooks(source_stopped=hook))
    assert end.verdict == FAILED
    # The phase may be seen even so: cancelled in pre-switchover, QEMU 7.2 passes through device for an instant.
    assert "continue" not in end.commands()
    await world.check(source, end, before=before)


@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen-then-killed"])
async def test_destination_killed_in_the_handover(world: World, frozen: bool) -> None:
    """QEMU resumes the source by itself, whether the destination had read some of the rest or none."""
    source = await world.boot()
    before = source.settings()
    first = freeze_destination if frozen else kill_destination
    tap = both(on_command("continue", first), on_signal("source-device", kill_destination))
    end = await world.migrate(source, tap=tap if frozen else on_command("continue", first))
    assert end.verdict == FAILED
    assert "handover" in end.phases()
    await world.check(source, end, before=before)


async def test_destination_that_hangs_in_the_handover_is_ended(world: World) -> None:
    """No cancel is sent: the destination is killed, the source fails by itself and runs."""
    source = await world.boot()
    before = source.settings()
    end = await world.migrate(source, tap=on_command("continue", freeze_destination))
    assert end.verdict == FAILED
    commands = end.commands()
    assert "break" in commands
    assert "cancel-migration" not in commands
    await world.check(source, end, before=before)


async def test_destination_killed_before_it_was_seen_running(world: World) -> None:
    """Its ``cont`` was on the way, so it may have run: the source keeps its copy, stopped, and is not resumed.

    It stands still when the ``cont`` is written and is killed the moment that it is in its socket: killed any earlier,
    its death may be heard of first, and then it never had one.
    """
    source = await world.boot()
    runners: list[Runner] = []

    def freeze(runner: Runner) -> None:
        freeze_destination(runner)
        runners.append(runner)

    def strike(moment: str, _: Mapping[str, object]) -> None:
        if moment == "sent destination cont":
            kill_destination(runners.pop())

    with Breakpoints(strike).within():
        end = await world.migrate(source, tap=on_command("resume-destination", freeze))
    assert not runners, "it was killed with its cont in the socket"
    assert end.verdict == ("failed", "destination", "lost")
    assert source.status() == "postmigrate"
    await world.check(source, end)


async def test_destination_that_hangs_with_its_cont(world: World) -> None:
    """It was told to run and nobody can see whether it does: said so, and neither killed nor doubled."""
    source = await world.boot()
    frozen: list[int] = []

    def freeze(runner: Runner) -> None:
        frozen.append(runner.machine.facts["destination_pid"])
        freeze_destination(runner)

    end = await world.migrate(
        source,
        tap=on_command("resume-destination", freeze),
        waits=replace(BRISK, activating_ns=SECOND_NS // 2, resolving_ns=SECOND_NS // 2),
    )
    assert end.verdict == ("failed", "destination", "unconfirmed")
    assert source.status() == "postmigrate"
    os.kill(frozen[0], signal.SIGCONT)
    # Whether QEMU still reads what came before the hang-up differs from run to run; nothing was lost either way.
    assert end.destination_status() in ("running", "paused")
    end.resume()
    await world.check_beats("destination")


async def test_destination_killed_while_the_source_is_let_go(world: World) -> None:
    """The guest was moved, ran, and died: not a success, and not the source's any more."""
    source = await world.boot()

    def freeze_source_and_kill(runner: Runner) -> None:
        os.kill(source.pid, signal.SIGSTOP)
        kill_destination(runner)

    end = await world.migrate(
        source,
        tap=both(on_command("release-source", freeze_source_and_kill), on_signal("destination-ended", kill(source))),
    )
    assert end.verdict == ("failed", "destination", "lost")
    await world.check(source, end)


async def test_a_stalled_stream_is_given_up(world: World) -> None:
    """QEMU itself would wait for ever for a frozen destination; the guest runs on at the source."""
    # More than the kernel's buffers hold, so that the stream does stall.
    spec = WorkloadSpec.parse(("hot:size=2MiB,rate=2MiB/s", "cold:size=24MiB"), beat_hz=200)
    source = await world.boot(spec=spec, ram_bytes=40896 << 10)
    before = source.settings()
    end = await world.migrate(source, tap=on_command("migrate", freeze_destination), stall_s=0.5)
    assert end.verdict == FAILED
    assert end.report.why == "nothing was sent for 0.5 s"
    await world.check(source, end, before=before)


async def test_a_frozen_destination_is_not_waited_for_while_it_is_prepared(world: World) -> None:
    """It is killed though it never answers."""
    source = await world.boot()
    end = await world.migrate(
        source, tap=on_command("arm", freeze_destination), waits=replace(BRISK, preparing_ns=SECOND_NS)
    )
    assert end.verdict == FAILED
    assert end.report.why == "waited too long in preparing"
    await world.check(source, end)


async def test_a_guest_that_its_owner_pauses_on_the_way_arrives_paused(world: World) -> None:
    """QEMU tells of every STOP in the same way: its run state tells whose it is."""
    source = await world.boot()
    end = await world.migrate(
        source,
        tap=on_signal("source-active", lambda runner: source.stop()),
        objectives=Objectives(bandwidth_bytes_per_s=4 * MIB),
    )
    assert end.verdict == ("completed", "destination", "paused")
    assert "source-paused" in signals_of(end)
    assert end.destination_status() == "paused"
    end.resume()
    await world.check_beats("destination")


async def test_a_guest_that_is_paused_and_resumed_on_the_way_arrives_running(world: World) -> None:
    """However the news of both come in."""
    source = await world.boot()

    def pause_and_resume(runner: Runner) -> None:
        source.stop()
        source.resume()

    end = await world.migrate(
        source,
        tap=on_signal("source-active", pause_and_resume),
        objectives=Objectives(bandwidth_bytes_per_s=4 * MIB),
    )
    assert end.verdict == MOVED
    await world.check(source, end)


async def test_two_managers_on_two_monitors(world: World) -> None:
    """The second is refused before it has changed anything, and the first goes on."""
    source = await world.boot()
    ends: list[asyncio.Task[End]] = []

    def begin_another(runner: Runner) -> None:
        other = replace(source, qmp=source.spare)
        ends.append(asyncio.get_running_loop().create_task(world.migrate(other)))
        ends[0].add_done_callback(lambda _: runner.note("the second has ended"))

    first = await world.migrate(
        source, tap=on_command("migrate", begin_another), objectives=Objectives(bandwidth_bytes_per_s=8 * MIB)
    )
    second = await ends[0]
    assert first.verdict == MOVED
    assert "another manager" in second.report.why
    assert second.destination_pid is None
    await world.check(source, first)


async def test_a_note_before_the_beginning_comes_after_the_header(world: World) -> None:
    """A log whose first line is no header can't be read."""
    source = await world.boot()
    end = await world.migrate(source, tap=early_note)
    lines = read_log(end.log)
    assert lines[0]["kind"] == "header"
    assert "said early" in end.report.notes


def early_note(runner: Runner) -> Tap:
    """Note something before the migration is run."""
    runner.note("said early")
    return lambda kind, fields: None


def signals_of(end: End) -> list[str]:
    """The signals of a log."""
    return [line["signal"] for line in read_log(end.log) if line["kind"] == "signal"]
