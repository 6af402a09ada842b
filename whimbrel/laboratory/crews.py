"""Who runs blocks: processes of this machine; with Dask, those of others (`whimbrel.laboratory.sweeping`).

Both are executors, as `concurrent.futures` has them, so that there is one way to hand blocks out: a few more of them
at a time than there are hands, and whatever a process takes along when it is killed is handed out again.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Protocol

from whimbrel.engine.errors import WhimbrelError

from .matrix import Block
from .running import Done, run_block

__all__ = ["Crew", "HandsLost", "Processes", "Serial", "hand_out"]

MOST_LOSSES = 3
"""Whoever is lost with the same block so often was ended by it, and not by accident: memory, most likely."""
AHEAD = 2
"""Blocks handed out for each hand: one that it works at, and one that it finds when it is through."""


class HandsLost(WhimbrelError):
    """The processes that ran a block were ended, again and again."""


class Crew(Protocol):
    """Runs blocks."""

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """What came of each, in the order in which they end.

        Raises:
            CellFailed: a run broke, or its policy can't be had where it is run.
            HandsLost: whoever ran one was ended, again and again.
        """
        ...


class Serial:
    """Runs one block after the other, in this process."""

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """See `Crew`."""
        return map(run_block, blocks)


@dataclass(frozen=True, slots=True)
class Processes:
    """Runs blocks in processes of its own, which end with this one, however that ends.

    Attributes:
        jobs: how many, 1 or more.
    """

    jobs: int

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """See `Crew`."""
        with _pool(self.jobs) as pools:
            yield from hand_out(blocks, pools, ahead=AHEAD * self.jobs)


@contextlib.contextmanager
def _pool(jobs: int) -> Generator[Callable[[], Executor]]:
    """Gives what makes a new pool of processes, ending those of the one before; the last ones end with the block."""
    # Spawned, not forked: whoever calls may have threads, and a fork would copy their locks in whatever state they are.
    context = multiprocessing.get_context("spawn")
    ours: list[tuple[Executor, Connection, Connection]] = []

    def end() -> None:
        for pool, theirs, held in ours:
            held.close()  # which ends the processes at once, whatever they do
            pool.shutdown(cancel_futures=True)
            theirs.close()
        ours.clear()

    def make() -> Executor:
        end()
        theirs, held = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_settle_in, initargs=(theirs,))
        ours.append((pool, theirs, held))
        return pool

    try:
        yield make
    finally:
        end()


def _settle_in(held: Connection) -> None:
    """A new process of the crew: ctrl-C is for the one that it works for, and it ends when that one does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(held,), daemon=True).start()


def _end_with(held: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        held.recv_bytes()  # nothing is ever sent: it comes back when the other end is closed, or has died
    os._exit(0)


@dataclass(slots=True)
class _Hands:
    """Blocks that are handed out, and how often each was lost."""

    make: Callable[[], Executor]
    losses: dict[Block, int] = field(default_factory=dict[Block, int])
    out: dict[Future[Done], Block] = field(default_factory=dict[Future[Done], Block])
    executor: Executor | None = None

    def give(self, block: Block) -> None:
        if self.executor is None:
            self.executor = self.make()
        self.out[self.executor.submit(run_block, block)] = block

    def give_again(self, lost: Iterable[Block], why: BaseException) -> None:
        """Whoever had them is gone; a broken executor takes nothing any more, and a new one is made."""
        if isinstance(why, BrokenExecutor):
            lost = [*lost, *self.out.values()]
            self.out.clear()
            self.executor = None
        for block in lost:
            self.losses[block] = self.losses.get(block, 0) + 1
            if self.losses[block] == MOST_LOSSES:
                raise HandsLost(
                    f"the process that ran {block} was ended {MOST_LOSSES} times",
                    advice="is there memory enough? with --jobs 1 it is seen which run it is",
                ) from None
            self.give(block)


def hand_out(
    blocks: Iterable[Block],
    make: Callable[[], Executor],
    *,
    ahead: int,
    lost: tuple[type[BaseException], ...] = (BrokenExecutor,),
) -> Iterator[Done]:
    """Have blocks run.

    Args:
        blocks: taken only as fast as they are run.
        make: gives an executor, and after it broke another one.
        ahead: so many are handed out at a time.
        lost: what a block ends with if whoever had it was ended.

    Raises:
        CellFailed, HandsLost: see `Crew`.
    """
    left = iter(blocks)
    hands = _Hands(make)
    while True:
        for block in itertools.islice(left, ahead - len(hands.out)):
            hands.give(block)
        if not hands.out:
            return
        for future in wait(hands.out, return_when=FIRST_COMPLETED).done:
            if future not in hands.out:
                continue  # given again already, with all that the broken executor had
            block = hands.out.pop(future)
            if future.cancelled():
                raise HandsLost(f"whoever hands out blocks is gone: {block} was dropped")
            error = future.exception()
            if error is None:
                yield future.result()
            elif isinstance(error, lost):
                hands.give_again([block], error)
            elif isinstance(error, WhimbrelError):
                raise error
            else:
                raise HandsLost(f"{block} could not be run where it was handed to: {error!r}") from error
