"""One QMP connection of the simulated driver, with what can go wrong on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Protocol

from whimbrel.engine.driving import ANSWER_WITHIN_S
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, QemuRefused

from .clock import SECOND_NS, Timer
from .driver_tasks import Loop, Promise, Work
from .qemu.contract import Monitor, QmpMessage

LOST_BY_FAULT = "the connection broke: Connection reset by peer"
ENDED_BY_QEMU = "QEMU closed the connection"
CARRIED_OUT_NS = 1_000_000
"""By then a command that QEMU could carry out at once has been."""


class Reachable(Protocol):
    """What a line needs of a QEMU (`whimbrel.sim.qemu.contract.QemuProcess`)."""

    @property
    def alive(self) -> bool: ...

    def connect(
        self, deliver: Callable[[QmpMessage], None], closed: Callable[[], None], monitor: int = 0
    ) -> Monitor | None: ...


@dataclass(slots=True)
class Trouble:
    """What befalls one command.

    Attributes:
        late_ns: so much longer is it on its way there.
        answer_late_ns: so much longer is its answer.
        refused: it does not get there, and is answered with this error.
        cut_before: the connection goes before it gets there.
        cut_after: the connection goes after it was carried out, before its answer arrives.
    """

    late_ns: int = 0
    answer_late_ns: int = 0
    refused: str = ""
    cut_before: bool = False
    cut_after: bool = False


class Wire:
    """The way to one QEMU's monitor, over which all connections to it go.

    Attributes:
        blocked: nobody gets a connection: another client holds the monitor, or the way to it is cut.
        trouble: asked about every command that goes out; ``None``: nothing befalls it.
        lie: what QEMU says instead of the answer to a command; ``None``: it says what is so.
        lines: those that stand.
    """

    def __init__(
        self, qemu: Reachable, random: Random, latency_ns: int, reaction_ns: int = 0, monitor: int = 0
    ) -> None:
        """Lay it.

        Args:
            qemu: at its other end.
            random: each message takes between half of and twice the latency, drawn from this.
            latency_ns: one way; 0: none, and nothing is drawn.
            reaction_ns: how long a manager takes on top until it has read something and thought about it.
            monitor: which of QEMU's monitors it leads to.
        """
        self.qemu = qemu
        self.monitor = monitor
        self.blocked = False
        self.trouble: Callable[[str], Trouble | None] = lambda _: None
        self.lie: Callable[[str, Any], Any] | None = None
        self.lines: list[Line] = []
        self._random = random
        self._latency_ns = latency_ns
        self._reaction_ns = reaction_ns

    def delay_ns(self) -> int:
        """How long one message takes."""
        latency_ns = self._latency_ns
        return int(latency_ns * (0.5 + 1.5 * self._random.random())) if latency_ns else 0

    def hearing_ns(self) -> int:
        """How long it takes until a manager has heard something, between half of and twice the usual."""
        return int((self._latency_ns + self._reaction_ns) * (0.5 + 1.5 * self._random.random()))

    def cut(self) -> None:
        """Every connection over it is lost; both ends are told at once."""
        for line in list(self.lines):
            line.cut()


@dataclass(slots=True)
class _Pending:
    """A command that has no answer yet."""

    command: str
    promise: Promise[Any]
    due_ns: int
    within_s: float
    trouble: Trouble | None = None


class Line:
    """One connection. Made by `connect`; a new connection is a new line.

    Attributes:
        version: from the greeting.
        read_to_end: QEMU ended it, and everything that it wrote was read.
    """

    def __init__(
        self,
        loop: Loop,
        wire: Wire,
        side: str,
        on_event: Callable[[QmpMessage], None],
        on_lost: Callable[[Line, str], None],
    ) -> None:
        """Use `connect`."""
        self.version: tuple[tuple[int, int, int], str] = ((0, 0, 0), "")
        self.read_to_end = False
        self._loop = loop
        self._wire = wire
        self._side = side
        self._on_event = on_event
        self._on_lost = on_lost
        self._monitor: Monitor | None = None
        self._pending: dict[object, _Pending] = {}
        self._greeted: Promise[bool] = Promise()
        self._ended: Promise[None] = Promise()
        self._next_id = 1
        self._sweeper: Timer | None = None
        self._sweep_ns: int | None = None
        self._over = False
        """For the manager."""
        self._gone = False
        """For QEMU."""
        self._there_ns = 0
        """When what was sent last gets there: messages of one direction keep their order."""
        self._here_ns = 0

    @property
    def alive(self) -> bool:
        """Whether commands can be sent."""
        return not self._over

    @classmethod
    def connect(
        cls,
        loop: Loop,
        wire: Wire,
        *,
        side: str,
        within_s: float,
        on_event: Callable[[QmpMessage], None],
        on_lost: Callable[[Line, str], None],
    ) -> Work[Line]:
        """Open a session: greeting and handshake.

        Raises:
            CannotConnect: none came about.
        """
        line = cls(loop, wire, side, on_event, on_lost)
        yield loop.sleep(wire.delay_ns() / SECOND_NS)
        if not wire.qemu.alive:
            raise CannotConnect("cannot connect: Connection refused", side=side)
        if not wire.blocked:
            line._monitor = wire.qemu.connect(line._from_qemu, line._ended_by_qemu, wire.monitor)
            wire.lines.append(line)
        try:
            if not (yield loop.first(line._greeted, within_s)):
                raise CannotConnect(
                    f"accepts connections but sent no QMP greeting within {within_s:g} s: another client "
                    "holds this monitor (QEMU serves one at a time), or QEMU hangs",
                    side=side,
                )
            if not line._greeted.result() or line._over:
                raise CannotConnect("the connection ended before the QMP session began", side=side)
            yield from line.call("qmp_capabilities", {"enable": ["oob"]}, within_s=within_s)
        except (OutcomeUnknown, QemuRefused) as error:
            line.close()
            raise CannotConnect(f"the handshake failed: {error}", side=side) from error
        except BaseException:  # cancelled, too: a monitor serves one client, and this one would keep it
            line.close()
            raise
        return line

    def call(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        within_s: float = ANSWER_WITHIN_S,
        oob: bool = False,
    ) -> Work[Any]:
        """Carry out one command.

        Returns:
            What QEMU answers.

        Raises:
            QemuRefused: QEMU said no.
            OutcomeUnknown: the connection went, or the time was up, with the command under way.
            CannotConnect: it was not sent.
        """
        if self._over:
            raise CannotConnect(f"{command} was not sent: the connection has ended", side=self._side)
        return (yield self._send(command, arguments, within_s, oob=oob))

    def wait_end(self, within_s: float) -> Work[bool]:
        """Whether QEMU ends it within a time, with all that it wrote read."""
        return bool((yield self._loop.first(self._ended, within_s))) and self.read_to_end

    def close(self) -> None:
        """End it; nobody is told of anything any more."""
        if self._end():
            self._leave()

    def abandon(self, *, in_flight: bool) -> None:
        """The manager's process is no more: the kernel closes the connection.

        Args:
            in_flight: whether what it had written before still gets there.
        """
        self._over = True
        if in_flight:
            self._leave()
        else:
            self._hang_up()

    def cut(self) -> None:
        """It breaks on the way: what is under way is lost."""
        if not self._over:
            self._hang_up()
            self._loop.run(lambda: self._lose(LOST_BY_FAULT))

    # ---- inside

    def _leave(self) -> None:
        """Close it behind what was sent, and carried out."""
        self._there_ns = max(self._there_ns + 1, self._loop.now_ns + self._wire.delay_ns())
        self._loop.world.at(self._there_ns + CARRIED_OUT_NS, self._hang_up)

    def _hang_up(self) -> None:
        self._gone = True
        if self in self._wire.lines:
            self._wire.lines.remove(self)
        if self._monitor is not None:
            self._monitor.close()

    def _send(
        self, command: str, arguments: Mapping[str, object] | None, within_s: float, *, oob: bool
    ) -> Promise[Any]:
        promise: Promise[Any] = Promise()
        number, self._next_id = self._next_id, self._next_id + 1
        message: QmpMessage = {"exec-oob" if oob else "execute": command}
        if arguments is not None:
            message["arguments"] = dict(arguments)
        message["id"] = number
        trouble = self._wire.trouble(command) if self._monitor is not None else None
        world = self._loop.world
        due_ns = world.now_ns + round(within_s * SECOND_NS)
        self._pending[number] = _Pending(command, promise, due_ns, within_s, trouble)
        if self._sweep_ns is None or due_ns < self._sweep_ns:
            self._sweep_at(due_ns)
        if trouble is not None and trouble.cut_before:
            self._loop.soon(self.cut)
            return promise
        if trouble is not None and trouble.refused:
            error: QmpMessage = {"error": {"class": "GenericError", "desc": trouble.refused}, "id": number}
            self._loop.after(2 * self._wire.delay_ns(), lambda: self._take(error))
            return promise
        late_ns = trouble.late_ns if trouble is not None else 0
        # Never two at one time: the clock would choose which comes first.
        self._there_ns = max(self._there_ns + 1, world.now_ns + self._wire.delay_ns() + late_ns)
        # In the world's time: it is on its way, whatever becomes of the manager.
        world.at(self._there_ns, partial(self._hand_over, message, trouble))
        return promise

    def _sweep_at(self, when_ns: int) -> None:
        """One timer for all commands: nearly all are answered long before they are due."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweep_ns = when_ns
        self._sweeper = self._loop.at(when_ns, self._sweep)

    def _sweep(self) -> None:
        self._sweep_ns, now_ns = None, self._loop.now_ns
        open_ones = [each for each in self._pending.values() if not each.promise.done]
        for each in open_ones:
            if each.due_ns <= now_ns:
                because = f"no answer within {each.within_s:g} s"
                each.promise.fail(OutcomeUnknown(each.command, because, side=self._side))
        if not self._over and (left := [each.due_ns for each in open_ones if not each.promise.done]):
            self._sweep_at(min(left))

    def _hand_over(self, message: QmpMessage, trouble: Trouble | None) -> None:
        if self._gone or self._monitor is None:
            return
        self._monitor.send(message)
        if trouble is not None and trouble.cut_after:
            self._loop.world.after(CARRIED_OUT_NS, self.cut)

    def _from_qemu(self, message: QmpMessage) -> None:
        late_ns = 0
        if (pending := self._pending.get(message.get("id"))) is not None and pending.trouble is not None:
            if pending.trouble.cut_after:
                return
            late_ns = pending.trouble.answer_late_ns
        if late_ns:
            # An answer alone is late; what comes after it does not wait for it (a manager that is slow to read it).
            self._loop.after(late_ns, lambda: self._take(message))
            return
        heard_ns = self._loop.world.now_ns + self._wire.hearing_ns()
        self._here_ns = here_ns = heard_ns if heard_ns > self._here_ns else self._here_ns + 1
        self._loop.at(here_ns, partial(self._take, message))

    def _ended_by_qemu(self) -> None:
        self._here_ns = max(self._here_ns + 1, self._loop.now_ns + self._wire.hearing_ns())
        self._loop.at(self._here_ns, self._read_end)

    def _read_end(self) -> None:
        if not self._over:
            self.read_to_end = True
            self._hang_up()
            self._lose(ENDED_BY_QEMU)

    def _take(self, message: QmpMessage) -> None:
        if self._over:
            return
        if "event" in message:
            self._on_event(message)
            return
        if "QMP" in message:
            self._greet(message)
            return
        pending = self._pending.pop(message.get("id"), None)
        if pending is None:
            return
        error: Any = message.get("error")
        if error is None:
            said = message.get("return")
            lie = self._wire.lie
            pending.promise.keep(said if lie is None else lie(pending.command, said))
        else:
            pending.promise.fail(QemuRefused(pending.command, error["class"], error["desc"], side=self._side))

    def _greet(self, message: QmpMessage) -> None:
        greeting: Any = message["QMP"]
        numbers = greeting["version"]["qemu"]
        triple = (numbers["major"], numbers["minor"], numbers["micro"])
        self.version = (triple, str(greeting["version"].get("package", "")))
        self._greeted.keep(True)

    def _lose(self, reason: str) -> None:
        if self._end():
            self._on_lost(self, reason)

    def _end(self) -> bool:
        if self._over:
            return False
        self._over = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._greeted.keep(False)
        self._ended.keep(None)
        pending, self._pending = self._pending, {}
        for each in pending.values():
            each.promise.fail(OutcomeUnknown(each.command, "connection lost", side=self._side))
        return True
