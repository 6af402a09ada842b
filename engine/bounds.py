"""What a dirty curve forbids and allows: the plateau of the iterations, the floor of any pre-copy, the least throttle.

`bytes_per_s` is the goodput in bytes of *memory* here: a link's rate times 4096/4104, for each page has a header of 8
bytes (`goodput`).

The floor rests on Hall's condition. All pages that were written since some moment t need a transmission between their
last write and the stop, and of those only ``B (stop - t)`` fit: what does not is left, whatever the order of sending.
It is exact for a trace (`least_left_pages`); in the stationary form (`floor_s`) it is about expectations, so that a
lucky stop in a quiet moment may come below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import pairwise

from .curve import PAGE_BYTES, Curve, DirtyCurve, Slowed

PAGE_HEADER_BYTES = 8
"""On the wire a page has a header of 8 bytes (address and flags; QEMU's ``ram.c``)."""
NEXT_TO_NOTHING_S = 1e-9
"""A plateau below a nanosecond is none."""
GREATEST_THROTTLE = 0.99
"""QEMU's own bound."""
ENDLESS_S = 1e6
"""A curve without an end is looked at as far as this: eleven days."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_LOOKS = 60
"""Golden sections of an interval: down to 3e-13 of it."""
_HALVINGS = 20


class Sender(StrEnum):
    """Who sends."""

    CLAIRVOYANT = "clairvoyant"
    """One that knows when each page is written for the last time."""
    ROUNDS = "rounds"
    """QEMU: all that a sync found dirty, then the next sync."""


def goodput(link_bytes_per_s: float) -> float:
    """Bytes of memory per second that a link of this rate carries, headers taken off."""
    return link_bytes_per_s * PAGE_BYTES / (PAGE_BYTES + PAGE_HEADER_BYTES)


def plateau_s(curve: DirtyCurve, bytes_per_s: float) -> float:
    """Where iterations end up if nothing stops them: the largest ``tau`` with ``f(tau) = B tau``.

    The first iteration sends all RAM, no less than is ever dirtied, so they come down to it from above.

    Args:
        curve: of the guest.
        bytes_per_s: goodput, above 0.

    Returns:
        Seconds that the last iterations take, which is the outage of a switchover there; 0.0: they shrink to nothing;
        ``inf``: they grow without end.
    """

    def lead(window_s: float) -> float:
        return curve.at(window_s) - bytes_per_s * window_s

    straight = isinstance(curve, Curve)  # then the summit between two knots is one of them
    edges = _edges(curve, bytes_per_s)
    if edges[-1] == ENDLESS_S and lead(ENDLESS_S) >= 0:
        return math.inf
    for high, low in pairwise(reversed(edges)):
        # It is concave from one to the other and not ahead at the upper one: so it is ahead at its summit, or nowhere.
        ahead = low if straight or lead(low) >= 0 else _summit(lead, low, high)
        if lead(ahead) >= 0:
            root_s = _crossing(lead, ahead, high)
            return root_s if root_s >= NEXT_TO_NOTHING_S else 0.0
    return 0.0  # with curves that are a little below 0 at 0, by rounding


def floor_s(curve: DirtyCurve, bytes_per_s: float) -> float:
    """The expected outage that no pre-copy can beat: ``max over tau of (f(tau) - B tau) / B``, seconds.

    Without the fixed cost of a switchover, for a guest that is neither slowed nor compressed.

    Args:
        curve: of the guest.
        bytes_per_s: goodput, above 0.

    Returns:
        ``inf`` where the guest dirties new pages faster than they can be sent, without end.
    """

    def left_bytes(window_s: float) -> float:
        return curve.at(window_s) - bytes_per_s * window_s

    edges = _edges(curve, bytes_per_s)
    if edges[-1] == ENDLESS_S and left_bytes(ENDLESS_S) > left_bytes(ENDLESS_S / 2) > 0:
        return math.inf
    most = max(left_bytes(edge) for edge in edges)
    if not isinstance(curve, Curve):  # straight between its knots, it is greatest at one of them
        for low, high in pairwise(edges):
            most = max(most, left_bytes(_summit(left_bytes, low, high)))
    return max(0.0, most / bytes_per_s)


def least_goodput(curve: DirtyCurve, window_s: float) -> float:
    """The least goodput at which the iterations come down to so long a one, or a shorter one.

    Longer ones have to shrink: ``f(tau) <= B tau`` from `window_s` on, so B is the greatest ``f(tau) / tau`` there.

    Args:
        curve: of the guest.
        window_s: above 0.

    Returns:
        Bytes of memory per second. Exact for curves that are straight between their knots, and for concave ones.
    """
    return max(curve.at(longer_s) / longer_s for longer_s in (window_s, *curve.knots_s) if longer_s >= window_s)


def least_speed(curve: DirtyCurve, bytes_per_s: float, window_s: float) -> float:
    """What part of its speed the guest may keep at most, for the iterations to come down to so long a one.

    Slowed to a part s it dirties ``f(s tau)``: with ``u = s tau`` they shrink where ``f(u) <= B u / s`` from
    ``s window_s`` on.

    Args:
        curve: of the guest.
        bytes_per_s: goodput, above 0.
        window_s: above 0.

    Returns:
        0 to 1, to a millionth.
    """
    low, high = 0.0, 1.0
    if least_goodput(curve, window_s) <= bytes_per_s:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = least_goodput(curve, middle * window_s) <= bytes_per_s / middle
        low, high = (middle, high) if enough else (low, middle)
    return low


def least_throttle(
    curve: DirtyCurve,
    bytes_per_s: float,
    downtime_limit_s: float,
    sender: Sender = Sender.ROUNDS,
    throttled: Callable[[float], DirtyCurve] | None = None,
) -> float | None:
    """The smallest share of the guest's time to take, for the last of the RAM to go over within a downtime limit.

    Args:
        curve: of the guest.
        bytes_per_s: goodput, above 0.
        downtime_limit_s: above 0; what a switchover costs besides is not in it.
        sender: which one.
        throttled: the curve under a throttle from 0 to 0.99; ``None``: writers that need all of their vCPU,
            ``f((1 - throttle) tau)``.

    Returns:
        0.0 to 0.99, to a ten-thousandth; ``None``: not even 0.99 will do.
    """

    def enough(throttle: float) -> bool:
        slowed = throttled(throttle) if throttled is not None else Slowed(curve, 1 - throttle)
        reached = floor_s if sender is Sender.CLAIRVOYANT else plateau_s
        return reached(slowed, bytes_per_s) <= downtime_limit_s

    if enough(0.0):
        return 0.0
    if not enough(GREATEST_THROTTLE):
        return None
    low, high = 0.0, GREATEST_THROTTLE
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def least_left_pages(last_writes_s: Sequence[float], stop_s: float, pages_per_s: float) -> float:
    """The fewest pages that any sender, knowing all writes ahead, has left to send when the guest stops.

    Args:
        last_writes_s: for each page when it was last written at or before the stop, seconds since the migration
            began; 0 for one that was not written since.
        stop_s: when the guest stops.
        pages_per_s: what the link carries.

    Returns:
        ``max over t of (pages last written at or after t) - B (stop - t)``, and at least 0. O(n log n).
    """
    most = 0.0
    for count, written_s in enumerate(sorted(last_writes_s, reverse=True), start=1):
        most = max(most, count - pages_per_s * (stop_s - written_s))
    return most


def _edges(curve: DirtyCurve, bytes_per_s: float) -> list[float]:
    """Windows between which the curve is concave, from 0 to the last at which it could still be ahead of the link."""
    end_s = min(curve.most_bytes / bytes_per_s, ENDLESS_S)
    return [0.0, *(knot for knot in curve.knots_s if 0 < knot < end_s), end_s]


def _summit(value: Callable[[float], float], low: float, high: float) -> float:
    """Where a function is greatest that is concave between two places, by golden section."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value(left), value(right)
    for _ in range(_LOOKS):
        if at_left < at_right:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = value(right)
        else:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = value(left)
    return (low + high) / 2


def _crossing(value: Callable[[float], float], low: float, high: float) -> float:
    """The last place at which a function is not negative, that is so at `low` and only falls from its summit on."""
    if value(high) >= 0:
        return high
    for _ in range(_LOOKS):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) >= 0 else (low, middle)
    return low
