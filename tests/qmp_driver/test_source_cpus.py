"""The source's vCPUs, where they are threads of this host: looked at, and a throttle offered on them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest

from tests.support.guests import until
from tests.support.spinner import spinning
from whimbrel.engine.errors import WhimbrelError
from whimbrel.qmp_driver.adoption import Judged
from whimbrel.qmp_driver.outside_hold import Hold, Thread, attributes_of
from whimbrel.qmp_driver.source_cpus import SourceCpus, undo_left
from whimbrel.qmp_driver.vcpus import VcpuThread

BOTH_LOOPS = True

GONE = Hold("cgroup-v1", (Thread(1, 1, 1, home="/nowhere", group="/nowhere/whimbrel"),))


@dataclass
class Bench:
    """A thread, and what is written and told of it."""

    thread: VcpuThread
    lines: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    lost: list[str] = field(default_factory=list[str])
    full: bool = False

    def __post_init__(self) -> None:
        self.cpus = SourceCpus(self._write, self.lost.append)
        self.cpus.look(self.thread.pid, (self.thread.tid,))

    def _write(self, kind: str, fields: dict[str, object]) -> None:
        if self.full:
            raise WhimbrelError("the log is full")
        self.lines.append({"kind": kind, **fields})

    @property
    def held(self) -> list[bool]:
        """What the lines say, one by one: whether it is, or may be, slowed from there on."""
        return [line["hold"] is not None for line in self.lines]

    async def offer(self) -> None:
        """Have it offered, or skip where this host can't."""
        if not await self.cpus.offer(0.5):
            pytest.skip(f"this host can't: {self.cpus.because}")


@pytest.fixture
def bench() -> Generator[Bench]:
    """Of a thread that spins."""
    with spinning() as thread:
        yield Bench(thread)


async def test_it_is_tried_before_it_is_offered(bench: Bench) -> None:
    """Written before and after; and the thread is as it was."""
    before = attributes_of(bench.thread.tid)
    await bench.offer()
    assert bench.cpus.because == ""
    assert (bench.held[0], bench.held[-1]) == (True, False)
    assert attributes_of(bench.thread.tid) == before
    await bench.cpus.close()


async def test_what_is_wanted_is_taken_until_it_is_closed(bench: Bench) -> None:
    """How long it ran is told all the while."""
    await bench.offer()
    bench.cpus.want(0.5)
    throttle = bench.cpus.throttle
    assert throttle is not None
    await until(lambda: throttle.taken == 0.5, "it is taken")
    assert len(bench.cpus.run_times_s()) == 1
    await bench.cpus.close()
    assert bench.held[-2:] == [True, False]
    assert bench.lost == []


async def test_what_is_lost_on_the_way_is_told_and_not_offered_any_more(bench: Bench) -> None:
    """Here because the log takes no line."""
    await bench.offer()
    bench.full = True
    bench.cpus.want(0.5)
    await until(lambda: bench.lost != [], "it is told")
    assert bench.lost == ["the log is full"]
    assert (bench.cpus.throttle, bench.cpus.because) == (None, "the log is full")
    bench.cpus.want(0.9)  # without effect


async def test_where_nothing_is_allowed_nothing_is_tried(bench: Bench) -> None:
    """No line, no move between groups."""
    assert not await bench.cpus.offer(0.0)
    assert (bench.lines, bench.cpus.because) == ([], "no throttle is allowed")


async def test_a_source_that_is_not_on_this_host_has_no_threads_here(bench: Bench) -> None:
    """Nor times."""
    bench.cpus.look(None, (bench.thread.tid,))
    assert not await bench.cpus.offer(0.5)
    assert bench.cpus.because == "the source's vCPU threads can't be seen from here"
    assert bench.cpus.run_times_s() == ()


async def test_a_log_that_takes_no_line_is_not_worked_around(bench: Bench) -> None:
    """Nothing is touched then, and the migration is called off."""
    bench.full = True
    with pytest.raises(WhimbrelError, match="the log is full"):
        await bench.cpus.offer(0.5)


async def test_cancelled_while_it_is_tried_the_log_says_that_nothing_is_left(bench: Bench) -> None:
    """Its last line counts."""
    work = asyncio.ensure_future(bench.cpus.offer(0.5))
    await until(lambda: bench.lines != [] or work.done(), "it is tried")
    work.cancel()
    await asyncio.wait((work,))
    assert bench.held == [] or not bench.held[-1]


def test_what_a_manager_before_us_left_is_undone() -> None:
    """On its own host and in its own boot; elsewhere it is said."""
    assert undo_left(None, Judged.SAME) == []
    assert undo_left(GONE, Judged.SAME) == []
    assert undo_left(GONE, Judged.REBOOTED) == []
    (sentence,) = undo_left(GONE, Judged.ELSEWHERE)
    assert "on the host of its log only" in sentence
