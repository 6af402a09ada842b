"""How a pipe fills and drains, exactly: integer arithmetic over stretches in which every rate stands still.

Amounts are counted in *units* of a billionth of a byte, so that a rate of r bytes per second moves r units in each
nanosecond: no rounding, whatever the rates and times, and what went in is what came out plus what is still there.
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT = 1_000_000_000
"""Units in a byte."""
NEVER_NS = 1 << 62
"""A time that does not come: what is asked for waits for something that nobody can foresee."""


@dataclass(slots=True)
class Pipe:
    """A pipe with a writer at one end.

    Attributes:
        size: what it holds, units.
        level: what is in it, units.
        waiting: what its writer still has to put in, units.
        speed: how fast the writer could, bytes per second.
        passed: what has come out at the other end since the beginning, units.
    """

    size: int
    level: int = 0
    waiting: int = 0
    speed: int = 0
    passed: int = 0

    @property
    def held(self) -> int:
        """What is on its way: in the pipe, or waiting to get in; units."""
        return self.level + self.waiting

    def flow(self, share: int, span_ns: int) -> None:
        """Let time pass.

        While the writer is faster than the drain the level does not fall, so what goes in is bounded by the writer,
        by what there is, and by the room that there was and that drains; otherwise the level does not rise, and only
        the writer bounds it. What comes out is what drains, as long as there is something.

        Args:
            share: at what rate it drains, bytes per second.
            span_ns: for how long.
        """
        drained = share * span_ns
        if self.waiting:
            entered = min(self.waiting, self.speed * span_ns)
            if self.speed > share:
                entered = min(entered, max(0, self.size - self.level) + drained)
            self.waiting -= entered
            self.level += entered
        drained = min(drained, self.level)
        self.level -= drained
        self.passed += drained

    def enters_within_ns(self, share: int) -> int:
        """How long it takes until nothing waits any more, at this drain; `NEVER_NS`: for ever."""
        if not self.waiting:
            return 0
        at_speed_ns = _ceil(self.waiting, self.speed)
        room = max(0, self.size - self.level)
        if self.speed <= share or self.waiting <= room:
            return at_speed_ns
        return max(at_speed_ns, _ceil(self.waiting - room, share))

    def passes_within_ns(self, amount: int, share: int) -> int:
        """How long it takes until so many units more have come out, which are in it or waiting; as above."""
        if amount <= 0:
            return 0
        span_ns = _ceil(amount, share)
        if self.waiting and self.speed <= share and amount > self.level:
            span_ns = max(span_ns, _ceil(amount - self.level, self.speed))
        return span_ns

    def room(self, share: int, span_ns: int, speed: int) -> int:
        """What a writer of this speed could put in within a time, units; what waits already comes first."""
        could = speed * span_ns
        if speed > share:
            could = min(could, max(0, self.size - self.level) + share * span_ns)
        return max(0, could - self.waiting)

    def copy(self) -> Pipe:
        """One in the same state, to look ahead with."""
        return Pipe(self.size, self.level, self.waiting, self.speed, self.passed)


def _ceil(amount: int, rate: int) -> int:
    return -(-amount // rate) if rate > 0 else NEVER_NS
