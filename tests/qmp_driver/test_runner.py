"""The whole protocol on real QEMUs: called off, or robbed of a process, at every point at which it can be left.

Every test ends in the same question: does what the report says agree with what the processes, the monitors
and the guest itself say?
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import pytest

from tests.support.guests import BRISK, Guest, Tap, World, at
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.policy import Objectives
from whimbrel.engine.protocol import SECOND_NS
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver.runner import Runner

BOTH_LOOPS = True

MIB = 1 << 20
SLOWLY = Objectives(bandwidth_bytes_per_s=MIB)
"""Holds a migration in pre-copy: at this speed it would take a quarter of a minute."""

Verdict: TypeAlias = tuple[str, str, str]
MOVED: Verdict = ("completed", "destination", "running")
CALLED_OFF: Verdict = ("cancelled", "source", "running")
FAILED: Verdict = ("failed", "source", "running")
LOST: Verdict = ("failed", "source", "lost")


def kill_destination(runner: Runner) -> None:
    """SIGKILL to the destination."""
    os.kill(runner.machine.facts["destination_pid"], signal.SIGKILL)


def freeze_destination(runner: Runner) -> None:
    """SIGSTOP to the destination: alive, connected, and silent."""
    os.kill(runner.machine.facts["destination_pid"], signal.SIGSTOP)


def on_command(command: str, action: Callable[[Runner], None]) -> Callable[[Runner], Tap]:
    """Act when a command is announced in the log, which is before it is carried out."""
    return lambda runner: at("command", lambda: action(runner), command=command)


def on_signal(name: str, action: Callable[[Runner], None]) -> Callable[[Runner], Tap]:
    """Act when a signal is noted."""
    return lambda runner: at("signal", lambda: action(runner), signal=name)


def both(*makers: Callable[[Runner], Tap]) -> Callable[[Runner], Tap]:
    """Several taps as one."""

    def make(runner: Runner) -> Tap:
        taps = [maker(runner) for maker in makers]

        def tell(kind: str, fields: object) -> None:
            for tap in taps:
                tap(kind, fields)  # type: ignore[arg-type]

        return tell

    return make


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

    def call_off(runner: Runner) -> None:
        seen.append(runner.machine.phase.value)
        # Not at once: the line is written while the machine is in the middle of a step.
        asyncio.get_running_loop().call_soon(runner.cancel)

    end = await world.migrate(source, tap=on_command(command, call_off))
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
        tap=on_signal(signal_name, lambda runner: asyncio.get_running_loop().call_soon(runner.cancel)),
        objectives=SLOWLY,
    )
    assert end.verdict == CALLED_OFF
    assert end.phases() == ["preparing", "precopy", "cancelling", "cancelled"]
    await world.check(source, end, before=before)


async def test_called_off_while_a_hook_holds_the_switchover(world: World) -> None:
    """The guest stands stopped at that moment, and runs again on the source."""
    source = await world.boot()
    before = source.settings()
    stopped: list[str] = []
    runners: list[Runner] = []

    async def hook() -> None:
        stopped.append(source.status())
        runners[0].cancel()
        await never()

    def keep(runner: Runner) -> Tap:
        runners.append(runner)
        return lambda kind, fields: None

    end = await world.migrate(source, tap=keep, at_switchover=hook)
    assert stopped == ["finish-migrate"]
    assert end.verdict == CALLED_OFF
    await world.check(source, end, before=before)


async def test_a_hook_that_refuses_calls_the_move_off(world: World) -> None:
    """Its words stand in the report, and the guest runs on."""
    source = await world.boot()
    before = source.settings()

    async def hook() -> None:
        raise RuntimeError("the database is not ready")

    end = await world.migrate(source, at_switchover=hook)
    assert end.verdict == FAILED
    assert "the database is not ready" in end.report.why
    await world.check(source, end, before=before)


async def test_a_hook_that_never_answers_is_waited_for_only_so_long(world: World) -> None:
    """The guest stands stopped while it is asked: then the move is called off."""
    source = await world.boot()
    end = await world.migrate(source, at_switchover=never, waits=replace(BRISK, switchover_ns=SECOND_NS // 2))
    assert end.verdict == FAILED
    assert end.report.why == "waited too long in switchover"
    await world.check(source, end)


def kill(source: Guest) -> Callable[[Runner], None]:
    """SIGKILL to the source."""
    return lambda runner: os.kill(source.pid, signal.SIGKILL)


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

    async def hook() -> None:
        os.kill(source.pid, signal.SIGKILL)
        await never()

    end = await world.migrate(source, at_switchover=hook)
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

    async def hook() -> None:
        kill_destination(runners[0])
        await never()

    def keep(runner: Runner) -> Tap:
        runners.append(runner)
        return lambda kind, fields: None

    end = await world.migrate(source, tap=keep, at_switchover=hook)
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
    """Its ``cont`` was on the way, so it may have run: the source keeps its copy, stopped, and is not resumed."""
    source = await world.boot()
    end = await world.migrate(source, tap=on_command("resume-destination", kill_destination))
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


def fail_at(kind: str, **wanted: object) -> Callable[[Runner], Tap]:
    """The log takes no line any more from this one on."""

    def full() -> None:
        raise WhimbrelError("the log can't be written: No space left on device")

    return lambda runner: at(kind, full, **wanted)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("signal", {"signal": "start"}),
        ("command", {"command": "prepare"}),
        ("step", {"phase": "precopy"}),
        ("command", {"command": "migrate"}),
        ("qmp", {"event": "MIGRATION_PASS"}),
        ("signal", {"signal": "source-pre-switchover"}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value.values())),
)
async def test_a_log_that_fails_calls_the_move_off(world: World, kind: str, wanted: dict[str, str]) -> None:
    """Up to the switchover; a guest is not handed over without a witness."""
    source = await world.boot()
    before = source.settings()
    end = await world.migrate(source, tap=fail_at(kind, **wanted))
    assert end.report.outcome == "cancelled"
    assert end.report.owner == "source"
    assert "No space left" in end.report.why
    assert any("the log is not whole" in note for note in end.report.notes)
    await world.check(source, end, before=before)


async def test_a_log_that_fails_in_the_handover_does_not_stop_it(world: World) -> None:
    """Stopping there is what could double a guest: it goes on, and the report says what is missing."""
    source = await world.boot()
    end = await world.migrate(source, tap=fail_at("command", command="continue"))
    assert end.verdict == MOVED
    assert any("No space left" in note for note in end.report.notes)
    await world.check(source, end)


async def test_a_paused_guest_stays_paused(world: World) -> None:
    """It arrives paused, and beats when it is told to, whole."""
    source = await world.boot()
    source.stop()
    end = await world.migrate(source)
    assert end.verdict == ("completed", "destination", "paused")
    assert end.destination_status() == "paused"
    assert not source.alive
    end.resume()
    await world.check_beats("destination")


async def test_a_paused_guest_stays_paused_when_called_off(world: World) -> None:
    """And on the source too."""
    source = await world.boot()
    source.stop()
    end = await world.migrate(
        source, tap=on_command("quiesce", lambda runner: asyncio.get_running_loop().call_soon(runner.cancel))
    )
    assert end.verdict == ("cancelled", "source", "paused")
    # Cancelled in pre-switchover, QEMU 7.2 calls a guest that was paused "postmigrate": it stands still all the same.
    assert source.status() in ("paused", "postmigrate")
    source.resume()
    await world.check_beats("source")


async def test_the_source_can_be_kept(world: World) -> None:
    """Stopped, its copy out of date."""
    source = await world.boot()
    end = await world.migrate(source, keep_source=True)
    assert end.verdict == MOVED
    assert source.status() == "postmigrate"
    await world.check_beats("destination")


async def test_a_source_that_does_not_quit_is_left(world: World) -> None:
    """The guest runs already: a source that hangs is no reason to say otherwise."""
    source = await world.boot()
    end = await world.migrate(
        source,
        tap=on_command("release-source", lambda runner: os.kill(source.pid, signal.SIGSTOP)),
        waits=replace(BRISK, releasing_ns=SECOND_NS // 2),
    )
    assert end.verdict == MOVED
    await world.check_beats("destination")


@pytest.mark.parametrize("failing", ["prepare", "arm"])
async def test_it_can_be_tried_again(world: World, failing: str) -> None:
    """A failed attempt leaves nothing that stands in the way of the next."""
    source = await world.boot()
    first = await world.migrate(
        source, tap=on_command(failing, lambda runner: asyncio.get_running_loop().call_soon(runner.cancel))
    )
    assert first.verdict == CALLED_OFF
    second = await world.migrate(source)
    assert second.verdict == MOVED
    await world.check(source, second)
