"""What the guest does before its migration, measured on its own QEMU, as `whimbrel.qmp_driver.measuring` does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from whimbrel.engine.driving import LOOK_EVERY_S
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.measuring import LATE_S, MIB, window_as_measured_s
from whimbrel.engine.policy import Measurement

from . import driver_replies as replies
from .clock import SECOND_NS
from .driver_line import Line
from .driver_side import Side
from .driver_tasks import Loop, Work


class Measuring:
    """Measures one guest; several times, if that is asked for."""

    def __init__(self, loop: Loop, source: Side, run_times_s: Callable[[], tuple[float, ...]], ram_bytes: int) -> None:
        """Nothing was measured yet.

        Args:
            loop: of the manager.
            source: where the guest runs.
            run_times_s: how long each vCPU has run so far; empty where that can't be seen.
            ram_bytes: how large the guest is.
        """
        self._ram_bytes = ram_bytes
        self._loop = loop
        self._source = source
        self._run_times_s = run_times_s
        self._began_ns: int | None = None

    def measure_all(
        self, windows_s: Sequence[float], *, within_s: float
    ) -> Work[tuple[tuple[Measurement, ...], tuple[str, ...]]]:
        """Measure window after window, as far as it goes.

        Args:
            windows_s: their lengths, as they are wanted.
            within_s: how much time there is for all of them.

        Returns:
            What was measured, and why not the rest: a sentence for the report, if any.
        """
        due_ns = self._loop.now_ns + round(within_s * SECOND_NS)
        found: list[Measurement] = []
        for window_s in windows_s:
            try:
                one = yield from self._measure(window_s, due_ns)
            except WhimbrelError as error:
                return tuple(found), (f"the guest could not be measured: {error}",)
            if one is None:
                return tuple(found), (f"a window of {window_s:g} s was not measured: there was no time left for it",)
            found.append(one)
        return tuple(found), ()

    def _measure(self, window_s: float, due_ns: int) -> Work[Measurement | None]:
        loop, line = self._loop, self._source.require()
        milliseconds = "calc-time-unit" in (yield from replies.query_dirty_rate(line))
        length_s = window_as_measured_s(window_s, milliseconds=milliseconds)
        length_ns = round(length_s * SECOND_NS)
        if loop.now_ns + length_ns > due_ns:
            return None
        yield from self._await_free(line, due_ns - length_ns)
        started_ns, ran_s = loop.now_ns, self._run_times_s()
        if self._began_ns is None:
            self._began_ns = started_ns
        yield from replies.calc_dirty_rate(line, length_s, milliseconds=milliseconds, ram_bytes=self._ram_bytes)
        yield loop.sleep(length_s)
        told = yield from self._await_free(line, loop.now_ns + round(LATE_S * SECOND_NS))
        ended_ns = loop.now_ns
        span_s = (ended_ns - started_ns) / SECOND_NS
        return Measurement(
            at_s=(ended_ns - self._began_ns) / SECOND_NS,
            window_s=length_s,
            dirtied_bytes=float(int(told.get("dirty-rate", 0)) * MIB * length_s),
            vcpu_shares=tuple([min(1.0, (b - a) / span_s) for a, b in zip(ran_s, self._run_times_s(), strict=False)]),
        )

    def _await_free(self, line: Line, due_ns: int) -> Work[Mapping[str, Any]]:
        """Wait until no measurement is under way: QEMU has one at a time, and somebody else's may be."""
        while (told := (yield from replies.query_dirty_rate(line)))["status"] == "measuring":
            if self._loop.now_ns > due_ns:
                raise WhimbrelError("it is still measuring", side="source")
            yield self._loop.sleep(LOOK_EVERY_S)
        return told
