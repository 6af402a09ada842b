"""Measuring what a guest dirties, before it is moved: ``calc-dirty-rate``, window by window."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from whimbrel.engine.driving import LOOK_EVERY_S
from whimbrel.engine.errors import QemuRefused, WhimbrelError
from whimbrel.engine.measuring import FEWEST_A_GIB, LATE_S, MIB, Mode, pages_to_sample, window_as_measured_s
from whimbrel.engine.policy import Measurement

from . import replies
from .monitor import Monitor
from .vcpus import shares


class Measuring:
    """Measures one guest; several times, if that is asked for."""

    def __init__(self, run_times_s: Callable[[], tuple[float, ...]], *, mode: Mode = Mode.PAGE_SAMPLING) -> None:
        """
        Args:
            run_times_s: how long each vCPU has run so far; empty where that can't be told.
            mode: by what means QEMU is to measure; any other has to be known to do this QEMU no harm.
        """
        self.able = False
        """Whether QEMU can."""
        self.milliseconds = False
        """Whether it counts windows in milliseconds, otherwise in whole seconds."""
        self._sample_pages = FEWEST_A_GIB
        self._run_times_s = run_times_s
        self._mode = mode
        self._began_s: float | None = None

    async def look(self, monitor: Monitor, ram_bytes: int) -> None:
        """Find out whether QEMU can, and in what unit: both show in an answer of 0.2 ms.

        Args:
            monitor: the source's.
            ram_bytes: size of the guest's RAM.

        Raises:
            OutcomeUnknown, CannotConnect: there is no answer.
        """
        try:
            told = await replies.query_dirty_rate(monitor)
        except QemuRefused:
            return  # the command came together with calc-dirty-rate
        self._sample_pages = pages_to_sample(ram_bytes)
        self.able, self.milliseconds = True, told.calc_time_unit is not None

    async def measure_all(
        self, reach: Callable[[], Monitor], windows_s: Sequence[float], *, within_s: float
    ) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
        """Measure window after window, as far as it goes.

        Args:
            reach: gives the source's monitor, or raises.
            windows_s: their lengths, as they are wanted.
            within_s: how much time there is for all of them.

        Returns:
            What was measured, and why not the rest: a sentence for the report, if any.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        found: list[Measurement] = []
        for window_s in windows_s:
            try:
                one = await self.measure(reach(), window_s, within_s=deadline_s - loop.time())
            except WhimbrelError as error:
                return tuple(found), (f"the guest could not be measured: {error}",)
            if one is None:
                return tuple(found), (f"a window of {window_s:g} s was not measured: there was no time left for it",)
            found.append(one)
        return tuple(found), ()

    async def measure(self, monitor: Monitor, window_s: float, *, within_s: float) -> Measurement | None:
        """Measure one window.

        Args:
            monitor: the source's.
            window_s: its length, as it is wanted.
            within_s: how much time there is.

        Returns:
            ``None`` where the time does not suffice: nothing was begun.

        Raises:
            QemuRefused, OutcomeUnknown, CannotConnect: QEMU will not, or does not answer.
            WhimbrelError: it does not come to an end in time.
        """
        length_s = window_as_measured_s(window_s, milliseconds=self.milliseconds)
        if length_s > within_s:
            return None
        loop = asyncio.get_running_loop()
        await self._await_free(monitor, loop.time() + within_s - length_s)
        started_s, ran_s = loop.time(), self._run_times_s()
        if self._began_s is None:
            self._began_s = started_s
        await replies.calc_dirty_rate(
            monitor, length_s, milliseconds=self.milliseconds, sample_pages=self._sample_pages, mode=self._mode
        )
        await asyncio.sleep(length_s)
        told = await self._await_free(monitor, loop.time() + LATE_S)
        ended_s = loop.time()
        return Measurement(
            at_s=ended_s - self._began_s,
            window_s=length_s,
            # Each sampled page counts once, however often it was written: distinct bytes.
            dirtied_bytes=(told.mebibytes_per_s or 0) * MIB * length_s,
            vcpu_shares=shares(ran_s, self._run_times_s(), ended_s - started_s),
        )

    async def _await_free(self, monitor: Monitor, deadline_s: float) -> replies.DirtyRate:
        """Wait until no measurement is under way: QEMU has one at a time, and somebody else's may be."""
        loop = asyncio.get_running_loop()
        while (told := await replies.query_dirty_rate(monitor)).status == "measuring":
            if loop.time() > deadline_s:
                raise WhimbrelError("it is still measuring", side="source")
            await asyncio.sleep(LOOK_EVERY_S)
        return told
