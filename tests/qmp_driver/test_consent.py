"""Whom hooks and lock are told of: by the same name at every moment, even where a QEMU is gone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.parties import MOVED, NOT_MOVED, PROGRESS, STRANGER, MemoryLock
from tests.support.qmp_server import QmpServer
from whimbrel.engine.machine import Event, Learnt
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.consent import Consent
from whimbrel.qmp_driver.hooks import HookContext, HookRefused, Hooks
from whimbrel.qmp_driver.locks import LockRefused
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.parties import party
from whimbrel.qmp_driver.side import Side


@dataclass
class Bench:
    """Two sides, and what a migration learns."""

    lock: MemoryLock = field(default_factory=MemoryLock)
    facts: dict[str, Any] = field(default_factory=lambda: {"uri": "tcp:127.0.0.1:1"})
    contexts: list[HookContext] = field(default_factory=list[HookContext])

    def __post_init__(self) -> None:
        self.sides = [Side(name, self._deliver, lambda kind, fields: None, lambda: None) for name in SideName]

    async def hook(self, context: HookContext, report: CompletedReport | None = None) -> None:
        """Says yes, and keeps what it was told."""
        self.contexts.append(context)

    def make(self, hooks: Hooks) -> Consent:
        """With the lock and these hooks."""
        return Consent(
            options=Options(hooks=hooks, locks=self.lock),
            source=self.sides[0],
            source_address="/run/source",
            destination=self.sides[1],
            glance=self._glance,
            deliver=self._deliver,
            log_path=Path("/log"),
        )

    def _glance(self) -> tuple[Any, Mapping[str, Any]]:
        return PROGRESS, self.facts

    def _deliver(self, event: Event) -> None:
        assert isinstance(event, Learnt)
        self.facts.update(event.facts)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[QmpServer, None]:
    """A destination's monitor."""
    async with QmpServer(tmp_path / "destination") as made:
        yield made


SOURCE_NAME = party(SideName.SOURCE, "/run/source", None).name


async def test_the_start_is_asked_for_before_the_lock_is_taken() -> None:
    """Where it is refused, nobody has heard of us."""
    bench = Bench()

    async def no(_: HookContext) -> None:
        raise RuntimeError("not today")

    with pytest.raises(HookRefused):
        await bench.make(Hooks(before_start=no)).start()
    assert bench.lock.asked == []
    await bench.make(Hooks(before_start=bench.hook)).start()
    assert bench.lock.by == SOURCE_NAME
    (context,) = bench.contexts
    assert context.destination is None
    assert (context.source.name, context.source.address) == (SOURCE_NAME, "/run/source")
    assert context.log_path == Path("/log")


async def test_a_lock_that_somebody_holds_refuses_the_start() -> None:
    """After the hook said yes."""
    bench = Bench(lock=MemoryLock(by=STRANGER.name))
    with pytest.raises(LockRefused):
        await bench.make(Hooks(before_start=bench.hook)).start()
    assert len(bench.contexts) == 1


async def test_a_context_is_a_picture() -> None:
    """What is learnt later is not in it, and nobody can put anything there."""
    bench = Bench()
    await bench.make(Hooks(before_start=bench.hook)).start()
    bench.facts["more"] = True
    (context,) = bench.contexts
    assert dict(context.facts) == {"uri": "tcp:127.0.0.1:1"}
    with pytest.raises(TypeError):
        context.facts["more"] = False  # type: ignore[index]


async def test_names_are_learnt_before_the_lock_is_stored_under_them(server: QmpServer) -> None:
    """Once for each side; from then on the name that was learnt is the name."""
    bench = Bench()
    it = bench.make(Hooks(before_resume=bench.hook))
    seen: list[dict[str, Any]] = []

    async def look(what: str) -> None:
        seen.append(dict(bench.facts))

    bench.lock.first = look
    await it.start()
    await bench.sides[1].connect(server.address)
    await it.claims.claim()
    assert seen[0]["source_name"] == SOURCE_NAME
    assert "destination_name" not in seen[0]
    assert seen[1]["destination_name"] == bench.lock.by
    (context,) = bench.contexts
    assert context.destination is not None
    assert context.destination.name == bench.lock.by
    for side in bench.sides:
        await side.close()


async def test_a_new_manager_uses_the_names_of_the_old_one(server: QmpServer) -> None:
    """It may not see the processes that the names were made of."""
    bench = Bench(lock=MemoryLock(by="there"), facts={"source_name": "here", "destination_name": "there"})
    await bench.sides[1].connect(server.address)
    await bench.make(Hooks()).claims.reclaim()
    assert bench.lock.by == "here"
    for side in bench.sides:
        await side.close()


@pytest.mark.parametrize("report", [MOVED, NOT_MOVED])
async def test_the_end_is_told_and_the_lock_is_where_the_guest_is(server: QmpServer, report: CompletedReport) -> None:
    """It goes over with a guest that was moved, and is left alone otherwise."""
    bench = Bench(lock=MemoryLock(by=SOURCE_NAME))
    await bench.sides[1].connect(server.address)
    told = await bench.make(Hooks(done=bench.hook, failed=bench.hook)).ended(report)
    assert told is report
    assert [context.hook for context in bench.contexts] == ["done" if report.moved else "failed"]
    assert bench.lock.asked == (["hand over to destination"] if report.moved else [])
    for side in bench.sides:
        await side.close()


async def test_a_lock_that_stays_behind_is_a_note(server: QmpServer) -> None:
    """And the hook hears of it too."""
    bench = Bench(lock=MemoryLock(by=STRANGER.name))
    reports: list[CompletedReport] = []

    async def done(_: HookContext, report: CompletedReport) -> None:
        reports.append(report)

    await bench.sides[1].connect(server.address)
    told = await bench.make(Hooks(done=done)).ended(MOVED)
    assert told.notes == (f"the guest's lock is not with the destination: held by {STRANGER.name}",)
    assert told.moved
    assert reports == [told]
    for side in bench.sides:
        await side.close()
