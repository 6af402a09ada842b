"""A destination is ended only where nobody can lose a guest by it."""

from __future__ import annotations

import pytest

from tests.support.scripted_sides import Scripted, scripted
from whimbrel.engine.driving import HAS_ALL
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.states import Fact
from whimbrel.qmp_driver.discarding import see_that_it_may_end

WITHIN_S = 0.2
SENT = frozenset({Fact.MIGRATE_SENT})


def stands(side: Scripted, run_state: str, status: str) -> None:
    """Let a side answer so."""
    side.server.on("query-status", {"status": run_state, "running": run_state == "running"})
    side.server.on("query-migrate", {"status": status})


@pytest.mark.parametrize(
    ("run_state", "status", "known", "words"),
    [
        ("running", "completed", SENT, "it runs a guest"),
        ("running", "failed", SENT, "it runs a guest"),
        ("postmigrate", "completed", SENT, "has sent it on"),
        ("paused", "completed", frozenset[Fact](), "another migration brought"),
    ],
)
async def test_one_that_was_left_alone_meanwhile_is_looked_at(
    run_state: str, status: str, known: frozenset[Fact], words: str
) -> None:
    """Only where another manager began: ours knows what became of it."""
    async with scripted() as source, scripted() as destination:
        stands(destination, run_state, status)
        with pytest.raises(WhimbrelError, match=words):
            await see_that_it_may_end(source.side, destination.side, known, adopted=True, within_s=WITHIN_S)
        await see_that_it_may_end(source.side, destination.side, known, adopted=False, within_s=WITHIN_S)


@pytest.mark.parametrize(
    ("run_state", "status"), [("inmigrate", "active"), ("inmigrate", "failed"), ("paused", "completed")]
)
async def test_one_that_never_ran_may_end(run_state: str, status: str) -> None:
    async with scripted() as source, scripted() as destination:
        stands(destination, run_state, status)
        await see_that_it_may_end(source.side, destination.side, SENT, adopted=True, within_s=WITHIN_S)


async def test_one_that_does_not_answer_may_hold_the_guest_unless_the_source_is_there() -> None:
    async with scripted() as source, scripted() as destination:
        await destination.side.close()
        destination.side.leave_alone("out of reach, for this test")
        destination.side.monitor = None
        await see_that_it_may_end(source.side, destination.side, SENT, adopted=True, within_s=WITHIN_S)
        await source.side.close()
        source.side.monitor = None
        with pytest.raises(WhimbrelError, match="may hold the guest"):
            await see_that_it_may_end(source.side, destination.side, SENT, adopted=True, within_s=WITHIN_S)
        nothing = frozenset[Fact]()
        await see_that_it_may_end(source.side, destination.side, nothing, adopted=True, within_s=WITHIN_S)


async def test_the_only_copy_is_never_ended() -> None:
    async with scripted() as source, scripted() as destination:
        source.side.ended = True
        with pytest.raises(WhimbrelError, match="only copy"):
            await see_that_it_may_end(source.side, destination.side, HAS_ALL, adopted=False, within_s=WITHIN_S)
        old = HAS_ALL | {Fact.SETBACK}
        await see_that_it_may_end(source.side, destination.side, old, adopted=False, within_s=WITHIN_S)
