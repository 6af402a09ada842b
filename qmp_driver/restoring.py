"""Seeing a source right that keeps the guest: in the run state that it had, with its settings as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from whimbrel.engine.driving import FINAL_STATUS_WITHIN_S, LOOK_EVERY_S
from whimbrel.engine.errors import QemuRefused, WhimbrelError
from whimbrel.engine.machine import Event, Learnt
from whimbrel.engine.resolve import MOVING_STATUSES, STILL_STATES

from . import replies
from .monitor import Monitor


async def await_final_status(monitor: Monitor, deliver: Callable[[Event], None]) -> None:
    """Wait until the source is done with its migration, or the guest runs and it can be left to itself.

    Raises:
        OutcomeUnknown, CannotConnect: it answers no more.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + FINAL_STATUS_WITHIN_S
    while True:
        info = await replies.query_migrate(monitor)
        if (info.status or "") not in MOVING_STATUSES:
            return
        run = await replies.query_status(monitor)
        if loop.time() > deadline or (info.status == "cancelling" and run.running):
            note = f"the guest runs; the source is busy with its old migration ({info.status}) for a while yet"
            deliver(Learnt({}, note=note))
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def see_as_it_is(monitor: Monitor, deliver: Callable[[Event], None]) -> None:
    """For a source on which no migration was started: whatever its guest does is none of our doing.

    Raises:
        OutcomeUnknown, CannotConnect: it answers no more.
    """
    run = await replies.query_status(monitor)
    if not run.running:
        deliver(Learnt({}, paused_before=True, note=f"the guest stands still: {run.status}"))


async def see_running(monitor: Monitor, deliver: Callable[[Event], None]) -> None:
    """See to it that a guest which was stopped by its migration runs again.

    QEMU lets it run by itself after a failure; one that it leaves in ``postmigrate`` gets ``cont``. Never one that
    completed: its copy of the guest may be old. Nor one that is ``paused``: that was not QEMU, but its owner.

    Raises:
        WhimbrelError: it completed, or does not run in time.
        OutcomeUnknown, CannotConnect: it answers no more.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + FINAL_STATUS_WITHIN_S
    while True:
        run = await replies.query_status(monitor)
        if run.running:
            return
        if run.status == "postmigrate":
            status = (await replies.query_migrate(monitor)).status
            if status == "completed":
                raise WhimbrelError("its migration completed, so its copy of the guest is not resumed", side="source")
            # The destination never had its cont and is gone: the guest is the source's.
            await replies.cont(monitor)
            return
        if run.status in STILL_STATES:
            # Its storage, its watchdog or itself stopped it: to run on is for its owner to say.
            deliver(Learnt({}, paused_before=True, note=f"the guest stands still: {run.status}"))
            return
        if loop.time() > deadline:
            raise WhimbrelError(f"the guest is not running but {run.status}", side="source")
        await asyncio.sleep(LOOK_EVERY_S)


async def put_back(
    monitor: Monitor,
    parameters: Mapping[str, object],
    capabilities: Mapping[str, bool] | None,
    deliver: Callable[[Event], None],
) -> None:
    """Set the source's settings as they were; where QEMU refuses, it is noted.

    Raises:
        OutcomeUnknown, CannotConnect: it answers no more.
    """
    try:
        await replies.set_parameters(monitor, parameters)
        if capabilities:
            await replies.set_capabilities(monitor, capabilities)
    except QemuRefused as error:
        # A cancel that hangs in a pending connect keeps the migration "in progress" for minutes.
        deliver(Learnt({}, note=f"the source keeps this migration's settings: {error.description}"))
