"""A writer's draws over the guest's own time: phases, and how fast it is allowed to go."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from .laws import Counted


@dataclass(frozen=True, slots=True)
class Phases:
    """When a writer is on, in seconds of the guest's time. A burst is a short part of a long period.

    Attributes:
        period_s: one cycle; 0: always on.
        on_s: from the beginning of each cycle.
        shift_s: how far into its first cycle it begins.
    """

    period_s: float = 0.0
    on_s: float = 0.0
    shift_s: float = 0.0

    def on_by(self, guest_s: float) -> float:
        """Seconds for which it has been on since the guest began (up to a constant, if it begins in mid-cycle)."""
        if not self.period_s:
            return guest_s
        cycles, rest = divmod(guest_s + self.shift_s, self.period_s)
        return cycles * self.on_s + min(rest, self.on_s)

    def when(self, on_s: float) -> float:
        """The earliest guest time at which `on_by` is so much."""
        if not self.period_s:
            return on_s
        cycles = math.ceil(on_s / self.on_s) - 1
        return cycles * self.period_s + (on_s - cycles * self.on_s) - self.shift_s

    def on_in(self, start_s: float, window_s: float) -> float:
        """Seconds for which it is on in a window."""
        return self.on_by(start_s + window_s) - self.on_by(start_s)

    @property
    def duty(self) -> float:
        """The part of all time in which it is on."""
        return self.on_s / self.period_s if self.period_s else 1.0

    def breaks(self, window_s: float) -> list[float]:
        """Starts, over one cycle, between which `on_in` is a straight line."""
        period_s = self.period_s
        corners = (0.0, self.on_s, -window_s % period_s, (self.on_s - window_s) % period_s)
        return [*sorted(corners), period_s]


ALWAYS = Phases()


def dirtied_pages(law: Counted, per_s: float, phases: Phases, window_s: float, start_s: float | None = None) -> float:
    """The curve f(tau) of one writer: expected distinct pages in a window, exactly.

    Args:
        law: what draws hit.
        per_s: draws per second while it is on.
        phases: when that is.
        window_s: length of the window, seconds.
        start_s: when it begins, in seconds of the guest's time; ``None``: the mean over all beginnings in a cycle.
    """
    if window_s <= 0 or per_s <= 0:
        return 0.0
    if start_s is not None or not phases.period_s:
        return law.at(per_s * phases.on_in(start_s or 0.0, window_s))
    cycle = Phases(phases.period_s, phases.on_s)
    total = 0.0
    for begin_s, end_s in itertools.pairwise(cycle.breaks(window_s)):
        low, high = sorted(per_s * cycle.on_in(at_s, window_s) for at_s in (begin_s, end_s))
        if high - low > 1e-6 * (1 + high):  # else the quotient would be noise of rounding
            mean = (law.integral(high) - law.integral(low)) / (high - low)
        else:
            mean = law.at((low + high) / 2)
        total += mean * (end_s - begin_s)
    return total / phases.period_s


class Stream:
    """How many draws a writer has made by any moment of the guest's time, at the speeds that it was given.

    Args:
        per_s: draws per second while it is on and unhindered.
        phases: when it is on.
    """

    __slots__ = ("_from_draws", "_from_on_s", "per_s", "phases", "speed")

    def __init__(self, per_s: float, phases: Phases = ALWAYS) -> None:
        self.per_s = per_s
        self.phases = phases
        self.speed = 1.0
        self._from_draws = 0.0
        self._from_on_s = phases.on_by(0.0)

    def draws(self, guest_s: float) -> float:
        """Since the guest began, hindered as it was."""
        phases = self.phases
        on_s = phases.on_by(guest_s) if phases.period_s else guest_s
        return self._from_draws + self.per_s * self.speed * (on_s - self._from_on_s)

    def go_at(self, guest_s: float, speed: float) -> None:
        """From this moment on it makes this part of its draws, 0 to 1."""
        self._from_draws = self.draws(guest_s)
        self._from_on_s = self.phases.on_by(guest_s)
        self.speed = speed

    def when(self, draws: float) -> float:
        """The guest time at which it will have made so many, at its present speed; infinite if never."""
        pace = self.per_s * self.speed
        if pace <= 0:
            return math.inf
        return self.phases.when(self._from_on_s + (draws - self._from_draws) / pace)
