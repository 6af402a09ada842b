"""The protocol client under a ``Monitor``: ``qemu.qmp``'s, with its writing taken out of its transport.

Overridden are only the hooks that ``QMPClient`` and its base class offer to those who extend them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

from qemu.qmp import Message, QMPClient, Runstate

from whimbrel.engine.errors import BadInput

from .sockets import Outlet

DESCRIPTOR = "descriptor"
"""Member of a message that holds a file descriptor to be passed along. It is never written out itself."""

_LOGGER_NAME = "whimbrel"  # which the library makes "qemu.qmp.protocol.whimbrel"


class Client(QMPClient):
    """``QMPClient`` that writes to an outlet of ours, and hands events on without storing them.

    Its transport only reads. A failed write on an asyncio transport throws away all that it has not read
    yet, and who owns the guest after a crash depends on exactly those last events. Here a failed write
    changes nothing: the connection ends when the reader has reached its end.
    """

    def __init__(self, hear: Callable[[Message], bool]) -> None:
        """Make a client.

        Args:
            hear: called with each event as it is read; has to return False, or the event is stored for ever.
        """
        super().__init__(_LOGGER_NAME)
        self.outlet: Outlet | None = None
        # The one listener that can't be removed stores all that its filter lets through.
        self.events.event_filter = hear
        # It logs as errors what reaches our caller as an exception. Whoever sets a level gets it all.
        if self.logger.level == logging.NOTSET:
            self.logger.setLevel(logging.CRITICAL)

    def _do_send(self, msg: Message) -> None:
        descriptor = msg.pop(DESCRIPTOR, None)
        if self.outlet is not None:
            self.outlet.send(bytes(msg), (descriptor,) if isinstance(descriptor, int) else ())

    async def _do_recv(self) -> Message:
        message = await super()._do_recv()
        # QEMU may send an event between the handshake's command and its answer.
        while self.runstate is Runstate.CONNECTING and "event" in message:
            await self._event_dispatch(message)
            message = await super()._do_recv()
        return message

    def _cb_outbound(self, msg: Message) -> Message:
        return msg  # the base class formats every message for its debug log, whether that is on or not

    def _cb_inbound(self, msg: Message) -> Message:
        return msg


def encode(command: str, arguments: Mapping[str, object] | None, *, oob: bool) -> Message:
    """Make the message that carries out a command.

    Args:
        command: QMP's name of it.
        arguments: must be representable in JSON.
        oob: out of band.

    Raises:
        BadInput: they are not. QEMU would answer what it can't parse with an error that belongs to no
            command, and the connection would have to end.
    """
    content: dict[str, object] = {"exec-oob" if oob else "execute": command}
    if arguments is not None:
        content["arguments"] = dict(arguments)
    try:
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise BadInput(f"arguments of {command}", arguments, f"what JSON can represent ({error})") from error
    return Message(content)
