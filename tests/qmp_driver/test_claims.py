"""The last veto and the lock together: in this order, once at a time, and with a way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.support.parties import DESTINATION, SOURCE, STRANGER, MemoryLock, about
from whimbrel.engine.errors import OutcomeUnknown
from whimbrel.qmp_driver.claims import Claims
from whimbrel.qmp_driver.hooks import Hook, HookCaller, HookContext, HookRefused, Hooks
from whimbrel.qmp_driver.locks import LockKeeper, LockRefused
from whimbrel.qmp_driver.parties import Party

PATIENCE_S = 60.0


@dataclass
class Gate:
    """A hook that waits until a test opens it."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    refuses: bool = False

    async def __call__(self, _: HookContext) -> None:
        self.calls += 1
        self.begun.set()
        await self.opened.wait()
        if self.refuses:
            raise RuntimeError("not there")


def claims(hook: Hook | None, lock: MemoryLock | None, *, within_s: float = PATIENCE_S) -> Claims:
    """The claims of one migration."""
    caller = HookCaller(Hooks(before_resume=hook), about)
    return Claims(caller, LockKeeper(lock, within_s), lambda: SOURCE, lambda: DESTINATION)


async def test_with_neither_hook_nor_lock_it_is_done_at_once() -> None:
    """Nobody is named, and the event loop gets no turn: this is inside the outage."""

    def nobody() -> Party:
        raise AssertionError("nobody has to be named")

    it = Claims(HookCaller(Hooks(), about), LockKeeper(None, PATIENCE_S), nobody, nobody)
    for work in (it.hold(), it.claim(), it.reclaim()):
        with pytest.raises(StopIteration):
            work.send(None)


async def test_the_lock_goes_over_and_back() -> None:
    """From the start to a claim that is taken back."""
    lock = MemoryLock()
    it = claims(None, lock)
    await it.hold()
    assert lock.by == SOURCE.name
    await it.claim()
    assert lock.by == DESTINATION.name
    await it.claim()
    assert lock.by == DESTINATION.name, "a second claim finds it done"
    await it.reclaim()
    await it.reclaim()
    assert lock.by == SOURCE.name


async def test_a_hook_without_a_lock_is_asked_all_the_same() -> None:
    """Nobody has to be named for it."""
    gate = Gate()
    gate.opened.set()
    await claims(gate, None).claim()
    assert gate.calls == 1


async def test_a_veto_leaves_the_lock_alone() -> None:
    """It is asked before."""
    lock = MemoryLock(by=SOURCE.name)
    gate = Gate(refuses=True)
    gate.opened.set()
    with pytest.raises(HookRefused, match="not there"):
        await claims(gate, lock).claim()
    assert lock.by == SOURCE.name
    assert lock.asked == []


@pytest.mark.parametrize("work", [Claims.hold, Claims.claim, Claims.reclaim])
async def test_what_a_third_party_holds_is_refused(work: Callable[[Claims], asyncio.Future[None]]) -> None:
    """Before the start, at the claim, and on the way back."""
    lock = MemoryLock(by=STRANGER.name)
    with pytest.raises(LockRefused):
        await work(claims(None, lock))
    assert lock.by == STRANGER.name


async def test_a_second_claim_waits_for_the_first() -> None:
    """The hook is asked once, and both hear its answer."""
    gate, lock = Gate(), MemoryLock(by=SOURCE.name)
    it = claims(gate, lock)
    first = asyncio.create_task(it.claim())
    await gate.begun.wait()
    second = asyncio.create_task(it.claim())
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(first, second)
    assert gate.calls == 1
    assert lock.asked == ["hand over to destination"]


async def test_both_hear_a_refusal() -> None:
    """Two who wait for one claim that is vetoed."""
    gate = Gate(refuses=True)
    it = claims(gate, None)
    tasks = [asyncio.create_task(it.claim()) for _ in range(2)]
    await gate.begun.wait()
    await asyncio.sleep(0)
    gate.opened.set()
    for task in tasks:
        with pytest.raises(HookRefused):
            await task


async def test_a_claim_that_waits_ends_where_the_guest_is_taken_back() -> None:
    """A yes that comes too late hands nothing over any more."""
    gate, lock = Gate(), MemoryLock(by=SOURCE.name)
    it = claims(gate, lock)
    claim = asyncio.create_task(it.claim())
    await gate.begun.wait()
    await it.reclaim()
    gate.opened.set()
    with pytest.raises(LockRefused, match="taken back"):
        await claim
    assert lock.asked == ["hand over to source"]
    assert lock.by == SOURCE.name


async def test_a_hand_over_under_way_is_undone_by_taking_the_guest_back() -> None:
    """Even one that is past stopping."""
    begun, goes_on = asyncio.Event(), asyncio.Event()

    async def deaf(what: str) -> None:
        if what == "hand over to destination":
            begun.set()
            while not goes_on.is_set():
                try:
                    await goes_on.wait()
                except asyncio.CancelledError:
                    pass

    lock = MemoryLock(by=SOURCE.name, first=deaf)
    it = claims(None, lock)
    claim = asyncio.create_task(it.claim())
    await begun.wait()
    back = asyncio.create_task(it.reclaim())
    await asyncio.sleep(0)
    goes_on.set()
    await back
    with pytest.raises(LockRefused):
        await claim
    assert lock.by == SOURCE.name


async def test_whoever_cancels_a_claim_cancels_its_hook() -> None:
    """And the claim can be made again."""
    gate, lock = Gate(), MemoryLock(by=SOURCE.name)
    it = claims(gate, lock)
    claim = asyncio.create_task(it.claim())
    await gate.begun.wait()
    claim.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claim
    gate.opened.set()
    await it.reclaim()
    await it.claim()
    assert gate.calls == 2
    assert lock.by == DESTINATION.name


async def test_a_lock_that_does_not_answer_is_unknown() -> None:
    """Who holds it, nobody can tell."""

    async def hang(what: str) -> None:
        await asyncio.Event().wait()

    it = claims(None, MemoryLock(by=SOURCE.name, first=hang), within_s=0.01)
    with pytest.raises(OutcomeUnknown):
        await it.claim()


async def test_a_guest_that_was_moved_without_our_claim_has_its_lock_all_the_same() -> None:
    """Somebody else told it to run, while the hook was still being asked."""
    gate, lock = Gate(), MemoryLock(by=SOURCE.name)
    it = claims(gate, lock)
    claim = asyncio.create_task(it.claim())
    await gate.begun.wait()
    assert await it.settle() is None
    assert lock.by == DESTINATION.name
    with pytest.raises(LockRefused):
        await claim


async def test_a_claim_that_was_made_needs_no_settling() -> None:
    """The lock is not asked again; one that was taken back is."""
    lock = MemoryLock(by=SOURCE.name)
    it = claims(None, lock)
    await it.claim()
    assert await it.settle() is None
    assert lock.asked == ["hand over to destination"]
    await it.reclaim()
    assert await it.settle() is None
    assert lock.by == DESTINATION.name


async def test_a_lock_that_stays_behind_is_told_of() -> None:
    """The guest was moved: that is no failure any more."""
    assert await claims(None, None).settle() is None
    problem = await claims(None, MemoryLock(by=STRANGER.name)).settle()
    assert problem == f"the guest's lock is not with the destination: held by {STRANGER.name}"


async def test_settling_that_is_cut_short_returns() -> None:
    """The report is not lost by it."""
    begun = asyncio.Event()

    async def hang(what: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(claims(None, MemoryLock(by=SOURCE.name, first=hang)).settle())
    await begun.wait()
    task.cancel()
    assert "cut short" in (await task or "")
