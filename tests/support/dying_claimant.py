"""A migration whose manager kills itself at its last step, with the guest's lock in a file.

``dying_claimant.py SOURCE LOG LOCK asked|moved``: while the last hook is asked, or right after the lock was moved.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from whimbrel import Migration, Options
from whimbrel.engine.states import Side
from whimbrel.qmp_driver.hooks import HookContext, Hooks
from whimbrel.qmp_driver.lock_file import FileLock
from whimbrel.qmp_driver.parties import Party


async def die(_: HookContext) -> None:
    """Die at once, with nothing said."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class LastAct(FileLock):
    """A lock whose manager dies when it is handed over."""

    async def hand_over(self, from_: Party, to: Party) -> None:
        """Hand it over, and die."""
        await super().hand_over(from_, to)
        if to.side is Side.DESTINATION:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(source: str, log: str, lock: str, when: str) -> None:
    """Migrate until the last step."""
    options = Options(
        log_path=Path(log),
        hooks=Hooks(before_resume=die) if when == "asked" else Hooks(),
        locks=LastAct(Path(lock)),
        reconnect_s=0.5,
    )
    await Migration(source, options=options).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
