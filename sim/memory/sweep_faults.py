"""Post-copy of a sweep: it touches one page after the other, so where it will meet a missing one is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from whimbrel.sim.guests.laws import Sweep
from whimbrel.sim.guests.life import Life
from whimbrel.sim.guests.plan import Area

from .runs import Run


@dataclass(frozen=True, slots=True)
class Reached:
    """A missing page that a sweep comes to.

    Attributes:
        at_s: the guest's time then.
        area: index of the sweep's area.
        page: the page.
    """

    at_s: float
    area: int
    page: int


def next_reached(
    areas: tuple[Area, ...], life: Life, runs: list[Run], begins: dict[int, int], guest_s: float
) -> Reached | None:
    """The first missing page that any sweep comes to; ``None``: none ever does.

    Args:
        areas: all RAM.
        life: the guest.
        runs: the bitmap.
        begins: where in its area each sweep began, by index of the area.
        guest_s: the guest's time by now.
    """
    first: Reached | None = None
    for index, begin in begins.items():
        area, stream = areas[index], life.streams[index]
        if stream is None or not isinstance(area.law, Sweep):
            continue
        made = int(stream.draws(guest_s))
        here = (begin + made) % area.pages
        ahead = min((_ahead(run, area, here) for run in runs if run.area == index and run.density > 0), default=None)
        if ahead is not None:
            at_s = stream.when(made + ahead + 1)
            if at_s < math.inf and (first is None or at_s < first.at_s):
                first = Reached(max(at_s, guest_s), index, area.first + (here + ahead) % area.pages)
    return first


def _ahead(run: Run, area: Area, here: int) -> int:
    """Pages between a page of an area and the first one of a run that comes after it, round the area."""
    begin, end = run.begin - area.first, run.end - area.first
    if begin <= here + 0.5 < end:
        return 0
    # The first whole page of the run; of one that is partly sent the middle decides.
    return (math.ceil(begin - 0.5) - here) % area.pages


def take_out(runs: list[Run], page: int) -> tuple[int, Run, float] | None:
    """Take a page out of the bitmap.

    Returns:
        The index of the run that it lay in, which now begins behind it or ends before it, that run, and how much of a
        page was taken; ``None``: it is not there.
    """
    for index, run in enumerate(runs):
        if run.density > 0 and run.begin <= page + 0.5 < run.end:
            begin, end = max(run.begin, float(page)), min(run.end, page + 1.0)
            taken = run.density * (end - begin)
            if end >= run.end:
                run.end = begin
            elif begin <= run.begin:
                run.begin = end
            else:
                runs.insert(index + 1, _rest(run, end))
                run.end = begin
            return index, run, taken
    return None


def _rest(run: Run, begin: float) -> Run:
    return Run(begin, run.end, run.area, run.density, run.window, run.reported)
