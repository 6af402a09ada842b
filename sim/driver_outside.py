"""The share of their time that a manager takes from the source's vCPUs from outside of QEMU, and gives back."""

from __future__ import annotations

from collections.abc import Callable
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
LEAST_SHARE = 0.01
"""Where the user allows less than that it is not offered."""
LAPSED = "its manager was silent for too long"


class Slowed(Protocol):
    """Who can do it (`whimbrel.sim.pair.Pair`)."""

    def slow_source(self, share: float, lease_s: float) -> bool:
        """Take this share of their time from the vCPUs, at once, until it is changed or the lease has passed; 0: none.

        Returns:
            Whether a lease was running; else what was taken before, if anything, had been given back.
        """
        ...


class OutsideThrottle:
    """One manager's hold on the source's vCPUs: it lasts as long as the manager says so, and no longer than it lives.

    Attributes:
        share: what is taken now, 0 to 0.99.
        offered: whether anything may be taken.
    """

    def __init__(self, loop: Loop, place: Slowed, lost: Callable[[str], None]) -> None:
        """Nothing is taken.

        Args:
            loop: of the manager.
            place: where the source is.
            lost: told, and why, when it was given back without the manager's word; it is not offered any more then.
        """
        self.share = 0.0
        self.offered = False
        self._loop = loop
        self._place = place
        self._lost = lost
        self._timer: Timer | None = None

    def take(self, share: float) -> None:
        """Take so much from now on, instead of what was taken before; nothing happens where it was not offered."""
        if share == self.share or not self.offered:
            return
        self._stop_renewing()
        self.share = share
        self._place.slow_source(share, LEASE_S)
        self._renew_later()

    def give_back(self) -> None:
        """Take nothing any more."""
        self.take(0.0)

    def end(self) -> None:
        """The manager has died, and its watchdog sees it."""
        self._stop_renewing()
        if self.share:
            self.share = 0.0
            self._place.slow_source(0.0, LEASE_S)

    def _renew_later(self) -> None:
        if self.share:
            self._timer = self._loop.after(round(RENEWED_EVERY_S * SECOND_NS), self._renew)

    def _stop_renewing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _renew(self) -> None:
        self._timer = None
        if self._place.slow_source(self.share, LEASE_S):
            self._renew_later()
            return
        self._place.slow_source(0.0, LEASE_S)
        self.share, self.offered = 0.0, False
        self._lost(LAPSED)
