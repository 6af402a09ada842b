"""The share of their time that a manager takes from the source's vCPUs from outside of QEMU, and gives back."""

from __future__ import annotations

from typing import Protocol

from whimbrel.engine.states import Phase

from .clock import SECOND_NS, Timer
from .driver_tasks import Loop

HELD_IN = frozenset({Phase.PRECOPY, Phase.SWITCHOVER})
"""Only while the source sends what the guest dirties. Beyond it the guest stands still, runs elsewhere, or is to have
all of its time back, whichever it comes to."""
LEASE_S = 4.0
"""Whoever took something and is not heard of for so long hangs: what it took is given back. Of one that dies it is
given back at once: a watchdog, which outlives it, sees its end."""
RENEWED_EVERY_S = LEASE_S / 4


class Slowed(Protocol):
    """Who can do it (`whimbrel.sim.driver_procedures.Place`)."""

    @property
    def local(self) -> bool: ...

    def slow_source(self, share: float, lease_s: float) -> None: ...


class OutsideThrottle:
    """One manager's hold on the source's vCPUs: it lasts as long as the manager says so, and no longer than it lives.

    Attributes:
        share: what is taken now, 0 to 0.99.
    """

    def __init__(self, loop: Loop, place: Slowed) -> None:
        """Nothing is taken."""
        self.share = 0.0
        self._loop = loop
        self._place = place
        self._timer: Timer | None = None

    def take(self, share: float) -> None:
        """Take so much from now on, instead of what was taken before; nothing happens where nobody can."""
        if share == self.share or not self._place.local:
            return
        self.share = share
        self._renew()

    def give_back(self) -> None:
        """Take nothing any more."""
        self.take(0.0)

    def end(self) -> None:
        """The manager has died, and its watchdog sees it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.share:
            self.share = 0.0
            self._place.slow_source(0.0, LEASE_S)

    def _renew(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._place.slow_source(self.share, LEASE_S)
        if self.share:
            self._timer = self._loop.after(round(RENEWED_EVERY_S * SECOND_NS), self._renew)
