"""A manager in a process of its own, which does as it is told at exact moments: hurts others, calls itself off, dies.

``python -m tests.support.mortal_manager ORDERS``, where ORDERS is `Orders` as JSON. It runs one migration by the
library's `Migration`, or settles one by `resolve`. On its standard output stands a line of JSON (`Said`) for all that
it did besides, each written before it is done. How the migration ended stands in its log and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tests.support import havoc
from tests.support.breakpoints import Breakpoints
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.policy import Objectives
from whimbrel.engine.protocol import DEFAULT_WAITS, Waits
from whimbrel.engine.states import Side
from whimbrel.migration import Migration
from whimbrel.qmp_driver.options import Options

ROOT = Path(__file__).resolve().parents[2]

HASTE = 20
"""Every wait of the protocol, the stall detector and the reconnecting are so many times shorter than by default."""

HASTY_WAITS = Waits(**{name: getattr(DEFAULT_WAITS, name) // HASTE for name in Waits.__dataclass_fields__})


class Act(msgspec.Struct, frozen=True):
    """Something to be done at a moment."""

    at: str
    """A moment, see `breakpoints`; ``#N`` at its end: the N-th of them."""
    what: str
    """A name of `Manager.acts`."""
    lines_later: int = 0
    """Do it when so many more lines stand in the log."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a manager is told."""

    log: str
    source: str = ""
    """The source's monitor; empty: settle the migration of the log."""
    source_pid: int = 0
    acts: tuple[Act, ...] = ()
    die_at: int = 0
    """The number of the moment at which it kills itself; 0: none."""
    moments: str = ""
    """A file that takes the name of every moment, in order."""
    bandwidth_bytes_per_s: int | None = None
    own_stream: bool = True
    keep_source: bool = False
    fenced: tuple[str, ...] = ()


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line on a manager's standard output."""

    did: str = ""
    at: str = ""
    sockets: int = 0
    """How many connections an act found."""
    destination: dict[str, Any] = {}
    """The facts of the destination, once they are known."""


class Manager:
    """The one of this process."""

    def __init__(self, orders: Orders) -> None:
        """Take the orders."""
        self.orders = orders
        self.migration: Migration | None = None
        self.destination: Mapping[str, Any] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._seen: Counter[str] = Counter()
        self._lines = 0
        self._pending: list[tuple[int, Act]] = []
        self._moments = Path(orders.moments).open("w", buffering=1) if orders.moments else None  # noqa: SIM115
        self.acts: dict[str, Callable[[], int]] = {
            "kill-source": lambda: _signal(self.orders.source_pid, signal.SIGKILL),
            "kill-destination": lambda: _signal(self._destination_pid(), signal.SIGKILL),
            "kill-manager": lambda: _signal(os.getpid(), signal.SIGKILL),
            "stop-source": lambda: _signal(self.orders.source_pid, signal.SIGSTOP),
            "stop-destination": lambda: _signal(self._destination_pid(), signal.SIGSTOP),
            "drop-source": lambda: havoc.sever(self.orders.source),
            "drop-destination": lambda: havoc.sever(str(self.destination.get("destination_qmp"))),
            "black-hole": lambda: havoc.black_hole(self.orders.source_pid, self._destination_pid()),
            "cut-stream": lambda: havoc.cut(self.orders.source_pid, self._destination_pid()),
            "cancel": self._cancel,
        }

    def at(self, moment: str, fields: Mapping[str, Any]) -> None:
        """Do what is due at a moment."""
        self._count += 1
        self._seen[moment] += 1
        if self._moments is not None:
            self._moments.write(moment + "\n")
        if moment.startswith("after "):
            self._lines += 1
        if moment == "after learnt destination":
            self.destination = fields["facts"]
            say(Said(destination=dict(self.destination)))
        names = {moment, f"{moment}#{self._seen[moment]}"} - ({moment} if self._seen[moment] > 1 else set())
        for act in self.orders.acts:
            if act.at in names:
                self._pending.append((self._lines + act.lines_later, act))
        due = [act for lines, act in self._pending if lines <= self._lines]
        self._pending = [(lines, act) for lines, act in self._pending if lines > self._lines]
        for act in due:
            self._do(act, moment)
        if self._count == self.orders.die_at:
            say(Said(did="die", at=moment))
            _signal(os.getpid(), signal.SIGKILL)

    def _do(self, act: Act, moment: str) -> None:
        if act.what == "kill-manager":
            say(Said(did=act.what, at=moment, sockets=1))
        found = self.acts[act.what]()
        say(Said(did=act.what, at=moment, sockets=found))

    def _cancel(self) -> int:
        """Not at once: the machine is in the middle of a step."""
        if self.loop is None or self.migration is None:
            return 0
        self.loop.call_soon_threadsafe(self.migration.cancel)
        return 1

    def _destination_pid(self) -> int:
        """As the log names it; 0 before that."""
        return int(self.destination.get("destination_pid") or 0)

    async def run(self) -> None:
        """Migrate, or settle."""
        self.loop = asyncio.get_running_loop()
        Breakpoints(self.at).set()
        try:
            if self.orders.source:
                await self._migrate()
            else:
                await self._resolve()
        except WhimbrelError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)

    async def _migrate(self) -> None:
        self.migration = Migration(self.orders.source, options=self.options())
        await self.migration.run()

    async def _resolve(self) -> None:
        from whimbrel.resolving import resolve

        await resolve(Path(self.orders.log), fenced=frozenset(Side(side) for side in self.orders.fenced))

    def options(self) -> Options:
        """The migration's."""
        return Options(
            objectives=Objectives(bandwidth_bytes_per_s=self.orders.bandwidth_bytes_per_s),
            log_path=Path(self.orders.log),
            own_stream=self.orders.own_stream,
            keep_source=self.orders.keep_source,
            waits=HASTY_WAITS,
            stall_s=30.0 / HASTE,
            reconnect_s=10.0 / HASTE,
        )


def command_for(orders: Orders) -> tuple[str, ...]:
    """The command line of a manager; it has to be run in `ROOT`."""
    return (sys.executable, "-m", "tests.support.mortal_manager", msgspec.json.encode(orders).decode())


def say(said: Said) -> None:
    """Tell the world, at once and whole."""
    os.write(1, msgspec.json.encode(said) + b"\n")


def _signal(pid: int, number: signal.Signals) -> int:
    if pid == 0:
        return 0
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return 0
    return 1


if __name__ == "__main__":
    asyncio.run(Manager(msgspec.json.decode(sys.argv[1], type=Orders)).run())
