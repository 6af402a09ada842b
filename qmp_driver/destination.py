"""How the destination comes about: four ways behind one interface.

    FromSource()            a QEMU on this host, from the source's own command line
    FromArgv([...])         a QEMU on this host, from a command line that the caller gives
    FromCallable(start)     whatever the caller's coroutine starts, wherever
    Existing(address)       a QEMU that already waits with ``-incoming defer``

What we started runs in a session of its own with its standard error in a file, so that it survives ctrl-C and
our own end. It is ended when the migration fails, and never when it completed: then the guest lives in it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from whimbrel.engine.errors import BadInput, CannotConnect, PreparationFailed, WhimbrelError

from . import preflight, replies
from .arguments import QMP_LABEL, QMP_LABEL_HUMAN, ArgumentPlan, PlanContext, plan_arguments, split_arguments
from .compare import compare
from .facts import SideFacts, read_facts
from .findings import Finding, refuse, warn
from .launch import (
    Announce,
    StartedDestination,
    adopt,
    launch,
    make_directory,
    quit_if_waiting,
    runtime_folder,
    unannounced,
)
from .monitor import Monitor
from .option_text import double_commas
from .probe import BinaryFacts, available_bytes, probe_binary, resident_bytes
from .processes import split_launcher
from .sockets import Address
from .truth import Peer, SourceTruth

__all__ = ["Destination", "Existing", "FromArgv", "FromCallable", "FromSource", "SourceTruth", "StartedDestination"]

START_TIMEOUT_S = 60.0
"""From the start of a QEMU to its greeting. Preallocating hundreds of GiB takes that long."""

DISK_OPTIONS = frozenset(
    {"drive", "blockdev", "disk", "fda", "fdb", "hda", "hdb", "hdc", "hdd", "cdrom", "mtdblock", "sd", "pflash"}
)
"""Who replaces one of these means other storage, so that a disk by another name is no surprise."""

_OTHER_WAYS = "give the destination's command line, or a QEMU that waits with -incoming defer"
_OTHER_FILES = warn(
    "other-files",
    "the source lives in another mount namespace or root: its paths may mean other files here",
    "compare them, or start the destination where the source lives",
)


class Destination(Protocol):
    """A way to come by a destination. One object serves one migration at a time."""

    async def examine(
        self, source: SourceTruth, *, accept_memory_loss: bool = False, thorough: bool = False
    ) -> tuple[Finding, ...]:
        """Say what speaks against it, before anything is started; changes nothing.

        Args:
            source: the running source.
            accept_memory_loss: see ``preflight.memory_loss``.
            thorough: look at what takes more than a few milliseconds too.
        """
        ...

    async def start(self, source: SourceTruth, announce: Announce = unannounced) -> StartedDestination:
        """Bring it up, stopped and waiting with ``-incoming defer``, its monitor free.

        Args:
            source: the running source.
            announce: called with the private directory, where there is one, before that is made: whoever comes
                after us finds by it what we started and could not end. What it raises is passed on.

        Raises:
            PreparationFailed: it did not come up, with what it wrote to its standard error.
            PreflightFailed: it may not be started, or can't serve.

        If it fails or is cancelled: nothing that was started is left.
        """
        ...

    def compare(self, source: SourceTruth, destination: SideFacts) -> tuple[Finding, ...]:
        """Say whether the two are ends of one migration."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FromSource:
    """A QEMU on this host, from the source's own command line.

    Attributes:
        binary: QEMU to start; ``None``: the program that the source runs.
        replacements: instead of single arguments, see ``PlanContext.replacements``.
        disks_shared: both ends see the same writable disks. ``None``: they do if a path means the same
            file to the source and to us, since the destination runs on this host.
        directory: folder in which its private directory is made; ``None``: ``$XDG_RUNTIME_DIR``, or the
            system's folder for temporary files.
        start_timeout_s: how long it may take to come up, in seconds.
    """

    binary: str | None = None
    replacements: Mapping[str, str] = field(default_factory=dict[str, str])
    disks_shared: bool | None = None
    directory: Path | None = None
    start_timeout_s: float = START_TIMEOUT_S

    def plan(self, source: SourceTruth, directory: Path | None = None) -> ArgumentPlan:
        """Make the destination's command line; nothing is started and no directory made.

        Args:
            source: the running source.
            directory: the private directory; ``None``: a name in its place.

        Raises:
            PreparationFailed: the source's process can't be looked at.
            BadInput: a replacement that fits no argument.
        """
        process = source.process
        if process is None:
            raise PreparationFailed(
                f"the source's command line can't be read: {source.no_process_because}", advice=_OTHER_WAYS
            )
        shared = process.same_files if self.disks_shared is None else self.disks_shared
        facts = source.facts
        context = PlanContext(
            directory=str(directory or runtime_folder(self.directory) / "whimbrel-????????"),
            binary=self.binary,
            machine=facts.machine,
            cpu=facts.cpu,
            accelerator=facts.accelerator,
            source_cwd=process.cwd,
            replacements=self.replacements,
            disks_shared=shared,
        )
        argv = (*process.launcher, *split_launcher(process.argv)[1])
        return plan_arguments(argv, context=context)

    async def examine(
        self, source: SourceTruth, *, accept_memory_loss: bool = False, thorough: bool = False
    ) -> tuple[Finding, ...]:
        """See ``Destination``. Thorough: ask the binary what it knows."""
        process = source.process
        if process is None:
            advice = f"{source.no_process_because}; {_OTHER_WAYS}"
            found = refuse("source-process", "the source's command line can't be read", advice)
            return (*preflight.judge_source(source.facts, accept_memory_loss), found)
        launcher = process.launcher if self.binary is None else (self.binary,)
        inputs = preflight.PreflightInputs(
            source=source.facts,
            plan=self.plan(source),
            binary=await probe_binary(launcher) if thorough else _present(launcher),
            available_bytes=available_bytes(),
            source_resident_bytes=resident_bytes(process.identity.pid),
            accept_memory_loss=accept_memory_loss,
            gathered=() if process.same_files else (_OTHER_FILES,),
        )
        return preflight.judge(inputs)

    async def start(self, source: SourceTruth, announce: Announce = unannounced) -> StartedDestination:
        """See ``Destination``."""
        directory = make_directory(self.directory, announce)
        try:
            plan = self.plan(source, directory)
            preflight.raise_if_refused(preflight.judge_plan(plan))
        except BaseException:  # cancelled, too: nothing was started that could use it
            directory.rmdir()
            raise
        argv = plan.argv
        if self.binary is None and source.process is not None and source.process.environment:
            argv = ("/usr/bin/env", *source.process.environment, *argv)  # which becomes QEMU, under the same pid
        started = await launch(argv, plan.cwd, directory, plan.relocalised, self.start_timeout_s)
        started.plan = plan
        return started

    def compare(self, source: SourceTruth, destination: SideFacts) -> tuple[Finding, ...]:
        """See ``Destination``. A disk by another name is refused, unless the caller replaced a disk."""
        options = {key.removeprefix("-").partition(":")[0].partition("#")[0] for key in self.replacements}
        return compare(source.facts, destination, same_files=options.isdisjoint(DISK_OPTIONS))


class FromArgv:
    """A QEMU on this host, from a command line that the caller gives.

    What a destination needs is added (``-S``, ``-incoming defer``, two QMP monitors in its private directory).
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        directory: Path | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Take the command line.

        Args:
            argv: the program and its arguments.
            cwd: working directory; ``None``: ours.
            directory: as with ``FromSource``.
            start_timeout_s: as with ``FromSource``.

        Raises:
            BadInput: the line is empty, listens somewhere by itself, or has the QEMU leave us.
        """
        if not argv:
            raise BadInput("argv", list(argv), "a program and its arguments")
        self._launcher, words = split_launcher(argv)
        for argument in split_arguments(words):
            if argument.option == "daemonize":
                raise BadInput("argv", "-daemonize", "a command line without it: its end could not be watched")
            if argument.option == "incoming" and argument.text != "defer":
                allowed = "-incoming defer, for capabilities are set before it listens"
                raise BadInput("argv", " ".join(argument.words), allowed)
        self.argv = tuple(argv)
        self._options = {argument.option for argument in split_arguments(words)}
        self._cwd = cwd
        self._directory = directory
        self._start_timeout_s = start_timeout_s

    async def examine(
        self, source: SourceTruth, *, accept_memory_loss: bool = False, thorough: bool = False
    ) -> tuple[Finding, ...]:
        """See ``Destination``. Thorough: ask the binary what it knows."""
        inputs = preflight.PreflightInputs(
            source=source.facts,
            binary=await probe_binary(self._launcher) if thorough else _present(self._launcher),
            available_bytes=available_bytes(),
            accept_memory_loss=accept_memory_loss,
        )
        return preflight.judge(inputs)

    async def start(self, source: SourceTruth, announce: Announce = unannounced) -> StartedDestination:
        """See ``Destination``."""
        directory = make_directory(self._directory, announce)
        monitors = {QMP_LABEL: str(directory / "qmp.sock"), QMP_LABEL_HUMAN: str(directory / "human.sock")}
        argv = list(self.argv)
        for path in monitors.values():
            argv += ["-qmp", f"unix:{double_commas(path)},server=on,wait=off"]
        argv += [] if "S" in self._options else ["-S"]
        argv += [] if "incoming" in self._options else ["-incoming", "defer"]
        cwd = None if self._cwd is None else str(self._cwd)
        return await launch(argv, cwd, directory, monitors, self._start_timeout_s)

    def compare(self, source: SourceTruth, destination: SideFacts) -> tuple[Finding, ...]:
        """See ``Destination``. A disk by another name is a warning: the caller chose it."""
        return compare(source.facts, destination, same_files=False)


class Existing:
    """A QEMU that others started with ``-incoming defer``, on this host or another.

    One that already listens is refused, since its capabilities can no longer be set. Whoever started it has
    to see to it that it outlives them.
    """

    def __init__(self, address: Address) -> None:
        """Take the address of its monitor: a UNIX socket's path or ``(host, port)``."""
        self.address = address

    async def examine(
        self, source: SourceTruth, *, accept_memory_loss: bool = False, thorough: bool = False
    ) -> tuple[Finding, ...]:
        """See ``Destination``. Thorough: ask it, and compare it with the source."""
        inputs = preflight.PreflightInputs(source=source.facts, accept_memory_loss=accept_memory_loss, same_files=False)
        if not thorough:
            return preflight.judge(inputs)
        try:
            monitor = await Monitor.connect(self.address, side="destination")
        except CannotConnect as error:
            found = refuse("destination-monitor", error.message, error.advice or "give the socket of its QMP monitor")
            return (*preflight.judge(inputs), found)
        async with monitor:
            peer = await Peer.read(monitor)
            pid = None if peer.process is None else peer.process.pid  # a relay's folder and pid mean nothing
            facts, has = await asyncio.gather(read_facts(monitor, pid=pid), replies.query_capabilities(monitor))
        local = available_bytes() if pid is not None else None  # only a process that we see is on this host
        looked_at = replace(inputs, destination=facts, destination_capabilities=frozenset(has), available_bytes=local)
        return preflight.judge(looked_at)

    async def start(self, source: SourceTruth, announce: Announce = unannounced) -> StartedDestination:
        """See ``Destination``. Only looks whether it can serve."""
        return await adopt(self.address, source)

    def compare(self, source: SourceTruth, destination: SideFacts) -> tuple[Finding, ...]:
        """See ``Destination``. A disk by another name is a warning: it may be the same storage elsewhere."""
        return compare(source.facts, destination, same_files=False)


class FromCallable:
    """Whatever the caller's coroutine starts, wherever: on another host, in a container, by an API."""

    def __init__(self, start: Callable[[SourceTruth], Awaitable[Address]]) -> None:
        """Take the coroutine function.

        Args:
            start: is given the truth about the source (``FromSource().plan(truth)`` makes a command line of
                it), starts a QEMU with ``-incoming defer`` that outlives it, and returns its monitor's address.
                If it raises or is cancelled, it has to end what it started itself, for nobody else knows of it.
        """
        self._start = start

    async def examine(
        self, source: SourceTruth, *, accept_memory_loss: bool = False, thorough: bool = False
    ) -> tuple[Finding, ...]:
        """See ``Destination``. Nothing is known of it before it was started."""
        return tuple(preflight.judge_source(source.facts, accept_memory_loss))

    async def start(self, source: SourceTruth, announce: Announce = unannounced) -> StartedDestination:
        """See ``Destination``.

        Raises:
            PreparationFailed: the coroutine raised something, which is the cause.
            CannotConnect, PreflightFailed: what it started can't serve.

        If it fails or is cancelled once the address is known: the QEMU there is told to quit, where it answers
        and waits for a guest. One that does not answer is out of reach, and is left to the caller.
        """
        try:
            address = await self._start(source)
        except WhimbrelError:
            raise
        except Exception as error:  # the caller's code may raise anything
            message = f"it was not started: {error or type(error).__name__}"
            raise PreparationFailed(message, side="destination") from error
        try:
            return await adopt(address, source)
        except BaseException:  # cancelled, too: nobody else would end it
            await _to_its_end(quit_if_waiting(address))
            raise

    def compare(self, source: SourceTruth, destination: SideFacts) -> tuple[Finding, ...]:
        """See ``Destination``. A disk by another name is a warning: it may be the same storage elsewhere."""
        return compare(source.facts, destination, same_files=False)


async def _to_its_end(work: Coroutine[None, None, object]) -> None:
    """Carry out what must not be cut short, though the awaiting task is cancelled; it has a deadline of its own."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            pass  # whoever cancels has an error on its way to them already
    task.result()


def _present(launcher: Sequence[str]) -> BinaryFacts | None:
    """The quick look at a binary: only whether it is there. ``None`` where nothing speaks against it."""
    program = launcher[-1]
    if shutil.which(program) is not None:
        return None
    return BinaryFacts(path=program, problem=f"the destination's binary {program} does not exist, or is not executable")
