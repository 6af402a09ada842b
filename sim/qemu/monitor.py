"""One QMP monitor: a socket that serves one client at a time, with its queue of commands and its order of answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from . import errors
from .contract import QmpMessage
from .errors import Refusal
from .own_time import Time
from .values import as_list, as_object

ARRIVAL_NS = 70_000
"""From the client's write to the main loop's having it; with what follows, the 0.1 ms of a ``query-status`` on an
idle QEMU."""
ANSWER_NS = 30_000
"""From an answer or event to the client's having it."""
NEGOTIATION = "qmp_capabilities"


class Executing(Protocol):
    """What carries commands out."""

    def request(self, client: Client, message: QmpMessage, *, oob: bool) -> None:
        """A command has arrived: see to it now (out of band) or when its turn comes."""
        ...


@dataclass(slots=True)
class Client:
    """A client's end of a monitor's connection; see `whimbrel.sim.qemu.contract.Monitor`."""

    clock: Time
    """The world's: what was written before QEMU's end still arrives."""
    own: Time
    """The process's: what it reads, it reads only while it runs."""
    executing: Executing
    deliver: Callable[[QmpMessage], None]
    closed: Callable[[], None]
    left: Callable[[Client], None]
    """Told when the client goes."""
    negotiated: bool = False
    oob: bool = False
    gone: bool = False
    descriptors: dict[str, str] = field(default_factory=dict[str, str])
    """Those that the client named with ``getfd``: name to where they lead."""
    _handed: deque[str] = field(default_factory=deque[str])
    _inbox: deque[QmpMessage] = field(default_factory=deque[QmpMessage])
    _outbox: deque[QmpMessage | None] = field(default_factory=deque["QmpMessage | None"])

    def send(self, message: QmpMessage) -> None:
        """See the contract."""
        if not self.gone:
            self._inbox.append(message)
            self.own.after(ARRIVAL_NS, self._arrived)

    def hand_over(self, name: str, uri: str) -> None:
        """Pass a descriptor along with the next ``getfd`` (``SCM_RIGHTS``): a connection that leads to ``uri``.

        Args:
            name: as ``getfd`` will name it; only for the reader.
            uri: where its other end is; QEMU's network connects there once it is used.
        """
        self._handed.append(uri)

    def take_descriptor(self) -> str | None:
        """The descriptor that came with the message, or ``None``."""
        return self._handed.popleft() if self._handed else None

    def close(self) -> None:
        """See the contract."""
        if not self.gone:
            self.gone = True
            self._inbox.clear()
            self._outbox.clear()
            self.left(self)

    def put(self, message: QmpMessage | None) -> None:
        """Write an answer or an event; ``None``: QEMU's end is closed, behind all that was written."""
        if not self.gone:
            self._outbox.append(message)
            self.clock.after(ANSWER_NS, self._written)

    def _arrived(self) -> None:
        if self._inbox:
            self._read(self._inbox.popleft())

    def _written(self) -> None:
        if not self._outbox:
            return
        message = self._outbox.popleft()
        if message is None:
            self.gone = True
            self.closed()
        else:
            self.deliver(message)

    def _read(self, message: QmpMessage) -> None:
        oob = self.oob and "exec-oob" in message and "execute" not in message
        self.executing.request(self, message, oob=oob)

    def understand(self, message: QmpMessage) -> tuple[str, Mapping[str, object]]:
        """Take a message apart.

        Raises:
            Refusal: it is no command.
        """
        name: object = None
        arguments: dict[str, object] = {}
        for key, value in message.items():
            if key == "execute" or (key == "exec-oob" and self.oob):
                if name is not None:
                    raise Refusal("QMP input member 'execute' clashes with 'exec-oob'")
                if not isinstance(value, str):
                    raise Refusal(f"QMP input member '{key}' must be a string")
                name = value
            elif key == "arguments":
                given = as_object(value)
                if given is None:
                    raise Refusal("QMP input member 'arguments' must be an object")
                arguments = given
            elif key != "id":
                raise Refusal(f"QMP input member '{key}' is unexpected")
        if not isinstance(name, str):
            raise Refusal("QMP input lacks member 'execute'")
        if not self.negotiated and name != NEGOTIATION:
            raise Refusal(f"Expecting capabilities negotiation with '{NEGOTIATION}'", errors.NO_COMMAND)
        return name, arguments

    def answer(self, message: QmpMessage, result: object) -> None:
        """Answer a command."""
        reply: QmpMessage = {"return": result}
        if "id" in message:
            reply["id"] = message["id"]
        self.put(reply)

    def refuse(self, message: QmpMessage, refusal: Refusal) -> None:
        """Refuse a command."""
        reply: QmpMessage = {"id": message["id"]} if "id" in message else {}
        reply["error"] = {"class": refusal.error_class, "desc": refusal.description}
        self.put(reply)

    def negotiate(self, arguments: Mapping[str, object]) -> QmpMessage:
        """Carry out ``qmp_capabilities``.

        Raises:
            Refusal: it has been negotiated already, or something is asked that there is not.
        """
        if self.negotiated:
            raise Refusal("Capabilities negotiation is already complete, command ignored", errors.NO_COMMAND)
        enable = as_list(arguments.get("enable")) or []
        for index, each in enumerate(enable):
            if not isinstance(each, str):
                raise errors.wrong_type(f"enable[{index}]", "string")
            if each != "oob":
                raise errors.wrong_value(f"enable[{index}]", each)
        self.oob = "oob" in enable
        self.negotiated = True
        return {}


@dataclass(slots=True)
class Port:
    """One ``-qmp`` socket."""

    path: str
    client: Client | None = None
    pending: deque[QmpMessage] = field(default_factory=deque[QmpMessage])
    """Commands in band that wait for their turn, in order."""
