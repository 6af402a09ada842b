"""Whose migration a source is in: an object that stands in its QEMU as long as the migration's end is not settled.

A log may be old: its manager died, a person put things right by hand, and the guest was moved again, with the same
source process left standing. What that source says then (``completed``, say) is of another migration. So each
migration leaves an object of its own in the source while it arms, takes away what earlier ones left, and whoever takes
a migration over believes only a source that still wears the badge which the log names.
"""

from __future__ import annotations

import secrets

import msgspec

from whimbrel.engine.errors import QemuRefused

from .replies import DEFAULT_TIMEOUT_S, Executor, fit

PREFIX = "whimbrel-migration-"
FOLDER = "/objects"


class _Property(msgspec.Struct, frozen=True):
    name: str


def invent() -> str:
    """An id that no other migration has."""
    return PREFIX + secrets.token_hex(8)


async def put_on(executor: Executor, badge: str) -> None:
    """Put a badge on, in place of all others.

    Raises:
        QemuRefused: this QEMU has no such objects.
        OutcomeUnknown, CannotConnect: it gave no answer.
    """
    for other in await _worn(executor):
        await take_off(executor, other)
    # A secret is the one kind of object that every QEMU has, needs nothing and does nothing.
    await executor.execute(
        "object-add", {"qom-type": "secret", "id": badge, "data": badge}, timeout_s=DEFAULT_TIMEOUT_S
    )


async def wears(executor: Executor, badge: str) -> bool:
    """Whether a QEMU wears this badge.

    Raises:
        OutcomeUnknown, CannotConnect: it gave no answer.
    """
    return badge in await _worn(executor)


async def take_off(executor: Executor, badge: str) -> None:
    """Take a badge off; nothing happens where it is gone.

    Raises:
        OutcomeUnknown, CannotConnect: it gave no answer.
    """
    try:
        await executor.execute("object-del", {"id": badge}, timeout_s=DEFAULT_TIMEOUT_S)
    except QemuRefused:
        pass  # it is not there any more


async def _worn(executor: Executor) -> list[str]:
    said = await executor.execute("qom-list", {"path": FOLDER}, timeout_s=DEFAULT_TIMEOUT_S)
    return [each.name for each in fit(list[_Property], "qom-list", said) if each.name.startswith(PREFIX)]
