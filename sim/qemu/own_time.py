"""A process's own time: it stands still while the process is frozen and ends with it."""

from __future__ import annotations

from collections.abc import Callable
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
        self._late: list[Timer] = []

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

        def due() -> None:
            if not self._frozen and not self._ended:
                call()
            elif self._frozen:
                timer.call = call  # it is still to come, and may be cancelled meanwhile
                self._late.append(timer)

        timer = self._clock.at(when_ns, due)
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
        if self._late:
            self._clock.after(0, self._catch_up)

    def end(self) -> None:
        """Nothing happens any more."""
        self._ended = True
        self._late.clear()

    def _catch_up(self) -> None:
        while self._late and not self._frozen:
            timer = self._late.pop(0)
            call, timer.call = timer.call, None
            if call is not None:
                call()
