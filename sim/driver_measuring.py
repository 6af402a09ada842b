"""What the guest does before its migration, measured on its own QEMU: the answer to `whimbrel.engine.machine.Probe`."""

from __future__ import annotations

import math
from collections.abc import Callable

from whimbrel.engine.driving import LOOK_EVERY_S
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.policy import Measurement

from . import driver_replies as replies
from .clock import SECOND_NS
from .driver_line import Line
from .driver_side import Side
from .driver_tasks import Loop, Work

MIB = 1 << 20
SAMPLE_PAGES = 16384
"""Of each GiB: the most that QEMU takes. With its default, 512, a guest of 256 MiB is judged by 128 pages."""
LEAST_MS, GREATEST_MS = 50, 60_000
"""QEMU's range of ``calc-time`` from 8.2 on; before that it is 1 to 60 whole seconds."""
LATE_S = 5.0
"""It has to be done so long after the end of its window: hashing the sample takes time, too."""


def measure(
    loop: Loop,
    source: Side,
    windows_s: tuple[float, ...],
    vcpu_s: Callable[[], tuple[float, ...]],
    write: Callable[[str, dict[str, object]], None],
) -> Work[tuple[Measurement, ...]]:
    """Measure in windows of these lengths, one after the other.

    Args:
        loop: of the manager.
        source: where the guest runs.
        windows_s: seconds. QEMU before 8.2 rounds each up to whole ones.
        vcpu_s: how long each vCPU has run so far; nothing where that can't be seen.
        write: takes a note where a measurement fails.

    Returns:
        Those that came about; after one that failed no more are tried.
    """
    found: list[Measurement] = []
    began_ns = loop.now_ns
    try:
        line = source.require()
        units = "calc-time-unit" in (yield from replies.query_dirty_rate(line))
        for window_s in windows_s:
            found.append((yield from _one(loop, line, window_s, units, vcpu_s, began_ns)))
    except WhimbrelError as error:
        write("note", {"text": f"the guest could not be measured: {error}"})
    return tuple(found)


def _one(
    loop: Loop, line: Line, window_s: float, units: bool, vcpu_s: Callable[[], tuple[float, ...]], began_ns: int
) -> Work[Measurement]:
    if units:
        calc_time = min(max(round(window_s * 1000), LEAST_MS), GREATEST_MS)
        span_s, unit = calc_time / 1000, "millisecond"
    else:
        calc_time = min(max(math.ceil(window_s), 1), GREATEST_MS // 1000)
        span_s, unit = float(calc_time), None
    before, before_ns = vcpu_s(), loop.now_ns
    yield from replies.calc_dirty_rate(line, calc_time, unit, SAMPLE_PAGES)
    yield loop.sleep(span_s)
    late_ns = loop.now_ns + round(LATE_S * SECOND_NS)
    while (said := (yield from replies.query_dirty_rate(line)))["status"] != "measured":
        if loop.now_ns > late_ns:
            raise WhimbrelError("its measurement of the dirty rate does not end", side="source")
        yield loop.sleep(LOOK_EVERY_S)
    after, after_ns = vcpu_s(), loop.now_ns
    passed_s = (after_ns - before_ns) / SECOND_NS
    return Measurement(
        at_s=(after_ns - began_ns) / SECOND_NS,
        window_s=span_s,
        dirtied_bytes=float(int(said["dirty-rate"]) * MIB * span_s),
        vcpu_shares=tuple([min(1.0, (b - a) / passed_s) for a, b in zip(before, after, strict=False)]),
    )
