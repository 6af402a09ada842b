"""Virtual time: a queue of what happens when, in integer nanoseconds, and nothing that waits.

What is due at the same nanosecond happens in an order that the seed decides: a protocol that relies on one
order is found out, and the same seed gives the same order again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


@dataclass(slots=True)
class Timer:
    """Something that is to happen; `cancel` lets it be."""

    when_ns: int
    call: Callable[[], None] | None

    def cancel(self) -> None:
        """It will not happen; nothing happens if it has already."""
        self.call = None

    @property
    def pending(self) -> bool:
        """Whether it is still to come."""
        return self.call is not None


@dataclass(slots=True)
class Clock:
    """The time, and what is to happen.

    Attributes:
        order: decides among things that are due at the same time; ``None``: in the order in which they were asked for.
        now_ns: nanoseconds since the world began.
    """

    order: Random | None = None
    now_ns: int = 0
    _queue: list[tuple[int, int, int, Timer]] = field(default_factory=list[tuple[int, int, int, Timer]])
    _asked: int = 0

    def at(self, when_ns: int, call: Callable[[], None]) -> Timer:
        """Have something happen at a time; one that has passed means now."""
        if when_ns < self.now_ns:
            when_ns = self.now_ns
        timer = Timer(when_ns, call)
        self._asked += 1
        tie = self.order.getrandbits(32) if self.order is not None else 0
        heappush(self._queue, (when_ns, tie, self._asked, timer))
        return timer

    def after(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """As `at`, counted from now."""
        return self.at(self.now_ns + delay_ns, call)

    def next_ns(self) -> int | None:
        """When the next thing is due; ``None``: nothing is to come."""
        while self._queue and self._queue[0][3].call is None:
            heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def step(self) -> bool:
        """Go on to the next thing and have it happen; False: there is none."""
        while self._queue:
            when_ns, _, _, timer = heappop(self._queue)
            call, timer.call = timer.call, None
            if call is not None:
                self.now_ns = when_ns
                call()
                return True
        return False

    def advance_to(self, when_ns: int) -> None:
        """Have everything happen that is due by then; afterwards it is that time."""
        while (due_ns := self.next_ns()) is not None and due_ns <= when_ns:
            self.step()
        self.now_ns = max(self.now_ns, when_ns)

    def run(self, done: Callable[[], bool], limit_ns: int) -> bool:
        """Go on until something holds.

        Args:
            done: asked before every step.
            limit_ns: the time at which it is given up.

        Returns:
            Whether it held; False: nothing is to come any more, or it is not to come before the limit.
        """
        while not done():
            due_ns = self.next_ns()
            if due_ns is None or due_ns > limit_ns:
                return False
            self.step()
        return True
