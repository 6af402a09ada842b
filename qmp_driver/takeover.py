"""Taking a migration over: what is taken, and what is to be believed of sides that nobody looked after meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from whimbrel.engine.errors import BadInput
from whimbrel.engine.machine import Happened, Machine
from whimbrel.engine.resolve import Intent, intent_of
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Fact
from whimbrel.engine.states import Side as SideName

from .adoption import Legacy
from .side import Side

FENCE_LOOK_S = 1.0
"""How long a side that is said to be off is tried all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """A migration that another manager began.

    Attributes:
        legacy: what that manager knew.
        machine: as it stood at the last line of the log.
        fenced: the sides whose machines are off, as a person vouches.
        reopened: it had ended, and nothing was settled.
        notes: sentences for the report.
    """

    legacy: Legacy
    machine: Machine
    fenced: frozenset[SideName] = frozenset()
    reopened: bool = False
    notes: tuple[str, ...] = ()


async def believe_fences(sides: Iterable[Side], fenced: frozenset[SideName]) -> None:
    """Take a person's word that machines are off, unless what is said to be off is seen alive.

    Raises:
        BadInput: it answers, or its process lives on this host.
    """
    for side in sides:
        if side.name not in fenced:
            continue
        if await side.reconnect(within_s=FENCE_LOOK_S):
            raise BadInput("fenced", side.name.value, "a side that has ended for good: this one answers")
        if side.process is not None and not side.process.exited:
            allowed = f"a side that has ended for good: its process {side.process.pid} lives on this host"
            raise BadInput("fenced", side.name.value, allowed)
        side.fenced = True


def the_dead(source: Side, destination: Side, known: frozenset[Fact]) -> list[Happened]:
    """News of processes that ended while nobody looked.

    What the source said last was not heard. That matters only where nothing is proven since ``migrate-continue``:
    it may have failed, and run on. Otherwise its end is all there is to know.
    """
    text = "its process had ended when it was taken over (if its guest was moved on since, it runs there)"
    news: list[Happened] = []
    if destination.process is not None and destination.process.exited:
        news.append(Happened(Signal.DESTINATION_ENDED, f"the destination: {text}"))
    words_matter = intent_of(known) is Intent.CONTINUED
    if source.process is not None and source.process.exited and not words_matter:
        news.append(Happened(Signal.SOURCE_ENDED, f"the source: {text}"))
    return news
