"""A QEMU of a few lines for the tests of what stands around the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from whimbrel.sim.qemu.contract import Monitor, QmpMessage

GREETING: QmpMessage = {"QMP": {"capabilities": ["oob"]}}


@dataclass
class FakeMonitor:
    """Answers each command with its own name, at once, or once the test says so."""

    deliver: Callable[[QmpMessage], None]
    owner: FakeBackend
    closed: bool = False

    def send(self, message: QmpMessage) -> None:
        """Take a command."""
        self.owner.received.append(message)
        if self.owner.silent:
            self.owner.owed.append((self, message))
        else:
            self.answer(message)

    def answer(self, message: QmpMessage) -> None:
        """Answer one."""
        self.deliver({"return": {"said": message.get("execute")}, "id": message.get("id")})

    def close(self) -> None:
        """The client went."""
        self.closed = True
        self.owner.current = None


@dataclass
class FakeBackend:
    """Whose monitor it is."""

    silent: bool = False
    received: list[QmpMessage] = field(default_factory=list[QmpMessage])
    owed: list[tuple[FakeMonitor, QmpMessage]] = field(default_factory=list[tuple[FakeMonitor, QmpMessage]])
    given: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    current: FakeMonitor | None = None
    opened: int = 0

    def open(self, deliver: Callable[[QmpMessage], None], closed: Callable[[], None], index: int) -> Monitor | None:
        """A client came."""
        self.opened += 1
        self.current = FakeMonitor(deliver, self)
        deliver(GREETING)
        return self.current

    def give(self, monitor: Monitor, name: str, descriptor: int) -> None:
        """A descriptor came."""
        self.given.append((name, descriptor))
