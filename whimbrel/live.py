"""What a person sees of a running migration, and the ctrl-C that they press.

Nothing that happens to the output may end a migration: a closed pipe, a terminal that has gone, a full disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Generator
from typing import IO, cast

from rich.console import Console
from rich.live import Live

from whimbrel.engine.report import OngoingReport
from whimbrel.render import progress, progress_line, stage_label

PLAIN_EVERY_S = 1.0
"""Without a terminal, one line per second and one per change of stage: enough to see that it lives."""

ENDS = frozenset({"completed", "cancelled", "failed"})
"""Phases that the report speaks of: no progress is shown for them."""


class SteadyOutput:
    """A text stream that survives its reader: once a write has failed, it swallows everything.

    Without it, ``whimbrel migrate … | head`` would kill the manager in the middle of a migration.
    """

    def __init__(self, stream: IO[str]) -> None:
        """Write to this stream, as long as it takes it."""
        self._stream = stream
        self.lost: OSError | None = None
        """Why nothing is written any more; ``None``: it is."""

    @property
    def encoding(self) -> str:
        """The stream's, which decides what can be drawn."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write, or swallow."""
        if self.lost is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush, or do nothing."""
        if self.lost is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = error
        try:
            # What the interpreter still holds for it would fail once more, loudly, at its exit.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if error.errno != errno.EPIPE and self._stream is not sys.stderr:
                print(f"whimbrel: the output can't be written: {error.strerror}", file=sys.stderr, flush=True)
        except OSError:
            pass  # nobody is left to tell


def console(*, stderr: bool = False) -> Console:
    """A console that prints what it is given as it is: text of users and of QEMU is no markup."""
    stream = SteadyOutput(sys.stderr if stderr else sys.stdout)
    return Console(file=cast("IO[str]", stream), markup=False, emoji=False, highlight=False)


async def show(glances: AsyncIterator[OngoingReport], console: Console) -> None:
    """Show every glance until the migration ends: on a terminal in place, else as lines."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=10, transient=True) as live:
            async for glance in glances:
                if glance.phase not in ENDS:
                    live.update(progress(glance))
        return
    shown_s, shown = -PLAIN_EVERY_S, ""
    async for glance in glances:
        label = stage_label(glance)
        if glance.phase in ENDS or (label == shown and glance.elapsed_s - shown_s < PLAIN_EVERY_S):
            continue
        shown_s, shown = glance.elapsed_s, label
        console.print(progress_line(glance), soft_wrap=True)


@contextlib.contextmanager
def interruptible(call_off: Callable[[int], None], console: Console) -> Generator[None]:
    """Have ctrl-C, SIGTERM and a closed terminal call off what runs in the block, instead of killing it.

    Args:
        call_off: given how many signals came so far, from 1; called on the running loop.
        console: told of it.
    """
    loop = asyncio.get_running_loop()
    # Under nohup a closed terminal is to be ignored, as it is already.
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    numbers = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else []))
    count = 0

    def on_signal() -> None:
        nonlocal count
        count += 1
        call_off(count)
        if count == 1:
            console.print("calling it off; where that is too late, it ends first", style="yellow")

    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
