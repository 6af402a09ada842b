"""What a plan says, in words and people's units: for the terminal, the picture and the documentation alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from whimbrel.engine.belief import Belief
from whimbrel.engine.estimate import HIGH, NORMAL, Estimate, Range
from whimbrel.engine.plan import Floors, Predicted
from whimbrel.engine.planning_sentences import bandwidth_bytes_per_s
from whimbrel.engine.policy import Objectives
from whimbrel.qmp_driver.survey import Costs
from whimbrel.units import format_duration, format_rate, format_size

__all__ = [
    "Write",
    "around",
    "between",
    "count",
    "give_or_take",
    "goals",
    "misses",
    "of_belief",
    "of_costs",
    "of_floors",
    "share",
    "time",
]

Write = Callable[[float], str]

MOST_POINTS = 5
"""Of the dirty curve are told; the picture has all."""
FAR_OFF = 1.5
"""Beyond that an estimate is off by a factor: below it by as much in percent would be less than nothing."""
CERTAIN = 0.005
"""A spread or a chance below that is not told."""


def time(value_s: float) -> str:
    """A time; one without an end is ``never``."""
    return format_duration(value_s) if value_s < math.inf else "never"


def share(part: float) -> str:
    """A part of a whole, in percent; what is not all is never told as 100 %."""
    return f"{min(part, 0.99) if part < 1 else 1:.0%}"


def count(value: float) -> str:
    """A number of things, of which there may be halves in the middle of a range."""
    return f"{value:.0f}"


def between(found: Range, write: Write) -> str:
    """From where to where, the unit once: ``6.5–8.2s``; one value where both read alike."""
    low, high = write(found.low), write(found.high)
    if low == high:
        return low
    unit = high.lstrip("0123456789.")
    return f"{low.removesuffix(unit) if unit and low.lstrip('0123456789.') == unit else low}–{high}"


def around(found: Range, write: Write) -> str:
    """The middle and what it lies between: ``7.1s (6.5–8.2s)``."""
    middle, ends = write(found.middle), between(found, write)
    return middle if middle == ends else f"{middle} ({ends})"


def give_or_take(estimate: Estimate, write: Write) -> str:
    """An estimate with what it may be off in nine of ten cases, and where it comes from."""
    factor = math.exp(estimate.spread * NORMAL.inv_cdf(HIGH))
    off = ""
    if factor > FAR_OFF:
        off = f", give or take a factor of {factor:.1f}"
    elif factor - 1 >= CERTAIN:
        off = f" ± {factor - 1:.0%}"
    return f"{write(estimate.value)}{off} ({estimate.source})"


def goals(objectives: Objectives) -> str:
    """What is wanted and allowed."""
    words = [f"an outage of at most {format_duration(objectives.downtime_s)}"]
    if objectives.deadline_s is not None:
        words.append(f"over within {format_duration(objectives.deadline_s)}")
    if objectives.bandwidth_bytes_per_s is not None:
        words.append(f"at most {format_rate(objectives.bandwidth_bytes_per_s)} sent")
    if objectives.greatest_throttle:
        words.append(f"a throttle of up to {objectives.greatest_throttle:.0%}")
    allowed = {"post-copy": objectives.may_postcopy, "a pause": objectives.may_pause}
    words += [name for name, may in allowed.items() if may]
    return ", ".join(words)


def of_belief(belief: Belief) -> Iterator[str]:
    """What was found out about the guest and its link, a sentence each."""
    yield f"RAM: {format_size(belief.total_bytes)}, zero pages {give_or_take(belief.zero_bytes, format_size)}"
    step = max(1, math.ceil((len(belief.points) - 1) / (MOST_POINTS - 1)))
    points = [*belief.points[:-1:step], belief.points[-1]]
    told = ", ".join(f"{format_size(each.dirtied_bytes)} in {format_duration(each.window_s)}" for each in points)
    yield f"distinct bytes dirtied: {told}"
    yield f"link: {give_or_take(belief.bandwidth_bytes_per_s, format_rate)}"
    yield f"on the way in buffers and queues: {give_or_take(belief.pipe_bytes, format_size)}"
    yield f"a switchover with nothing left to send: {give_or_take(belief.fixed_s, format_duration)}"
    if belief.delta_ratio is not None:
        yield f"the delta of a page that changed, as a part of it: {give_or_take(belief.delta_ratio, share)}"
    yield from belief.notes


def of_costs(costs: Costs, thought_s: float) -> Iterator[str]:
    """What finding all that out took."""
    words = [f"took {format_duration(costs.took_s)} to measure"]
    if costs.read_bytes:
        words.append(f"{format_size(costs.read_bytes)} of it read in {format_duration(costs.cpu_s)} of CPU time")
    if costs.link_bytes:
        words.append(f"{format_size(costs.link_bytes)} sent over the link")
    yield f"{', '.join(words)}; and {format_duration(thought_s)} to forecast"


def of_floors(floors: Floors, belief: Belief, objectives: Objectives) -> Iterator[str]:
    """What no policy can beat, a sentence each."""
    rate = bandwidth_bytes_per_s(belief, objectives)
    yield f"sending all RAM once takes {time(floors.first_pass_s)}"
    yield f"no pre-copy can beat an outage of {around(floors.floor_s, time)} at {format_rate(rate)}"
    if floors.plateau_s.middle == math.inf:
        yield "QEMU's iterations, left alone, do not shrink: the guest dirties faster than they are sent"
    else:
        yield f"QEMU's iterations, left alone, come down to an outage of {around(floors.plateau_s, time)}"
    limit = format_duration(objectives.downtime_s)
    if floors.least_bandwidth_bytes_per_s is None:
        yield f"no bandwidth would do for {limit} without a throttle"
    else:
        yield f"for {limit} without a throttle: {around(floors.least_bandwidth_bytes_per_s, format_rate)}"
    if floors.least_throttle is None:
        yield f"no throttle would do for {limit} at this bandwidth"
    elif floors.least_throttle.high > CERTAIN:
        yield f"for {limit} at this bandwidth: a throttle of {around(floors.least_throttle, share)}"


NAMES = {"downtime": "misses the downtime", "deadline": "misses the deadline", "never": "has no end"}


def misses(predicted: Predicted) -> str:
    """How likely it misses what, the likeliest first; nothing where it misses nothing."""
    rising = sorted(predicted.misses.items(), key=lambda each: -each[1])
    told = [(NAMES.get(name, name), part) for name, part in rising if part >= CERTAIN]
    return ", ".join(f"{name} in {share(part)}" for name, part in told)
