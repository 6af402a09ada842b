"""What each command of the engine means in QMP, in virtual time: `whimbrel.qmp_driver.procedures`, step by step.

Left out of it is what has no meaning here: hooks, locks, file descriptors, and the comparison of two command lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, PreparationFailed, QemuRefused, WhimbrelError
from whimbrel.engine.machine import Event, Happened, Inspected, Learnt, Marked, Order
from whimbrel.engine.negotiation import (
    for_side,
    negotiate,
    parameters_of,
    to_put_back,
)
from whimbrel.engine.pilot import Steering
from whimbrel.engine.policy import Knobs
from whimbrel.engine.protocol import DEFAULT_WAITS, Waits
from whimbrel.engine.resolve import STILL_STATES
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, State
from whimbrel.engine.timeline import Mark

from . import driver_ends as ends
from . import driver_replies as replies
from .driver_helm import Helm, Threads
from .driver_line import Line, Wire
from .driver_log import wall_s
from .driver_side import Handle, Local, Side, address_of, identity_of
from .driver_tasks import Loop, Work

QUIT_WITHIN_S = 5.0
LISTEN_URI = "tcp:127.0.0.1:0"


class Place(Threads, Protocol):
    """Where a manager finds and starts QEMUs; the threads are the source's."""

    @property
    def watched(self) -> bool:
        """Whether both processes are of the manager's own host, so that their ends can be seen."""
        ...

    @property
    def source(self) -> Local:
        """The source."""
        ...

    @property
    def source_wire(self) -> Wire:
        """The way to its monitor."""
        ...

    @property
    def destination(self) -> Local | None:
        """The destination, once there is one."""
        ...

    @property
    def destination_wire(self) -> Wire | None:
        """The way to its monitor."""
        ...

    def start_destination(self) -> None:
        """Start it; it is there afterwards, and may take its time to greet."""
        ...

    @property
    def start_s(self) -> float:
        """How long it takes until it greets."""
        ...


_WAYS = {
    Command.INSPECT: "inspect",
    Command.PREPARE: "prepare",
    Command.MIRROR: "copy_disks",
    Command.MIGRATE: "migrate",
    Command.START_POSTCOPY: "start_postcopy",
    Command.QUIESCE: "nothing",
    Command.DRAIN: "copy_disks",
    Command.CONTINUE: "go_on",
    Command.BREAK: "break_stream",
    Command.CLAIM: "nothing",
    Command.RESUME_DESTINATION: "resume_destination",
    Command.PAUSE_POSTCOPY: "pause_postcopy",
    Command.LISTEN_AGAIN: "listen_again",
    Command.SEND_AGAIN: "send_again",
    Command.RELEASE_SOURCE: "release_source",
    Command.CANCEL_MIGRATION: "cancel_migration",
    Command.DISCARD_DESTINATION: "discard_destination",
    Command.RESTORE_SOURCE: "restore_source",
    Command.RECLAIM: "nothing",
    Command.RESUME_SOURCE: "resume_source",
    Command.INSPECT_BOTH: "inspect_both",
}
"""The procedures of `Procedures` by name, so that one that is derived from it may put its own in their place."""


@dataclass(slots=True)
class Procedures:
    """The hands of one manager."""

    loop: Loop
    place: Place
    source: Side
    destination: Side
    deliver: Callable[[Event], None]
    start_watching: Callable[[], None]
    elapsed_ns: Callable[[], int]
    state: Callable[[], State]
    write: Callable[[str, dict[str, object]], None]
    reconnect_s: float
    keep_source: bool
    handover_s: float
    badge: str
    """What the source is to wear."""
    started: bool = False
    """There is a destination of ours."""
    unborn: bool = False
    """A destination was being started, and nothing else is known of it."""
    reached: bool = False
    uri: str = ""
    armed: bool = False
    adopted: bool = False
    waits: Waits = DEFAULT_WAITS
    greatest_throttle: float = 0.0
    """The most that the user allows to be taken of the guest's time."""
    helm: Helm = field(init=False)
    _knobs: Knobs = field(default_factory=Knobs)
    """As the setup left them."""
    _quit: bool = False
    _capabilities: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])
    _changed: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])
    _parameters: dict[str, object] = field(default_factory=dict[str, object])
    _parameters_before: dict[str, object] = field(default_factory=dict[str, object])

    def __post_init__(self) -> None:
        self.helm = Helm(
            self.loop,
            self.place,
            self.source,
            deliver=self.deliver,
            write=self.write,
            waits=self.waits,
            greatest_throttle=self.greatest_throttle,
        )

    def of(self, order: Order) -> Work[None]:
        """The procedure that carries out an order."""
        if order.command is Command.ARM:
            return self.arm(order.setup)
        way: Callable[[], Work[None]] = getattr(self, _WAYS[order.command])
        return way()

    def nothing(self) -> Work[None]:
        """Ask a hook, or move a lock: there are none."""
        return
        yield

    # ---- taking over

    def take_up(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Take up what an earlier manager wrote of the QEMUs and of what was set before."""
        self.adopted = True
        seen: set[str] = set()
        for line in lines:
            match line["kind"]:
                case "side":
                    seen.add(line["side"])
                case "qmp" if line["event"] == "MIGRATION" and line["data"].get("status"):
                    seen.add(f"{line['side']} had a status")
                case "starting":
                    self.unborn = True
                case "destination":
                    self.started, self.unborn = True, False
                case "settings" if line["side"] not in self._changed:
                    self._changed[line["side"]] = dict(line["capabilities"])
                    if line["side"] == "source":
                        self.armed, self._parameters_before = True, dict(line["parameters"])
                case "badge":
                    self.source.badge = line["id"]
                case "learnt":
                    self.uri = str(line["facts"].get("uri", self.uri))
                    self.helm.take_up(line.get("abilities"))
                case _:
                    pass
        if self.source.badge is not None:
            self.badge = self.source.badge
        self.source.wire = self.place.source_wire
        if "source" in seen:
            self._watch(self.source, self.place.source)
            self.source.remember("source had a status" in seen)
        if self.started and self.place.destination is not None:
            self.destination.wire = self.place.destination_wire
            self._watch(self.destination, self.place.destination)
            self.destination.remember("destination had a status" in seen)

    def _watch(self, side: Side, process: Local) -> None:
        if self.place.watched:
            side.handle = Handle(self.loop, process)

    # ---- stage 1

    def inspect(self) -> Work[None]:
        """Connect to the source and judge what it says."""
        self.source.wire = self.place.source_wire
        self._watch(self.source, self.place.source)
        line = yield from self.source.connect()
        run = yield from replies.query_status(line)
        info = yield from replies.query_migrate(line)
        self.source.status = info.status or ""  # of an earlier migration: no news for this one
        has, parameters = yield from self.loop.together(
            replies.query_capabilities(line), replies.query_parameters(line)
        )
        self._capabilities["source"], self._parameters = has, parameters
        self.reached = True
        self.deliver(
            Learnt(
                {"qemu_source": _version(line), "source": {"run_state": run.status}},
                paused_before=run.status != "running",
            )
        )
        if info.blocked_reasons:
            raise WhimbrelError("; ".join(info.blocked_reasons), side="source")

    def prepare(self) -> Work[None]:
        """Bring the destination up, stopped."""
        self.write("starting", {"directory": "/simulated/destination"})
        self.place.start_destination()
        process, self.started = self.place.destination, True
        assert process is not None
        yield self.loop.sleep(self.place.start_s)
        self.destination.wire = self.place.destination_wire
        self._watch(self.destination, process)
        pid = process.pid if self.place.watched else None
        self.write(
            "destination",
            {
                "address": address_of(self.destination.name),
                "process": None if pid is None else identity_of(pid),
                "owned": self.place.watched,
                "directory": None,
                "relocalised": {},
                "stderr": None,
            },
        )
        line = yield from self.destination.connect()
        if not self.place.watched:
            yield from line.call("stop")  # clears autostart: others started it
        run, has = yield from self.loop.together(replies.query_status(line), replies.query_capabilities(line))
        self._capabilities["destination"] = has
        self.deliver(
            Learnt(
                {
                    "qemu_destination": _version(line),
                    "destination": {"run_state": run.status},
                    "destination_qmp": address_of(self.destination.name),
                    "destination_pid": pid,
                },
                abilities=self.helm.offer(self._capabilities["source"], has, self._parameters),
            )
        )

    def arm(self, setup: Steering | None) -> Work[None]:
        """Set both ends up, let the destination listen."""
        assert setup is not None
        source, destination = self.source.require(), self.destination.require()
        has = self._capabilities
        agreed = negotiate(has["source"], has["destination"], setup.decision.capabilities)
        for sentence in agreed.dropped:
            self.deliver(Learnt({}, note=sentence))
        self.armed, self._knobs = True, setup.knobs
        wanted = {side: for_side(agreed, has[side]) for side in ("source", "destination")}
        self._changed = {side: {name: has[side][name] for name in names} for side, names in wanted.items()}
        self._parameters_before = to_put_back(self._parameters)
        for side, before in self._changed.items():
            parameters = self._parameters_before if side == "source" else {}
            self.write("settings", {"side": side, "capabilities": before, "parameters": parameters})
        if wanted["destination"]:
            yield from replies.set_capabilities(destination, wanted["destination"])
        if parameters := parameters_of(setup.knobs, self._parameters, destination=True):
            yield from replies.set_parameters(destination, parameters)
        yield from destination.call("migrate-incoming", {"uri": LISTEN_URI})
        listening, *_ = yield from self.loop.together(
            replies.query_migrate(destination),
            replies.set_capabilities(source, wanted["source"]),
            replies.set_parameters(source, parameters_of(setup.knobs, self._parameters)),
            self._wear_badge(source),
        )
        if not listening.addresses:
            raise PreparationFailed("it does not say where it listens", side="destination")
        self.uri = listening.uri
        self.deliver(Learnt({"uri": self.uri, "own_stream": False}))

    def _wear_badge(self, line: Line) -> Work[None]:
        try:
            yield from replies.put_badge_on(line, self.badge)
        except QemuRefused as error:
            self.deliver(Learnt({}, note=f"the source can't be marked as ours: {error.description}"))
        else:
            self.source.badge = self.badge
            self.write("badge", {"id": self.badge})

    def _take_badge_off(self, line: Line) -> Work[None]:
        if self.source.badge is not None:
            self.write("badge", {"id": None})
            yield from replies.take_badge_off(line, self.source.badge)
            self.source.badge = None

    # ---- stages 2 to 4

    def migrate(self) -> Work[None]:
        """Start it; from here on the source is watched."""
        self.helm.slow(self._knobs.outside_throttle)
        try:
            yield from self.source.require().call("migrate", {"uri": self.uri})
        finally:
            self.start_watching()

    def copy_disks(self) -> Work[None]:
        """Refuse: no disks are copied here."""
        raise WhimbrelError("copying disks is not supported yet")
        yield

    def go_on(self) -> Work[None]:
        """Send ``migrate-continue``: the token is in limbo from here."""
        self.deliver(Marked(Mark.CONTINUE_SENT, wall_s(self.loop.now_ns)))
        # QEMU may be silent for the whole switchover, so the answer has as long as the handover itself.
        yield from self.source.require().call("migrate-continue", {"state": "pre-switchover"}, within_s=self.handover_s)

    def break_stream(self) -> Work[None]:
        """End a handover that hangs without ``migrate_cancel``."""
        return ends.break_stream(self.loop, self.source, self.destination, self.write, within_s=self.reconnect_s)

    # ---- post-copy

    def start_postcopy(self) -> Work[None]:
        """Ask for it."""
        line = yield from self.source.reach(within_s=self.reconnect_s)
        yield from line.call("migrate-start-postcopy")

    def pause_postcopy(self) -> Work[None]:
        """Have both sides give the link up."""
        return ends.pause(self.loop, (self.source, self.destination), within_s=self.reconnect_s)

    def listen_again(self) -> Work[None]:
        """Let the destination listen for its source."""
        self.uri = yield from ends.listen_again(self.destination, LISTEN_URI, within_s=self.reconnect_s)
        self.deliver(Learnt({"uri": self.uri}))

    def send_again(self) -> Work[None]:
        """Let the source go on where the link broke."""
        line = yield from self.source.reach(within_s=self.reconnect_s)
        yield from line.call("migrate", {"uri": self.uri, "resume": True})

    # ---- stage 5

    def resume_destination(self) -> Work[None]:
        """Let the guest run on the destination."""
        line = yield from self.destination.reach(within_s=self.reconnect_s)
        if self.adopted and (yield from replies.query_status(line)).status not in STILL_STATES:
            raise WhimbrelError("it does not stand paused any more", side="destination")
        self.deliver(Marked(Mark.CONT_SENT, wall_s(self.loop.now_ns)))
        yield from replies.cont(line)
        if (yield from replies.query_status(line)).running:
            self.deliver(Happened(Signal.DESTINATION_RUNNING))

    def release_source(self) -> Work[None]:
        """Take the source's last figures and let the process go."""
        within_s, sides = self.reconnect_s, (self.source, self.destination)
        if self.adopted:
            yield from self.loop.together(*(side.reconnect(within_s=within_s) for side in sides))
        if self.source.alive:
            yield from ends.take_final_figures(self.loop, self.source, self.elapsed_ns, self.deliver)
        # Before the source goes: its end is the end of the migration.
        stay = sides if self.keep_source else (self.destination,)
        if self.keep_source and self.source.alive:
            yield from self._take_badge_off(self.source.require())
        yield from ends.leave_no_settings(self.loop, stay, self._changed, self.deliver)
        if self.keep_source:
            return
        try:
            yield from ends.quit_source(self.source, within_s=within_s, look=self.adopted)
        except WhimbrelError as error:
            self.deliver(Learnt({}, note=f"the source process is still there: {error}"))
            raise

    # ---- backing out

    def cancel_migration(self) -> Work[None]:
        """Ask the source to give up; its status tells when it has."""
        line = yield from self.source.reach(within_s=self.reconnect_s)
        yield from line.call("migrate_cancel")

    def discard_destination(self) -> Work[None]:
        """End the destination and see it ended, unless it holds, or may hold, the only copy."""
        known, within_s = self.state().facts, self.reconnect_s
        yield from ends.see_that_it_may_end(
            self.source, self.destination, known, adopted=self.adopted, within_s=within_s
        )
        process = self.place.destination
        if self.started:
            if self.destination.handle is not None:
                yield from self.destination.handle.kill()
            else:
                yield from self._dismiss_unseen()
        elif self.unborn and process is not None and process.alive:
            process.kill()

    def _dismiss_unseen(self) -> Work[None]:
        """End one whose process can't be seen: it is told to quit, and its connection has to end.

        Raises:
            WhimbrelError: nobody can say whether it ended.
        """
        if self._quit:
            return
        if not (yield from self.destination.reconnect(within_s=self.reconnect_s)):
            raise WhimbrelError("it can't be reached to end it", side="destination")
        line = self.destination.require()
        doubt = WhimbrelError("it was told to quit, and nobody can say whether it ended", side="destination")
        try:
            yield from line.call("quit")
            closed = yield from line.wait_end(QUIT_WITHIN_S)
        except (OutcomeUnknown, CannotConnect) as error:
            raise doubt from error
        if not closed:
            raise doubt
        self._quit = True

    def restore_source(self) -> Work[None]:
        """See the source in the run state that it had, with its parameters as they were."""
        if not self.armed:
            if self.adopted:
                yield from ends.see_as_it_is((yield from self._reach_source()), self.deliver)
            elif not self.reached:
                raise CannotConnect("it was never reached", side="source")
            return  # nothing was changed there
        line = yield from self._reach_source()
        yield from ends.await_final_status(self.loop, line, self.deliver)
        yield from self.source.look()  # one that completed is not resumed here, and the engine has to know why
        if Fact.MIGRATE_SENT not in self.state().facts:
            yield from ends.see_as_it_is(line, self.deliver)
        elif Fact.PAUSED_BEFORE not in self.state().facts:
            yield from ends.see_running(self.loop, line, self.deliver)
        yield from self._put_back(line)

    def _reach_source(self) -> Work[Line]:
        """Its monitor; where it can't be had because the process has ended, that is told before it is refused."""
        try:
            return (yield from self.source.reach(within_s=self.reconnect_s))
        except CannotConnect:
            if not (yield from self.source.has_ended()) and (yield from self.source.is_gone()):
                for news in ends.the_dead(self.source, self.destination, self.state().facts):
                    self.deliver(news)
            raise

    def _put_back(self, line: Line) -> Work[None]:
        # First: one without it is asked nothing, one without our settings would be taken for another's.
        yield from self._take_badge_off(line)
        yield from ends.put_back(line, self._parameters_before, self._changed.get("source"), self.deliver)

    def resume_source(self) -> Work[None]:
        """Give the guest back to a source that completed."""
        line = yield from self._reach_source()
        if Fact.PAUSED_BEFORE not in self.state().facts:
            yield from replies.cont(line)
        yield from self._put_back(line)

    # ---- resolving

    def inspect_both(self) -> Work[None]:
        """Ask both sides what is true, and tell the engine the classes."""
        within_s = self.reconnect_s
        source, destination = yield from self.loop.together(
            ends.look_at_source(self.source, within_s=within_s, deliver=self.deliver),
            ends.look_at_destination(self.destination, within_s=within_s),
        )
        self.deliver(Inspected(source, destination))


def _version(line: Line) -> str:
    triple, package = line.version
    text = ".".join(str(part) for part in triple)
    return f"{text} ({package})" if package else text
