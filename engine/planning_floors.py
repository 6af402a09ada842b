"""What no pre-copy can beat, for a guest of which the curve is known roughly: ranges over what it may really be."""

from __future__ import annotations

import math

from .belief import Belief
from .bounds import floor_s, goodput, least_goodput, least_speed, plateau_s
from .estimate import Range
from .plan import Floors
from .planning_settings import Drawn, drawn
from .policy import Objectives
from .slowing import Headroom

DRAWS = 100
MOST_THROTTLE = 0.99
_HALVINGS = 20


def floors(belief: Belief, objectives: Objectives, draws: int = DRAWS) -> Floors:
    """What no pre-copy can beat.

    Args:
        belief: of the guest.
        objectives: the downtime to be met, and a cap on the bandwidth.
        draws: how many ways that it may be are looked at, 1 or more.
    """
    ways = drawn(belief, draws)
    rates = [_rate(one, objectives) for one in ways]
    floor = [one.fixed_s + floor_s(one.curve, goodput(rate)) for one, rate in zip(ways, rates, strict=True)]
    plateau = [
        one.fixed_s + one.pipe_bytes / rate + plateau_s(one.curve, goodput(rate))
        for one, rate in zip(ways, rates, strict=True)
    ]
    first = [(one.total_bytes - one.zero_bytes) / goodput(rate) for one, rate in zip(ways, rates, strict=True)]
    return Floors(
        first_pass_s=Range.of(first).middle,
        floor_s=Range.of(floor),
        plateau_s=Range.of(plateau),
        least_bandwidth_bytes_per_s=_likely([_least_bandwidth(one, objectives.downtime_s) for one in ways]),
        least_throttle=_likely(
            [_least_throttle(one, objectives.downtime_s, rate) for one, rate in zip(ways, rates, strict=True)]
        ),
    )


def _rate(one: Drawn, objectives: Objectives) -> float:
    """Wire bytes per second: the least of what link, thread and user let through."""
    cap = objectives.bandwidth_bytes_per_s or math.inf
    return min(one.link_bytes_per_s, one.cpu_bytes_per_s, cap)


def _likely(values: list[float | None]) -> Range | None:
    """The range of what is found in at least half of the ways; ``inf`` where it is not."""
    if 2 * sum(1 for value in values if value is not None) < len(values):
        return None
    return Range.of([math.inf if value is None else value for value in values])


def _least_bandwidth(one: Drawn, downtime_s: float) -> float | None:
    """At how many wire bytes per second QEMU's iterations come down to what the downtime leaves for them."""
    spare_s = downtime_s - one.fixed_s
    if spare_s <= 0:
        return None
    # What lies in the pipe goes over in the outage, too: at a rate B it leaves less by pipe / B.
    least = one.pipe_bytes / spare_s
    wire = 1.0 / goodput(1.0)
    low, high = max(1.0, least), max(1.0, 2 * (least + wire * least_goodput(one.curve, spare_s / 2)))
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        left_s = spare_s - one.pipe_bytes / middle
        enough = left_s > 0 and least_goodput(one.curve, left_s) <= goodput(middle)
        low, high = (low, middle) if enough else (middle, high)
    return high


def _least_throttle(one: Drawn, downtime_s: float, rate: float) -> float | None:
    """With which share of the vCPUs' time taken they come down to that at this rate, 0 to 0.99."""
    spare_s = downtime_s - one.fixed_s - one.pipe_bytes / rate
    if spare_s <= 0:
        return None
    speed = least_speed(one.curve, goodput(rate), spare_s)
    if speed >= 1.0:
        return 0.0
    headroom = Headroom(one.vcpu_shares)
    if headroom.speed(MOST_THROTTLE) > speed:
        return None
    low, high = 0.0, MOST_THROTTLE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if headroom.speed(middle) > speed else (low, middle)
    return high
