"""The procedures against scripted monitors: what no real QEMU does on demand.

What they do with real ones is tested with the runner.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.qmp_server import Drop, QmpServer, Refusal
from whimbrel.engine.driving import HAS_ALL
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, PreparationFailed, QemuRefused, WhimbrelError
from whimbrel.engine.machine import Event, Happened, Inspected, Learnt, Marked, Order, Sampled
from whimbrel.engine.negotiation import REQUIRED, to_put_back
from whimbrel.engine.pilot import Steering
from whimbrel.engine.policy import Decision, Knobs, Reason
from whimbrel.engine.report import OngoingReport
from whimbrel.engine.resolve import DestinationClass, SourceClass
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, State
from whimbrel.engine.states import Side as SideName
from whimbrel.engine.timeline import Mark
from whimbrel.qmp_driver.destination import FromSource
from whimbrel.qmp_driver.journal import Journal
from whimbrel.qmp_driver.launch import StartedDestination
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.procedures import Procedures
from whimbrel.qmp_driver.processes import QemuProcess
from whimbrel.qmp_driver.side import Side

CAPABILITIES: dict[str, bool] = dict[str, bool].fromkeys((*REQUIRED, "xbzrle"), False)
PARAMETERS: dict[str, object] = {"downtime-limit": 300, "max-bandwidth": 7, "max-cpu-throttle": 99, "tls-creds": ""}
RUNNING = {"status": "running", "running": True}
PAUSED = {"status": "paused", "running": False}
PROGRESS = OngoingReport(phase="precopy", stage=2, stage_name="transfer", owner="source", elapsed_s=1.0)


@dataclass
class Bench:
    """Procedures between two scripted monitors, as they stand after the inspection and the preparation."""

    source: QmpServer
    destination: QmpServer
    folder: Path
    events: list[Event] = field(default_factory=list[Event])
    watched: int = 0
    facts: dict[str, object] = field(default_factory=dict[str, object])
    known: frozenset[Fact] = frozenset({Fact.MIGRATE_SENT})
    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list[tuple[str, dict[str, object]]])

    def __post_init__(self) -> None:
        self.journal = Journal.create(self.folder / "log")
        sides = [
            Side(name, self.events.append, lambda kind, fields: None, lambda: None)
            for name in (SideName.SOURCE, SideName.DESTINATION)
        ]
        self.sides = sides
        self.procedures = self.make(Options(reconnect_s=1.0))

    def make(self, options: Options) -> Procedures:
        """The procedures, with other options."""
        made = Procedures(
            source=self.sides[0],
            destination=self.sides[1],
            source_address=self.source.address,
            strategy=FromSource(),
            options=options,
            journal=self.journal,
            deliver=self.events.append,
            start_watching=self._watch,
            now_ns=lambda: 5,
            state=lambda: State(facts=self.known),
            write=lambda kind, fields: self.lines.append((kind, fields)),
            glance=lambda: (PROGRESS, self.facts),
            started=StartedDestination(self.destination.address, None, owned=False),
        )
        settings = made.settings
        settings.has = {"source": dict(CAPABILITIES), "destination": dict(CAPABILITIES)}
        settings.changed = {"source": {"events": False}, "destination": {"events": False}}
        settings.parameters, settings.before = dict(PARAMETERS), {"source": to_put_back(PARAMETERS)}
        return made

    def _watch(self) -> None:
        self.watched += 1

    async def do(self, command: Command, setup: Steering | None = None) -> None:
        """Carry out a command."""
        await self.procedures.of(Order(command, setup))

    @property
    def notes(self) -> list[str]:
        """The sentences for the report."""
        return [event.note for event in self.events if isinstance(event, Learnt) and event.note]

    @property
    def marks(self) -> list[Mark]:
        """The moments of the outage."""
        return [event.mark for event in self.events if isinstance(event, Marked)]

    def asked(self, server: QmpServer) -> list[str]:
        """What a monitor was asked, without the handshake and without mere questions."""
        return [
            each.command
            for each in server.received
            if each.command != "qmp_capabilities" and not each.command.startswith("query-")
        ]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Bench, None]:
    """Both monitors are on TCP: nobody knows their processes."""
    async with QmpServer() as source, QmpServer() as destination:
        place = Bench(source, destination, tmp_path)
        await place.sides[0].connect(source.address)
        await place.sides[1].connect(destination.address)
        for server in (source, destination):
            server.on("migrate-set-capabilities", {})
            server.on("migrate-set-parameters", {})
            server.on("query-migrate", {})
        yield place
        for side in place.sides:
            await side.close()
        place.journal.close()


def steering(**capabilities: bool) -> Steering:
    """What a policy wants before the start."""
    knobs = Knobs(downtime_limit_s=0.05, bandwidth_bytes_per_s=1000)
    return Steering(
        asked=Reason.SETUP, decision=Decision(capabilities=capabilities), knobs=knobs, changes={}, clamped=()
    )


async def test_every_command_is_carried_out_by_something(bench: Bench) -> None:
    """A command of the engine without a procedure would be found out in the middle of a migration."""
    for command in Command:
        work = bench.procedures.of(Order(command, None))
        work.close()


async def test_arming_sets_both_ends_up(bench: Bench) -> None:
    """Capabilities true or false by name before it listens, the limits always, and the stream's address kept."""
    address = {"type": "inet", "host": "127.0.0.1", "port": "4711"}
    bench.destination.on("migrate-incoming", {})
    bench.destination.on("query-migrate", {"socket-address": [address]})
    await bench.do(Command.ARM, steering(xbzrle=True, multifd=True))
    assert bench.asked(bench.destination) == ["migrate-set-capabilities", "migrate-incoming"]
    given = (await bench.destination.until_received("migrate-set-capabilities")).arguments
    wanted = [{"capability": name, "state": True} for name in sorted((*REQUIRED, "xbzrle"))]
    assert given == {"capabilities": wanted}
    limits = (await bench.source.until_received("migrate-set-parameters")).arguments
    assert limits == {"downtime-limit": 50, "max-bandwidth": 1000}
    assert bench.procedures.uri == "tcp:127.0.0.1:4711"
    assert any("multifd dropped" in note for note in bench.notes)


async def test_a_destination_that_does_not_say_where_it_listens(bench: Bench) -> None:
    """Nobody can connect to it."""
    bench.destination.on("migrate-incoming", {})
    with pytest.raises(PreparationFailed, match="where it listens"):
        await bench.do(Command.ARM, steering())


async def test_migrate_without_an_answer_is_watched_all_the_same(bench: Bench) -> None:
    """It may have begun: the statuses tell."""
    bench.source.on("migrate", Drop())
    with pytest.raises(OutcomeUnknown):
        await bench.do(Command.MIGRATE)
    assert bench.watched == 1


async def test_the_moment_of_the_hand_over_is_marked_before_it(bench: Bench) -> None:
    """Refused or not, it was sent."""
    bench.source.on("migrate-continue", Refusal("Migration not in expected state"))
    with pytest.raises(QemuRefused):
        await bench.do(Command.CONTINUE)
    assert bench.marks == [Mark.CONTINUE_SENT]
    assert bench.source.received[-1].arguments == {"state": "pre-switchover"}


async def test_a_hang_is_broken_by_yank_where_no_process_can_be_killed(bench: Bench) -> None:
    """Out of band, for the source answers nothing else then."""
    bench.source.on("yank", {})
    await bench.do(Command.BREAK)
    received = await bench.source.until_received("yank")
    assert received.oob
    assert received.arguments == {"instances": [{"type": "migration"}]}


async def test_a_hang_is_broken_by_both_where_the_process_can_be_killed(bench: Bench, tmp_path: Path) -> None:
    """Over a network that has gone dead the source never hears of the death; one that has heard refuses."""
    process = await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / "stderr")
    bench.sides[1].process = process
    bench.source.on("yank", Refusal("Instance not found"))
    await bench.do(Command.BREAK)
    assert process.exited
    assert bench.asked(bench.source) == ["yank"]


async def test_the_only_copy_is_neither_broken_nor_discarded(bench: Bench, tmp_path: Path) -> None:
    """The source's process has ended: what the destination has is all there is."""
    source, destination = [
        await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / f"stderr{number}") for number in range(2)
    ]
    try:
        bench.sides[0].process, bench.sides[1].process = source, destination
        bench.procedures.started = StartedDestination("/nowhere", destination, owned=True)
        await source.kill()
        bench.source.vanish()
        with pytest.raises(WhimbrelError, match="the source process ended"):
            await bench.do(Command.BREAK)
        bench.known = HAS_ALL
        with pytest.raises(WhimbrelError, match="only copy"):
            await bench.do(Command.DISCARD_DESTINATION)
        assert not destination.exited
        bench.known = HAS_ALL | {Fact.SETBACK}
        await bench.do(Command.DISCARD_DESTINATION)
        assert destination.exited
    finally:
        await destination.kill()


async def test_the_end_of_a_source_is_told_before_it_is_refused(bench: Bench, tmp_path: Path) -> None:
    """So that what follows from the refusal is judged by it."""
    process = await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / "stderr")
    bench.procedures.settings.armed = True
    bench.sides[0].process = process
    await process.kill()
    bench.source.vanish()
    async with asyncio.timeout(10):
        while bench.sides[0].alive:
            await asyncio.sleep(0.001)
    with pytest.raises(CannotConnect):
        await bench.do(Command.RESTORE_SOURCE)
    assert Signal.SOURCE_ENDED in [event.signal for event in bench.events if isinstance(event, Happened)]


async def test_the_destination_is_seen_running(bench: Bench) -> None:
    """By its own word; without it the answer to ``cont`` alone says nothing."""
    bench.destination.on("cont", {})
    bench.destination.on_next("query-status", PAUSED, RUNNING)
    await bench.do(Command.RESUME_DESTINATION)
    assert Happened(Signal.DESTINATION_RUNNING) not in bench.events
    await bench.do(Command.RESUME_DESTINATION)
    assert Happened(Signal.DESTINATION_RUNNING) in bench.events


async def test_the_last_figures_are_waited_for(bench: Bench) -> None:
    """QEMU 7.2 says completed before its totals are there; then the source may go, with or without an answer."""
    early = {"status": "completed", "total-time": 0}
    bench.source.on_next("query-migrate", early, early)
    bench.source.on("query-migrate", {"status": "completed", "total-time": 1200, "downtime": 40})
    bench.source.on("quit", Drop())
    await bench.do(Command.RELEASE_SOURCE)
    figures = [event.facts for event in bench.events if isinstance(event, Learnt)]
    assert {"qemu_total_ms": 1200, "qemu_downtime_ms": 40} in figures
    assert sum(isinstance(event, Sampled) for event in bench.events) == 1
    assert bench.asked(bench.source) == ["quit"]


async def test_a_source_that_is_kept_is_not_told_to_quit(bench: Bench) -> None:
    """Its figures are taken all the same."""
    bench.procedures = bench.make(Options(keep_source=True))
    bench.source.on("query-migrate", {"status": "completed", "total-time": 1})
    await bench.do(Command.RELEASE_SOURCE)
    assert bench.asked(bench.source) == ["migrate-set-capabilities"]


async def test_a_source_that_is_kept_loses_its_badge_before_our_settings(bench: Bench) -> None:
    """A manager that dies in between leaves one that the next asks nothing, not one that it takes for another's."""
    bench.procedures = bench.make(Options(keep_source=True))
    bench.procedures.settings.worn = "whimbrel-badge-0"
    bench.source.on("query-migrate", {"status": "completed", "total-time": 1})
    bench.source.on("object-del", {})
    await bench.do(Command.RELEASE_SOURCE)
    assert bench.asked(bench.source) == ["object-del", "migrate-set-capabilities"]


async def test_a_source_whose_connection_went_is_told_to_quit_all_the_same(bench: Bench) -> None:
    """It would be left with its copy of the guest's RAM otherwise."""
    await bench.sides[0].close()
    bench.sides[0].monitor = None
    bench.source.on("quit", {})
    await bench.do(Command.RELEASE_SOURCE)
    assert "quit" in bench.asked(bench.source)


async def test_a_source_that_was_never_armed_is_not_touched(bench: Bench) -> None:
    """And one that was never reached is said to be so."""
    with pytest.raises(CannotConnect, match="never reached"):
        await bench.do(Command.RESTORE_SOURCE)
    assert bench.asked(bench.source) == []


async def test_the_source_is_put_right(bench: Bench) -> None:
    """Seen running, let go on where it stands, and given its settings back: those of ours, and no others."""
    bench.procedures.settings.armed = True
    bench.source.on_next("query-migrate", {"status": "cancelling"}, {"status": "cancelled"})
    finishing = {"status": "finish-migrate", "running": False}
    bench.source.on_next("query-status", finishing, {"status": "postmigrate", "running": False})
    bench.source.on("cont", {})
    await bench.do(Command.RESTORE_SOURCE)
    assert bench.asked(bench.source) == ["cont", "migrate-set-parameters", "migrate-set-capabilities"]
    back = (await bench.source.until_received("migrate-set-parameters")).arguments
    assert back == {"downtime-limit": 300, "max-bandwidth": 7, "max-cpu-throttle": 99}


async def test_a_source_that_was_paused_is_not_resumed(bench: Bench) -> None:
    """It is found as it was."""
    bench.procedures.settings.armed = True
    bench.known |= {Fact.PAUSED_BEFORE}
    bench.source.on("query-migrate", {"status": "cancelled"})
    bench.source.on("cont", {})
    await bench.do(Command.RESTORE_SOURCE)
    await bench.do(Command.RESUME_SOURCE)
    assert "cont" not in bench.asked(bench.source)


async def test_a_source_that_completed_is_never_put_right_by_cont(bench: Bench) -> None:
    """Its copy of the guest may be old."""
    bench.procedures.settings.armed = True
    bench.source.on("query-migrate", {"status": "completed"})
    bench.source.on("query-status", {"status": "postmigrate", "running": False})
    bench.source.on("cont", {})
    with pytest.raises(WhimbrelError, match="completed"):
        await bench.do(Command.RESTORE_SOURCE)
    assert bench.asked(bench.source) == []
    assert [event.signal for event in bench.events if isinstance(event, Happened)] == [Signal.SOURCE_COMPLETED]


async def test_a_guest_that_was_stopped_before_migrate_is_not_resumed(bench: Bench) -> None:
    """No migration stopped it, so its owner did; it is reported as paused, and its settings are put back."""
    bench.procedures.settings.armed = True
    bench.known = frozenset()
    bench.source.on("query-status", PAUSED)
    await bench.do(Command.RESTORE_SOURCE)
    assert bench.asked(bench.source) == ["migrate-set-parameters", "migrate-set-capabilities"]
    assert any(isinstance(event, Learnt) and event.paused_before for event in bench.events)


async def test_settings_are_written_down_before_they_are_changed(bench: Bench) -> None:
    """As they were, for whoever has to put them back after our death."""
    bench.destination.on("migrate-incoming", {})
    with pytest.raises(PreparationFailed):
        await bench.do(Command.ARM, steering())
    settings = {str(fields["side"]): fields for kind, fields in bench.lines if kind == "settings"}
    assert settings["source"]["parameters"] == {"downtime-limit": 300, "max-bandwidth": 7, "max-cpu-throttle": 99}
    assert settings["destination"]["capabilities"] == dict.fromkeys(REQUIRED, False)


async def test_settings_that_cannot_be_written_down_are_not_changed(bench: Bench) -> None:
    """Nobody could put them back."""

    def fail(kind: str, fields: dict[str, object]) -> None:
        raise WhimbrelError("disk full")

    bench.procedures.settings.write = fail
    with pytest.raises(WhimbrelError, match="disk full"):
        await bench.do(Command.ARM, steering())
    assert bench.asked(bench.source) == bench.asked(bench.destination) == []


async def test_disks_are_not_copied(bench: Bench) -> None:
    """Nobody comes there: such a guest is refused at the inspection."""
    for command in (Command.MIRROR, Command.DRAIN):
        with pytest.raises(WhimbrelError, match="copying disks is not supported"):
            await bench.do(command)


async def test_post_copy_takes_one_call_each(bench: Bench) -> None:
    """What QEMU is told to begin it, to give up the link, to listen again and to come back."""
    for server in (bench.source, bench.destination):
        server.on("migrate-pause", {})
    bench.source.on("migrate-start-postcopy", {})
    paused = {"status": "postcopy-paused"}
    bench.source.on("query-migrate", paused)
    bench.source.on("migrate", {})
    bench.destination.on("migrate-recover", {})
    address = {"type": "inet", "host": "127.0.0.1", "port": "4712"}
    bench.destination.on("query-migrate", {**paused, "socket-address": [{**address, "port": "1"}, address]})
    for command in (Command.START_POSTCOPY, Command.PAUSE_POSTCOPY, Command.LISTEN_AGAIN, Command.SEND_AGAIN):
        await bench.do(command)
    assert bench.asked(bench.source) == ["migrate-start-postcopy", "migrate-pause", "migrate"]
    assert bench.asked(bench.destination) == ["migrate-pause", "migrate-recover"]
    assert bench.source.received[-1].arguments == {"uri": "tcp:127.0.0.1:4712", "resume": True}


async def test_a_connection_that_went_is_made_anew_for_the_resumption(bench: Bench) -> None:
    """The guest stands stopped for as long."""
    await bench.sides[1].close()
    bench.sides[1].monitor = None
    bench.destination.on("cont", {})
    bench.destination.on("query-status", RUNNING)
    await bench.do(Command.RESUME_DESTINATION)
    assert Happened(Signal.DESTINATION_RUNNING) in bench.events


async def test_a_side_that_a_person_vouches_for_is_left_alone(bench: Bench) -> None:
    """Its machine is off: it counts as ended, and nobody waits for it."""
    for side in bench.sides:
        side.fenced = True
    await bench.do(Command.INSPECT_BOTH)
    assert bench.events[-1] == Inspected(SourceClass.ENDED, DestinationClass.ENDED)
    await bench.do(Command.DISCARD_DESTINATION)
    await bench.do(Command.RELEASE_SOURCE)
    assert "quit" not in bench.asked(bench.source) + bench.asked(bench.destination)


async def test_a_source_that_is_busy_with_its_cancel(bench: Bench) -> None:
    """A pending connect holds QEMU's cancel for two minutes: the guest runs, and the report says the rest."""
    bench.procedures.settings.armed = True
    bench.source.on("query-migrate", {"status": "cancelling"})
    bench.source.on("query-status", RUNNING)
    bench.source.on("migrate-set-capabilities", Refusal("There's a migration process in progress"))
    await bench.do(Command.RESTORE_SOURCE)
    assert any("busy with its old migration (cancelling)" in note for note in bench.notes)
    assert any("keeps this migration's settings" in note for note in bench.notes)


async def test_a_source_that_cannot_be_reached_is_not_put_right(bench: Bench) -> None:
    """Whether its guest runs is not known then."""
    bench.procedures.settings.armed = True
    await bench.sides[0].close()
    bench.sides[0].address = None
    with pytest.raises(CannotConnect, match="does not answer"):
        await bench.do(Command.RESTORE_SOURCE)
    with pytest.raises(CannotConnect, match="does not answer"):
        await bench.do(Command.RESUME_SOURCE)


async def test_a_destination_of_others_is_told_to_quit(bench: Bench) -> None:
    """It serves one attempt; without an answer, or a connection, nobody can say that it ended."""
    bench.destination.on("quit", Drop())
    with pytest.raises(WhimbrelError, match="nobody can say"):
        await bench.do(Command.DISCARD_DESTINATION)
    assert bench.asked(bench.destination) == ["quit"]
    await bench.sides[1].close()
    bench.sides[1].address = None
    with pytest.raises(WhimbrelError, match="can't be reached"):
        await bench.do(Command.DISCARD_DESTINATION)


async def test_both_sides_are_looked_at(bench: Bench) -> None:
    """Each in its own words."""
    bench.source.on("query-migrate", {"status": "completed"})
    bench.source.on("query-status", {"status": "postmigrate", "running": False})
    bench.destination.on("query-migrate", {"status": "completed"})
    bench.destination.on("query-status", PAUSED)
    await bench.do(Command.INSPECT_BOTH)
    assert bench.events[-1] == Inspected(SourceClass.COMPLETED, DestinationClass.READY)


async def test_who_cannot_be_reached_is_not_taken_for_dead(bench: Bench) -> None:
    """Their processes are not known here, so their ends can't be either."""
    bench.source.on("query-migrate", Drop())
    bench.destination.on("query-status", Drop())
    await bench.do(Command.INSPECT_BOTH)
    assert bench.events[-1] == Inspected(SourceClass.UNREACHABLE, DestinationClass.UNREACHABLE)
