"""A process's own time: it stands still while the process is frozen and ends with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from whimbrel.sim.clock import Timer


class Time(Protocol):
    """What a part of a process needs of a clock."""

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the world began."""
        ...

    def at(self, when_ns: int, call: Callable[[], None], /) -> Timer:
        """Have something happen at a time; one that has passed means now."""
        ...

    def after(self, delay_ns: int, call: Callable[[], None], /) -> Timer:
        """As `at`, counted from now."""
        ...


@dataclass(slots=True)
class _OwnTimer(Timer):
    """A timer of a process, and the one of the world behind it."""

    behind: Timer | None = None

    def cancel(self) -> None:
        """See `Timer`."""
        self.call = None
        if self.behind is not None:
            self.behind.cancel()


class OwnTime:
    """The world's clock, as a process sees it.

    What falls due while it is frozen (SIGSTOP) happens when it goes on, in the order in which it was due; what
    falls due after its end never happens.
    """

    def __init__(self, clock: Time) -> None:
        """Take the world's clock."""
        self._clock = clock
        self._frozen = False
        self._ended = False
        self._late: list[_OwnTimer] = []

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the world began."""
        return self._clock.now_ns

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return self._frozen

    def at(self, when_ns: int, call: Callable[[], None]) -> Timer:
        """See `Time`."""
        timer = _OwnTimer(when_ns, call)
        timer.behind = self._clock.at(when_ns, lambda: self._due(timer))
        return timer

    def after(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """See `Time`."""
        return self.at(self._clock.now_ns + delay_ns, call)

    def freeze(self) -> None:
        """Stand still."""
        self._frozen = True

    def thaw(self) -> None:
        """Go on: what is late happens now."""
        self._frozen = False
        late, self._late = self._late, []
        if late:
            self._clock.after(0, lambda: self._catch_up(late))

    def _catch_up(self, late: list[_OwnTimer]) -> None:
        for timer in late:
            self._due(timer)

    def end(self) -> None:
        """Nothing happens any more."""
        self._ended = True
        self._late.clear()

    def _due(self, timer: _OwnTimer) -> None:
        if self._ended:
            return
        if self._frozen:
            self._late.append(timer)
            return
        call, timer.call = timer.call, None
        if call is not None:
            call()
