"""Starting a destination of our own, taking on one that others started, and ending either."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec

from whimbrel.engine.errors import BadInput, CannotConnect, OutcomeUnknown, PreparationFailed, WhimbrelError
from whimbrel.engine.resolve import MOVING_STATUSES

from . import preflight, replies
from .arguments import QMP_LABEL, QMP_LABEL_HUMAN, ArgumentPlan
from .known import recorded_address
from .monitor import Monitor
from .processes import QemuProcess, find_waiting_in
from .sockets import UNIX_PATH_MAX_BYTES, Address, describe
from .truth import Peer, SourceTruth

QUIT_TIMEOUT_S = 5.0
"""How long a destination that others started may take to quit before it is killed or, unseen, given up."""

LAST_WORDS_BYTES = 1000
"""How much of a standard error an error message quotes."""

_MOVING_IN = MOVING_STATUSES - {"setup"}  # which newer QEMUs say of one that only listens
_LOOK_EVERY_S = 0.002
_EXIT_AFTER_EOF_S = 1.0
_QUIET_LOOKS = 2
_LOOK_AGAIN_S = 0.05
_LONGEST_NAME_BYTES = len("/whimbrel-12345678/qmp-human.sock")
_TCP_ADDRESS = re.compile(r"(?:tcp|telnet|tn3270|websocket):(?P<where>[^,]*:\d+)")


@dataclass(slots=True)
class StartedDestination:
    """A destination that waits, stopped, to be told where to listen.

    Attributes:
        address: its monitor.
        process: its process, where it is on this host and proven to be the QEMU; ``None`` otherwise. Belongs to
            whoever has this object.
        owned: we started it.
        directory: its private directory (sockets, standard error), or ``None``. It stays after a success.
        relocalised: where the destination's own things are (``ArgumentPlan.relocalised``).
        plan: how its command line came about, or ``None``.
        quit_timeout_s: how long one that others started may take to quit.
    """

    address: Address
    process: QemuProcess | None
    owned: bool
    directory: Path | None = None
    relocalised: Mapping[str, str] = field(default_factory=dict[str, str])
    plan: ArgumentPlan | None = None
    quit_timeout_s: float = QUIT_TIMEOUT_S
    _last_words: str = ""
    _released: bool = False
    _quit: bool = False

    @property
    def stderr_path(self) -> Path | None:
        """The file that its standard error goes to, or ``None`` for one that we did not start."""
        return None if self.process is None else self.process.stderr_path

    def as_written(self) -> dict[str, object]:
        """What the log keeps of it, for a manager after us."""
        process = self.process
        return {
            "address": recorded_address(self.address),
            "process": None if process is None else asdict(process.identity),
            "owned": self.owned,
            "directory": None if self.directory is None else str(self.directory),
            "relocalised": dict(self.relocalised),
            "stderr": None if self.stderr_path is None else str(self.stderr_path),
        }

    def last_words(self) -> str:
        """The end of what it wrote to its standard error: QEMU says there, and nowhere else, why it failed."""
        return self._last_words or ("" if self.process is None else self.process.stderr_tail())

    async def discard(self, monitor: Monitor | None = None) -> None:
        """End it, see it ended, and remove its private directory; idempotent, and works after ``release`` too.

        One that we started is killed. One that others started is told to quit, and killed if it does not:
        a destination serves one attempt.

        Args:
            monitor: the connection to it, if there is one.

        Raises:
            TimeoutError: it still exists, so it must not be taken for dead.
            WhimbrelError: we may not kill it; or nobody can say whether it ended.
        """
        if self.process is None:
            await self._dismiss_unseen(monitor)
        else:
            if self._released:
                self.process = QemuProcess.attach(self.process.identity, stderr_path=self.process.stderr_path)
                self._released = False
            if not self.owned:
                await self._dismiss(self.process, monitor)
            await self.process.kill()
            self._last_words = self.last_words()
        if self.directory is not None:
            await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)

    def release(self) -> None:
        """Stop watching its process and leave it running; idempotent.

        For the end of a success: it holds no descriptor of the loop's any more, and works after the loop is
        closed. Call it in the loop's thread. One that we started is reaped when it ends, as long as we live.
        """
        if self.process is not None and not self.process.exited:
            self.process.close()
            self._released = True

    async def _dismiss(self, process: QemuProcess, monitor: Monitor | None) -> None:
        """Ask it to end, and wait a little; whatever comes of it, it is killed next."""
        if monitor is None or not monitor.alive:
            return
        try:
            await replies.quit_(monitor)
            await process.wait_exit(self.quit_timeout_s)
        except (WhimbrelError, TimeoutError):
            pass

    async def _dismiss_unseen(self, monitor: Monitor | None) -> None:
        """End one whose process nobody sees.

        It has ended if it agreed to quit *and* then closed its monitor. The closing alone proves nothing: a
        relay may have died, while behind it the destination goes on.
        """
        where = describe(self.address)
        if self._quit:
            return
        if monitor is None or not monitor.alive:
            raise WhimbrelError(f"{where} can't be reached to end it", side="destination")
        doubt = WhimbrelError(f"{where} was told to quit, and nobody can say whether it ended", side="destination")
        try:
            await replies.quit_(monitor)
            closed = await monitor.wait_end(self.quit_timeout_s)
        except (OutcomeUnknown, CannotConnect, TimeoutError) as error:
            raise doubt from error
        if not closed:
            raise doubt
        self._quit = True


class _CharDeviceReply(msgspec.Struct, frozen=True):
    label: str
    filename: str


async def launch(
    argv: Sequence[str],
    cwd: str | None,
    directory: Path,
    relocalised: Mapping[str, str],
    start_timeout_s: float,
) -> StartedDestination:
    """Start a destination and wait until its monitor answers.

    Args:
        argv: the whole vector.
        cwd: working directory, or ``None`` for ours.
        directory: its private directory, which has been made for it; its standard error goes to
            ``stderr.log`` there.
        relocalised: where its own things are; has both monitors.
        start_timeout_s: how long it may take, in seconds.

    Raises:
        PreparationFailed: it did not come up, and what it wrote to its standard error.

    If it fails or is cancelled: the process is killed and waited for, and its directory removed.
    """
    process: QemuProcess | None = None
    try:
        process = await QemuProcess.spawn(argv, stderr_path=directory / "stderr.log", cwd=cwd)
        # Through the second monitor, so that the first has never been held by anybody.
        async with await _greeted(process, relocalised[QMP_LABEL_HUMAN], start_timeout_s) as monitor:
            process = await _the_qemu(process, monitor)
            status = await replies.query_status(monitor)
            found = await _with_ports(monitor, relocalised)
        if status.status != "inmigrate":
            raise PreparationFailed(f"it does not wait for a migration but is {status.status}", side="destination")
    except BaseException:  # cancelled, too: a QEMU that nobody knows of must not stay
        await asyncio.shield(asyncio.ensure_future(_clear_away(process, directory)))
        raise
    return StartedDestination(relocalised[QMP_LABEL], process, owned=True, directory=directory, relocalised=found)


async def end_in(directory: Path) -> None:
    """End whatever was started to wait for a migration in a private directory, and remove that.

    For a destination whose starter died before it could say more than where it would be. Looks until two looks
    in a row find nothing: what is just being started shows its arguments a moment later.

    Raises:
        TimeoutError: it still exists, so it must not be taken for dead.
        WhimbrelError: we may not kill it.
    """
    quiet = 0
    while quiet < _QUIET_LOOKS:
        found = await asyncio.to_thread(find_waiting_in, directory)
        for identity in found:
            await QemuProcess.attach(identity).kill()
        quiet = 0 if found else quiet + 1
        await asyncio.sleep(_LOOK_AGAIN_S)
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def adopt(address: Address, source: SourceTruth) -> StartedDestination:
    """Take on a destination that others started, if it can serve.

    Raises:
        CannotConnect: its monitor does not answer.
        PreflightFailed: it does not wait for a migration, already listens, or is the source.
    """
    async with await Monitor.connect(address, side="destination") as monitor:
        status, info, peer = await asyncio.gather(
            replies.query_status(monitor), replies.query_migrate(monitor), Peer.read(monitor)
        )
    pid = None if peer.process is None else peer.process.pid
    findings = (
        *preflight.judge_waiting(status.status, info.status, listening=bool(info.socket_address)),
        *preflight.same_process(source.facts.pid, pid),
    )
    preflight.raise_if_refused(findings)
    try:
        # Only the QEMU itself: it may be killed, and its end counts as the guest's.
        process = None if peer.process is None else QemuProcess.attach(peer.process)
    except WhimbrelError:
        process = None  # then only its monitor tells
    return StartedDestination(address, process, owned=False)


async def quit_if_waiting(address: Address) -> bool:
    """End a destination that can't be used, if it answers and holds no guest.

    One that runs, or that others are moving a guest into, is left alone: the address may be a wrong one.

    Returns:
        Whether it agreed to quit.
    """
    try:
        async with await Monitor.connect(address, side="destination", timeout_s=QUIT_TIMEOUT_S) as monitor:
            status, info = await asyncio.gather(replies.query_status(monitor), replies.query_migrate(monitor))
            if status.status != "inmigrate" or info.status in _MOVING_IN:
                return False
            await replies.quit_(monitor)
            await monitor.wait_end(QUIT_TIMEOUT_S)
    except (WhimbrelError, TimeoutError):
        return False
    return True


def runtime_folder(chosen: Path | None) -> Path:
    """The folder in which private directories are made.

    Args:
        chosen: what the caller wants, or ``None``: ``$XDG_RUNTIME_DIR`` if it is there and its name short
            enough for sockets, or else the system's folder for temporary files.

    Raises:
        BadInput: the chosen one does not exist, or its name is too long.
    """
    if chosen is not None:
        if not chosen.is_dir():
            raise BadInput("directory", str(chosen), "a folder that exists")
        if not _short_enough(chosen):
            allowed = f"a path of at most {UNIX_PATH_MAX_BYTES - _LONGEST_NAME_BYTES} bytes: sockets are made below it"
            raise BadInput("directory", str(chosen), allowed)
        return chosen.absolute()
    ours = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere")
    if ours.is_dir() and os.access(ours, os.W_OK) and _short_enough(ours):
        return ours
    temporary = Path(tempfile.gettempdir())
    return temporary if _short_enough(temporary) else Path("/tmp")


Announce: TypeAlias = Callable[[Path], None]
"""Told the private directory of a destination before it is made, and anything is started in it."""


def unannounced(_: Path) -> None:
    """For callers who keep no log."""


def make_directory(chosen: Path | None, announce: Announce = unannounced) -> Path:
    """Make a private directory (mode 0700) in ``runtime_folder(chosen)``.

    Args:
        chosen: as for ``runtime_folder``.
        announce: called with its name before it is made; what it raises is passed on.

    Raises:
        BadInput: as ``runtime_folder``, or the folder can't be written to.
    """
    folder = runtime_folder(chosen)
    while True:
        directory = folder / f"whimbrel-{secrets.token_hex(4)}"
        if os.path.lexists(directory):
            continue  # announced, it would be taken for ours
        announce(directory)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInput("directory", str(folder), f"a folder that can be written to ({error.strerror})") from error
        return directory


def _short_enough(folder: Path) -> bool:
    return len(os.fsencode(folder.absolute())) + _LONGEST_NAME_BYTES <= UNIX_PATH_MAX_BYTES


async def _greeted(process: QemuProcess, path: str, timeout_s: float) -> Monitor:
    """Wait for the socket and the greeting of a QEMU that is starting.

    Its socket appears early and greets late, when all is set up; there is no event for the former.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while not process.exited:
        left_s = deadline_s - loop.time()
        if left_s <= 0:
            raise PreparationFailed(f"it did not answer within {timeout_s:g} s{_quote(process)}", side="destination")
        try:
            return await Monitor.connect(path, side="destination", timeout_s=left_s)
        except CannotConnect:
            patience_s = _EXIT_AFTER_EOF_S if _is_there(path) else _LOOK_EVERY_S
        try:
            await process.wait_exit(min(patience_s, left_s))
        except TimeoutError:
            continue
    raise PreparationFailed(
        f"it ended while it was starting (exit code {process.exit_code}){_quote(process)}", side="destination"
    )


async def _the_qemu(started: QemuProcess, monitor: Monitor) -> QemuProcess:
    """The process that is the QEMU: what was started may be a wrapper that has QEMU as its child.

    To kill the wrapper would leave QEMU running, and its end would be taken for QEMU's.
    """
    if monitor.peer_pid in (None, started.pid):
        return started
    peer = await Peer.read(monitor)
    if peer.process is None:
        await replies.quit_(monitor)
        raise PreparationFailed("what was started is not QEMU but has it started elsewhere", side="destination")
    process = QemuProcess.attach(peer.process, stderr_path=started.stderr_path)
    started.close()  # it is reaped when it ends, which it does with its child
    return process


def _is_there(path: str) -> bool:
    return os.path.exists(path)


def _quote(process: QemuProcess) -> str:
    words = process.stderr_tail(LAST_WORDS_BYTES)
    return f"; it said: {' / '.join(words.splitlines())}" if words else "; it said nothing"


async def _with_ports(monitor: Monitor, relocalised: Mapping[str, str]) -> dict[str, str]:
    """Fill in the ports that the kernel chose."""
    found = dict(relocalised)
    if any(_is_open(where) for where in found.values()):
        for device in await monitor.call(list[_CharDeviceReply], "query-chardev"):
            match = _TCP_ADDRESS.search(device.filename)
            if match and _is_open(found.get(device.label, "")):
                found[device.label] = f"tcp:{match['where']}"
    return found


def _is_open(where: str) -> bool:
    return where.startswith("tcp:") and where.endswith(":0")


async def _clear_away(process: QemuProcess | None, directory: Path) -> None:
    if process is not None:
        await process.kill()
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
