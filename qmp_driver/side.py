"""One side of a migration: its monitor, its process, and what they say in the engine's words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace

from whimbrel.engine.driving import CONNECT_WITHIN_S, END_GRACE_S, MOST_LOOKS
from whimbrel.engine.errors import CannotConnect, WhimbrelError
from whimbrel.engine.machine import Event, Happened, Marked
from whimbrel.engine.side_words import MARK_OF, NO_STATUS, WORDS
from whimbrel.engine.states import Side as SideName

from . import badge, replies
from .known import Known, Likeness, recorded_address
from .monitor import Monitor, QmpEvent
from .processes import ProcessIdentity, QemuProcess, identify_peer
from .replies import MigrationInfo
from .sockets import Address, describe
from .truth import Peer


class Side:
    """One QEMU, as the runner sees it; the same one for ever.

    The end of a process counts as the end of the QEMU only where the process is proven to be it (see
    ``truth.Peer``). Behind a relay, over TCP, or where it can't be told, only the monitor tells, and one that
    goes is *lost*: ``engine.resolve`` then knows the side as ``UNREACHABLE``, never as ``ENDED``.

    A new connection may lead to another QEMU: a supervisor has started a fresh one in the same place. It is
    recognised before anything that it says is heard: by its process, where the first was proven; otherwise by
    version, CPU threads, and by this: a QEMU that once had a migration status never again has none. A stranger
    is not connected to, nor is the place tried again. What became of the first QEMU is then not known: it may
    have died, or live on where nobody can reach it. So it stays ``UNREACHABLE``, which lets nothing be resumed
    on the strength of its death: after ``migrate-continue`` the guest is held, unless the destination has ended.

    Attributes:
        monitor: the present connection; ``None`` before the first, and after one was lost.
        process: the process, where it is on this host and proven; ``None`` otherwise. One that was put here
            before the first connection is taken for proven.
        status: the last migration status seen, by event or by query.
        fenced: a person vouches that the machine it ran on is off: nobody has to ask it any more.
        resumes: how often its guest was heard to run again.
    """

    def __init__(
        self,
        name: SideName,
        deliver: Callable[[Event], None],
        note: Callable[[str, dict[str, object]], None],
        on_pass: Callable[[], None],
    ) -> None:
        self.name = name
        self.words = WORDS[name]
        self.monitor: Monitor | None = None
        self.process: QemuProcess | None = None
        self.address: Address | None = None
        self.status: str | None = None
        self.fenced = False
        self.badge: str | None = None
        """What its QEMU has to wear to be believed (see ``badge``); ``None``: nothing is asked."""
        self.overtaken = False
        """It was found without it: it is in another migration."""
        self.resumes = 0
        self.ended = False
        """The process ended, and nothing that it said is unknown (see `_heard_out`)."""
        self._deliver = deliver
        self._note = note
        self._on_pass = on_pass
        self._read_to_end = True
        self._caught_up = False
        """Nothing that it said before the present connection matters: there was nothing, or its status was seen."""
        self._statuses_heard = 0
        self._connection: object = None
        """What stands for the present connection; a monitor is told lost a little after it ended."""
        self._first = True
        """No earlier connection to it, of ours or of a manager before us."""
        self._told: Known | None = None
        self._lost = asyncio.Event()
        self._lost.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._closing = False
        self._attached: QemuProcess | None = None
        self._seen = False
        self._at_peer: ProcessIdentity | None = None
        """The process behind the socket, once that is proven to be the QEMU."""
        self._likeness: Likeness | None = None
        self._stranger = False
        self._had_status = False
        self._held_back: list[QmpEvent] | None = None
        """Events of a connection that is not recognised yet; ``None``: they are heard at once."""

    @property
    def alive(self) -> bool:
        """Whether commands can be sent now."""
        return self.monitor is not None and self.monitor.alive

    @property
    def known(self) -> Known | None:
        """What is known of its QEMU; ``None`` before the first connection."""
        if self.address is None or not self._seen:
            return None
        return Known(address=self.address, process=self._at_peer, likeness=self._likeness, had_status=self._had_status)

    def remember(self, known: Known, process: QemuProcess | None, *, ours: bool = False) -> None:
        """Take up what an earlier manager knew. What its QEMU said since is missed until its status is seen.

        Args:
            known: of its QEMU; its process only where that can be judged from here.
            process: that process.
            ours: it belongs to this side, which lets it go in the end; otherwise to whoever gave it.
        """
        self.address = known.address
        self.process = process
        self._attached = process if ours else None
        self._at_peer = known.process
        self._likeness = known.likeness
        self._had_status = known.had_status
        self._seen = known.process is not None or known.likeness is not None
        self._first = False
        self._told = known

    async def connect(self, address: Address, *, timeout_s: float = CONNECT_WITHIN_S) -> Monitor:
        """Open the session and, where it is a local process, watch that process from now on.

        Raises:
            CannotConnect: no session came about, or it is with another QEMU than the first one.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        self.address = address
        self.status = None  # whatever it says first on a new connection is news
        self._lost.clear()
        self._held_back = []
        connection = object()
        try:
            monitor = await Monitor.connect(
                address,
                side=self.name.value,
                timeout_s=timeout_s,
                on_event=self._hear,
                on_lost=lambda reason: self._on_lost(connection, reason),
            )
            try:
                await self._recognise(monitor, max(0.1, deadline_s - loop.time()))
                if self.badge is not None:
                    await self._check_badge(monitor, self.badge)
            except BaseException:  # cancelled, too: a monitor serves one client, and this one would keep it
                await monitor.close()
                raise
        except BaseException:  # whatever it is: those who wait for the connection have to hear
            self._held_back = None  # from whom nobody knows
            self._lost.set()
            raise
        self.monitor, self._connection = monitor, connection
        self._lost.clear()  # the end of the one before may have been told in between
        self._read_to_end = True
        self._caught_up, self._first = self._first, False
        self._tell_known()
        self._release_events()
        self.watch()
        return monitor

    def _tell_known(self) -> None:
        """Put into the log who it is, for a manager after us."""
        known = self.known
        if known is not None and (self._told is None or replace(known, had_status=self._told.had_status) != self._told):
            self._told = known
            self._note("side", {"side": self.name.value, **asdict(known), "address": recorded_address(known.address)})

    async def _recognise(self, monitor: Monitor, timeout_s: float) -> None:
        """See that this is the QEMU of before, or who it is if it is the first.

        Where its process is held and at the other end of the socket this costs nothing, else a command or two
        that are under way together.

        Raises:
            CannotConnect: it is another one; or it ended, or did not answer, before that could be told.
        """
        peer = _identify(monitor.peer_pid)
        if self._at_peer is not None:
            if peer != self._at_peer:
                raise self._refuse_stranger()
            return
        if not self._seen and self.process is not None and peer == self.process.identity:
            self._at_peer, self._seen = peer, True
            return
        try:
            async with asyncio.timeout(timeout_s):
                found, status = await asyncio.gather(Peer.read(monitor), self._ask_status(monitor))
        except (WhimbrelError, TimeoutError) as error:
            raise CannotConnect("it did not say in time which QEMU it is", side=self.name.value) from error
        # The connection may have ended while the last answer was on its way: then it is none, for its end
        # was heard before it was taken on.
        if not monitor.alive:
            raise CannotConnect("the connection ended at once", side=self.name.value)
        likeness = Likeness((monitor.version, monitor.package), found.cpu_threads)
        if self._likeness is not None and (likeness != self._likeness or status in NO_STATUS):
            raise self._refuse_stranger()
        self._likeness, self._seen = likeness, True
        if self.process is None and found.process is not None:
            self._attach(found.process)

    async def _ask_status(self, monitor: Monitor) -> str | None:
        """The migration status, where having none would show that it is another QEMU; ``None``: no matter."""
        return (await replies.query_migrate(monitor)).status or "" if self._had_status else None

    def _attach(self, identity: ProcessIdentity) -> None:
        try:
            self.process = self._attached = QemuProcess.attach(identity)
        except WhimbrelError:
            return  # then only the monitor tells
        self._at_peer = identity

    async def _check_badge(self, monitor: Monitor, wanted: str) -> None:
        try:
            worn, able = await asyncio.gather(badge.wears(monitor, wanted), replies.query_capabilities(monitor))
        except WhimbrelError as error:
            raise CannotConnect("it did not say in time whose migration it is in", side=self.name.value) from error
        # Whoever migrates it by hand has to switch off what makes it wait before the switchover.
        if not worn or not able.get("pause-before-switchover"):
            self.overtaken = True
            raise self._refuse_stranger("it has begun another migration since: what it says is not of this one")

    def leave_alone(self, text: str) -> None:
        """Never connect to it: who answers at its address is not known."""
        self._stranger = True
        self._note("note", {"text": f"the {self.name.value}: {text}"})

    def _refuse_stranger(self, text: str | None = None) -> CannotConnect:
        self._stranger = True
        where = describe(self.address) if self.address is not None else "there"
        text = text or f"another QEMU answers at {where} than before: what became of the first one is not known"
        self._note("note", {"text": f"the {self.name.value}: {text}"})
        return CannotConnect(text, side=self.name.value, advice="look at both QEMUs before anything is resumed")

    def watch(self) -> None:
        """Report the end of the process, once its events were read to the end."""
        if self.process is not None and self._ending is None:
            self._ending = self._spawn(self._await_end(self.process))

    def watch_again(self) -> None:
        """Begin anew to watch the process: the event loop is being closed and has cancelled every task."""
        self._ending = None
        self.watch()

    async def is_gone(self) -> bool:
        """Whether the process has ended; one whose connection has just gone is given a moment to end too.

        A dying QEMU closes its monitor first. Who looks in that moment would take it for one out of sight.
        """
        if self.process is None:
            return self.ended
        if not self.alive:
            try:
                await self.process.wait_exit(END_GRACE_S)
            except TimeoutError:
                return False
        return self.process.exited

    async def has_ended(self) -> bool:
        """Whether the process has ended and its last words are known; one that has just ended is heard out."""
        if await self.is_gone() and self._ending is not None:
            await asyncio.wait((self._ending,))
        return self.ended

    def require(self) -> Monitor:
        """The monitor.

        Raises:
            CannotConnect: there is none, so nothing was sent.
        """
        if self.monitor is None:
            raise CannotConnect("there is no connection to its monitor", side=self.name.value)
        return self.monitor

    async def reconnect(self, *, within_s: float) -> bool:
        """Try again, once at least, until it answers, it is sure that it will not, or the time is up; whether it does.

        It will not once its process has ended, or another QEMU has its place.
        """
        if self.alive:
            return True
        if self.address is None or self.fenced:
            return False
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        pause_s = 0.05
        while not self._stranger and not (self.process is not None and self.process.exited):
            try:
                await self.connect(self.address, timeout_s=min(CONNECT_WITHIN_S, max(0.1, deadline - loop.time())))
            except CannotConnect:
                if loop.time() + pause_s >= deadline:
                    return False
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)
            else:
                return True
        return False

    async def reach(self, *, within_s: float) -> Monitor:
        """The monitor, connected anew where the connection was lost.

        Raises:
            CannotConnect: it does not answer, so nothing was sent.
        """
        if not await self.reconnect(within_s=within_s):
            raise CannotConnect("its monitor does not answer any more", side=self.name.value)
        return self.require()

    async def close(self) -> None:
        """Leave the QEMU alone: close the connection, stop watching. Nothing is delivered after it."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.monitor is not None:
            try:
                await self.monitor.close()
            except WhimbrelError as error:
                self._note("note", {"text": f"closing the {self.name.value}'s monitor: {error}"})
        if self._attached is not None:
            self._attached.close()  # one that was given belongs to whoever gave it

    async def look(self) -> MigrationInfo:
        """Ask where the migration stands, and take the status of the answer.

        Not where an event told one while the answer was on its way: that is newer, and the answer may be older.

        Raises:
            OutcomeUnknown, CannotConnect: there is no answer.
        """
        heard = self._statuses_heard
        info = await replies.query_migrate(self.require())
        if self._statuses_heard == heard:
            self.see_status(info.status)
        return info

    async def look_around(self) -> tuple[str | None, str | None]:
        """Migration status and run state, of one moment: asked again where events came in between.

        Raises:
            OutcomeUnknown, CannotConnect: there is no answer.
        """
        looks = 0
        while True:
            looks += 1
            heard = self._statuses_heard
            info = await self.look()
            run = await replies.query_status(self.require())
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
        signal = self.words.status.get(status)
        if signal is not None:
            self._deliver(Happened(signal, f"the {self.name.value} said {status or 'nothing of a migration'}"))

    def _release_events(self) -> None:
        held, self._held_back = self._held_back or [], None
        for event in held:
            self._hear(event)

    def _hear(self, event: QmpEvent) -> None:
        if self._held_back is not None:
            self._held_back.append(event)
            return
        self._note("qmp", {"side": self.name.value, "event": event.name, "data": event.data, "at_s": event.timestamp_s})
        name = event.name
        if name == "MIGRATION_PASS":
            self._on_pass()
            return
        word = str(event.data.get("status", "")) if name == "MIGRATION" else name
        mark = MARK_OF.get((self.name, word))
        if mark is not None:
            self._deliver(Marked(mark, event.timestamp_s))
        if name == "MIGRATION":
            self.status = word
            self._statuses_heard += 1
            self._had_status |= word not in NO_STATUS
            self._caught_up = True
            signal = self.words.status.get(word) if word else None
            if signal is not None:
                self._deliver(Happened(signal, f"the {self.name.value} said {word}"))
        elif name == "RESUME":
            self.resumes += 1
            self._deliver(Happened(self.words.running))
        elif name == "STOP" and self.words.stopped is not None:
            self._deliver(Happened(self.words.stopped))
        elif name == "SHUTDOWN" and event.data.get("guest") is True and self.words.shut_down is not None:
            self._deliver(Happened(self.words.shut_down, "the guest powered itself off"))

    @property
    def _heard_out(self) -> bool:
        """Whether everything that it said since its status was last seen has been read, to its end.

        On a connection that replaced another one, events went by in between: a RESUME, a ``failed``. A status
        that was seen afterwards tells what they led to; without one its last words are not known.
        """
        return self._read_to_end and self._caught_up

    def _on_lost(self, connection: object, reason: str) -> None:
        if connection is not self._connection:
            return  # it was never taken on: whoever connects is told. Or it was replaced, and nobody misses it
        monitor, self.monitor = self.monitor, None
        self._read_to_end = monitor is not None and monitor.read_to_end
        self._lost.set()
        if not self._closing:
            self._spawn(self._judge_loss(reason))

    async def _judge_loss(self, reason: str) -> None:
        if self.process is not None:
            try:
                await self.process.wait_exit(END_GRACE_S)
            except TimeoutError:
                pass
            else:
                if self._heard_out:
                    return  # the end of the process is reported instead
        text = f"the connection to the {self.name.value}'s monitor was lost: {reason}"
        if self.alive:
            # Somebody has connected anew meanwhile, and asks or has asked: what is lost is seen from its status.
            self._note("note", {"text": f"{text}; it was connected anew"})
            self._on_pass()
            return
        self._deliver(Happened(self.words.lost, text))

    async def _await_end(self, process: QemuProcess) -> None:
        code = await process.wait_exit(None)
        await self._lost.wait()
        if not self._heard_out:
            return  # what it said last is not known: it stays lost, and is never taken for ended
        self.ended = True
        text = f"the {self.name.value} process ended"
        if code is not None:
            text += f" with code {code}"
        tail = process.stderr_tail(1000)
        if tail:
            text += f"; its standard error ends: {tail}"
        self._deliver(Happened(self.words.ended, text))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _identify(pid: int | None) -> ProcessIdentity | None:
    try:
        return None if pid is None else identify_peer(pid)
    except WhimbrelError:
        return None  # hidden from us, or gone
