"""The source's vCPUs, where they are threads of this host: how long they have run, and a throttle on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from whimbrel.engine.pilot import LEAST_THROTTLE

from . import outside_hold, outside_means
from .adoption import Judged
from .outside import OutsideThrottle
from .outside_hold import LINE, Hold
from .outside_means import NoMeans, StillSlowed
from .vcpus import VcpuThread, find_threads, run_times_s


def undo_left(hold: Hold | None, judged: Judged) -> list[str]:
    """Undo what a manager before us left.

    Args:
        hold: what it had put on, or was about to; ``None``: nothing.
        judged: what its threads mean here. They end with their boot, and control groups with them.

    Returns:
        What could not be undone, a sentence each.
    """
    if hold is None or judged is Judged.REBOOTED:
        return []
    if judged is Judged.ELSEWHERE:
        return ["the throttle from outside can be undone on the host of its log only: resolve it there"]
    return [f"the throttle from outside could not be undone: {clause}" for clause in outside_hold.take_off(hold)]


class SourceCpus:
    """Looks at the source's vCPU threads, and slows them where that is wanted and possible."""

    def __init__(self, write: Callable[[str, dict[str, object]], None], lost: Callable[[str], None]) -> None:
        """
        Args:
            write: puts a line into the log, or raises.
            lost: told, once, why the throttle can't be had any more: all is undone by then.
        """
        self.because = "nobody looked yet"
        """Why there is no throttle; empty: there is one."""
        self._write = write
        self._lost = lost
        self._threads: tuple[VcpuThread, ...] = ()
        self._noted = False
        self._throttle: OutsideThrottle | None = None

    def look(self, pid: int | None, told: Sequence[int]) -> None:
        """Find the threads.

        Args:
            pid: the source's process; ``None``: it is not on this host, or not proven.
            told: the threads' ids as QEMU tells them.
        """
        self._threads = find_threads(pid, told) if pid is not None else ()

    @property
    def throttle(self) -> OutsideThrottle | None:
        """The throttle, where there is one."""
        return self._throttle

    def run_times_s(self) -> tuple[float, ...]:
        """How long each has run so far, seconds; empty where this host can't tell."""
        return run_times_s(self._threads)

    async def offer(self, greatest: float) -> bool:
        """Whether a throttle can be put on them, and taken off; it is tried on one of them.

        Args:
            greatest: the greatest share that the user allows; where that is nothing, nothing is tried.

        Raises:
            WhimbrelError: the log takes no line: nothing was touched.
        """
        if greatest < LEAST_THROTTLE:
            self.because = "no throttle is allowed"
            return False
        try:
            hold = await outside_means.find(self._threads, self._note)
        except NoMeans as error:
            self.because = error.message
            if self._noted and not isinstance(error, StillSlowed):
                self._note(None)
            return False
        except asyncio.CancelledError:
            if self._noted:
                self._note(None)  # it was undone
            raise
        self._note(None)
        self.because = ""
        self._throttle = OutsideThrottle(hold, write=self._note, failed=self._give_up)
        return True

    def want(self, share: float | None) -> None:
        """This share of their time is to be taken from now on; as `OutsideThrottle.want`."""
        if self._throttle is not None:
            self._throttle.want(share)

    def undo_left(self, hold: Hold | None, judged: Judged) -> list[str]:
        """As the function `undo_left`; what is undone stands in the log."""
        left = undo_left(hold, judged)
        if hold is not None and not left:
            self._note(None)
        return left

    async def close(self) -> None:
        """Nothing is slowed any more; idempotent."""
        if self._throttle is not None:
            await self._throttle.close()

    def _give_up(self, why: str) -> None:
        self._throttle, self.because = None, why
        self._lost(why)

    def _note(self, hold: Hold | None) -> None:
        self._noted = hold is not None
        self._write(LINE, {"hold": None if hold is None else hold.as_written()})
