"""A limit on how long a migration may transfer: one that does not converge is called off, and that is a result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from whimbrel.engine.report import OngoingReport


class Cancellable(Protocol):
    """What a limit needs of a `whimbrel.Migration`."""

    def progress(self) -> AsyncIterator[OngoingReport]:
        """A glance after everything that happens, to the end."""
        ...

    def cancel(self, why: str) -> None:
        """Call it off, where that is still safe."""
        ...


@asynccontextmanager
async def cut_off_after(limit_s: float, migration: Cancellable, why: str) -> AsyncGenerator[None]:
    """Call a migration that runs within the block off when it has transferred for too long; it then raises so.

    Args:
        limit_s: seconds from ``migrate`` on; what comes before it has no limit, nor has what comes after the transfer.
        migration: it is run within the block.
        why: what the report will say.

    Raises:
        Exception: what went wrong with the looking on: nobody would have called it off.
    """
    cutter = asyncio.create_task(_cut_off(limit_s, migration, why))
    try:
        yield
    finally:
        cutter.cancel()
        await asyncio.wait((cutter,))
        if not cutter.cancelled() and (error := cutter.exception()) is not None:
            raise error


async def _cut_off(limit_s: float, migration: Cancellable, why: str) -> None:
    began_s: float | None = None
    async for glance in migration.progress():
        if glance.phase != "precopy":
            continue
        if began_s is None:
            began_s = glance.elapsed_s  # the phase begins with ``migrate``
        if glance.elapsed_s >= began_s + limit_s:
            migration.cancel(why)
            return
