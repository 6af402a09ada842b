"""Remaining bytes over time as a few lines of text, and what is worth room on an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from whimbrel.simulation_records import Run
from whimbrel.units import format_duration, format_size

__all__ = ["LOGARITHMIC_FROM", "floor_of", "left_at", "sketch"]

CELLS = " ▁▂▃▄▅▆▇█"
LOGARITHMIC_FROM = 40.0
"""Where the first iteration is so many times larger than the last, the last would be a line on the axis."""
SPARE = 9
"""Columns for the labels of the axis."""

Points = Sequence[tuple[float, float]]


def floor_of(run: Run) -> float:
    """The lowest value worth room: half of the least that an iteration began with, or that QEMU waited for."""
    begun = [row.to_send_bytes for row in run.each_iteration if row.to_send_bytes > 0]
    waited_for = [threshold for _, threshold in run.threshold if threshold > 0]
    known = [*begun, *waited_for]
    return max(1.0, min(known) / 2) if known else 0.0


def left_at(points: Points, at_s: float) -> float:
    """What remains at a time, straight between the points; before the first and after the last it is theirs."""
    low, high = 0, len(points)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if points[middle][0] <= at_s else (low, middle)
    if low == 0 or low == len(points):
        return points[min(low, len(points) - 1)][1] if points else 0.0
    (from_s, from_bytes), (to_s, to_bytes) = points[low - 1], points[low]
    return from_bytes + (to_bytes - from_bytes) * (at_s - from_s) / (to_s - from_s)


def sketch(run: Run, width: int = 72, height: int = 7) -> list[str]:
    """A run as a picture of characters.

    Args:
        run: what is drawn.
        width: of the lines, in columns, with the labels; at least 24.
        height: of the picture, in lines, without the axis below.

    Returns:
        No lines where there is nothing to draw.
    """
    points = run.remaining
    end_s = points[-1][0] if points else 0.0
    if not (0 < end_s < math.inf):
        return []
    columns = width - SPARE - 1
    peaks = _peaks(points, end_s, columns)
    most, floor = max(peaks), floor_of(run)
    logarithmic = most > LOGARITHMIC_FROM * floor > 0
    heights = [_height(value, most, floor if logarithmic else 0.0, 8 * height) for value in peaks]
    lines: list[str] = []
    for line in range(height - 1, -1, -1):
        at_top = line == height - 1
        label = format_size(most) if at_top else format_size(floor) if line == 0 and logarithmic else ""
        cells = "".join(CELLS[min(max(level - 8 * line, 0), 8)] for level in heights)
        lines.append(f"{label:>{SPARE}}│{cells}".rstrip())
    lines.append(" " * SPARE + "└" + _ticks((row.start_s for row in run.each_iteration), end_s, columns))
    left = "log scale" if logarithmic else ""
    note = "┴ iterations begin"
    right = format_duration(end_s)
    lines.append(f"{left:>{SPARE}} 0s {note:^{columns - 3 - len(right) - 1}} {right}")
    return lines


def _peaks(points: Points, end_s: float, columns: int) -> list[float]:
    """The most that remains within each column."""
    peaks = [0.0] * columns
    for column in range(columns):
        edges = (column * end_s / columns, (column + 1) * end_s / columns)
        peaks[column] = max(left_at(points, edge) for edge in edges)
    for at_s, left in points:
        column = min(int(at_s / end_s * columns), columns - 1)
        peaks[column] = max(peaks[column], left)
    return peaks


def _height(value: float, most: float, floor: float, levels: int) -> int:
    """In eighths of a line; what is there at all is seen."""
    if value <= floor or most <= floor:
        return 1 if value > 0 else 0
    part = math.log(value / floor) / math.log(most / floor) if floor else value / most
    return max(1, round(part * levels))


def _ticks(starts_s: Iterable[float], end_s: float, columns: int) -> str:
    ticks = ["─"] * columns
    for start_s in starts_s:
        ticks[min(int(start_s / end_s * columns), columns - 1)] = "┴"
    return "".join(ticks)
