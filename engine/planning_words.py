"""How a plan's figures are written in its sentences: two digits, or three, and people's units."""

from __future__ import annotations

import math

from .estimate import Range

_STEPS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def seconds(value: float) -> str:
    """``0.24 s``, ``7.1 s``, ``2.5 min``."""
    if value == math.inf:
        return "no end"
    if value >= 600:
        return f"{value / 60:.0f} min"
    return f"{_short(value)} s"


def between(told: Range) -> str:
    """``7.1 s (6.5 to 8.0)``."""
    if told.high == math.inf:
        return f"{seconds(told.middle)} ({_short(told.low)} s or more)"
    return f"{seconds(told.middle)} ({_short(told.low)} to {_short(told.high)})"


def size(value: float) -> str:
    """``149 MiB``."""
    unit, name = next((step for step in _STEPS if value >= step[0]), (1, "bytes"))
    return f"{value / unit:.3g} {name}" if value < 1000 * unit else f"{value / unit:.0f} {name}"


def rate(value: float) -> str:
    """``114 MiB/s``."""
    return f"{size(value)}/s"


def percent(part: float) -> str:
    """``97 %``; what is not sure is not said to be: at most 99 %, unless it is all."""
    if part >= 1.0:
        return "100 %"
    return f"{min(99, round(100 * part))} %"


def _short(value: float) -> str:
    """Two digits below 10, and whole numbers from 100 on."""
    if value >= 10:
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
