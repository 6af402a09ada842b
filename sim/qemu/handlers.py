"""What a command is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arguments import ALL, Argument
from .contract import Version

if TYPE_CHECKING:
    from .monitor import Client
    from .process import Qemu

Arguments = Mapping[str, object]
Handler = Callable[["Qemu", "Client", Arguments], object]


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        name: as on the wire.
        handler: what carries it out and gives the answer; raises `Refusal`.
        arguments: what it takes.
        oob: whether it may be sent out of band.
        versions: the QEMUs that have it.
        free: whether it takes arguments besides those named (``device_add``).
    """

    name: str
    handler: Handler
    arguments: tuple[Argument, ...] = ()
    oob: bool = False
    versions: tuple[Version, ...] = ALL
    free: bool = False


def fixed(answer: object) -> Handler:
    """A handler that always gives the same answer, changes nothing and refuses nothing."""
    return lambda qemu, client, arguments: answer


def whole(value: object) -> int:
    """An argument that has been checked to be a number."""
    return int(str(value))
