"""What each command of the engine means in QMP: one coroutine per command.

A procedure raises `QemuRefused` (or any other `WhimbrelError` of known outcome) where the answer is no, and
`OutcomeUnknown` where nobody can tell; the runner turns both into the engine's signals. It holds at most
one call that can change a guest, an owner or a disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, PreparationFailed, QemuRefused, WhimbrelError
from whimbrel.engine.machine import Event, Happened, Inspected, Learnt, Marked, Order, Sampled
from whimbrel.engine.pilot import Steering
from whimbrel.engine.resolve import (
    MOVING_STATUSES,
    DestinationClass,
    SourceClass,
    classify_destination,
    classify_source,
)
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.timeline import Mark

from . import replies
from .destination import Destination, SourceTruth, StartedDestination
from .facts import SideFacts, read_facts
from .journal import Journal
from .negotiation import abilities, changed_parameters, for_side, negotiate, parameters_of, to_put_back
from .options import Options
from .sampling import statistics_of
from .side import Side
from .sockets import Address
from .stream import NAME, connect, in_our_network

EXIT_TIMEOUT_S = 20.0
"""A QEMU that was told to quit closes its images first; slow storage makes that long."""
FINAL_STATUS_TIMEOUT_S = 20.0
LOOK_EVERY_S = 0.02


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
    started: StartedDestination | None = None
    truth: SourceTruth | None = None
    failure: WhimbrelError | None = None
    """The first error of a preparatory command, for the caller: it says more than the report's sentence."""
    uri: str = ""
    armed: bool = False
    was_running: bool = True
    _capabilities: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])
    _changed: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])
    """The capabilities that we set otherwise, as they were."""
    _parameters: dict[str, object] = field(default_factory=dict[str, object])

    def of(self, order: Order) -> Coroutine[Any, Any, None]:
        """The coroutine that carries out an order."""
        match order.command:
            case Command.INSPECT:
                return self.inspect()
            case Command.PREPARE:
                return self.prepare()
            case Command.ARM:
                return self.arm(order.setup)
            case Command.MIGRATE:
                return self.migrate()
            case Command.QUIESCE:
                return self.quiesce()
            case Command.CONTINUE:
                return self.go_on()
            case Command.BREAK:
                return self.break_stream()
            case Command.RESUME_DESTINATION:
                return self.resume_destination()
            case Command.RELEASE_SOURCE:
                return self.release_source()
            case Command.CANCEL_MIGRATION:
                return self.cancel_migration()
            case Command.DISCARD_DESTINATION:
                return self.discard_destination()
            case Command.RESTORE_SOURCE:
                return self.restore_source()
            case Command.RESUME_SOURCE:
                return self.resume_source()
            case Command.INSPECT_BOTH:
                return self.inspect_both()

    # ---- stage 1

    async def inspect(self) -> None:
        """Connect to the source and judge what it says."""
        monitor = await self.source.connect(self.source_address)
        self.truth = await SourceTruth.read(monitor)
        facts = self.truth.facts
        self.source.status = facts.migration_status or ""  # of an earlier migration: no news for this one
        self.was_running = facts.run_state == "running"
        self._capabilities["source"], self._parameters = await asyncio.gather(
            replies.query_capabilities(monitor), replies.query_parameters(monitor)
        )
        self.deliver(
            Learnt(
                {"qemu_source": _version(monitor.version, monitor.package), "source": _summary(facts)},
                paused_before=not self.was_running,
            )
        )
        findings = await self.strategy.examine(self.truth, accept_memory_loss=self.options.accept_memory_loss)
        self._take_findings(findings)

    async def prepare(self) -> None:
        """Bring the destination up, stopped, and compare it with the source."""
        assert self.truth is not None
        self.started = await self.strategy.start(self.truth)
        self.destination.process = self.started.process
        monitor = await self.destination.connect(self.started.address)
        # The peer of the socket may be a relay: only a process that was proven to be the QEMU has a pid here.
        pid = self.destination.process.pid if self.destination.process is not None else None
        if not self.started.owned:
            await replies.stop(monitor)  # clears autostart on a destination that is still inmigrate
        facts, has = await asyncio.gather(read_facts(monitor, pid=pid), replies.query_capabilities(monitor))
        self._capabilities["destination"] = has
        self.deliver(
            Learnt(
                {
                    "qemu_destination": _version(monitor.version, monitor.package),
                    "destination": _summary(facts),
                    "destination_qmp": str(self.started.address),
                    "destination_pid": pid,
                    "destination_directory": str(self.started.directory or ""),
                    "relocalised": dict(self.started.relocalised),
                },
                abilities=abilities(self._capabilities["source"], has, self._parameters),
            )
        )
        self._take_findings(self.strategy.compare(self.truth, facts))

    async def arm(self, setup: Steering | None) -> None:
        """Set both ends up, let the destination listen, make the log safe."""
        assert setup is not None
        source, destination = self.source.require(), self.destination.require()
        has = self._capabilities
        agreed = negotiate(has["source"], has["destination"], setup.decision.capabilities)
        for sentence in agreed.dropped:
            self.deliver(Learnt({}, note=sentence))
        self.armed = True
        wanted = {side: for_side(agreed, has[side]) for side in ("source", "destination")}
        self._changed = {side: {name: has[side][name] for name in names} for side, names in wanted.items()}
        if wanted["destination"]:
            await replies.set_capabilities(destination, wanted["destination"])
        await replies.migrate_incoming(destination, _listen_uri(self.options))
        listening, *_ = await asyncio.gather(
            replies.query_migrate(destination),
            replies.set_capabilities(source, wanted["source"]),
            replies.set_parameters(source, parameters_of(setup.knobs, self._parameters)),
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

    async def quiesce(self) -> None:
        """Ask the caller's hook while the guest stands still and calling off is safe."""
        if self.options.at_switchover is None:
            return
        try:
            await self.options.at_switchover()
        except Exception as error:  # the caller's code may raise anything; its word is no
            raise WhimbrelError(f"the hook at the switchover refused: {error!r}") from error

    async def go_on(self) -> None:
        """Send ``migrate-continue``: the token is in limbo from here."""
        self.deliver(Marked(Mark.CONTINUE_SENT, time.time()))
        # QEMU may be silent for the whole switchover, so the answer has as long as the handover itself.
        timeout_s = self.options.waits.handover_ns / 1e9
        await replies.migrate_continue(self.source.require(), timeout_s=timeout_s)

    async def break_stream(self) -> None:
        """End a handover that hangs without ``migrate_cancel``."""
        process = self.destination.process
        if process is not None:
            await process.kill()
        else:
            await replies.yank_migration(self.source.require())

    # ---- stage 5

    async def resume_destination(self) -> None:
        """Let the guest run on the destination."""
        monitor = self.destination.require()
        self.deliver(Marked(Mark.CONT_SENT, time.time()))
        await replies.cont(monitor)
        if (await replies.query_status(monitor)).running:
            self.deliver(Happened(Signal.DESTINATION_RUNNING))

    async def release_source(self) -> None:
        """Take the source's last figures and let the process go; the destination gets its own settings back."""
        if self.source.alive:
            await self._take_final_figures()
        # Before the source goes: its end is the end of the migration.
        await self._leave_no_settings()
        if self.options.keep_source:
            return
        try:
            await self._quit_source()
        except WhimbrelError as error:
            self.deliver(Learnt({}, note=f"the source process is still there: {error}"))
            raise

    async def _quit_source(self) -> None:
        if not await self.source.reconnect(within_s=self.options.reconnect_s):
            if await self.source.has_ended():
                return
            raise CannotConnect("its monitor does not answer any more", side="source")
        try:
            await replies.quit_(self.source.require())
        except (OutcomeUnknown, CannotConnect):
            pass  # a QEMU that quits may close the connection before its answer is out
        if self.source.process is not None:
            try:
                await self.source.process.wait_exit(EXIT_TIMEOUT_S)
            except TimeoutError as error:
                raise WhimbrelError(f"it has not ended within {EXIT_TIMEOUT_S:g} s", side="source") from error

    async def _leave_no_settings(self) -> None:
        """Ours would bind whoever migrates these QEMUs next: ``pause-before-switchover`` makes them wait for ever."""
        for side in (self.destination, self.source) if self.options.keep_source else (self.destination,):
            before = self._changed.get(side.name.value)
            if not before or not side.alive:
                continue
            try:
                await replies.set_capabilities(side.require(), before)
            except WhimbrelError as error:
                self.deliver(Learnt({}, note=f"the {side.name.value} keeps this migration's settings: {error}"))

    async def _take_final_figures(self) -> None:
        """QEMU 7.2 says completed before its totals are there: ask until they are, a second at most."""
        # They are only figures: without them the source is let go all the same.
        for _ in range(50):
            try:
                info = await replies.query_migrate(self.source.require())
            except WhimbrelError:
                return
            if info.total_time_ms or info.status != "completed":
                self.deliver(Sampled(statistics_of(info, self.now_ns())))
                figures = {"qemu_total_ms": info.total_time_ms, "qemu_downtime_ms": info.downtime_ms}
                self.deliver(Learnt(figures))
                return
            await asyncio.sleep(LOOK_EVERY_S)

    # ---- backing out

    async def cancel_migration(self) -> None:
        """Ask the source to give up; its status tells when it has."""
        await replies.migrate_cancel(self.source.require())

    async def discard_destination(self) -> None:
        """End the destination and see it ended.

        A destination serves one attempt, so one that the caller started is ended too.
        """
        if self.started is not None:
            await self.started.discard(self.destination.monitor)

    async def restore_source(self) -> None:
        """See the source in the run state that it had, with its parameters as they were."""
        if not self.armed:
            if self.truth is None:
                raise CannotConnect("it was never reached", side="source")
            return  # nothing was changed there
        if not await self.source.reconnect(within_s=self.options.reconnect_s):
            raise CannotConnect("its monitor does not answer any more", side="source")
        await self._await_final_status()
        if self.was_running:
            await self._see_running()
        await self._put_back()

    async def _put_back(self) -> None:
        try:
            await replies.set_parameters(self.source.require(), to_put_back(self._parameters))
            if before := self._changed.get("source"):
                await replies.set_capabilities(self.source.require(), before)
        except QemuRefused as error:
            # A cancel that hangs in a pending connect keeps the migration "in progress" for minutes.
            self.deliver(Learnt({}, note=f"the source keeps this migration's settings: {error.description}"))

    async def _await_final_status(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FINAL_STATUS_TIMEOUT_S
        while True:
            info = await replies.query_migrate(self.source.require())
            if (info.status or "") not in MOVING_STATUSES:
                return
            run = await replies.query_status(self.source.require())
            if loop.time() > deadline or (info.status == "cancelling" and run.running):
                note = f"the guest runs; the source is busy with its old migration ({info.status}) for a while yet"
                self.deliver(Learnt({}, note=note))
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _see_running(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FINAL_STATUS_TIMEOUT_S
        while True:
            status = await replies.query_status(self.source.require())
            if status.running:
                return
            if status.status in ("paused", "postmigrate"):
                # The destination never had its cont and is gone: the guest is the source's.
                await replies.cont(self.source.require())
                return
            if loop.time() > deadline:
                raise WhimbrelError(f"the guest is not running but {status.status}", side="source")
            await asyncio.sleep(LOOK_EVERY_S)

    async def resume_source(self) -> None:
        """Give the guest back to a source that completed."""
        if not await self.source.reconnect(within_s=self.options.reconnect_s):
            raise CannotConnect("its monitor does not answer any more", side="source")
        if self.was_running:
            await replies.cont(self.source.require())
        await self._put_back()

    # ---- resolving

    async def inspect_both(self) -> None:
        """Ask both sides what is true, and tell the engine the classes."""
        source, destination = await asyncio.gather(self._look_at_source(), self._look_at_destination())
        self.deliver(Inspected(source, destination))

    async def _look_at_source(self) -> SourceClass:
        words = await self._look(self.source)
        if words is None:
            return SourceClass.ENDED if await self.source.has_ended() else SourceClass.UNREACHABLE
        return classify_source(*words)

    async def _look_at_destination(self) -> DestinationClass:
        words = await self._look(self.destination)
        if words is None:
            return DestinationClass.ENDED if await self.destination.is_gone() else DestinationClass.UNREACHABLE
        return classify_destination(*words)

    async def _look(self, side: Side) -> tuple[str | None, str | None] | None:
        if not await side.reconnect(within_s=self.options.reconnect_s):
            return None
        try:
            info = await replies.query_migrate(side.require())
            run = await replies.query_status(side.require())
        except (OutcomeUnknown, CannotConnect):
            return None
        return info.status, run.status

    # ---- steering

    async def tune(self, steering: Steering) -> None:
        """Set the knobs that a decision changed."""
        await replies.set_parameters(self.source.require(), changed_parameters(steering))

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


def _summary(facts: SideFacts) -> dict[str, Any]:
    return {"machine": facts.machine, "run_state": facts.run_state, "ram_bytes": facts.ram_bytes}
