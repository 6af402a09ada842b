"""What a caller may say to a migration while it runs: refuse its start, its switchover, or its last step.

    hook            when                                                    the guest        refusing
    before_start    the source was inspected, nothing was started           runs             it fails, untouched
    source_stopped  all but the last pages are over                         stands stopped   it runs on at the source
    before_resume   the destination has everything, the source is out       stands stopped   it goes back to the source
    done, failed    it is over                                              as reported      a note in the report

A hook refuses by raising anything, by being cancelled, or by not answering in time. See docs/hooks.md.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.engine.report import CompletedReport, OngoingReport

from .foreign import run_within, words_of
from .parties import Party


class HookRefused(WhimbrelError):
    """A hook said no.

    Attributes:
        hook: its name, as in `Hooks`.
    """

    def __init__(self, hook: str, words: str) -> None:
        super().__init__(f"the hook {hook} refused: {words}")
        self.hook = hook


@dataclass(frozen=True, slots=True, kw_only=True)
class HookContext:
    """What a hook is told. A picture of the moment at which it is called: it does not change under its hands."""

    hook: str
    """Which one is called: a name of `Hooks`."""
    source: Party
    destination: Party | None
    """``None`` until there is one."""
    progress: OngoingReport
    """Phase, owner of the guest, and how much has been sent."""
    facts: Mapping[str, Any]
    """What was learnt so far: versions, addresses, the destination's sockets; as in the report."""
    log_path: Path

    @property
    def phase(self) -> str:
        """The phase of the migration."""
        return self.progress.phase

    @property
    def owner(self) -> str:
        """Who owns the guest: ``source``, ``limbo`` or ``destination``."""
        return self.progress.owner


Hook: TypeAlias = Callable[[HookContext], Awaitable[object]]
EndHook: TypeAlias = Callable[[HookContext, CompletedReport], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The caller's coroutine functions, each with its own deadline in seconds. ``None``: not asked, at no cost.

    After the death of a manager a new one asks again: a hook may be called twice in one migration.

    Raises:
        BadInput: a hook that can't be called, or a deadline that is not more than 0 s, by name.
    """

    before_start: Hook | None = None
    """After the inspection of the source; nothing has been started or changed. Refusing ends it there."""
    before_start_within_s: float = 10.0
    source_stopped: Hook | None = None
    """The guest stands stopped on the source (``pre-switchover``), and calling off is still safe. Refusing calls the
    move off. **Its time is downtime.**"""
    source_stopped_within_s: float = 10.0
    """The wait for the switchover as a whole (`Waits`) ends it too, if that is shorter."""
    before_resume: Hook | None = None
    """The last veto: the source is out, the destination has everything and stands stopped. Refusing gives the guest
    back to the source, except in post-copy, where only the destination can go on. **Its time is downtime.**"""
    before_resume_within_s: float = 10.0
    done: EndHook | None = None
    """The guest was moved. Both monitors are free again. An error is a note in the report."""
    done_within_s: float = 10.0
    failed: EndHook | None = None
    """It ended otherwise: failed or called off. An error is a note in the report."""
    failed_within_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("before_start", "source_stopped", "before_resume", "done", "failed"):
            hook, within_s = getattr(self, name), getattr(self, f"{name}_within_s")
            if hook is not None and not callable(hook):
                raise BadInput(name, hook, "a coroutine function")
            if not 0 < within_s < math.inf:
                raise BadInput(f"{name}_within_s", within_s, "more than 0 s")


@dataclass(frozen=True, slots=True)
class HookCaller:
    """Calls the hooks of one migration.

    Attributes:
        hooks: whom to call.
        about: makes the context of a hook, given its name.
    """

    hooks: Hooks
    about: Callable[[str], HookContext]

    async def before_start(self) -> None:
        """Ask whether to start.

        Raises:
            HookRefused: it shall not.

        If cancelled: passed on to the hook.
        """
        await self._ask("before_start", self.hooks.before_start, self.hooks.before_start_within_s)

    async def source_stopped(self) -> None:
        """Ask whether to switch over.

        Raises:
            HookRefused: the move is to be called off.

        If cancelled: passed on to the hook.
        """
        await self._ask("source_stopped", self.hooks.source_stopped, self.hooks.source_stopped_within_s)

    async def before_resume(self) -> None:
        """Ask whether the destination may run.

        Raises:
            HookRefused: the guest is to go back.

        If cancelled: passed on to the hook.
        """
        await self._ask("before_resume", self.hooks.before_resume, self.hooks.before_resume_within_s)

    async def ended(self, report: CompletedReport) -> CompletedReport:
        """Tell of the end.

        Returns:
            The report, with a note where the hook failed.

        If cancelled: passed on to the hook, and returns all the same, for the migration is over.
        """
        hooks = self.hooks
        if report.moved:
            name, hook, within_s = "done", hooks.done, hooks.done_within_s
        else:
            name, hook, within_s = "failed", hooks.failed, hooks.failed_within_s
        if hook is None:
            return report
        tell = hook  # which the checkers know to be one
        try:
            error = await run_within(lambda: tell(self.about(name), report), within_s)
        except asyncio.CancelledError as cancelled:
            error = cancelled
        if error is None:
            return report
        return replace(report, notes=(*report.notes, f"the hook {name} failed: {words_of(error)}"))

    async def _ask(self, name: str, hook: Hook | None, within_s: float) -> None:
        if hook is None:
            return
        error = await run_within(lambda: hook(self.about(name)), within_s)
        if error is not None:
            raise HookRefused(name, words_of(error)) from error
