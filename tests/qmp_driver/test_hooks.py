"""The caller's hooks: what they are told, and that anything but a timely yes is a no."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from tests.support.parties import MOVED, NOT_MOVED, about
from whimbrel.engine.errors import BadInput
from whimbrel.engine.report import CompletedReport
from whimbrel.qmp_driver.hooks import HookCaller, HookContext, HookRefused, Hooks

QUESTIONS = ["before_start", "source_stopped", "before_resume"]
NAMES = [*QUESTIONS, "done", "failed"]


async def never(*_: object) -> None:
    """Hangs."""
    await asyncio.Event().wait()


async def broken(*_: object) -> None:
    """Says no."""
    raise RuntimeError("the database is not ready")


async def leaving(*_: object) -> None:
    """Calls ``sys.exit``."""
    raise SystemExit(1)


async def cut(*_: object) -> None:
    """Awaited something that was cancelled."""
    raise asyncio.CancelledError


def plain(*_: object) -> None:
    """No coroutine function."""


def caller(**hooks: Any) -> HookCaller:
    """Calls these hooks."""
    return HookCaller(Hooks(**hooks), about)


def ask(it: HookCaller, name: str) -> Awaitable[None]:
    """Ask one of the three that may refuse."""
    question: Callable[[], Awaitable[None]] = getattr(it, name)
    return question()


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_hook_is_told_where_it_stands(name: str) -> None:
    """By a value that it can't change, and its answer does not matter."""
    told: list[HookContext] = []

    async def hook(context: HookContext) -> str:
        told.append(context)
        return "no"

    await ask(caller(**{name: hook}), name)
    (context,) = told
    assert (context.hook, context.phase, context.owner) == (name, "switchover", "source")
    with pytest.raises(FrozenInstanceError):
        context.hook = "another"  # type: ignore[misc]


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_hook_that_is_not_there_says_yes(name: str) -> None:
    """And no other is asked in its place."""
    others = {other: broken for other in NAMES if other != name}
    await ask(caller(**others), name)


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (broken, "RuntimeError: the database is not ready"),
        (leaving, "SystemExit: 1"),
        (cut, "it was cut short"),
        (plain, "TypeError: "),
        (never, "no answer within 0.01 s"),
    ],
)
async def test_anything_but_a_timely_yes_is_a_no(name: str, hook: Any, words: str) -> None:
    """With the hook's name and its words."""
    with pytest.raises(HookRefused) as caught:
        await ask(caller(**{name: hook, f"{name}_within_s": 0.01}), name)
    assert caught.value.hook == name
    assert str(caught.value).startswith(f"the hook {name} refused: {words}")


@pytest.mark.parametrize("name", QUESTIONS)
async def test_whoever_cancels_us_cancels_the_hook(name: str) -> None:
    """That is no refusal."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hook(_: HookContext) -> None:
        begun.set()
        try:
            await never()
        finally:
            ended.set()

    task = asyncio.ensure_future(ask(caller(**{name: hook}), name))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.parametrize(("report", "name"), [(MOVED, "done"), (NOT_MOVED, "failed")])
async def test_the_end_is_told_to_the_hook_that_it_concerns(report: CompletedReport, name: str) -> None:
    """With the report; the other one hears nothing."""
    told: list[tuple[str, str, CompletedReport]] = []

    def telling(which: str) -> Callable[[HookContext, CompletedReport], Awaitable[None]]:
        async def hook(context: HookContext, given: CompletedReport) -> None:
            told.append((which, context.hook, given))

        return hook

    assert await caller(done=telling("done"), failed=telling("failed")).ended(report) is report
    assert told == [(name, name, report)]
    assert await caller().ended(report) is report


@pytest.mark.parametrize(("report", "name"), [(MOVED, "done"), (NOT_MOVED, "failed")])
@pytest.mark.parametrize(
    ("hook", "words"),
    [(broken, "RuntimeError: the database is not ready"), (leaving, "SystemExit: 1"), (cut, "it was cut short"),
     (never, "no answer within 0.01 s")],
)  # fmt: skip
async def test_nothing_changes_an_end(report: CompletedReport, name: str, hook: Any, words: str) -> None:
    """What the hook gets wrong is one more note."""
    told = await caller(**{name: hook, f"{name}_within_s": 0.01}).ended(report)
    assert told.notes == (f"the hook {name} failed: {words}",)
    assert (told.outcome, told.owner, told.guest) == (report.outcome, report.owner, report.guest)


async def test_a_cancellation_at_the_end_ends_the_hook_and_not_the_report() -> None:
    """The migration is over: nobody may lose how."""
    begun = asyncio.Event()

    async def hook(_: HookContext, report: CompletedReport) -> None:
        begun.set()
        await never()

    task = asyncio.create_task(caller(done=hook).ended(MOVED))
    await begun.wait()
    task.cancel()
    report = await task
    assert report.notes == ("the hook done failed: it was cut short",)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("within_s", [0, -1, math.inf, math.nan])
def test_a_deadline_that_is_none_is_refused(name: str, within_s: float) -> None:
    """By name: a guest would stand stopped for ever."""
    with pytest.raises(BadInput) as caught:
        caller(**{f"{name}_within_s": within_s})
    assert caught.value.field == f"{name}_within_s"


@pytest.mark.parametrize("name", NAMES)
def test_what_can_not_be_called_is_refused(name: str) -> None:
    """Early, and not with the guest stopped."""
    with pytest.raises(BadInput) as caught:
        caller(**{name: "script.sh"})
    assert caught.value.field == name
