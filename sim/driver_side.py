"""One side of a simulated migration: what `whimbrel.qmp_driver.side` is to a real one, by the same rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from whimbrel.engine.driving import CONNECT_WITHIN_S, END_GRACE_S, MOST_LOOKS
from whimbrel.engine.errors import CannotConnect, WhimbrelError
from whimbrel.engine.machine import Event, Happened, Marked
from whimbrel.engine.side_words import MARK_OF, NO_STATUS, WORDS
from whimbrel.engine.states import Side as SideName

from .driver_line import Line, Wire
from .driver_replies import Info, query_capabilities, query_migrate, query_status, worn
from .driver_tasks import Loop, Promise, Task, Work

LEAST_CONNECT_S = 0.1
FIRST_PAUSE_S = 0.05
GREATEST_PAUSE_S = 1.0


class Local(Protocol):
    """A QEMU's process where it can be watched (`whimbrel.sim.qemu.contract.QemuProcess`)."""

    @property
    def pid(self) -> int: ...
    @property
    def alive(self) -> bool: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def stderr(self) -> list[str]: ...

    def kill(self) -> None:
        """SIGKILL, by a manager."""
        ...

    def on_exit(self, call: Callable[[], None]) -> None:
        """Be told when it has ended; several may ask."""
        ...


class Handle:
    """A process of this host, as one manager watches it."""

    def __init__(self, loop: Loop, process: Local) -> None:
        """Begin to watch it."""
        self._loop = loop
        self.process = process
        self.ended: Promise[None] = Promise()
        if process.alive:
            process.on_exit(self._process_ended)
        else:
            self.ended.keep(None)

    def _process_ended(self) -> None:
        self._loop.after(0, lambda: self.ended.keep(None))

    @property
    def exited(self) -> bool:
        """Whether it has ended."""
        return not self.process.alive

    def wait_exit(self, within_s: float) -> Work[bool]:
        """Wait for its end; whether it came in time."""
        if self.ended.done:
            return True
        return bool((yield self._loop.first(self.ended, within_s)))

    def kill(self) -> Work[None]:
        """SIGKILL, and its end is waited for."""
        self.process.kill()
        yield self.ended


class Side:
    """One QEMU, as a manager sees it.

    Attributes:
        line: the present connection; ``None`` before the first, and after one was lost.
        handle: its process, where that can be watched; ``None``: only the monitor tells.
        status: the last migration status seen, by event or by query.
        badge: what its QEMU has to wear to be believed; ``None``: nothing is asked.
        overtaken: it was found without it.
        resumes: how often its guest was heard to run again.
        ended: its process ended, and nothing that it said is unknown.
    """

    def __init__(
        self,
        name: SideName,
        loop: Loop,
        deliver: Callable[[Event], None],
        note: Callable[[str, dict[str, object]], None],
        on_pass: Callable[[], None],
    ) -> None:
        """Make it; `connect` comes first."""
        self.name = name
        self.line: Line | None = None
        self.handle: Handle | None = None
        self.wire: Wire | None = None
        self.status: str | None = None
        self.badge: str | None = None
        self.overtaken = False
        self.resumes = 0
        self.ended = False
        self._words = WORDS[name]
        self._loop = loop
        self._deliver = deliver
        self._note = note
        self._on_pass = on_pass
        self._read_to_end = True
        self._caught_up = False
        self._statuses_heard = 0
        self._first = True
        self._had_status = False
        self._told = False
        self._lost: Promise[None] = Promise()
        self._lost.keep(None)
        self._ending: Task[None] | None = None
        self._closing = False
        self._held_back: list[Mapping[str, Any]] | None = None
        self._tasks: list[Task[Any]] = []

    @property
    def alive(self) -> bool:
        """Whether commands can be sent now."""
        return self.line is not None and self.line.alive

    def remember(self, had_status: bool) -> None:
        """An earlier manager was connected to it: what it said since is missed until its status is seen."""
        self._had_status = had_status
        self._first = False
        self._told = True

    # ---- connecting

    def connect(self, *, within_s: float = CONNECT_WITHIN_S) -> Work[Line]:
        """Open the session.

        Raises:
            CannotConnect: none came about, or it is in another migration.
        """
        assert self.wire is not None
        due_ns = self._loop.now_ns + round(within_s * 1e9)
        self.status = None  # whatever it says first on a new connection is news
        self._lost = Promise()
        self._held_back = []
        line: Line | None = None
        try:
            line = yield from Line.connect(
                self._loop,
                self.wire,
                side=self.name.value,
                within_s=within_s,
                on_event=self._hear,
                on_lost=self._on_lost,
            )
            yield from self._recognise(line, max(LEAST_CONNECT_S, (due_ns - self._loop.now_ns) / 1e9))
        except BaseException:  # whatever it is: those who wait for the connection have to hear
            self._held_back = None
            self._lost.keep(None)
            if line is not None:
                line.close()
            raise
        self.line = line
        if self._lost.done:
            self._lost = Promise()  # the end of the one before may have been told in between
        self._read_to_end = True
        self._caught_up, self._first = self._first, False
        self._tell_known(line)
        held, self._held_back = self._held_back or [], None
        for event in held:
            self._hear(event)
        self.watch()
        return line

    def _recognise(self, line: Line, within_s: float) -> Work[None]:
        """See that it is the QEMU of before, where its process can't be seen, and still in this migration."""
        try:
            if self.handle is None and self._had_status:
                yield from self._loop.within(query_migrate(line), within_s)
            if self.badge is not None:
                yield from self._check_badge(line, self.badge)
        except (WhimbrelError, TimeoutError) as error:
            if isinstance(error, CannotConnect):
                raise
            raise CannotConnect("it did not say in time which QEMU it is", side=self.name.value) from error
        if not line.alive:
            raise CannotConnect("the connection ended at once", side=self.name.value)

    def _check_badge(self, line: Line, wanted: str) -> Work[None]:
        wears, able = yield from self._loop.together(worn(line), query_capabilities(line))
        if wanted not in wears or not able.get("pause-before-switchover"):
            self.overtaken = True
            raise CannotConnect("it has begun another migration since", side=self.name.value)

    def _tell_known(self, line: Line) -> None:
        if self._told:
            return
        self._told = True
        process = None if self.handle is None else identity_of(self.handle.process.pid)
        likeness = {"version": line.version, "cpu_threads": None} if process is None else None
        known = {"process": process, "likeness": likeness, "had_status": self._had_status}
        self._note("side", {"side": self.name.value, **known, "address": address_of(self.name)})

    def reconnect(self, *, within_s: float) -> Work[bool]:
        """Try again, once at least, until it answers, it is sure that it will not, or the time is up."""
        if self.alive:
            return True
        if self.wire is None:
            return False
        due_ns = self._loop.now_ns + round(within_s * 1e9)
        pause_s = FIRST_PAUSE_S
        while not self.overtaken and not (self.handle is not None and self.handle.exited):
            left_s = (due_ns - self._loop.now_ns) / 1e9
            try:
                yield from self.connect(within_s=min(CONNECT_WITHIN_S, max(LEAST_CONNECT_S, left_s)))
            except CannotConnect:
                if self._loop.now_ns + round(pause_s * 1e9) >= due_ns:
                    return False
                yield self._loop.sleep(pause_s)
                pause_s = min(pause_s * 2, GREATEST_PAUSE_S)
            else:
                return True
        return False

    def require(self) -> Line:
        """The connection.

        Raises:
            CannotConnect: there is none, so nothing was sent.
        """
        if self.line is None:
            raise CannotConnect("there is no connection to its monitor", side=self.name.value)
        return self.line

    def reach(self, *, within_s: float) -> Work[Line]:
        """The connection, made anew where it was lost.

        Raises:
            CannotConnect: it does not answer, so nothing was sent.
        """
        if not (yield from self.reconnect(within_s=within_s)):
            raise CannotConnect("its monitor does not answer any more", side=self.name.value)
        return self.require()

    def close(self) -> None:
        """Leave the QEMU alone; nothing is delivered any more."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self.line is not None:
            self.line.close()

    # ---- its process

    def watch(self) -> None:
        """Report the end of the process, once its events were read to the end."""
        if self.handle is not None and self._ending is None:
            self._ending = self._spawn(self._await_end(self.handle))

    def is_gone(self) -> Work[bool]:
        """Whether the process has ended; one whose connection has just gone is given a moment."""
        if self.handle is None:
            return self.ended
        if not self.alive and not (yield from self.handle.wait_exit(END_GRACE_S)):
            return False
        return self.handle.exited

    def has_ended(self) -> Work[bool]:
        """Whether the process has ended and its last words are known; one that has just ended is heard out."""
        if (yield from self.is_gone()) and self._ending is not None:
            ending = self._ending
            yield self._loop.when_done(ending)
        return self.ended

    # ---- looking

    def look(self) -> Work[Info]:
        """Ask where the migration stands, and take the status of the answer, if none came by event meanwhile."""
        heard = self._statuses_heard
        info = yield from query_migrate(self.require())
        if self._statuses_heard == heard:
            self.see_status(info.status)
        return info

    def look_around(self) -> Work[tuple[str | None, str | None]]:
        """Migration status and run state, of one moment."""
        looks = 0
        while True:
            looks += 1
            heard = self._statuses_heard
            info = yield from self.look()
            run = yield from query_status(self.require())
            if self._statuses_heard == heard or looks == MOST_LOOKS:
                return info.status, run.status

    def see_status(self, status: str | None) -> None:
        """Take a status from ``query-migrate``; told on only where it is news."""
        status = status or ""
        self._had_status |= status not in NO_STATUS
        self._caught_up = True
        if status == self.status:
            return
        self.status = status
        signal = self._words.status.get(status)
        if signal is not None:
            self._deliver(Happened(signal, f"the {self.name.value} said {status or 'nothing of a migration'}"))

    # ---- hearing

    def _hear(self, event: Mapping[str, Any]) -> None:
        if self._closing:
            return
        if self._held_back is not None:
            self._held_back.append(event)
            return
        name, data = event["event"], event.get("data", {})
        stamp = event["timestamp"]
        at_s = stamp["seconds"] + stamp["microseconds"] / 1e6
        self._note("qmp", {"side": self.name.value, "event": name, "data": data, "at_s": at_s})
        if name == "MIGRATION_PASS":
            self._on_pass()
            return
        word = str(data.get("status", "")) if name == "MIGRATION" else name
        mark = MARK_OF.get((self.name, word))
        if mark is not None:
            self._deliver(Marked(mark, at_s))
        if name == "MIGRATION":
            self._hear_status(word)
        elif name == "RESUME":
            self.resumes += 1
            self._deliver(Happened(self._words.running))
        elif name == "STOP" and self._words.stopped is not None:
            self._deliver(Happened(self._words.stopped))
        elif name == "SHUTDOWN" and data.get("guest") is True and self._words.shut_down is not None:
            self._deliver(Happened(self._words.shut_down, "the guest powered itself off"))

    def _hear_status(self, word: str) -> None:
        self.status = word
        self._statuses_heard += 1
        self._had_status |= word not in NO_STATUS
        self._caught_up = True
        signal = self._words.status.get(word) if word else None
        if signal is not None:
            self._deliver(Happened(signal, f"the {self.name.value} said {word}"))

    # ---- losing

    @property
    def _heard_out(self) -> bool:
        return self._read_to_end and self._caught_up

    def _on_lost(self, line: Line, reason: str) -> None:
        if line is not self.line:
            return  # it was never taken on, or it was replaced
        self.line = None
        self._read_to_end = line.read_to_end
        self._lost.keep(None)
        if not self._closing:
            self._spawn(self._judge_loss(reason))

    def _judge_loss(self, reason: str) -> Work[None]:
        if self.handle is not None and (yield from self.handle.wait_exit(END_GRACE_S)) and self._heard_out:
            return  # the end of the process is reported instead
        text = f"the connection to the {self.name.value}'s monitor was lost: {reason}"
        if self.alive:
            self._note("note", {"text": f"{text}; it was connected anew"})
            self._on_pass()
            return
        self._deliver(Happened(self._words.lost, text))

    def _await_end(self, handle: Handle) -> Work[None]:
        yield handle.ended
        yield self._lost
        if not self._heard_out:
            return  # what it said last is not known: it stays lost, and is never taken for ended
        self.ended = True
        text = f"the {self.name.value} process ended"
        if (code := handle.process.exit_code) is not None:
            text += f" with code {code}"
        if tail := "\n".join(handle.process.stderr)[-1000:]:
            text += f"; its standard error ends: {tail}"
        self._deliver(Happened(self._words.ended, text))

    def _spawn(self, work: Work[None]) -> Task[None]:
        task = self._loop.start(work)
        self._tasks.append(task)
        return task


def identity_of(pid: int) -> dict[str, object]:
    """A simulated process as a log names it."""
    return {"pid": pid, "start_ticks": pid}


def address_of(side: SideName) -> str:
    """A simulated monitor's address, as a log names it."""
    return f"/simulated/{side.value}.sock"
