"""The end of a move that went well: the source's last figures, the destination's own settings, the source's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from whimbrel.engine.driving import EXIT_WITHIN_S, FIGURES_LOOKS, LOOK_EVERY_S, SETTINGS_WITHIN_S
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, WhimbrelError
from whimbrel.engine.machine import Event, Learnt, Sampled
from whimbrel.engine.sampling import statistics_of

from . import replies
from .side import Side


async def quit_source(source: Side, *, within_s: float, look: bool = False) -> None:
    """End the source process and see it ended, where it is on this host.

    Args:
        source: its guest runs elsewhere.
        within_s: how long a lost monitor is tried again, seconds.
        look: somebody may have brought its guest back meanwhile: only one that stands still is ended.

    Raises:
        CannotConnect: it can't be told, and it is not known to have ended.
        WhimbrelError: it does not end.
    """
    if not await source.reconnect(within_s=within_s):
        if await source.is_gone():
            return
        raise CannotConnect("its monitor does not answer any more", side="source")
    if look and (await replies.query_status(source.require())).running:
        raise WhimbrelError("its guest runs again, by somebody else's hand", side="source")
    try:
        await replies.quit_(source.require())
    except (OutcomeUnknown, CannotConnect):
        pass  # a QEMU that quits may close the connection before its answer is out
    if source.process is not None:
        try:
            await source.process.wait_exit(EXIT_WITHIN_S)
        except TimeoutError as error:
            raise WhimbrelError(f"it has not ended within {EXIT_WITHIN_S:g} s", side="source") from error


async def leave_no_settings(
    sides: Iterable[Side],
    before: Mapping[str, Mapping[str, bool]],
    deliver: Callable[[Event], None],
    *,
    parameters: Mapping[str, Mapping[str, object]] | None = None,
    within_s: float = SETTINGS_WITHIN_S,
) -> None:
    """Set capabilities and parameters back as they were; what can't be is noted.

    Ours would bind whoever migrates these QEMUs next: ``pause-before-switchover`` makes them wait for ever.

    Args:
        sides: that stay.
        before: capabilities as they were, by side.
        deliver: takes the notes.
        parameters: parameters as they were, by side, where those are set back, too.
        within_s: how long each side may take, seconds.
    """
    for side in sides:
        capabilities, values = before.get(side.name.value), (parameters or {}).get(side.name.value)
        if not (capabilities or values) or not side.alive:
            continue
        try:
            async with asyncio.timeout(within_s):
                if values:
                    await replies.set_parameters(side.require(), values)
                if capabilities:
                    await replies.set_capabilities(side.require(), capabilities)
        except (WhimbrelError, TimeoutError) as error:
            words = error if str(error) else f"no answer within {within_s:g} s"
            deliver(Learnt({}, note=f"the {side.name.value} keeps this migration's settings: {words}"))


async def take_final_figures(source: Side, now_ns: Callable[[], int], deliver: Callable[[Event], None]) -> None:
    """QEMU 7.2 says completed before its totals are there: ask until they are, a second at most.

    They are only figures: without them the source is let go all the same.
    """
    for _ in range(FIGURES_LOOKS):
        try:
            info = await replies.query_migrate(source.require())
        except WhimbrelError:
            return
        if info.total_time_ms or info.status != "completed":
            deliver(Sampled(statistics_of(info, now_ns())))
            deliver(Learnt({"qemu_total_ms": info.total_time_ms, "qemu_downtime_ms": info.downtime_ms}))
            return
        await asyncio.sleep(LOOK_EVERY_S)
