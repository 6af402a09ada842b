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
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from types import FrameType
from typing import IO, Any, Protocol, TextIO, TypeVar, cast

import msgspec
import uvloop
from rich.console import Console
from rich.live import Live

from whimbrel.demo import Chooser, DemoOptions, DemoResult, run_demo
from whimbrel.doctor import check_qemu
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.report import CompletedReport, OngoingReport
from whimbrel.guest.run import GuestSummary, run_alone
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.migration import Migration
from whimbrel.render import progress, progress_line, stage_label, verdict
from whimbrel.units import format_duration

T = TypeVar("T")

PLAIN_EVERY_S = 1.0
"""Without a terminal, one line per second and one per change of stage: enough to see that it lives."""

ENDS = frozenset({"completed", "cancelled", "failed"})
"""Phases that the report speaks of: no progress is shown for them."""


class SteadyOutput:
    """A text stream that survives its reader: once a write has failed, it swallows everything.

    Without it, ``whimbrel migrate … | head`` would kill the manager in the middle of a migration.
    """

    def __init__(self, stream: TextIO) -> None:
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
                # Not every terminal has every character; and what QEMU says may hold bytes that are no text.
                encoding = self._stream.encoding or "utf-8"
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
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
    """Show every glance until the migration ends: on a terminal in place, else as lines. What there is to say of a
    verdict stays.
    """
    told = ""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=10, transient=True) as live:
            async for glance in glances:
                told = tell_news(glance, told, live.console)
                if glance.phase not in ENDS:
                    live.update(progress(glance))
        return
    shown_s, shown = -PLAIN_EVERY_S, ""
    async for glance in glances:
        told = tell_news(glance, told, console)
        label = stage_label(glance)
        if glance.phase in ENDS or (label == shown and glance.elapsed_s - shown_s < PLAIN_EVERY_S):
            continue
        shown_s, shown = glance.elapsed_s, label
        console.print(progress_line(glance), soft_wrap=True)


def tell_news(glance: OngoingReport, told: str, console: Console) -> str:
    """Print what is new of a verdict, once.

    Args:
        glance: what is seen now.
        told: what was printed last.
        console: where.

    Returns:
        What has been printed last by now.
    """
    if glance.news and glance.news != told:
        console.print(verdict(glance.news), soft_wrap=not console.is_terminal)
    return glance.news


@contextlib.contextmanager
def interruptible(call_off: Callable[[int], None], console: Console) -> Generator[None]:
    """Have ctrl-C, SIGTERM and a closed terminal call off what runs in the block, instead of killing it.

    After the block they do nothing any more, until `ending` knows what they should.

    Args:
        call_off: given how many signals came so far, from 1; called on the running loop.
        console: told of it.
    """
    loop = asyncio.get_running_loop()
    count = 0

    def on_signal() -> None:
        nonlocal count
        count += 1
        call_off(count)
        if count == 1:
            console.print("calling it off; where that is too late, it ends first", style="yellow")

    numbers = _signals()
    for number in numbers:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


def _signals() -> list[signal.Signals]:
    """What is used to end a command. Under nohup a closed terminal is to be ignored, as it is already."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


class Interrupted(WhimbrelError):
    """ctrl-C where nothing has to be seen to its end."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop.

    Raises:
        Interrupted: it was cancelled, or a ctrl-C came that nobody handled.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Interrupted("stopped before anything was begun") from None


@contextlib.contextmanager
def ending(code: int) -> Generator[None]:
    """Exit with this code after what the block prints; signals end the printing, and change no outcome."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(code)

    numbers = _signals()
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)  # the exit takes a moment, too
    raise SystemExit(code)


def print_json(value: Any) -> None:
    """Print one object on standard output."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode()
    stream = SteadyOutput(sys.stdout)
    stream.write(text + "\n")
    stream.flush()


class Shown(Protocol):
    """What can be shown and called off while it runs: a migration, or the settling of one."""

    report: CompletedReport | None

    async def run(self) -> CompletedReport:
        """Run it to its end."""
        ...

    def cancel(self) -> None:
        """Call it off, where that is still safe."""
        ...

    def progress(self) -> AsyncIterator[OngoingReport]:
        """Glances, to the end."""
        ...


async def run_shown(migration: Shown, console: Console) -> CompletedReport:
    """Run a migration, shown, and called off by a signal; raises as its ``run`` does."""
    with interruptible(lambda _: migration.cancel(), console):
        shown = asyncio.ensure_future(show(migration.progress(), console))
        try:
            return await migration.run()
        finally:
            if migration.report is None:
                shown.cancel()  # it broke before it could tell anybody of its end
            await asyncio.gather(shown, return_exceptions=True)


async def run_demo_shown(demo: DemoOptions, console: Console, choose: Chooser | None = None) -> DemoResult:
    """Run the demonstration, shown, and called off by a signal.

    Args:
        demo: what to show.
        console: where.
        choose: as for `run_demo`.

    Raises:
        BadInput: a binary or a machine type that there is not; anything else as `run_demo` does.
        asyncio.CancelledError: a signal came before the migration; nothing is left of it.
    """
    task = asyncio.current_task()
    assert task is not None
    begun: list[Migration] = []

    def call_off(count: int) -> None:
        if begun:
            begun[0].cancel()
        elif count == 1:  # a second time would cut the cleaning up short
            task.cancel()

    def say(text: str) -> None:
        console.print(text, style="dim")

    async def watch(migration: Migration) -> None:
        await show(migration.progress(), console)

    with interruptible(call_off, console):
        demo.workload()
        await check_qemu("source-qemu", demo.source_binary, demo.machine)
        if demo.destination_binary is not None:
            await check_qemu("destination-qemu", demo.destination_binary)
        return await run_demo(demo, say=say, watch=watch, on_migration=begun.append, choose=choose)


async def run_guest_shown(
    spec: WorkloadSpec, console: Console, *, binary: str, ram_bytes: int | None, span_s: float
) -> GuestSummary:
    """Run the workload guest; a first signal ends it early with a summary, a second one at once.

    Raises:
        BadInput: no such binary; anything else as `run_alone` does.
        asyncio.CancelledError: a second signal came; nothing is left of it.
    """
    task, stop = asyncio.current_task(), asyncio.Event()
    assert task is not None

    def end(count: int) -> None:
        stop.set()
        if count == 2:
            task.cancel()

    with interruptible(end, console):
        await check_qemu("qemu", binary)
        console.print(f"booting the workload guest, to run for {format_duration(span_s)}", style="dim")
        return await run_alone(spec, qemu_binary=binary, ram_bytes=ram_bytes, seconds=span_s, stop=stop)
