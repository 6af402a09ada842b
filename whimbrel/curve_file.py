"""A measured curve f(τ) as a JSON file: how many distinct bytes a guest dirties in windows of some lengths."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any, cast

from whimbrel.engine.curve import PAGE_BYTES, Curve
from whimbrel.engine.errors import BadInput
from whimbrel.sim.scenario import GuestPlan

__all__ = ["measured_guest", "read_curve"]

GREATEST_FILE_BYTES = 4 << 20


def read_curve(path: Path) -> Curve:
    """Read a curve: one object with ``window_s`` and ``dirty_bytes`` (lists), ``total_bytes`` and ``zero_bytes``.

    Raises:
        BadInput: there is no such file, or it is no such object; everything that is wrong with its keys.
    """
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise BadInput("curve", str(path), "a file that can be read")
    if os.path.getsize(path) > GREATEST_FILE_BYTES:
        raise BadInput("curve", str(path), f"a file of at most {GREATEST_FILE_BYTES} bytes")
    try:
        read: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput("curve", str(path), f"JSON ({error})") from None
    if not isinstance(read, dict):
        raise BadInput("curve", str(path), "one JSON object with window_s, dirty_bytes, total_bytes and zero_bytes")
    return Curve.from_mapping(cast("dict[str, object]", read))


def _rising(curve: Curve) -> tuple[tuple[float, float], ...]:
    """Its points, none below the one before: a window holds every shorter one, whatever a sample says."""
    highest = itertools.accumulate((dirty for _, dirty in curve.points), max)
    return tuple((window_s, dirty) for (window_s, _), dirty in zip(curve.points, highest, strict=True))


def measured_guest(curve: Curve) -> GuestPlan:
    """The guest that was measured, its RAM and zero pages in whole pages: samples give fractions."""
    return GuestPlan(
        ram_bytes=math.ceil(curve.total_bytes / PAGE_BYTES) * PAGE_BYTES,
        zero_bytes=math.floor(curve.zero_bytes / PAGE_BYTES) * PAGE_BYTES,
        curve=_rising(curve),
    )
