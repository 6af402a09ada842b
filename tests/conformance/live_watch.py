"""Looking at one QEMU with eyes of one's own: every event, and what it says of its migration, again and again.

It holds a monitor that nobody else uses. What it keeps is put into words that two runs can be compared by.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

LOOK_EVERY_S = 0.004
PATIENCE_S = 20.0
_STOPPED = frozenset({"STOP", "pre-switchover"})


@dataclass(frozen=True)
class Event:
    """One event."""

    name: str
    data: dict[str, Any]
    stamp_s: float
    """QEMU's own time of day."""

    @property
    def word(self) -> str:
        """In one word: a status, ``p3`` for the third pass, or its name."""
        if self.name == "MIGRATION":
            return str(self.data["status"])
        if self.name == "MIGRATION_PASS":
            return f"p{self.data['pass']}"
        return self.name


@dataclass(frozen=True)
class Look:
    """What QEMU said at one time."""

    at_s: float
    """When the answer came, by the test's own clock."""
    run_state: str
    migrate: dict[str, Any]

    @property
    def status(self) -> str:
        """The migration's status; empty: it says none."""
        return str(self.migrate.get("status", ""))

    @property
    def ram(self) -> dict[str, Any]:
        """The figures of RAM, or nothing."""
        return dict(self.migrate.get("ram", {}))

    @property
    def time_ms(self) -> int:
        """QEMU's own ``total-time``."""
        return int(self.migrate["total-time"])

    @property
    def fields(self) -> frozenset[str]:
        """The names of everything that it said, those inside ``ram`` as ``ram.NAME``."""
        return frozenset(self.migrate) | {f"ram.{name}" for name in self.ram}


@dataclass
class Watch:
    """A watcher on one monitor, from ``async with`` on until QEMU or the test ends."""

    path: Path
    events: list[Event] = field(default_factory=list[Event])
    looks: list[Look] = field(default_factory=list[Look])
    ended: bool = False
    greeting: dict[str, Any] = field(default_factory=dict[str, Any])
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(
        default_factory=dict[int, "asyncio.Future[dict[str, Any]]"]
    )
    _number: int = 0

    async def __aenter__(self) -> Self:
        # No asyncio stream: one that fails to write, or meets a reset, throws away what it has not handed on yet.
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        self._socket.connect(str(self.path))
        self._listening = asyncio.create_task(self._listen())
        await self.until(lambda: bool(self.greeting), "a greeting")
        await self.ask("qmp_capabilities", {"enable": ["oob"]})
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._looking, self._listening):
            task.cancel()
        await asyncio.wait((self._looking, self._listening))
        self._socket.close()

    async def ask(self, command: str, arguments: dict[str, Any] | None = None, *, oob: bool = False) -> Any:
        """Carry out a command.

        Raises:
            ConnectionError: the connection ended first.
            Refused: QEMU said no.
        """
        self._number += 1
        number = self._number
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"exec-oob" if oob else "execute": command, "id": number}
        if arguments is not None:
            message["arguments"] = arguments
        if self.ended:
            raise ConnectionResetError("it has ended")
        try:
            self._socket.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)
        except ConnectionError:
            pass  # that it has gone is for the reader to find out, behind all that it said
        async with asyncio.timeout(PATIENCE_S):
            said = await answer
        if "error" in said:
            raise Refused(command, said["error"]["class"], said["error"]["desc"])
        return said["return"]

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds; it is looked at after everything that was heard or seen.

        Raises:
            AssertionError: it did not come about in time.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE_S:g} s: {what}; heard {self.words}") from None

    async def until_event(self, word: str) -> None:
        """Wait for an event, by its word."""
        await self.until(lambda: word in self.words, word)

    async def until_status(self, status: str, enough: int = 1) -> None:
        """Wait until it has said a status so many times."""
        await self.until(lambda: sum(look.status == status for look in self.looks) >= enough, status)

    @property
    def words(self) -> list[str]:
        """Every event in a word."""
        return [event.word for event in self.events]

    @property
    def course(self) -> str:
        """The events as a sentence.

        Of the passes only the first and the last (``p+``) are told: how many there are between them, and whether
        there are any, is the affair of the guest and of how busy the host is.
        """
        words: list[str] = []
        for word in self.words:
            if word[0] != "p" or not word[1:].isdecimal() or word == "p1":
                words.append(word)
            elif "active" in words and _STOPPED.intersection(words[words.index("active") :]) and words[-1] != "p+":
                words.append("p+")
        return " ".join(words)

    def looks_at(self, status: str) -> list[Look]:
        """What it said while it had a status."""
        return [look for look in self.looks if look.status == status]

    @property
    def statuses(self) -> list[str]:
        """The statuses that were seen, each once for as long as it lasted."""
        seen = [look.status for look in self.looks]
        return [each for number, each in enumerate(seen) if number == 0 or each != seen[number - 1]]

    def stamps(self, word: str) -> Iterator[float]:
        """QEMU's times of an event."""
        return (event.stamp_s for event in self.events if event.word == word)

    async def _listen(self) -> None:
        loop, text = asyncio.get_running_loop(), b""
        try:
            while data := await loop.sock_recv(self._socket, 1 << 16):
                *lines, text = (text + data).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))
        except ConnectionError:
            pass  # as an end of file
        self.ended = True
        for answer in self._answers.values():
            answer.set_exception(ConnectionResetError("it has ended"))
            answer.exception()
        self._answers.clear()
        self._news.set()

    def _hear(self, message: dict[str, Any]) -> None:
        if "QMP" in message:
            self.greeting = message
            self._news.set()
        elif "event" in message:
            stamp = message["timestamp"]
            stamp_s = stamp["seconds"] + stamp["microseconds"] / 1e6
            self.events.append(Event(message["event"], message.get("data", {}), stamp_s))
            self._news.set()
        else:
            self._answers.pop(message["id"]).set_result(message)

    async def _look(self) -> None:
        while not self.ended:
            try:
                status, migrate = await asyncio.gather(self.ask("query-status"), self.ask("query-migrate"))
            except (ConnectionError, TimeoutError):
                return
            self.looks.append(Look(time.monotonic(), status["status"], migrate))
            self._news.set()
            await asyncio.sleep(LOOK_EVERY_S)


class Refused(Exception):
    """QEMU's no."""

    def __init__(self, command: str, error_class: str, words: str) -> None:
        super().__init__(f"{command}: {error_class}: {words}")
        self.error_class = error_class
        self.words = words
