"""What each command of the engine means in QMP: one coroutine per command.

A procedure raises `QemuRefused` (or any other `WhimbrelError` of known outcome) where the answer is no, and
`OutcomeUnknown` where nobody can tell; the runner turns both into the engine's signals. It holds at most
one call that can change a guest, an owner or a disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whimbrel.engine.errors import CannotConnect, PreparationFailed, WhimbrelError
from whimbrel.engine.machine import Event, Happened, Inspected, Learnt, Marked, Order
from whimbrel.engine.pilot import Steering
from whimbrel.engine.report import CompletedReport, OngoingReport
from whimbrel.engine.resolve import STILL_STATES
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, State
from whimbrel.engine.states import Side as SideName
from whimbrel.engine.timeline import Mark

from . import replies
from .adoption import ELSEWHERE, Host, Judged, Legacy, find_process, started_again
from .breaking import break_stream
from .consent import Consent
from .destination import Destination, SourceTruth, StartedDestination
from .discarding import see_that_it_may_end
from .facts import read_facts
from .helm import Helm
from .inspection import look_at_destination, look_at_source
from .journal import Journal
from .kinds import host_of, summary
from .launch import end_in
from .monitor import Monitor
from .options import Options
from .postcopy import listen, pause
from .releasing import quit_source, take_final_figures
from .restoring import await_final_status, see_as_it_is, see_running
from .settings import Settings
from .side import Side
from .sockets import Address
from .sole import SoleManagers
from .stream import NAME, connect, in_our_network
from .takeover import the_dead


@dataclass(slots=True)
class Procedures:
    """The hands of one migration."""

    source: Side
    destination: Side
    source_address: Address
    strategy: Destination
    options: Options
    journal: Journal
    deliver: Callable[[Event], None]
    start_watching: Callable[[], None]
    now_ns: Callable[[], int]
    state: Callable[[], State]
    """The protocol's."""
    write: Callable[[str, dict[str, object]], None]
    """Puts a line into the log, or raises; the first that fails calls the migration off."""
    glance: Callable[[], tuple[OngoingReport, Mapping[str, Any]]]
    """How the migration stands, and what was learnt so far."""
    started: StartedDestination | None = None
    truth: SourceTruth | None = None
    failure: WhimbrelError | None = None
    """The first error of a preparatory command, for the caller: it says more than the report's sentence."""
    uri: str = ""
    adopted: bool = False
    """Another manager began this migration: see `take_up`."""
    unborn: Path | None = None
    """The private directory of a destination of which nothing else is known: it was being started."""
    _sole: SoleManagers = field(default_factory=SoleManagers)
    settings: Settings = field(init=False)
    helm: Helm = field(init=False)
    _consent: Consent = field(init=False)

    def __post_init__(self) -> None:
        self.settings = Settings(self.deliver, self.write)
        self.helm = Helm(self.source, self.options, deliver=self.deliver, write=self.write)
        self._consent = Consent(
            options=self.options,
            source=self.source,
            source_address=self.source_address,
            destination=self.destination,
            glance=self.glance,
            deliver=self.deliver,
            log_path=self.journal.path,
        )

    def of(self, order: Order) -> Coroutine[Any, Any, None]:
        """The coroutine that carries out an order."""
        if order.command is Command.ARM:
            return self.arm(order.setup)
        ways: dict[Command, Callable[[], Coroutine[Any, Any, None]]] = {
            Command.INSPECT: self.inspect,
            Command.PREPARE: self.prepare,
            Command.MIRROR: self.copy_disks,
            Command.MIGRATE: self.migrate,
            Command.START_POSTCOPY: self.start_postcopy,
            Command.QUIESCE: self.quiesce,
            Command.DRAIN: self.copy_disks,
            Command.CONTINUE: self.go_on,
            Command.BREAK: self.break_stream,
            Command.CLAIM: self.claim,
            Command.RESUME_DESTINATION: self.resume_destination,
            Command.PAUSE_POSTCOPY: self.pause_postcopy,
            Command.LISTEN_AGAIN: self.listen_again,
            Command.SEND_AGAIN: self.send_again,
            Command.RELEASE_SOURCE: self.release_source,
            Command.CANCEL_MIGRATION: self.cancel_migration,
            Command.DISCARD_DESTINATION: self.discard_destination,
            Command.RESTORE_SOURCE: self.restore_source,
            Command.RECLAIM: self.reclaim,
            Command.RESUME_SOURCE: self.resume_source,
            Command.INSPECT_BOTH: self.inspect_both,
        }
        return ways[order.command]()

    # ---- taking over

    def take_up(self, legacy: Legacy, here: Host) -> None:
        """Take up what an earlier manager knew: who the QEMUs are, and what was set before."""
        self.adopted, self.uri = True, legacy.uri
        self.source.address = self.source_address
        if (known := legacy.known(SideName.SOURCE)) is not None:
            judged = legacy.judge(SideName.SOURCE, here)
            self.source.remember(*find_process(known, judged), ours=True)
            if judged is Judged.ELSEWHERE and legacy.badge is None and not isinstance(self.source_address, tuple):
                self.source.leave_alone(ELSEWHERE)
        left, known = legacy.destination, legacy.known(SideName.DESTINATION)
        if left is not None and known is not None:
            judged = legacy.judge(SideName.DESTINATION, here)
            found, process = find_process(known, judged, stderr_path=left.stderr)
            self.destination.remember(found, process)
            if judged is Judged.ELSEWHERE and not isinstance(left.address, tuple):
                self.destination.leave_alone(ELSEWHERE)
            self.started = started_again(left, process)
        elif legacy.directory is not None and here.judge(legacy.host) is not Judged.ELSEWHERE:
            self.unborn = legacy.directory
        self.settings.take_up(legacy)
        self.source.badge = legacy.badge

    def be_the_only_one(self) -> None:
        """See to it that no other manager of this host touches either QEMU, as long as we live.

        Raises:
            WhimbrelError: one does already.
        """
        self._sole.take(*(side.process for side in self._sides))

    def let_go(self) -> None:
        """It has ended: others may have the guest."""
        self._sole.close()

    @property
    def _sides(self) -> tuple[Side, Side]:
        return self.source, self.destination

    # ---- stage 1

    async def inspect(self) -> None:
        """Connect to the source and judge what it says."""
        monitor = await self.source.connect(self.source_address)
        self.be_the_only_one()
        self.truth = await SourceTruth.read(monitor)
        facts = self.truth.facts
        self.source.status = facts.migration_status or ""  # of an earlier migration: no news for this one
        settings = self.settings
        settings.has["source"], settings.parameters, _ = await asyncio.gather(
            replies.query_capabilities(monitor), replies.query_parameters(monitor), self.helm.look(monitor, facts)
        )
        self.deliver(
            Learnt(
                {
                    "qemu_source": _version(monitor.version, monitor.package),
                    "source": summary(facts, host_of(self.source_address, here=self.truth.process is not None)),
                },
                paused_before=facts.run_state != "running",
            )
        )
        findings = await self.strategy.examine(self.truth, accept_memory_loss=self.options.accept_memory_loss)
        self._take_findings(findings)
        await self._consent.start()

    async def prepare(self) -> None:
        """Bring the destination up, stopped, and compare it with the source."""
        assert self.truth is not None
        self.started = await self.strategy.start(
            self.truth, lambda directory: self.write("starting", {"directory": str(directory)})
        )
        self.destination.process = self.started.process
        self.write("destination", self.started.as_written())
        self.be_the_only_one()
        monitor = await self.destination.connect(self.started.address)
        # The peer of the socket may be a relay: only a process that was proven to be the QEMU has a pid here.
        pid = self.destination.process.pid if self.destination.process is not None else None
        if not self.started.owned:
            await replies.stop(monitor)  # clears autostart on a destination that is still inmigrate
        facts, has = await asyncio.gather(read_facts(monitor, pid=pid), replies.query_capabilities(monitor))
        self.settings.has["destination"] = has
        offered = await self.helm.offer(self.settings.has["source"], has, self.settings.parameters)
        self.deliver(
            Learnt(
                {
                    "qemu_destination": _version(monitor.version, monitor.package),
                    "destination": summary(facts, host_of(self.started.address, here=pid is not None)),
                    "destination_qmp": str(self.started.address),
                    "destination_pid": pid,
                    "destination_directory": str(self.started.directory or ""),
                    "relocalised": dict(self.started.relocalised),
                    "no_outside_throttle": self.helm.cpus.because,
                },
                abilities=offered,
            )
        )
        self._take_findings(self.strategy.compare(self.truth, facts))

    async def arm(self, setup: Steering | None) -> None:
        """Set both ends up, let the destination listen, make the log safe."""
        assert setup is not None
        source, destination = self.source.require(), self.destination.require()
        agreed = self.settings.agree(setup)
        await self.settings.tell_destination(destination, agreed, setup.knobs)
        await replies.migrate_incoming(destination, _listen_uri(self.options))
        listening, *_ = await asyncio.gather(
            replies.query_migrate(destination),
            self.settings.tell_source(source, agreed, setup.knobs),
            self.journal.arm(),
        )
        if not listening.socket_address:
            raise PreparationFailed("it does not say where it listens", side="destination")
        address = listening.socket_address[-1]
        self.uri = address.uri
        # Several channels are several connections, and only QEMU can make those.
        one_channel = not any(agreed.capabilities.get(name) for name in ("multifd", "postcopy-preempt"))
        own_stream = one_channel and address.port is not None and self._may_hand_over_a_stream()
        self.deliver(Learnt({"uri": self.uri, "own_stream": own_stream}))
        if own_stream:
            # Here and not with `migrate`: that has to be on its way before anybody can send a cancel after it.
            with await connect(self.options.host.strip("[]"), int(address.port or 0)) as stream:
                await source.send_descriptor(NAME, stream.fileno())
            self.uri = f"fd:{NAME}"

    def _may_hand_over_a_stream(self) -> bool:
        """A descriptor can only be passed over a UNIX socket, and has to be of the source's own network."""
        process = self.source.process
        on_unix_socket = not isinstance(self.source_address, tuple)
        return self.options.own_stream and on_unix_socket and process is not None and in_our_network(process.pid)

    # ---- stages 2 to 4

    async def migrate(self) -> None:
        """Start it; from here on the source is watched."""
        try:
            await replies.migrate(self.source.require(), self.uri)
        finally:
            self.start_watching()

    async def copy_disks(self) -> None:
        """Refuse: disks that both ends do not share are refused at the inspection, so nobody comes here.

        Raises:
            WhimbrelError: always.
        """
        raise WhimbrelError("copying disks is not supported yet")

    async def quiesce(self) -> None:
        """Ask the caller's hook while the guest stands still and calling off is safe."""
        await self._consent.hooks.source_stopped()

    async def go_on(self) -> None:
        """Send ``migrate-continue``: the token is in limbo from here."""
        self.deliver(Marked(Mark.CONTINUE_SENT, time.time()))
        # QEMU may be silent for the whole switchover, so the answer has as long as the handover itself.
        timeout_s = self.options.waits.handover_ns / 1e9
        await replies.migrate_continue(self.source.require(), timeout_s=timeout_s)

    async def break_stream(self) -> None:
        """End a handover that hangs without ``migrate_cancel``."""
        await break_stream(self.source, self.destination, self.write, within_s=self.options.reconnect_s)

    # ---- post-copy

    async def start_postcopy(self) -> None:
        """Ask for it; QEMU looks at the request at its next look."""
        await replies.migrate_start_postcopy(await self.source.reach(within_s=self.options.reconnect_s))

    async def pause_postcopy(self) -> None:
        """Have both sides give the link up."""
        await pause(self._sides, within_s=self.options.reconnect_s)

    async def listen_again(self) -> None:
        """Let the destination listen for its source."""
        self.uri = await listen(self.destination, _listen_uri(self.options), within_s=self.options.reconnect_s)
        self.deliver(Learnt({"uri": self.uri}))

    async def send_again(self) -> None:
        """Let the source go on where the link broke."""
        await replies.migrate(await self.source.reach(within_s=self.options.reconnect_s), self.uri, resume=True)

    # ---- stage 5

    async def claim(self) -> None:
        """Ask the caller's hook for the last time, then hand the guest's lock to the destination."""
        await self._consent.claims.claim()

    async def resume_destination(self) -> None:
        """Let the guest run on the destination."""
        monitor = await self.destination.reach(within_s=self.options.reconnect_s)
        if self.adopted and (await replies.query_status(monitor)).status not in STILL_STATES:
            # Somebody had it run meanwhile, and stopped it or sent it on: an inspection says which.
            raise WhimbrelError("it does not stand paused any more", side="destination")
        self.deliver(Marked(Mark.CONT_SENT, time.time()))
        await replies.cont(monitor)
        if (await replies.query_status(monitor)).running:
            self.deliver(Happened(Signal.DESTINATION_RUNNING))

    async def release_source(self) -> None:
        """Take the source's last figures and let the process go; the destination gets its own settings back."""
        within_s = self.options.reconnect_s
        if self.adopted:
            await asyncio.gather(*(side.reconnect(within_s=within_s) for side in self._sides))
        if self.source.alive:
            await take_final_figures(self.source, self.now_ns, self.deliver)
        # Before the source goes: its end is the end of the migration.
        await self.settings.leave(self.source, self.destination, source_stays=self.options.keep_source)
        if self.options.keep_source or self.source.fenced:
            return
        try:
            await quit_source(self.source, within_s=within_s, look=self.adopted)
        except WhimbrelError as error:
            self.deliver(Learnt({}, note=f"the source process is still there: {error}"))
            raise

    # ---- backing out

    async def cancel_migration(self) -> None:
        """Ask the source to give up; its status tells when it has."""
        await replies.migrate_cancel(await self.source.reach(within_s=self.options.reconnect_s))

    async def discard_destination(self) -> None:
        """End the destination and see it ended.

        A destination serves one attempt, so one that the caller started is ended too.

        Raises:
            WhimbrelError: it has all of the guest, and the source's process, which could have it back, has ended; or
                it can't be shown to have ended.
        """
        known, within_s = self.state().facts, self.options.reconnect_s
        await see_that_it_may_end(self.source, self.destination, known, adopted=self.adopted, within_s=within_s)
        if self.started is not None:
            process = self.started.process
            if self.destination.fenced and (process is None or not process.exited):
                return  # a person vouches that it is off
            if process is None:
                await self.destination.reconnect(within_s=within_s)
            await self.started.discard(self.destination.monitor)
        elif self.unborn is not None:
            await end_in(self.unborn)

    async def restore_source(self) -> None:
        """See the source in the run state that it had, with its parameters as they were."""
        if not self.settings.armed:
            if self.adopted:
                await see_as_it_is(await self._reach_source(), self.deliver)
            elif self.truth is None:
                raise CannotConnect("it was never reached", side="source")
            return  # nothing was changed there
        monitor = await self._reach_source()
        await await_final_status(monitor, self.deliver)
        await self.source.look()  # one that completed is not resumed here, and the engine has to know why
        if Fact.MIGRATE_SENT not in self.state().facts:
            await see_as_it_is(monitor, self.deliver)
        elif Fact.PAUSED_BEFORE not in self.state().facts:
            await see_running(monitor, self.deliver)
        await self.settings.put_back(monitor)

    async def _reach_source(self) -> Monitor:
        """Its monitor; where it can't be had because the process has ended, that is told before it is refused."""
        try:
            return await self.source.reach(within_s=self.options.reconnect_s)
        except CannotConnect:
            if not await self.source.has_ended() and await self.source.is_gone():
                for news in the_dead(self.source, self.destination, self.state().facts):
                    self.deliver(news)
            raise

    async def reclaim(self) -> None:
        """Hand the guest's lock back to the source."""
        await self._consent.claims.reclaim()

    async def resume_source(self) -> None:
        """Give the guest back to a source that completed."""
        monitor = await self._reach_source()
        if Fact.PAUSED_BEFORE not in self.state().facts:
            await replies.cont(monitor)
        await self.settings.put_back(monitor)

    # ---- resolving

    async def inspect_both(self) -> None:
        """Ask both sides what is true, and tell the engine the classes."""
        within_s = self.options.reconnect_s
        source, destination = await asyncio.gather(
            look_at_source(self.source, within_s=within_s, deliver=self.deliver),
            look_at_destination(self.destination, within_s=within_s),
        )
        self.deliver(Inspected(source, destination))

    # ---- hooks and the lock

    async def ended(self, report: CompletedReport) -> CompletedReport:
        """See the guest's lock with it and tell the caller's hook; what goes wrong is a note in the report."""
        return await self._consent.ended(report)

    def _take_findings(self, findings: tuple[Any, ...]) -> None:
        from .preflight import raise_if_refused

        for finding in findings:
            self.deliver(Learnt({}, note=str(finding)))
        raise_if_refused(findings)


def _listen_uri(options: Options) -> str:
    host = f"[{options.host}]" if ":" in options.host and not options.host.startswith("[") else options.host
    return f"tcp:{host}:{options.port}"


def _version(triple: tuple[int, int, int], package: str) -> str:
    text = ".".join(str(part) for part in triple)
    return f"{text} ({package})" if package else text
