"""A migration whose manager kills itself while the guest stands stopped.

``dying_manager.py SOURCE LOG [guarded]``: settled by its guardian, or left as it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from whimbrel import Migration, Options
from whimbrel.qmp_driver.hooks import HookContext, Hooks


async def die(context: HookContext) -> None:
    """Die at once, with nothing said."""
    os.kill(os.getpid(), signal.SIGKILL)


async def main(source: str, log: str, guarded: str = "") -> None:
    """Migrate until the guest stands stopped."""
    hooks = Hooks(source_stopped=die)
    options = Options(log_path=Path(log), hooks=hooks, guardian=guarded == "guarded", reconnect_s=0.5)
    await Migration(source, options=options).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
