"""The thin asyncio part: carries out the machine's orders, feeds back what happens, keeps one timer.

Everything that decides is in `whimbrel.engine`; everything that speaks QMP is in `procedures`. The runner
writes each event, order and decision to the log *before* it acts on it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import asdict, replace
from typing import Any

from whimbrel.engine import records
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
from whimbrel.engine.machine import Event, Happened, Learnt, Machine, Measured, Order, Probe, Sampled, Tune
from whimbrel.engine.report import CompletedReport, OngoingReport
from whimbrel.engine.sampling import statistics_of
from whimbrel.engine.signals import Command, Outcome, Signal, answer
from whimbrel.engine.states import Phase
from whimbrel.engine.states import Side as SideName

from . import replies
from .adoption import Host, record_options
from .destination import Destination
from .journal import FORMAT, Journal
from .options import Options
from .procedures import Procedures
from .side import Side
from .sockets import Address
from .supervision import Supervised
from .takeover import FENCE_LOOK_S, Takeover, believe_fences, the_dead

SHADOW_WITHIN_S = 0.2
"""Those that only watch are asked one after the other while the one that steers waits."""
FORETELL_AFTER_S = 0.002


class Runner:
    """Runs one migration to its end."""

    def __init__(
        self,
        source: Address,
        destination: Destination,
        options: Options,
        journal: Journal,
        header: Mapping[str, Any],
        *,
        takeover: Takeover | None = None,
    ) -> None:
        self.options = options
        self.journal = journal
        self._takeover = takeover
        self._host = Host.here()
        if takeover is None:
            self._started_ns = time.monotonic_ns()
            self.machine = Machine(
                policy=Supervised(options.fresh_policy()),
                objectives=options.objectives,
                waits=options.waits,
                stall_ns=options.stall_ns,
                policy_name=options.policy_name,
                shadows={name: Supervised(each, within_s=SHADOW_WITHIN_S) for name, each in options.shadows.items()},
                foresight=Foresight(objectives=options.objectives, prediction=options.prediction),
            )
        else:
            self._started_ns = takeover.legacy.started_ns(self._host, time.monotonic_ns())
            self.machine = takeover.machine
        self._source = Side(SideName.SOURCE, self.deliver, self._note, self._wake_poll)
        self._destination = Side(SideName.DESTINATION, self.deliver, self._note, self._wake_poll)
        self.procedures = Procedures(
            source=self._source,
            destination=self._destination,
            source_address=source,
            strategy=destination,
            options=options,
            journal=journal,
            deliver=self.deliver,
            start_watching=self._start_watching,
            now_ns=self.now_ns,
            state=lambda: self.machine.state,
            write=lambda kind, fields: self._write(kind, **fields),
            glance=lambda: (self.machine.progress(), self.machine.facts),
        )
        self._header = dict(header) | {"host": asdict(self._host), "options": record_options(options, source)}
        self._tasks: dict[asyncio.Task[None], Command | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._foretelling: asyncio.TimerHandle | None = None
        self._poll_wake = asyncio.Event()
        self._watching = False
        self._ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None
        self._begun = False
        self._wish: str | None = None
        self._early_notes: list[str] = []
        self._doomed: set[asyncio.Task[None]] = set()
        """Tasks that we cancelled ourselves."""

    # ---- for the caller

    def now_ns(self) -> int:
        """The migration's clock."""
        return time.monotonic_ns() - self._started_ns

    async def run(self) -> CompletedReport:
        """Run it to its end, whatever the end is.

        A log that fails on the way calls it off, where that is still safe; the report says so.

        If cancelled: it is called off, where that is still safe, and returns when it has ended all the same. That
        is what happens when the event loop is torn down around it (``asyncio.run`` whose main coroutine has
        returned cancels every task at once): the monitors are connected anew and it is seen to its end.

        Raises:
            WhimbrelError: not even the first line of the log could be written, or the migration can't be taken over
                as it is; nothing was begun.
        """
        try:
            if self._takeover is None:
                self._begin()
            else:
                await self._take_over(self._takeover)
            for text in self._early_notes:
                self.note(text)
            if self._wish is not None:
                self.cancel(self._wish)
            await self._wait_for_the_end()
            await self._finish_tasks()
        finally:
            self._ended.set()
            self._tell()
            for timer in (self._timer, self._foretelling):
                if timer is not None:
                    timer.cancel()
            await self._source.close()
            await self._destination.close()
            await self.procedures.helm.close()
            self.procedures.let_go()
        report = self.machine.report()
        assert report is not None
        report = await self.procedures.ended(report)
        self._note("end", {"report": asdict(report)})
        if self._broken is not None:
            report = replace(report, notes=(*report.notes, f"the log is not whole: {self._broken}"))
        return report

    def note(self, text: str) -> None:
        """Put a sentence into the report's notes."""
        if self._begun:
            self.deliver(Learnt({}, note=text))
        else:
            self._early_notes.append(text)  # the log begins with its header

    def cancel(self, why: str = "called off by the user") -> None:
        """Call the migration off, where that is still safe; otherwise nothing happens and it ends first."""
        if self._begun:
            self.deliver(Happened(Signal.CANCEL, why))
        else:
            self._wish = why  # the log begins with its header, and the machine with its start

    def _begin(self) -> None:
        header = {"format": FORMAT, "started_wall_s": time.time(), "monotonic_ns": self._started_ns, **self._header}
        self._write("header", **header)
        self._begun = True
        self.deliver(Happened(Signal.START))

    async def _take_over(self, takeover: Takeover) -> None:
        """Take up what the log says; before anything is sent, the log is safe again and nobody else at work."""
        self.procedures.take_up(takeover.legacy, self._host)
        sides = (self._source, self._destination)
        await believe_fences(sides, takeover.fenced)
        self.procedures.be_the_only_one()
        self._early_notes += self.procedures.helm.undo_left(takeover.legacy, self._host)
        if self._source.badge is not None:
            await self._source.reconnect(within_s=FENCE_LOOK_S)
        if self._source.overtaken:
            raise WhimbrelError(
                "the source is in another migration since: this one is over, and nothing was touched",
                side="source",
                advice="see whimbrel history for the later one",
            )
        self._write("adopted", pid=os.getpid(), host=asdict(self._host), monotonic_ns=self._started_ns,
                    fenced=sorted(side.value for side in takeover.fenced))  # fmt: skip
        try:
            await self.journal.arm()
        except WhimbrelError as error:  # the guest may stand still: going on matters more
            self._early_notes.append(str(error))
        self._begun = True
        before = self.machine.phase
        if takeover.reopened:
            state = self.machine.state
            self._write("reopened", phase=before.value, owner=state.owner.value)
            self.machine.reopen(self.now_ns())
        else:
            self.machine.take_over(self.now_ns())
        self._carry_out(before)
        self.procedures.helm.offer_no_throttle(takeover.legacy)
        for text in takeover.notes:
            self.note(text)
        for news in the_dead(*sides, self.machine.state.facts):
            self.deliver(news)
        self._start_watching()

    async def _wait_for_the_end(self) -> None:
        while not self._ended.is_set():
            try:
                await self._ended.wait()
            except asyncio.CancelledError:
                self.cancel("the event loop is being closed")
                # The tasks that watched were cancelled along with this one.
                self._source.watch_again()
                self._destination.watch_again()
                if self._watching:
                    self._watching = False
                    self._start_watching()

    async def progress(self) -> AsyncIterator[OngoingReport]:
        """A glance after everything that happened, until the end; a slow reader misses some."""
        while True:
            ended = self._ended.is_set()
            yield self.machine.progress()
            if ended:
                return
            await self._changed.wait()

    # ---- the pump

    def deliver(self, event: Event) -> None:
        """Take one event: log it, step the machine, carry out what follows."""
        phase = self.machine.phase
        try:
            self.machine.receive(event, self.now_ns())
            self._log_event(event)
        except WhimbrelError as error:
            self._lose_log(error)
        finally:
            self._carry_out(phase)
        if isinstance(event, Happened) and event.signal is Signal.SOURCE_STOPPED and phase in RUNS_ON_ITS_OWN:
            self._spawn(self._ask_why_it_stopped(self._source.resumes))

    async def _ask_why_it_stopped(self, resumes: int) -> None:
        """A guest that its owner or an error stopped has to stay so where it arrives."""
        try:
            run = await replies.query_status(self._source.require())
        except WhimbrelError:
            return  # a lost connection is reported by the side itself
        if run.status not in STOPPED_BY_MIGRATION and self._source.resumes == resumes:
            self.deliver(Happened(Signal.SOURCE_PAUSED, f"the guest was stopped: {run.status}"))

    def _carry_out(self, before: Phase) -> None:
        """Log what the machine took, then do what it orders; a failing log orders more, so go on until it is still."""
        self._log_taken()
        while orders := self.machine.orders():
            for order in orders:
                if isinstance(order, Tune):
                    self._log_order(order)
                    self.procedures.helm.tune(order.steering)
                elif isinstance(order, Probe):
                    self._log_order(order)
                    self._probing = self._spawn(self._probe(order))
                else:
                    self._start(order)
            self._log_taken()
        after = self.machine.phase
        self._slow_the_guest(after)
        if self._probing is not None and after is not Phase.PREPARING:
            self._probing.cancel()  # whatever it would find, nobody asks for it any more
            self._probing = None
        if before is Phase.RESOLVING and after in GOES_ON:
            # What was said while both were asked may have been passed over: let the next look tell it as news.
            self._source.status = self._destination.status = None
            self._wake_poll()
            if after is Phase.PRECOPY and self._takeover is not None:
                self.procedures.helm.tune_all(self.machine.progress().knobs)
        self._arm_timer()
        self._tell()
        if after.is_end:
            self._ended.set()
        elif self._foretelling is None:
            # It takes milliseconds: what has just been ordered goes out first.
            self._foretelling = asyncio.get_running_loop().call_later(FORETELL_AFTER_S, self._look_ahead)

    def _tell(self) -> None:
        """Wake whoever follows the progress."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _start(self, order: Order) -> None:
        self._log_order(order)
        work = asyncio.get_running_loop().create_task(self._execute(order))
        self._tasks[work] = order.command
        work.add_done_callback(lambda task: self._tasks.pop(task, None))

    async def _probe(self, order: Probe) -> None:
        """Measure what the policy wants to know before the start, and wait for as long as it says."""
        measurements = await self.procedures.helm.measure(order.windows_s)
        await asyncio.sleep(order.wait_s)
        self._probing = None
        self.deliver(Measured(measurements))

    async def _execute(self, order: Order) -> None:
        command = order.command
        try:
            if command is Command.DISCARD_DESTINATION:
                await self._abandon()
            await self.procedures.of(order)
        except OutcomeUnknown as error:
            self._answer(command, Outcome.UNKNOWN, str(error), error)
        except WhimbrelError as error:
            self._answer(command, Outcome.REFUSED, str(error), error)
        except asyncio.CancelledError:
            if asyncio.current_task() in self._doomed:
                raise  # we cut it short: nobody waits for its answer
            # The loop is being torn down, or the caller's own code raised it: somebody has to answer.
            self._answer(command, Outcome.UNKNOWN, f"{command.value} was cut short")
        except Exception as error:  # a defect of ours must not leave a guest between two hosts
            # Nobody can say how far it came: unknown, for commands that may leave a QEMU changed.
            self._answer(command, Outcome.UNKNOWN, f"internal error: {error!r}", error)
        else:
            if command is Command.INSPECT_BOTH:
                return  # it has answered with what it saw
            self._answer(command, *self._may_cross(command))

    def _may_cross(self, command: Command) -> tuple[Outcome, str]:
        """Whether the guest may be given up now: not without a log that says so."""
        if command not in CROSSINGS:
            return Outcome.DONE, ""
        try:
            self._write("note", text="the guest is about to be given up")
        except WhimbrelError as error:
            return Outcome.REFUSED, str(error)
        return (Outcome.DONE, "") if self._broken is None else (Outcome.REFUSED, str(self._broken))

    def _answer(self, command: Command, outcome: Outcome, text: str, error: Exception | None = None) -> None:
        if error is not None and self.procedures.failure is None:
            self.procedures.failure = error if isinstance(error, WhimbrelError) else WhimbrelError(text)
        if command is Command.INSPECT_BOTH:
            self.deliver(Happened(Signal.VERDICT_HOLD, text))
        else:
            self.deliver(Happened(answer(command, outcome), text))

    async def _abandon(self) -> None:
        """Cut preparatory work short, and wait until it has let go of what it held."""
        doomed = [task for task, command in self._tasks.items() if command in ABANDONED_BY_DISCARD]
        await self._cut_short(doomed)

    async def _finish_tasks(self) -> None:
        await self._cut_short(list(self._tasks))

    async def _cut_short(self, tasks: list[asyncio.Task[None]]) -> None:
        self._doomed.update(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._doomed.difference_update(tasks)

    # ---- time

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ns = self.machine.next_deadline_ns()
        if due_ns is not None and not self.machine.phase.is_end:
            delay_s = max(0.0, (due_ns - self.now_ns()) / 1e9)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_time)

    def _on_time(self) -> None:
        phase = self.machine.phase
        try:
            self.machine.receive_time(self.now_ns())
        finally:
            self._carry_out(phase)

    # ---- steering

    def _slow_the_guest(self, phase: Phase) -> None:
        """Have the throttle from outside ready before pre-copy, and in it as the knobs say.

        It is given back in every other phase: the guest stands still then, or runs elsewhere, or the source is to go on
        with it as it was.
        """
        share = {Phase.PREPARING: 0.0, Phase.PRECOPY: self.machine.progress().knobs.outside_throttle}.get(phase)
        self.procedures.helm.slow(share)

    # ---- watching

    def _start_watching(self) -> None:
        if not self._watching:
            self._watching = True
            self._spawn(self._watch())

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def _wake_poll(self) -> None:
        self._poll_wake.set()

    async def _watch(self) -> None:
        """Ask the source at a steady cadence and at every new iteration; the destination in the handover.

        A slow answer is only slow: QEMU is silent for the whole switchover.
        """
        while self.machine.phase in WATCHED:
            self._poll_wake.clear()
            try:
                await self._look_once()
            except WhimbrelError as error:
                # Lost connections are reported by the side itself; here they only end the look.
                self._note("note", {"text": f"no statistics: {error}"})
                await asyncio.sleep(POLL_S)
            except Exception as error:  # a defect of ours must not leave a migration unwatched
                self._note("note", {"text": f"no statistics, by an internal error: {error!r}"})
                await asyncio.sleep(POLL_S)
            pause_s = poll_pause_s(self.machine.phase, self.machine.wake_every_ns)
            try:
                async with asyncio.timeout(pause_s):
                    await self._poll_wake.wait()
            except TimeoutError:
                pass

    async def _look_once(self) -> None:
        phase = self.machine.phase
        if phase in DESTINATION_TELLS and self._destination.alive:
            await self._destination.look()
        if phase is not Phase.ACTIVATING and self._source.alive:
            info = await self._source.look()
            if phase is Phase.PRECOPY and self.journal.is_short_of_room:
                await self.journal.make_room()
            if info.ram is not None and info.status not in ("completed",):
                self.deliver(Sampled(statistics_of(info, self.now_ns(), vcpu_s=self.procedures.helm.run_times_s())))
            self._on_time()

    # ---- the log

    def _write(self, kind: str, **fields: Any) -> None:
        self.journal.write(kind, self.now_ns(), time.time(), **fields)

    def _note(self, kind: str, fields: dict[str, object]) -> None:
        try:
            self._write(kind, **fields)
        except WhimbrelError as error:
            self._lose_log(error)

    def _log_event(self, event: Event) -> None:
        if (record := records.of_event(event)) is not None:
            kind, fields = record
            self._write(kind, **fields)

    def _log_taken(self) -> None:
        for taken in self.machine.taken():
            for kind, fields in records.of_taken(taken):
                self._note(kind, fields)
        for shadowed in self.machine.shadowed():
            self._note(*records.of_shadow(shadowed))
        for prediction in self.machine.reckoning.made():
            self._note(*records.of_prediction(prediction))

    def _look_ahead(self) -> None:
        self._foretelling = None
        if outlooks := self.machine.outlooks():
            for outlook in outlooks:
                self._note(*records.of_outlook(outlook))
            for prediction in self.machine.reckoning.made():
                self._note(*records.of_prediction(prediction))
            self._tell()

    def _log_order(self, order: Order | Tune | Probe) -> None:
        for kind, fields in records.of_order(order, self.machine):
            self._note(kind, fields)

    def _lose_log(self, error: WhimbrelError) -> None:
        """The log failed: before the handover the migration is called off, after it goes on without."""
        if self._broken is None:
            self._broken = error
            self.journal.mute()
            self.machine.receive(Happened(Signal.CANCEL, str(error)), self.now_ns())
            # Not now: a line may fail while the orders of an earlier one are being carried out.
            asyncio.get_running_loop().call_soon(self._carry_out, self.machine.phase)
