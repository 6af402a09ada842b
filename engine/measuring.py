"""What a measured guest tells: which windows can be had, and points of its dirty curve out of samples of its pages.

Two ways lead to a point. QEMU's ``calc-dirty-rate`` hashes random pages at both ends of one window and says whole MiB
per second. A look at the pages themselves (`whimbrel.qmp_driver.peeking`) gives a mark for each page of a sample at
several moments: every pair of moments is a window. Both see a page as dirtied when its content has changed. One that
was written with what it held already does not count here, though a migration sends it: a fake dirty page. Where a guest
makes many of them the curve is too low, and the first iterations of a migration say so.

Everything here is pure; times are seconds, sizes bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from itertools import combinations
from operator import ne
from statistics import fmean
from typing import Final, NamedTuple

from .belief import CurvePoint
from .estimate import Estimate

MIB: Final = 1 << 20
LONGEST_S: Final = 60.0
SHORTEST_S: Final = 0.05
"""QEMU's own bounds, migration/dirtyrate.h; before 8.2 the shortest is a whole second."""
LATE_S: Final = 10.0
"""A window that is over by so long and not measured counts as failed: hashing the pages takes QEMU milliseconds."""
SAMPLE_PAGES: Final = 1 << 16
"""So many pages in all: 256 MiB, which QEMU hashes twice, in a tenth of a second each time."""
FEWEST_A_GIB: Final = 512
MOST_A_GIB: Final = 16384
"""QEMU's own default, and the most that it takes: of a guest of 256 MiB the one is 128 pages, the other 4096."""
ALIKE: Final = 1.15
"""Windows that differ by less make one point together."""
ZERO_MARK: Final = 0
"""The mark of a page that is all zero, or was never touched."""
UNREAD_MARK: Final = 1
"""The mark of a page that could not be looked at; it counts as unchanged, and not as zero."""
WAKE_S: Final = {"tcg": 15e-6, "kvm": 1.5e-6}
"""What of a vCPU's processor time goes to each of its sleeps and need not, for it sleeps less often when it is slowed.
Measured under TCG on the workload guest (QEMU 7.2): slowed by 99 % it did what it had needed 0.034 to 0.09 for, having
run for 0.064 to 0.12 with 2000 sleeps a second. Under KVM nobody has measured it: a tenth of that is supposed."""
LEAST_NEED: Final = 0.4
_UNKNOWN_ZERO = Estimate(0.2, 1.0, "not known")
_BENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How a curve may rise near a window, as a power of its length: from not at all to straight."""
_ROUNDING = 1 / math.sqrt(12)
"""Standard deviation of what lies anywhere in a step of 1."""


class Mode(StrEnum):
    """By what means QEMU measures (``calc-dirty-rate``'s ``mode``)."""

    PAGE_SAMPLING = "page-sampling"
    """Hashes a sample of pages at both ends of the window."""
    DIRTY_BITMAP = "dirty-bitmap"
    """Logs every write for the window, and counts pages: the guest pays for each first write."""
    DIRTY_RING = "dirty-ring"
    """Counts what KVM's dirty ring names, for each vCPU; only where QEMU was started with one."""


def why_not(mode: Mode, version: tuple[int, int, int], accelerator: str) -> str:
    """Why a mode must not be used; the empty string where it is known to do no harm.

    Tried on QEMU 7.2, 10.0 and 11.1: under TCG 7.2 ends with a segmentation fault when it is asked for one of the
    others, and later ones report 0. Under KVM before 8.0 neither is known to work.

    Args:
        mode: what would be asked for.
        version: QEMU's.
        accelerator: ``kvm`` or ``tcg``.
    """
    if mode is Mode.PAGE_SAMPLING:
        return ""
    if accelerator != "kvm":
        return f"{mode} counts nothing without KVM, and crashes QEMU 7.2"
    if version < (8, 0, 0):
        return f"{mode} is not known to be safe before QEMU 8.0"
    return ""


# ---- windows


def window_as_measured_s(window_s: float, *, milliseconds: bool) -> float:
    """The length that QEMU can measure instead: not shorter, where it has one that long.

    Args:
        window_s: the length that is wanted, seconds.
        milliseconds: QEMU counts windows in milliseconds (8.2 and later), otherwise in seconds.
    """
    if milliseconds:
        return math.ceil(min(max(window_s, SHORTEST_S), LONGEST_S) * 1000) / 1000
    return float(math.ceil(min(max(window_s, 1.0), LONGEST_S)))


def windows_for(span_s: float, *, milliseconds: bool) -> tuple[float, ...]:
    """Windows for ``calc-dirty-rate``, each twice the one before, that take no more than a span one after the other.

    Args:
        span_s: seconds for all of them; the shortest is measured whatever it says.
        milliseconds: as in `window_as_measured_s`.
    """
    windows = [SHORTEST_S if milliseconds else 1.0]
    while sum(windows) + 2 * windows[-1] <= span_s and 2 * windows[-1] <= LONGEST_S:
        windows.append(2 * windows[-1])
    return tuple(windows)


def looks_for(span_s: float) -> tuple[float, ...]:
    """Moments for looks at a sample of pages, seconds from the first: each twice as late, the last at the end.

    Args:
        span_s: from the first to the last, above 0.
    """
    moments = [0.0]
    step_s = min(SHORTEST_S, span_s)
    while step_s < span_s / ALIKE:
        moments.append(step_s)
        step_s *= 2
    return (*moments, span_s)


def pages_to_sample(ram_bytes: int) -> int:
    """How many pages of each GiB QEMU is to look at: `SAMPLE_PAGES` in all, where it takes that.

    Args:
        ram_bytes: size of the guest's RAM.
    """
    return min(max(FEWEST_A_GIB, (SAMPLE_PAGES << 30) // max(ram_bytes, 1)), MOST_A_GIB)


# ---- points of the curve


def rate_point(dirtied_bytes: float, window_s: float, ram_bytes: int, mode: Mode = Mode.PAGE_SAMPLING) -> CurvePoint:
    """A point out of what ``calc-dirty-rate`` says of one window.

    QEMU draws its pages at random, each apart from the others, so the share that had changed has the error of a
    binomial distribution. It rounds down to whole MiB per second, so the true figure lies half of that higher on
    average.

    Args:
        dirtied_bytes: as QEMU says it (its rate times the window).
        window_s: the window's length.
        ram_bytes: size of the guest's RAM; `pages_to_sample` of it were looked at.
        mode: by what means; the others than sampling count all pages.
    """
    dirtied = min(dirtied_bytes + 0.5 * MIB * window_s, float(ram_bytes))
    rounding = _ROUNDING * MIB * window_s
    if mode is not Mode.PAGE_SAMPLING:
        return CurvePoint(window_s, dirtied, rounding)
    sampled = max(1, pages_to_sample(ram_bytes) * ram_bytes >> 30)
    share = dirtied / ram_bytes
    sampling = ram_bytes * math.sqrt(max(share * (1 - share), 1 / sampled) / sampled)
    return CurvePoint(window_s, dirtied, math.hypot(sampling, rounding))


class Look(NamedTuple):
    """A sample of pages, spread evenly over memory, at one moment.

    Attributes:
        at_s: when each batch of pages was read, seconds; batches are alike in size, and the same in every look.
        marks: of each page's content: equal marks, equal content; `ZERO_MARK`, `UNREAD_MARK`.
    """

    at_s: tuple[float, ...]
    marks: tuple[int, ...]


def points_of(looks: Sequence[Look], ram_bytes: int) -> tuple[CurvePoint, ...]:
    """Points out of every pair of looks; pairs whose windows are `ALIKE` make one point together.

    The error of a point has two parts: that of the sample, and where pairs make a point together, how much they
    scatter, for a guest does not do the same all the time. All points come from the same pages, so the first part
    goes the same way in all of them.

    Args:
        looks: two or more, oldest first.
        ram_bytes: of the memory that was sampled.

    Returns:
        Windows rising.
    """
    pairs = sorted(_pair(first, last, ram_bytes) for first, last in combinations(looks, 2))
    groups: list[list[CurvePoint]] = []
    for pair in pairs:
        if groups and pair.window_s <= ALIKE * groups[-1][0].window_s:
            groups[-1].append(pair)
        else:
            groups.append([pair])
    return tuple(_together(group) for group in groups)


def zero_of(looks: Sequence[Look], ram_bytes: int) -> Estimate:
    """How many bytes are pages that were all zero at every look.

    Args:
        looks: one or more.
        ram_bytes: of the memory that was sampled.
    """
    zero = [not any(marks) for marks in zip(*(look.marks for look in looks), strict=True)]
    value = ram_bytes * fmean(zero)
    return Estimate(value, _error(zero, ram_bytes) / value if value else 0.0, "sampled")


def zero_unknown(ram_bytes: int) -> Estimate:
    """What to believe of zero pages where nobody could look: a fifth of memory, give or take a factor of 3."""
    return Estimate(_UNKNOWN_ZERO.value * ram_bytes, _UNKNOWN_ZERO.spread, _UNKNOWN_ZERO.source)


def delta_of(ratios: Sequence[float]) -> Estimate | None:
    """What a page that changed comes to as a delta, as a part of a page.

    Args:
        ratios: of pages that changed (`whimbrel.engine.deltas.wire_ratio`).

    Returns:
        ``None`` where there are fewer than eight: they would say nothing of the others.
    """
    if len(ratios) < 8:
        return None
    mean = fmean(ratios)
    variance = fmean([(ratio - mean) ** 2 for ratio in ratios])
    return Estimate(mean, math.sqrt(variance / len(ratios)) / mean, "sampled")


def needed_shares(shares: Sequence[float], sleeps_per_s: Sequence[float], accelerator: str) -> tuple[float, ...]:
    """How much of its time each vCPU needs for what it does: that it ran, less what waking up so often took.

    A guest that sleeps thousands of times a second is awake for little else. Slowed, it sleeps less often and gets the
    same done: a throttle that takes no more than this difference does not slow it.

    Args:
        shares: how much of the time each ran, 0 to 1; empty: not known.
        sleeps_per_s: how often each went to sleep; empty: not known.
        accelerator: ``kvm`` or ``tcg``.

    Returns:
        As `shares`, each at least `LEAST_NEED` of it.
    """
    if len(sleeps_per_s) != len(shares):
        return tuple(shares)
    wake_s = WAKE_S.get(accelerator, 0.0)
    pairs = zip(shares, sleeps_per_s, strict=True)
    return tuple(max(LEAST_NEED * share, share - wake_s * per_s) for share, per_s in pairs)


def _pair(first: Look, last: Look, ram_bytes: int) -> CurvePoint:
    window_s = fmean([b - a for a, b in zip(first.at_s, last.at_s, strict=True)])
    changed = list(map(ne, first.marks, last.marks))
    return CurvePoint(window_s, ram_bytes * fmean(changed), _error(changed, ram_bytes))


def _together(group: Sequence[CurvePoint]) -> CurvePoint:
    count = len(group)
    window_s, dirtied = fmean(each.window_s for each in group), fmean(each.dirtied_bytes for each in group)
    sampling = fmean(each.error_bytes for each in group)
    scatter = min(_scatter(group, window_s, bend) for bend in _BENDS)
    return CurvePoint(window_s, dirtied, math.hypot(sampling, math.sqrt(scatter / max(count - 1, 1) / count)))


def _scatter(group: Sequence[CurvePoint], window_s: float, bend: float) -> float:
    """Sum of squares about the mean, as if each window had been the mean one, on a curve of this bend."""
    level = [each.dirtied_bytes * math.pow(window_s / each.window_s, bend) for each in group]
    mean = fmean(level)
    return math.fsum((each - mean) ** 2 for each in level)


def _error(hits: Sequence[bool], ram_bytes: int) -> float:
    """Standard error of the bytes that a share of hits stands for.

    The sample has one page of each of many stretches alike in length, so the variance is that of collapsed strata: two
    neighbours are taken for two draws from one stretch (W. Cochran, Sampling Techniques, 3rd edition 1977, chapter
    5A). Where a guest's busy pages lie side by side that is far less than the binomial's. One difference more
    than was found is counted, for none found is not none.
    """
    different = sum(map(ne, hits[::2], hits[1::2]))
    return ram_bytes * math.sqrt(different + 1) / len(hits)
