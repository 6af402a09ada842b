"""When the machine looks ahead: often enough to show it, seldom enough that a long migration's log stays short."""

from __future__ import annotations

from dataclasses import dataclass, field

from .foresight import Outlook
from .foresight_watch import Foresight
from .pilot import Pilot
from .statistics import Ledger

SECOND_NS = 1_000_000_000
LOOK_EVERY_NS, LOOK_AT_SYNC_NS, LOOKS = SECOND_NS, SECOND_NS // 10, 50
"""A live forecast is made every second, at a sync sooner, and never before a fiftieth of all the time that has passed
is over since the last: about 60 in the first minute, 200 more in the hour after it, 160 more in the day after that, and
those at syncs."""


@dataclass(slots=True)
class Lookout:
    """Has a `Foresight` see everything, and asks it now and then.

    Attributes:
        foresight: who looks ahead.
        last: the newest live forecast; ``None``: none could be made yet.
        news: the last that there was to say of a verdict, as a sentence; empty: nothing.
    """

    foresight: Foresight
    last: Outlook | None = None
    news: str = ""
    _made: list[Outlook] = field(default_factory=list[Outlook])
    _at_ns: int | None = None
    """When the last one was made."""
    _moved_ns: int | None = None
    """When the guest was first seen to run at the destination."""

    def learn(self, ledger: Ledger, pilot: Pilot) -> bool:
        """Take a look, and nothing else: also out of a log. Whether an iteration has ended with it."""
        return self.foresight.see(ledger, pilot.knobs)

    def look(self, ledger: Ledger, pilot: Pilot, now_ns: int, *, moved: bool, silent: bool = False) -> Outlook | None:
        """Take a look, and make a forecast if the last one is old enough.

        Args:
            ledger: with the newest statistics.
            pilot: its knobs, what it asked for, and when it began.
            now_ns: the machine's clock.
            moved: the guest runs at the destination already.
            silent: out of a log: nothing is made of it.

        Returns:
            The new one; ``None``: there is none.
        """
        at_sync = self.learn(ledger, pilot)
        if silent:
            return None
        elapsed_ns = now_ns - pilot.started_ns
        if moved and self._moved_ns is None:
            self._moved_ns = elapsed_ns
        if self._at_ns is not None:
            least_ns = max(LOOK_AT_SYNC_NS if at_sync else LOOK_EVERY_NS, elapsed_ns // LOOKS)
            if now_ns - self._at_ns < least_ns:
                return None
        made = self.foresight.outlook(
            ledger,
            pilot.knobs,
            elapsed_ns / SECOND_NS,
            asked_for=pilot.asked_for,
            moved_s=None if self._moved_ns is None else self._moved_ns / SECOND_NS,
        )
        if made is not None:
            self._at_ns, self.last = now_ns, made
            self.news = made.news or self.news
            self._made.append(made)
        return made

    def made(self) -> list[Outlook]:
        """All that were made since the last call, in order."""
        given, self._made = self._made, []
        return given
