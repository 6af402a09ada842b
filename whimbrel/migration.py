"""The library's way in: `migrate` for one call, `Migration` to watch it and call it off."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from whimbrel.engine._version import __version__
from whimbrel.engine.errors import MigrationCancelled, MigrationFailed, WhimbrelError
from whimbrel.engine.policy import Objectives, Policy
from whimbrel.engine.report import CompletedReport, OngoingReport
from whimbrel.engine.states import Fact
from whimbrel.guardian import Guardian
from whimbrel.logbook import sides_seen
from whimbrel.planning import Link, plan
from whimbrel.policies import resolve
from whimbrel.qmp_driver.control import ControlServer
from whimbrel.qmp_driver.destination import Destination, FromSource, StartedDestination
from whimbrel.qmp_driver.journal import Journal, default_directory
from whimbrel.qmp_driver.lock_file import FileLock
from whimbrel.qmp_driver.locks import LockProvider
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.runner import Runner
from whimbrel.qmp_driver.sockets import Address
from whimbrel.shielding import to_its_end


class Migration:
    """One migration: run it once, watch it, call it off. Used from the event loop that runs it.

    ::

        async with Migration("/run/vm/source.qmp", policy="least_downtime") as migration:
            async for glance in migration.progress():
                print(glance.stage_name, glance.remaining_bytes)
        print(migration.report)
    """

    def __init__(
        self,
        source: Address,
        destination: Destination | None = None,
        options: Options | None = None,
        *,
        policy: str | Policy | None = None,
        labels: dict[str, Any] | None = None,
    ) -> None:
        """
        Args:
            source: the QMP monitor of the running guest's QEMU: a socket's path or ``(host, port)``.
            destination: where it goes; ``None``: a QEMU of the same make on this host, from the source's
                own command line.
            options: everything else.
            policy: a name, a name with parameters, ``FILE.py:NAME``, or any callable of the form
                `whimbrel.Policy`; ``None``: what the options say.
            labels: put into the log's header as they are.

        Raises:
            BadInput: a value that can't be used, by name.
        """
        options = options or Options()
        if isinstance(policy, str):
            options = replace(options, policy=resolve(policy), policy_name=policy)
        elif policy is not None:
            options = replace(options, policy=policy, policy_name="")
        if not options.policy_name:
            chosen = options.fresh_policy()
            options = replace(options, policy_name=getattr(chosen, "__name__", type(chosen).__name__))
        self.options = options
        self.source = source
        if isinstance(destination, FromSource) and destination.disks_shared is None and options.disks_shared:
            destination = replace(destination, disks_shared=True)
        self.destination: Destination = destination or FromSource(disks_shared=options.disks_shared or None)
        self.labels = labels or {}
        self.report: CompletedReport | None = None
        """Once it has ended, however it ended."""
        self._runner: Runner | None = None
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()
        self._call_off: str | None = None
        self._log_path: Path | None = None
        self._guardian: Guardian | None = None
        self._running: asyncio.Task[CompletedReport] | None = None
        self._was_run = False

    async def __aenter__(self) -> Self:
        """Begin; leaving waits for the end, and an error inside calls the migration off first."""
        self._running = asyncio.get_running_loop().create_task(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See it to its end; what `run` would have raised is raised here, unless the body raised already."""
        assert self._running is not None
        if error is not None:
            self.cancel(f"left early: {error!r}")
        interrupted: asyncio.CancelledError | None = None
        while not self._running.done():
            try:
                await asyncio.wait([self._running])
            except asyncio.CancelledError as again:
                interrupted = again
                self.cancel("the task that awaited it was cancelled")
        if error is not None:
            self._running.exception()  # seen: what the body raised comes first
        elif interrupted is not None:
            self._running.exception()
            raise interrupted
        else:
            self._running.result()

    @property
    def log_path(self) -> Path | None:
        """The log, once the migration runs."""
        return self._log_path

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was learnt so far: versions, addresses, where the destination's sockets are."""
        return self._runner.machine.facts if self._runner is not None else {}

    @property
    def started(self) -> StartedDestination | None:
        """The destination, once there is one."""
        return self._runner.procedures.started if self._runner is not None else None

    async def run(self) -> CompletedReport:
        """Move the guest.

        Returns:
            The report of a guest that was moved.

        Raises:
            MigrationCancelled: it was called off in time; the guest is the source's.
            MigrationFailed: it failed; the error and its report say who owns the guest.
            PreflightFailed, CannotConnect, PreparationFailed, BadInput: it was not begun.
            WhimbrelError: this object has been run already; a new attempt is a new `Migration`.

        If cancelled: before ``migrate-continue`` the migration is called off, after it it goes on; either
        way this returns only when it has ended, with ``CancelledError``; `report` says how.
        """
        if self._was_run:
            raise WhimbrelError("this migration has been run already", advice="make a new Migration for a new attempt")
        self._was_run = True
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
            path = self.options.log_path or _new_log_path()
            field = "log" if self.options.log_path else "log folder"
            # Opening a file is no wait; anything that can wait (fsync) is done off the loop.
            journal = Journal.create(path, field=field)
            self._log_path = path
            try:
                return await self._run_with(journal)
            except BaseException as error:
                if self._guardian is not None and self.report is None and not isinstance(error, WhimbrelError):
                    self._guardian.abandon()  # a defect of ours: somebody has to see to what is left
                raise
            finally:
                journal.close()
                if self._guardian is not None:
                    self._guardian.farewell()
        finally:
            self._begun.set()
            self._ended.set()

    async def _run_with(self, journal: Journal) -> CompletedReport:
        unguarded = self._start_guardian(journal.path)
        runner = Runner(self.source, self.destination, self.options, journal, self._header())
        self._runner = runner
        if unguarded:
            runner.note(f"no guardian, so nobody settles it should this process be killed: {unguarded}")
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
        return self._conclude(runner, self.report)

    def _start_guardian(self, log: Path) -> str:
        """Start the guardian, if one is wanted; why there is none, or nothing."""
        if self.options.guardian and not isinstance(self.options.locks, FileLock | None):
            return "it could not take the guest's lock over: a log can't keep one of this kind"
        if self.options.guardian:
            try:
                self._guardian = Guardian.start(log)
            except OSError as error:
                return error.strerror or str(error)
        return ""

    def _conclude(self, runner: Runner, report: CompletedReport) -> CompletedReport:
        if report.outcome == "completed":
            return report
        if report.outcome == "cancelled":
            raise MigrationCancelled(f"cancelled: {report.why}", report=report, owner=report.owner)
        failure = runner.procedures.failure
        if failure is not None and Fact.MIGRATE_SENT not in runner.machine.state.facts:
            failure.owner = failure.owner or report.owner
            raise failure
        raise MigrationFailed(
            f"failed: {report.why}", report=report, owner=report.owner, advice=advice(report, self._log_path)
        )

    def _header(self) -> dict[str, Any]:
        goal = self.options.objectives
        return {
            "whimbrel": __version__,
            "pid": os.getpid(),
            "guardian_pid": self._guardian.pid if self._guardian is not None else None,
            "boot_id": _boot_id(),
            "source_address": str(self.source),
            "policy": self.options.policy_name,
            "objectives": asdict(goal),
            "labels": self.labels,
            "lock": _recorded_lock(self.options.locks),
        }

    def _status(self) -> dict[str, Any]:
        if self.report is not None:
            return asdict(self.report)
        return asdict(self._runner.machine.progress()) if self._runner is not None else {}


async def migrate(
    source: Address,
    destination: Destination | None = None,
    *,
    downtime_s: float | None = None,
    deadline_s: float | None = None,
    bandwidth_bytes_per_s: int | None = None,
    policy: str | Policy | None = None,
    link: Link | None = None,
    span_s: float = 4.0,
    best_effort: bool = False,
    log_path: Path | None = None,
    disks_shared: bool = False,
) -> CompletedReport:
    """Move a running guest, with the options that are needed most; `Migration` takes them all.

    Objectives in, policy out: where `downtime_s` or `deadline_s` is given and no policy, the guest is measured first
    (about 6 s in all), and `whimbrel.plan` chooses the policy. A policy that is given is taken as it is; with neither,
    `LeastDowntime` moves the guest.

    Args:
        source: the QMP monitor of the running guest's QEMU: a socket's path or ``(host, port)``.
        destination: where it goes; ``None``: a QEMU of the same make on this host.
        downtime_s: the greatest downtime allowed, seconds; ``None``: nobody asks for one, and 0.3 is held to.
        deadline_s: when it should be over, seconds from its start.
        bandwidth_bytes_per_s: the most that may be sent.
        policy: as for `Migration`.
        link: what is known of the link, for a plan.
        span_s: how long the guest is measured for a plan, 0.1 to 60 s.
        best_effort: where nothing can meet the objectives, what comes nearest is done.
        log_path: a new file; ``None``: one in the user's state folder.
        disks_shared: the caller vouches that both ends see the same disks.

    Raises, and if cancelled: as `whimbrel.plan` (nothing was begun then) and `Migration.run`; besides
        Infeasible: nothing can meet the objectives, and nothing was begun.
    """
    goal = Objectives(deadline_s=deadline_s, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
    if downtime_s is not None:
        goal = replace(goal, downtime_s=downtime_s)
    options = Options(objectives=goal, log_path=log_path, disks_shared=disks_shared)
    if policy is None and (downtime_s is not None or deadline_s is not None):
        planned = await plan(source, destination, objectives=goal, link=link, span_s=span_s)
        options = planned.options(options, best_effort=best_effort)
    return await Migration(source, destination, options, policy=policy).run()


def _recorded_lock(locks: LockProvider | None) -> dict[str, Any] | None:
    """What a new manager needs to go on with the guest's lock; one of the caller's own it has to be given again."""
    if not isinstance(locks, FileLock):
        return None
    return {"path": os.path.abspath(locks.path), "source": locks.source, "destination": locks.destination}


def _new_log_path() -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    return default_directory() / f"{stamp}-{os.getpid()}-{time.monotonic_ns() % 10**6:06d}.jsonl"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def advice(report: CompletedReport, log: Path | None) -> str:
    """What to do after a migration that did not move its guest, as a sentence."""
    said = {
        "running": "the guest runs on; it can be tried again",
        "paused": "the guest stands paused, as it was before",
        "held": "the guest stands paused because running it could not be shown to be safe",
        "lost": "the process that held the guest has ended",
        "shut-down": "the guest has shut itself down; start it anew",
        "unconfirmed": f"whether the guest runs could not be confirmed: look at the {report.owner}",
    }
    if report.guest == "lost" and report.owner == "destination":
        said["lost"] += (
            "; if the source is still there, it holds the guest as it was at the switchover: "
            "cont there is safe only if nothing that the guest did since matters"
        )
    text = said.get(report.guest, "")
    if log is None:
        return text
    if report.guest in ("held", "unconfirmed"):
        text += f"; {_to_settle(log)}"
    return f"{text} (log: {log})"


def _to_settle(log: Path) -> str:
    """The command that would settle it: it depends on who could not be asked."""
    command = f"whimbrel resolve {shlex.quote(str(log))}"
    seen = sides_seen(log)
    silent = [side for side, found in seen.items() if found in ("unreachable", "unclear")]
    if not silent:
        return f"look at both QEMUs, then: {command}"
    fenced = " ".join(f"--i-fenced {side}" for side in silent)
    return (
        f"when the {' and the '.join(silent)} can be reached again: {command}; "
        f"or, if you are certain that it has ended for good: {command} {fenced}"
    )
