"""Who runs blocks: the same rows whoever does, and nothing lost with a process that is killed."""

from __future__ import annotations

import functools
import itertools
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.whimbrel.laboratory.matrices import small_matrix, tiny
from whimbrel.laboratory.crews import AHEAD, MOST_LOSSES, HandsLost, Processes, Serial, hand_out
from whimbrel.laboratory.matrix import Block
from whimbrel.laboratory.records import Cell
from whimbrel.laboratory.running import CellFailed, Done, run_block
from whimbrel.laboratory.store import in_order
from whimbrel.laboratory.table import parquet_of


@functools.cache
def serial() -> bytes:
    """The table of the small matrix, run one block after the other."""
    return table(Serial().run(small_matrix(4).blocks()))


def table(done: Iterator[Done]) -> bytes:
    """All rows as one table."""
    return parquet_of(in_order(row for each in done for row in each.rows))


def test_processes_give_the_same_bytes_as_one_after_the_other_also_if_one_is_killed() -> None:
    """The whole pool is broken by that; the blocks that it had are run by the next one."""
    done = Processes(2).run(small_matrix(4).blocks())
    first = next(done)
    workers = [pid for pid in children() if b"spawn_main" in command_of(pid)]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert table(itertools.chain([first], done)) == serial()
    assert not [pid for pid in children() if b"spawn_main" in command_of(pid)], "they end with the last block"


def children() -> list[int]:
    """The processes that this one has started."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def command_of(pid: int) -> bytes:
    """What a process was started as."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


PARENT = """
import os, sys
from tests.whimbrel.laboratory.matrices import small_matrix
from whimbrel.laboratory.crews import Processes

if __name__ == "__main__":
    for done in Processes(1).run(small_matrix(1000).blocks()):
        children = open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()
        print(*children, flush=True)
        sys.stdin.read()
"""


def test_processes_end_with_the_one_that_they_work_for() -> None:
    """Killed, it can tell nobody: they notice by themselves, in the middle of whatever they do."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    try:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        handles = [os.pidfd_open(pid) for pid in children]
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdin.close()
        parent.stdout.close()
    assert handles
    for handle in handles:
        assert select.select([handle], [], [], 10.0)[0], "it is still there"
        os.close(handle)


# ---- handing out


class Fake(Executor):
    """Runs at once, but for blocks that are lost, or end otherwise."""

    def __init__(self, ends: Callable[[Block], BaseException | None]) -> None:
        self.ends = ends
        self.given: list[Block] = []
        self.broken = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken:
            raise BrokenExecutor("it takes nothing any more")
        block: Block = args[0]
        self.given.append(block)
        future: Future[Any] = Future()
        error = self.ends(block)
        if error is None:
            future.set_result(fn(*args, **kwargs))
        else:
            self.broken = isinstance(error, BrokenExecutor)
            future.set_exception(error)
        return future


class Lost(Exception):
    """What a block ends with if its worker was killed."""


def test_no_more_is_handed_out_than_is_needed() -> None:
    """Blocks are taken as they are run: a matrix of a million is no list."""
    taken: list[Block] = []

    def blocks() -> Iterator[Block]:
        for block in small_matrix(1000).blocks():
            taken.append(block)
            yield block

    done = hand_out(blocks(), lambda: Fake(lambda _: None), ahead=AHEAD)
    next(done)
    assert len(taken) <= 2 * AHEAD


def test_a_lost_block_is_given_again() -> None:
    losses = iter([Lost(), None, Lost()])
    fake = Fake(lambda _: next(losses, None))
    assert table(hand_out(small_matrix(4).blocks(), lambda: fake, ahead=3, lost=(Lost,))) == serial()
    assert len(fake.given) == 8 + 2


def test_a_broken_pool_is_made_anew_and_given_all_that_the_old_one_had() -> None:
    made: list[Fake] = []

    def make() -> Fake:
        broken = BrokenExecutor("killed") if not made else None
        made.append(Fake(lambda block: broken if block.seed == 2 else None))
        return made[-1]

    blocks = small_matrix(4).blocks()
    assert table(hand_out(blocks, make, ahead=1)) == serial()
    assert len(made) == 2


def test_a_block_that_ends_whoever_runs_it_is_given_up_by_name() -> None:
    with pytest.raises(HandsLost, match=f"busy@slow, seed 1, 2 policies was ended {MOST_LOSSES} times"):
        list(hand_out(small_matrix(1).blocks(), lambda: Fake(lambda _: Lost()), ahead=1, lost=(Lost,)))


def test_what_a_worker_can_not_even_begin_is_told() -> None:
    missing = ModuleNotFoundError("No module named 'whimbrel'")
    with pytest.raises(HandsLost, match="No module named"):
        list(hand_out(small_matrix(1).blocks(), lambda: Fake(lambda _: missing), ahead=1))


class Dropping(Fake):
    """Drops all that it has."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_a_run_that_breaks_names_its_cell() -> None:
    blocks = [Block(cells=(Cell(case=tiny(), policy="nowhere.py:policy", seed=1),))]
    with pytest.raises(CellFailed, match=r"busy@slow, nowhere\.py:policy, seed 1"):
        list(hand_out(blocks, lambda: Fake(_as_a_worker), ahead=1))


def _as_a_worker(block: Block) -> BaseException | None:
    try:
        run_block(block)
    except CellFailed as error:
        return error
    return None


def test_a_scheduler_that_goes_away_is_told() -> None:
    with pytest.raises(HandsLost, match="is gone"):
        list(hand_out(small_matrix(1).blocks(), lambda: Dropping(lambda _: None), ahead=1))


def test_blocks_are_run_as_they_are_by_hand() -> None:
    matrix = replace(small_matrix(1), policies=("fixed",))
    assert list(Serial().run(matrix.blocks())) == [run_block(block) for block in matrix.blocks()]
