"""Whom a migration asks besides the two QEMUs: the caller's hooks and the guest's lock, told who the QEMUs are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from whimbrel.engine.machine import Event, Learnt
from whimbrel.engine.report import CompletedReport, OngoingReport

from .claims import Claims
from .hooks import HookCaller, HookContext
from .locks import LockKeeper
from .options import Options
from .parties import Party, party
from .side import Side
from .sockets import Address


@dataclass(slots=True, kw_only=True)
class Consent:
    """The hooks and the lock of one migration.

    Attributes:
        options: which there are.
        source: the source's side.
        source_address: where it is looked for, connected or not.
        destination: the destination's side; it has an address once there is one.
        glance: how the migration stands, and what was learnt so far.
        deliver: takes what is learnt.
        log_path: for the hooks.
        hooks: asks them.
        claims: asks for the last step, and moves the lock.
    """

    options: Options
    source: Side
    source_address: Address
    destination: Side
    glance: Callable[[], tuple[OngoingReport, Mapping[str, Any]]]
    deliver: Callable[[Event], None]
    log_path: Path
    hooks: HookCaller = field(init=False)
    claims: Claims = field(init=False)

    def __post_init__(self) -> None:
        keeper = LockKeeper(self.options.locks, self.options.lock_within_s)
        self.hooks = HookCaller(self.options.hooks, self._about)
        self.claims = Claims(self.hooks, keeper, self._lock_source, self._lock_destination)

    async def start(self) -> None:
        """See that the migration may start, and that the source holds the guest's lock.

        Raises:
            HookRefused: it may not; the lock was not touched.
            LockRefused: somebody else holds the lock.
            OutcomeUnknown: nobody can tell who holds the lock.

        If cancelled: passed on to hook and lock.
        """
        await self.hooks.before_start()
        await self.claims.hold()

    async def ended(self, report: CompletedReport) -> CompletedReport:
        """See the guest's lock with a guest that was moved, and tell the caller's hook.

        Returns:
            The report, with a note of each thing that went wrong; the outcome is what it was.

        If cancelled: passed on to hook and lock, and returns all the same.
        """
        if report.moved and (problem := await self.claims.settle()) is not None:
            report = replace(report, notes=(*report.notes, problem))
        return await self.hooks.ended(report)

    def _about(self, hook: str) -> HookContext:
        progress, facts = self.glance()
        there = self.destination.address
        return HookContext(
            hook=hook,
            source=self._party(self.source, self.source_address),
            destination=None if there is None else self._party(self.destination, there),
            progress=progress,
            facts=MappingProxyType(dict(facts)),
            log_path=self.log_path,
        )

    def _lock_source(self) -> Party:
        return self._named(self._party(self.source, self.source_address))

    def _lock_destination(self) -> Party:
        assert self.destination.address is not None
        return self._named(self._party(self.destination, self.destination.address))

    def _named(self, found: Party) -> Party:
        """Put a name into the log before anything is stored under it: who is gone is known by it."""
        if _fact(found) not in self.glance()[1]:
            self.deliver(Learnt({_fact(found): found.name}))
        return found

    def _party(self, side: Side, address: Address) -> Party:
        found = party(side.name, address, None if side.process is None else side.process.identity)
        name = self.glance()[1].get(_fact(found))
        return found if name is None else replace(found, name=str(name))


def _fact(found: Party) -> str:
    return f"{found.side.value}_name"
