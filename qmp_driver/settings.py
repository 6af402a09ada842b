"""What a migration sets on its two QEMUs, and how they had it: the difference is put back on whoever stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from whimbrel.engine.errors import QemuRefused
from whimbrel.engine.machine import Event, Learnt
from whimbrel.engine.negotiation import Negotiated, for_side, negotiate, parameters_of, to_put_back
from whimbrel.engine.pilot import Steering
from whimbrel.engine.policy import Knobs
from whimbrel.engine.states import Side as SideName

from . import badge, replies
from .adoption import Legacy
from .monitor import Monitor
from .releasing import leave_no_settings
from .restoring import put_back
from .side import Side

SOURCE, DESTINATION = SideName.SOURCE.value, SideName.DESTINATION.value


@dataclass(slots=True)
class Settings:
    """The settings of one migration, on both sides.

    Attributes:
        deliver: takes what is learnt.
        write: puts a line into the log, or raises.
        has: the capabilities of each side, as they were found.
        parameters: all of the source's, as it had them.
        armed: the source's are about to be changed, or were.
        worn: the badge that the source wears while this migration is not settled.
        changed: the capabilities that we set otherwise, as they were, by side.
        before: the parameters that are put back, by side.
    """

    deliver: Callable[[Event], None]
    write: Callable[[str, dict[str, object]], None]
    has: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])
    parameters: dict[str, object] = field(default_factory=dict[str, object])
    armed: bool = False
    worn: str | None = None
    changed: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])
    before: dict[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])

    def take_up(self, legacy: Legacy) -> None:
        """Take up what an earlier manager set, and how it was before."""
        for side, before in legacy.settings.items():
            self.changed[side] = dict(before.capabilities)
            self.before[side] = dict(before.parameters)
            self.armed = self.armed or side == SOURCE
        self.worn = legacy.badge

    # ---- set

    def agree(self, setup: Steering) -> Negotiated:
        """What both ends are told; what was wished for and can't be had is a note.

        Raises:
            PreparationFailed: an end lacks what is required.
        """
        agreed = negotiate(self.has[SOURCE], self.has[DESTINATION], setup.decision.capabilities)
        for sentence in agreed.dropped:
            self.deliver(Learnt({}, note=sentence))
        return agreed

    async def tell_destination(self, destination: Monitor, agreed: Negotiated, knobs: Knobs) -> None:
        """Write into the log how both had it, and set the destination up: that has to be before it listens.

        Raises:
            QemuRefused, OutcomeUnknown, CannotConnect: it says no, or nothing.
            WhimbrelError: the log takes no line.
        """
        self.armed = True
        for side in (SOURCE, DESTINATION):
            has = self.has[side]
            self.changed[side] = {name: has[name] for name in for_side(agreed, has)}
        self.before[SOURCE] = to_put_back(self.parameters)
        told = parameters_of(knobs, self.parameters, destination=True)
        if told:  # most migrations have nothing to tell it
            known = await replies.query_parameters(destination)
            told = {name: value for name, value in told.items() if name in known}
            self.before[DESTINATION] = {name: known[name] for name in told}
        for side, before in self.changed.items():
            self.write("settings", {"side": side, "capabilities": before, "parameters": self.before.get(side, {})})
        if wanted := for_side(agreed, self.has[DESTINATION]):
            await replies.set_capabilities(destination, wanted)
        if told:  # it counts the connections that it waits for
            await replies.set_parameters(destination, told)

    async def tell_source(self, source: Monitor, agreed: Negotiated, knobs: Knobs) -> None:
        """Set the source up, and mark it as ours.

        Raises:
            QemuRefused, OutcomeUnknown, CannotConnect: it says no, or nothing.
            WhimbrelError: the log takes no line.
        """
        await asyncio.gather(
            replies.set_capabilities(source, for_side(agreed, self.has[SOURCE])),
            replies.set_parameters(source, parameters_of(knobs, self.parameters)),
            self._wear_badge(source),
        )

    async def _wear_badge(self, source: Monitor) -> None:
        try:
            await badge.put_on(source, worn := badge.invent())
        except QemuRefused as error:
            self.deliver(Learnt({}, note=f"the source can't be marked as ours: {error.description}"))
        else:
            self.worn = worn
            self.write("badge", {"id": worn})

    # ---- put back

    async def put_back(self, source: Monitor) -> None:
        """Give a source that keeps its guest everything back as it was.

        Raises:
            OutcomeUnknown, CannotConnect: it answers no more.
        """
        # First: one without it is asked nothing, one without our settings would be taken for another's.
        await self._take_badge_off(source)
        await put_back(source, self.before.get(SOURCE, {}), self.changed.get(SOURCE), self.deliver)

    async def leave(self, source: Side, destination: Side, *, source_stays: bool) -> None:
        """After a success: the destination gets its own settings back, and so does a source that stays.

        Raises:
            OutcomeUnknown, CannotConnect: a source that stays answers no more.
        """
        if source_stays and source.alive:
            await self._take_badge_off(source.require())  # first, as in `put_back`
        stay = (source, destination) if source_stays else (destination,)
        mine = {side: before for side, before in self.before.items() if side == DESTINATION}
        await leave_no_settings(stay, self.changed, self.deliver, parameters=mine)

    async def _take_badge_off(self, source: Monitor) -> None:
        if self.worn is not None:
            self.write("badge", {"id": None})
            await badge.take_off(source, self.worn)
            self.worn = None
