"""The driver in virtual time: the real machine, carried out against simulated QEMUs, without asyncio.

What `whimbrel.qmp_driver.runner` does for a real migration, step by step: it carries out the machine's orders, feeds
back what happens, asks at the same cadence, keeps one timer, and writes each line of the log before it acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from whimbrel.engine import records
from whimbrel.engine._version import __version__
from whimbrel.engine.driving import (
    ABANDONED_BY_DISCARD,
    CROSSINGS,
    DESTINATION_TELLS,
    GOES_ON,
    POLL_S,
    RUNS_ON_ITS_OWN,
    STOPPED_BY_MIGRATION,
    WATCHED,
    poll_pause_s,
)
from whimbrel.engine.errors import OutcomeUnknown, WhimbrelError
from whimbrel.engine.foresight_watch import Foresight
from whimbrel.engine.machine import Event, Happened, Machine, Measured, Order, Probe, Sampled, Tune
from whimbrel.engine.negotiation import changed_parameters, parameters_of
from whimbrel.engine.policy import Objectives, Policy
from whimbrel.engine.protocol import DEFAULT_WAITS, SECOND_NS, Waits
from whimbrel.engine.replay import replay
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.sampling import statistics_of
from whimbrel.engine.signals import Command, Outcome, Signal, answer
from whimbrel.engine.states import Phase, State
from whimbrel.engine.states import Side as SideName

from .clock import Timer
from .driver_ends import the_dead
from .driver_log import FORMAT, Log, wall_s
from .driver_outside import HELD_IN
from .driver_procedures import Place, Procedures
from .driver_replies import query_status
from .driver_side import Side, address_of
from .driver_tasks import Loop, Promise, Task, Work

HOST = {"boot_id": "simulated", "machine_id": "simulated", "name": "simulated", "namespaces": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a manager is told, as `whimbrel.qmp_driver.options.Options` tells a real one."""

    make_policy: Callable[[], Policy]
    policy_name: str = ""
    objectives: Objectives = field(default_factory=Objectives)
    waits: Waits = DEFAULT_WAITS
    stall_s: float = 30.0
    reconnect_s: float = 10.0
    keep_source: bool = False
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    foresight: bool = False
    """Whether it looks ahead while it runs, as a real one does: that takes longer than all else here."""

    def header(self) -> dict[str, Any]:
        """What the log's first line keeps of it."""
        return {
            "whimbrel": __version__,
            "pid": None,
            "guardian_pid": None,
            "boot_id": HOST["boot_id"],
            "source_address": address_of(SideName.SOURCE),
            "policy": self.policy_name,
            "objectives": asdict(self.objectives),
            "labels": dict(self.labels),
            "lock": None,
            "host": HOST,
            "options": {
                "host": "127.0.0.1",
                "port": 0,
                "own_stream": False,
                "keep_source": self.keep_source,
                "accept_memory_loss": False,
                "disks_shared": True,
                "lock_within_s": 5.0,
                "stall_s": self.stall_s,
                "reconnect_s": self.reconnect_s,
                "waits": asdict(self.waits),
                "source": address_of(SideName.SOURCE),
                "hooks": [],
                "locked": False,
            },
        }


class Driver:
    """One manager with one migration.

    Attributes:
        machine: the engine's.
        loop: its process: `OwnTime.end` of its time is its death.
        report: how it ended; ``None`` while it goes on.
        on_order: told of every command that goes out, before it is carried out.
    """

    procedures_of: type[Procedures] = Procedures

    def __init__(self, loop: Loop, place: Place, settings: Settings, log: Log, *, badge: str) -> None:
        """Make it; `begin` or `take_over` comes next."""
        self.loop = loop
        self.settings = settings
        self.log = log
        self.machine = Machine(
            policy=settings.make_policy(),
            objectives=settings.objectives,
            waits=settings.waits,
            stall_ns=round(settings.stall_s * SECOND_NS),
            foresight=self._foresight(),
        )
        self.report: CompletedReport | None = None
        self.ended: Promise[None] = Promise()
        self.on_order: Callable[[Command], None] = lambda _: None
        self.source = Side(SideName.SOURCE, loop, self.deliver, self._write, self._wake_poll)
        self.destination = Side(SideName.DESTINATION, loop, self.deliver, self._write, self._wake_poll)
        self.procedures = self.procedures_of(
            loop=loop,
            place=place,
            source=self.source,
            destination=self.destination,
            deliver=self.deliver,
            start_watching=self._start_watching,
            elapsed_ns=self.elapsed_ns,
            state=lambda: self.machine.state,
            write=self._write,
            reconnect_s=settings.reconnect_s,
            keep_source=settings.keep_source,
            handover_s=settings.waits.handover_ns / SECOND_NS,
            badge=badge,
            waits=settings.waits,
            greatest_throttle=settings.objectives.greatest_throttle,
        )
        self._began_ns = loop.now_ns
        self._adopted = False
        self._tasks: dict[Task[Any], Command | None] = {}
        self._timer: Timer | None = None
        self._due_ns: int | None = None
        self._armed_for: State | None = None
        self._poll_wake: Promise[None] = Promise()
        self._watching = False
        self._tuning: Task[None] | None = None
        self._to_tune: dict[str, object] = {}
        """Of each knob of QEMU the newest value that it has not been given yet."""
        self._over = False

    def elapsed_ns(self) -> int:
        """The migration's clock."""
        return self.loop.world.now_ns - self._began_ns

    # ---- for the world

    def begin(self) -> None:
        """Begin the migration."""
        self.loop.run(self._begin)

    def take_over(self, began_ns: int, lines: list[Mapping[str, Any]]) -> None:
        """Go on with the migration of a manager that died.

        Args:
            began_ns: when that began, by the world's clock.
            lines: its log.
        """
        self._began_ns = began_ns
        self._adopted = True
        self.machine = replay(
            lines,
            policy=self.machine.policy,
            objectives=self.settings.objectives,
            waits=self.settings.waits,
            stall_ns=self.machine.stall_ns,
            foresight=self._foresight(),
        ).machine
        self.procedures.take_up(lines)
        self.loop.start(self._take_over())

    def cancel(self, why: str = "called off by the user") -> None:
        """Call the migration off, where that is still safe."""
        self.loop.run(lambda: self.deliver(Happened(Signal.CANCEL, why)))

    def choose_postcopy(self) -> None:
        """Go over to post-copy."""
        self.loop.run(lambda: self.deliver(Happened(Signal.POSTCOPY_CHOSEN)))

    def die(self, *, in_flight: bool) -> None:
        """SIGKILL.

        Args:
            in_flight: whether commands that were written before it still get there.
        """
        self._over = True
        self.loop.end()
        self.procedures.helm.end()
        for task in list(self._tasks):
            task.cancel()
        for side in (self.source, self.destination):
            if side.wire is not None:
                for line in list(side.wire.lines):
                    line.abandon(in_flight=in_flight)

    # ---- beginning

    def _foresight(self) -> Foresight | None:
        return Foresight(objectives=self.settings.objectives) if self.settings.foresight else None

    def _begin(self) -> None:
        header = {"format": FORMAT, "started_wall_s": wall_s(self.loop.now_ns), "monotonic_ns": self._began_ns}
        self._write("header", header | self.settings.header())
        self.deliver(Happened(Signal.START))

    def _take_over(self) -> Work[None]:
        if self.source.badge is not None:
            yield from self.source.reconnect(within_s=1.0)
        if self.source.overtaken:
            raise WhimbrelError("the source is in another migration since", side="source")
        self._write("adopted", {"pid": None, "host": HOST, "monotonic_ns": self._began_ns, "fenced": []})
        before = self.machine.phase
        if before.is_end:
            state = self.machine.state
            self._write("reopened", {"phase": before.value, "owner": state.owner.value})
            self.machine.reopen(self.elapsed_ns())
        else:
            self.machine.take_over(self.elapsed_ns())
        self._carry_out(before)
        self.procedures.helm.offer_no_throttle()
        for news in the_dead(self.source, self.destination, self.machine.state.facts):
            self.deliver(news)
        self._start_watching()

    # ---- the pump

    def deliver(self, event: Event) -> None:
        """Take one event: log it, step the machine, carry out what follows."""
        if self._over:
            return
        machine = self.machine
        phase, t_ns = machine.phase, self.elapsed_ns()
        machine.receive(event, t_ns)
        self.log.write_event(event, t_ns, self.loop.now_ns)
        self._carry_out(phase)
        if isinstance(event, Happened) and event.signal is Signal.SOURCE_STOPPED and phase in RUNS_ON_ITS_OWN:
            self._spawn(self._ask_why_it_stopped(self.source.resumes))

    def _ask_why_it_stopped(self, resumes: int) -> Work[None]:
        """A guest that its owner or an error stopped has to stay so where it arrives."""
        try:
            run = yield from query_status(self.source.require())
        except WhimbrelError:
            return  # a lost connection is reported by the side itself
        if run.status not in STOPPED_BY_MIGRATION and self.source.resumes == resumes:
            self.deliver(Happened(Signal.SOURCE_PAUSED, f"the guest was stopped: {run.status}"))

    def _carry_out(self, before: Phase) -> None:
        """Log what the machine took, then do what it orders."""
        machine = self.machine
        self._log_taken()
        while orders := machine.orders():
            for order in orders:
                if isinstance(order, Tune):
                    self._tune(order)
                elif isinstance(order, Probe):
                    self._log_order(order)
                    self._spawn(self._probe(order))
                else:
                    self._start(order)
            self._log_taken()
        after = machine.phase
        if after not in HELD_IN:
            self.procedures.helm.give_back()
        if before is Phase.RESOLVING and after in GOES_ON:
            # What was said while both were asked may have been passed over: let the next look tell it as news.
            self.source.status = self.destination.status = None
            self._wake_poll()
            if after is Phase.PRECOPY and self._adopted:
                self._have_set(parameters_of(self.machine.progress().knobs, {}))
        self._arm_timer()
        self._look_ahead()
        if after.is_end and not self._over:
            self._over = True
            self.loop.soon(self._end)

    def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self.source.close()
        self.destination.close()
        self.report = self.machine.report()
        assert self.report is not None
        self.log.write_report(self.report, self.elapsed_ns(), self.loop.now_ns)
        self.ended.keep(None)

    def _probe(self, order: Probe) -> Work[None]:
        """Measure what the policy wants to know before the start, and wait for as long as it says."""
        measurements = yield from self.procedures.helm.measure(order.windows_s)
        if order.wait_s:
            yield self.loop.sleep(order.wait_s)
        self.deliver(Measured(measurements))

    def _start(self, order: Order) -> None:
        self._log_order(order)
        self.on_order(order.command)
        self._spawn(self._execute(order), order.command)

    def _execute(self, order: Order) -> Work[None]:
        command = order.command
        try:
            if command is Command.DISCARD_DESTINATION:
                self._abandon()
            yield from self.procedures.of(order)
        except OutcomeUnknown as error:
            self._answer(command, Outcome.UNKNOWN, str(error))
        except WhimbrelError as error:
            self._answer(command, Outcome.REFUSED, str(error))
        else:
            if command is Command.INSPECT_BOTH:
                return  # it has answered with what it saw
            if command in CROSSINGS:
                self._write("note", {"text": "the guest is about to be given up"})
            self._answer(command, Outcome.DONE, "")

    def _answer(self, command: Command, outcome: Outcome, text: str) -> None:
        if command is Command.INSPECT_BOTH:
            self.deliver(Happened(Signal.VERDICT_HOLD, text))
        else:
            self.deliver(Happened(answer(command, outcome), text))

    def _abandon(self) -> None:
        """Cut preparatory work short."""
        for task, command in list(self._tasks.items()):
            if command in ABANDONED_BY_DISCARD:
                task.cancel()

    def _spawn(self, work: Work[Any], command: Command | None = None) -> Task[Any]:
        task = self.loop.start(work)
        self._tasks[task] = command
        task.then(lambda: self._forget(task))
        return task

    def _forget(self, task: Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.error is not None and not task.cut:
            raise task.error  # a defect of ours: here it is to be found out

    # ---- time

    def _arm_timer(self) -> None:
        state = self.machine.state
        if state is self._armed_for and self._timer is not None and self._timer.pending:
            return  # statistics alone only put a deadline off: it looks again when it comes to that
        self._armed_for = state
        due_ns = None if self.machine.phase.is_end else self.machine.next_deadline_ns()
        if self._timer is not None:
            if self._timer.pending and due_ns is not None and self._due_ns is not None and self._due_ns <= due_ns:
                return
            self._timer.cancel()
            self._timer = None
        self._due_ns = due_ns
        if due_ns is not None:
            self._timer = self.loop.after(max(0, due_ns - self.elapsed_ns()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        due_ns = self.machine.next_deadline_ns()
        if due_ns is not None and due_ns > self.elapsed_ns():
            self._arm_timer()
        else:
            self._on_time()

    def _on_time(self) -> None:
        if self._over:
            return
        phase = self.machine.phase
        self.machine.receive_time(self.elapsed_ns())
        self._carry_out(phase)

    # ---- steering

    def _tune(self, order: Tune) -> None:
        self._log_order(order)
        steering = order.steering
        if "outside_throttle" in steering.changes:
            self.procedures.helm.slow(steering.knobs.outside_throttle)
        self._have_set(changed_parameters(steering))

    def _have_set(self, parameters: Mapping[str, object]) -> None:
        """Have them set: while QEMU sets some, what is decided is gathered, and none is passed over."""
        self._to_tune.update(parameters)
        if self._to_tune and (self._tuning is None or self._tuning.done):
            self._tuning = self._spawn(self._set_knobs())

    def _set_knobs(self) -> Work[None]:
        while self._to_tune:
            parameters, self._to_tune = self._to_tune, {}
            try:
                yield from self.procedures.helm.tune(parameters)
            except WhimbrelError as error:
                self._write("note", {"text": f"the knobs could not be set: {error}"})

    # ---- watching

    def _start_watching(self) -> None:
        if not self._watching and not self._over:
            self._watching = True
            self._spawn(self._watch())

    def _wake_poll(self) -> None:
        self._poll_wake.keep(None)

    def _watch(self) -> Work[None]:
        """Ask the source at a steady cadence and at every new iteration; the destination in the handover."""
        machine = self.machine
        while machine.phase in WATCHED:
            self._poll_wake = Promise()
            try:
                yield from self._look_once()
            except WhimbrelError as error:
                self._write("note", {"text": f"no statistics: {error}"})
                yield self.loop.sleep(POLL_S)
            if not self._poll_wake.done:
                yield self.loop.first(self._poll_wake, poll_pause_s(machine.phase, machine.wake_every_ns))

    def _look_once(self) -> Work[None]:
        phase = self.machine.phase
        if phase in DESTINATION_TELLS and self.destination.alive:
            yield from self.destination.look()
        if phase is not Phase.ACTIVATING and self.source.alive:
            info = yield from self.source.look()
            if info.ram is not None and info.status != "completed":
                self.deliver(Sampled(statistics_of(info, self.elapsed_ns(), vcpu_s=self.procedures.place.vcpu_s)))
            if self._due_ns is not None and self.elapsed_ns() >= self._due_ns:
                self._on_time()

    # ---- the log

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        if not self._over:
            self.log.write(kind, self.elapsed_ns(), self.loop.now_ns, fields)

    def _log_taken(self) -> None:
        if taken := self.machine.taken():
            told = [records.of_prediction(each) for each in self.machine.reckoning.made()]
            self._log_all([*told, *(record for each in taken for record in records.of_taken(each))])

    def _look_ahead(self) -> None:
        if outlooks := self.machine.outlooks():
            told = [records.of_outlook(each) for each in outlooks]
            self._log_all([*told, *map(records.of_prediction, self.machine.reckoning.made())])

    def _log_all(self, told: Sequence[tuple[str, dict[str, Any]]]) -> None:
        t_ns, now_ns = self.elapsed_ns(), self.loop.now_ns
        for kind, fields in told:
            self.log.write(kind, t_ns, now_ns, fields)

    def _log_order(self, order: Order | Tune | Probe) -> None:
        t_ns, now_ns = self.elapsed_ns(), self.loop.now_ns
        for kind, fields in records.of_order(order, self.machine):
            self.log.write(kind, t_ns, now_ns, fields)
