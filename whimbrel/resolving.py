"""Settling a migration whose manager died: `resolve` for one call, `Resolution` to watch it.

The log says how far it was and who takes part. The migration is taken over as it stands: both QEMUs are asked, what
can be carried on is carried on, what can't is backed out of. Nothing is resumed that may run elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec

from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.engine.foresight_watch import Foresight
from whimbrel.engine.policies import LeastDowntime
from whimbrel.engine.policy import Policy
from whimbrel.engine.replay import Replayed, replay
from whimbrel.engine.report import CompletedReport, OngoingReport
from whimbrel.engine.states import Side
from whimbrel.logbook import report_in
from whimbrel.policies import resolve as named_policy
from whimbrel.qmp_driver.adoption import Host, Legacy, NoDestination, hooks_of
from whimbrel.qmp_driver.control import ControlServer, control_path
from whimbrel.qmp_driver.destination import StartedDestination
from whimbrel.qmp_driver.journal import Journal, is_held, read
from whimbrel.qmp_driver.lock_file import FileLock
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.runner import Runner
from whimbrel.qmp_driver.source_cpus import undo_left
from whimbrel.qmp_driver.supervision import Supervised
from whimbrel.qmp_driver.takeover import Takeover
from whimbrel.shielding import to_its_end

Line = Mapping[str, Any]


class Resolution:
    """One attempt to settle a migration; run it once. Has the shape of `Migration`, for whoever watches both."""

    def __init__(self, log: Path, *, fenced: frozenset[Side] = frozenset(), options: Options | None = None) -> None:
        """
        Args:
            log: the log of the migration.
            fenced: sides whose machines are off, as the caller vouches: they count as ended. One that is wrongly
                said to be off may run the guest a second time.
            options: in place of those that the log keeps; its log path is not heeded. A log keeps no hooks, no lock
                but a `FileLock`, and a policy only by its name.
        """
        self.report: CompletedReport | None = None
        """Once it has ended, however it ended."""
        self._log = log
        self._fenced = fenced
        self._options = options
        self._runner: Runner | None = None
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()
        self._call_off: str | None = None

    @property
    def log_path(self) -> Path:
        """The log."""
        return self._log

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was learnt so far: versions, addresses, where the destination's sockets are."""
        return self._runner.machine.facts if self._runner is not None else {}

    @property
    def started(self) -> StartedDestination | None:
        """The destination, if there is one."""
        return self._runner.procedures.started if self._runner is not None else None

    async def run(self) -> CompletedReport:
        """Settle it.

        Returns:
            The report, whatever the outcome; that of the log, if the migration had ended and all was settled.

        Raises:
            BadInput: no log, one that a manager writes to, a lock that has to be given again, or a side that is said
                to be off and is not.
            WhimbrelError: the log is damaged (the line is named) or can't be made safe, or another manager has the
                guest. Nothing was touched.

        If cancelled: as `Migration.run`.
        """
        return await to_its_end(self._run(), self.cancel)

    def cancel(self, why: str = "called off by the user") -> None:
        """Call it off, where that is still safe; after ``migrate-continue`` nothing happens and it ends first."""
        if self._runner is None:
            self._call_off = why
        else:
            self._runner.cancel(why)

    async def progress(self) -> AsyncIterator[OngoingReport]:
        """A glance after everything that happens, to the end."""
        await self._begun.wait()
        if self._runner is not None and not self._ended.is_set():
            async for glance in self._runner.progress():
                yield glance

    async def _run(self) -> CompletedReport:
        try:
            journal = self._reopen()
            try:
                self._sweep()  # the log is locked by us, so nobody listens there
                lines = tuple(read(self._log))
                self.report = await self._settle(journal, lines)
                return self.report
            finally:
                journal.close()
        finally:
            self._begun.set()
            self._ended.set()

    def _reopen(self) -> Journal:
        try:
            return Journal.reopen(self._log)
        except BadInput:
            if _is_empty(self._log) and not is_held(self._log):
                self._sweep()  # its manager died before its first line: nothing was begun
            raise

    def _sweep(self) -> None:
        """Remove the control socket of a manager that died."""
        try:
            control_path(self._log).unlink(missing_ok=True)
        except OSError:
            pass  # it is replaced by whoever needs the place next

    async def _settle(self, journal: Journal, lines: Sequence[Line]) -> CompletedReport:
        legacy = Legacy.read(lines)
        options, notes = self._chosen_options(legacy)
        told = _replayed(lines, options, self._log)
        if told.settled:
            report = _last_report(lines, self._log)
            left = undo_left(legacy.outside, legacy.judge_outside(Host.here()))
            return replace(report, notes=(*report.notes, *left))
        if told.differs is not None:
            notes.append(f"the log is of another version of the protocol ({told.differs}): both sides were asked")
        takeover = Takeover(
            legacy=legacy, machine=told.machine, fenced=self._fenced, reopened=told.ended, notes=tuple(notes)
        )
        runner = Runner(legacy.source_address, NoDestination(), options, journal, {}, takeover=takeover)
        self._runner = runner
        if self._call_off is not None:
            runner.cancel(self._call_off)
        server = ControlServer(journal.path, cancel=self.cancel, status=self._status, ended=self._ended)
        async with server as control:
            if control.problem is not None:
                runner.note(f"no control socket, so it can't be called off from outside: {control.problem}")
            self._begun.set()
            try:
                self.report = await runner.run()
            finally:
                self._ended.set()
                if runner.procedures.started is not None:
                    runner.procedures.started.release()
        return self.report

    def _chosen_options(self, legacy: Legacy) -> tuple[Options, list[str]]:
        """The caller's, or those of the log, with a policy; and what has to be said of them."""
        header = legacy.header
        if self._options is not None:
            options, notes = self._options, list[str]()
        else:
            policy, notes = _policy_named(str(header.get("policy", "")))
            options = replace(legacy.options, policy=policy)
            if (lock := header.get("lock")) is not None:
                options = replace(options, locks=_file_lock(lock))
        if options.locks is None and header["options"].get("locked"):
            allowed = "options with the guest's lock: a log can't keep this one"
            raise BadInput("options", None, allowed)
        if hooks := set(header["options"].get("hooks", ())) - set(hooks_of(options)):
            notes.append(f"hooks that nobody asks any more: {', '.join(sorted(hooks))}")
        return options, notes

    def _status(self) -> dict[str, Any]:
        if self.report is not None:
            return asdict(self.report)
        return asdict(self._runner.machine.progress()) if self._runner is not None else {}


async def resolve(
    log: Path, *, fenced: frozenset[Side] = frozenset(), options: Options | None = None
) -> CompletedReport:
    """Settle a migration whose manager died.

    Args, returns, raises, and if cancelled: as `Resolution`.
    """
    return await Resolution(log, fenced=fenced, options=options).run()


def _is_empty(log: Path) -> bool:
    """Whether this is a file without a line."""
    try:
        return log.is_file() and log.stat().st_size == 0
    except OSError:
        return False


def _replayed(lines: Sequence[Line], options: Options, log: Path) -> Replayed:
    try:
        return replay(
            lines,
            policy=Supervised(options.fresh_policy()),
            objectives=options.objectives,
            waits=options.waits,
            stall_ns=options.stall_ns,
            foresight=Foresight(objectives=options.objectives, prediction=options.prediction),
        )
    except ValueError as error:
        raise WhimbrelError(f"{log} is damaged: {error}") from error


def _last_report(lines: Sequence[Line], log: Path) -> CompletedReport:
    end = next(line for line in reversed(lines) if line["kind"] == "end")
    try:
        return report_in(dict(end))
    except msgspec.ValidationError as error:
        raise WhimbrelError(f"the last line of {log} holds no report: {error}") from error


def _policy_named(name: str) -> tuple[Policy, list[str]]:
    """The policy of that name, or else the default, and a note that says so."""
    if name in ("", LeastDowntime.__name__):
        return LeastDowntime(), []
    try:
        return named_policy(name), []
    except BadInput as error:
        return LeastDowntime(), [f"least_downtime steers from here, for the policy could not be made again: {error}"]


def _file_lock(written: Mapping[str, Any]) -> FileLock:
    try:
        return FileLock(Path(written["path"]), source=written["source"], destination=written["destination"])
    except (KeyError, TypeError) as error:
        raise WhimbrelError(f"line 1 of the log names a lock that can't be read: {error!r}") from error
