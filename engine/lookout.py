"""When the machine looks ahead: often enough to show it, seldom enough that a long migration's log stays short."""

from __future__ import annotations

from dataclasses import dataclass

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

    Whatever is wrong with a forecast must not strand a guest: one that raises is not asked again.

    Attributes:
        foresight: who looks ahead.
        last: the newest live forecast; ``None``: none could be made yet.
        news: the last that there was to say of a verdict, as a sentence; empty: nothing.
        fault: what it raised.
    """

    foresight: Foresight
    last: Outlook | None = None
    news: str = ""
    fault: str = ""
    _seen: bool = False
    """There is something new since the last look ahead."""
    _at_sync: bool = False
    """An iteration has ended with it."""
    _at_ns: int | None = None
    """When the last one was made."""
    _moved_ns: int | None = None
    """When the guest was first seen to run at the destination."""

    def see(self, ledger: Ledger, pilot: Pilot, *, silent: bool = False) -> None:
        """Take in what is new; that takes microseconds.

        Args:
            ledger: with the newest statistics.
            pilot: its knobs.
            silent: it is out of a log: no forecast is made of it.
        """
        if not self.fault:
            try:
                at_sync = self.foresight.see(ledger, pilot.knobs)
            except Exception as error:
                self.fault = repr(error)
            else:
                self._seen = not silent
                self._at_sync = (self._at_sync or at_sync) and not silent

    def look(self, ledger: Ledger, pilot: Pilot, now_ns: int, *, moved: bool) -> Outlook | None:
        """Make a forecast if there is something new and the last one is old enough; that takes milliseconds.

        Args:
            ledger: as it was seen last.
            pilot: its knobs, what it asked for, and when it began.
            now_ns: the machine's clock.
            moved: the guest runs at the destination already.

        Returns:
            The new one; ``None``: there is none.
        """
        elapsed_ns = now_ns - pilot.started_ns
        if moved and self._moved_ns is None:
            self._moved_ns = elapsed_ns
        if self.fault or not self._seen or not self._due(now_ns, elapsed_ns):
            return None
        try:
            made = self.foresight.outlook(
                ledger,
                pilot.knobs,
                elapsed_ns / SECOND_NS,
                asked_for=pilot.asked_for,
                moved_s=None if self._moved_ns is None else self._moved_ns / SECOND_NS,
            )
        except Exception as error:
            self.fault, self.last = repr(error), None
            return None
        self._seen = self._at_sync = False
        if made is not None:
            self._at_ns, self.last = now_ns, made
            self.news = made.news or self.news
        return made

    def _due(self, now_ns: int, elapsed_ns: int) -> bool:
        least_ns = max(LOOK_AT_SYNC_NS if self._at_sync else LOOK_EVERY_NS, elapsed_ns // LOOKS)
        return self._at_ns is None or now_ns - self._at_ns >= least_ns
