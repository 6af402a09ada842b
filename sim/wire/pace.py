"""Virtual time that keeps step with the wall clock, so many times as fast."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from whimbrel.sim.clock import SECOND_NS, Clock

STOPPED_S: Final = 0.5
"""A process that wakes up so much later than it meant to was stopped (SIGSTOP), or had no CPU: it did nothing."""
LONGEST_TURN_S: Final = 0.05
"""After so long the sockets get their turn, though virtual time is not there yet."""


class Pace:
    """Drives a `Clock` from the event loop.

    Whatever comes from outside (a command, a message of the other side) goes through `happen`: what is due before it
    happens first. Two processes of one host that run at the same speed agree on the time of day, whenever they
    began: it runs from the boot of the host, where both were the same.

    Where the CPU is too slow for the speed that was asked for, virtual time falls behind, and nothing is left out.
    """

    def __init__(self, clock: Clock, speed: float, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Take a clock that stands at its beginning; it starts to move with the first `happen`.

        Args:
            clock: belongs to this object.
            speed: virtual seconds per second.
            monotonic_ns: the wall clock, nanoseconds since the host's boot.
        """
        self.clock = clock
        self.speed = speed
        self.on_turn: Callable[[], None] = _nothing
        """Called after everything that happened, from outside the model."""
        self.on_stop: Callable[[bool], None] = _nothing_at
        """Told, with True and False, when a stretch begins and ends in which the process was stopped."""
        self._monotonic_ns = monotonic_ns
        began_ns = monotonic_ns()
        self._began_ns = began_ns
        booted_s = time.time() - began_ns / SECOND_NS
        self.epoch_s = booted_s + began_ns / SECOND_NS * speed
        """The time of day, seconds since 1970, at the clock's beginning."""
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._planned_ns = began_ns
        self._busy = False

    def now_ns(self) -> int:
        """The virtual time that it should be now."""
        return round((self._monotonic_ns() - self._began_ns) * self.speed)

    def happen(self, what: Callable[[], None]) -> None:
        """Let time come up to now, and then this happen; from inside the model it happens at once."""
        if self._busy:
            what()
            return
        self._turn(what)

    def skip(self, span_ns: int) -> None:
        """Have everything happen at once that is due within a time; virtual time is ahead then."""
        self._busy = True
        self.clock.advance_to(self.clock.now_ns + span_ns)
        self._busy = False

    def close(self) -> None:
        """Time stands still."""
        if self._handle is not None:
            self._handle.cancel()
        self._busy = True

    def _turn(self, what: Callable[[], None]) -> None:
        self._busy = True
        try:
            self._come_up()
            what()
        finally:
            self._busy = False
        self.on_turn()
        if not self._busy:
            self._arm()

    def _come_up(self) -> None:
        """Have everything happen that is due."""
        now_ns = self.now_ns()
        late_ns = self._monotonic_ns() - self._planned_ns
        if self._handle is not None and late_ns > STOPPED_S * SECOND_NS:
            # Nobody can tell when it was stopped; it had nothing to do up to when it meant to wake.
            self.on_stop(True)
            self.clock.advance_to(now_ns)
            self.on_stop(False)
            return
        enough_ns = self._monotonic_ns() + round(LONGEST_TURN_S * SECOND_NS)
        while (due_ns := self.clock.next_ns()) is not None and due_ns <= now_ns:
            self.clock.step()
            if self._monotonic_ns() > enough_ns:
                return
        self.clock.advance_to(now_ns)

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        due_ns = self.clock.next_ns()
        if due_ns is None:
            return
        delay_ns = max(0, round((due_ns - self.now_ns()) / self.speed))
        self._planned_ns = self._monotonic_ns() + delay_ns
        self._handle = self._loop.call_later(delay_ns / SECOND_NS, self._turn, _nothing)


def _nothing() -> None:
    """Nothing happens."""


def _nothing_at(_: bool) -> None:
    """Nobody wants to know."""
