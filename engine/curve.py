"""The dirty curve f(tau): how many distinct bytes a guest dirties in a window of tau seconds of its own time.

It is what a migration is made of. One iteration sends what the one before it left and finds ``f`` of its own length
dirty, so from the curve follow the iterations, the plateau they come to, and what no sender can beat
(`whimbrel.engine.bounds`). A single dirty *rate* is the special case ``f = D tau``, which has no plateau at all.

Pages are counted in bytes of memory, 4096 each; what they come to on the wire is the sender's business.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, cast

from .errors import BadInput

PAGE_BYTES = 4096
MOST_CLASSES = 64
"""Of pages with a rate each: enough for a zipf law to a tenth of a percent, few enough for 10 µs a look."""
_FIELDS = ("window_s", "dirty_bytes", "total_bytes", "zero_bytes")


class DirtyCurve(Protocol):
    """What all curves have. They never fall, and `at` of 0 is 0 unless the curve was measured with an offset."""

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, 0 or more seconds."""
        ...

    @property
    def most_bytes(self) -> float:
        """What it tends to, bytes: all that is ever dirtied; ``inf``: it grows without end."""
        ...

    @property
    def knots_s(self) -> tuple[float, ...]:
        """Windows, rising, between which the curve is concave; empty: it is so all the way."""
        ...


@dataclass(frozen=True, slots=True)
class Curve:
    """A measured curve: straight between the points.

    Left of the first point it goes towards where the line through the first two meets 0 s, but not below 0
    bytes; right of the last it goes on with the last slope. It ends at what is not zero memory. These are the rules
    of A. Gudkov's predictor (qemu-devel, 2023). Counts that fall, which sampling brings about, are raised to the
    greatest before them: a window holds every shorter one.

    Attributes:
        points: (window in seconds, distinct bytes dirtied in it); at least two, windows rising, bytes up to
            `total_bytes`.
        total_bytes: all RAM.
        zero_bytes: of it, pages that are all zero.

    Raises:
        BadInput: naming every field that is wrong.
    """

    points: tuple[tuple[float, float], ...]
    total_bytes: float
    zero_bytes: float = 0.0
    _windows: list[float] = field(init=False, repr=False, compare=False, hash=False)
    _values: list[float] = field(init=False, repr=False, compare=False, hash=False)
    _slopes: list[float] = field(init=False, repr=False, compare=False, hash=False)
    _most: float = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        given = {
            "window_s": [window for window, _ in self.points],
            "dirty_bytes": [dirty for _, dirty in self.points],
            "total_bytes": self.total_bytes,
            "zero_bytes": self.zero_bytes,
        }
        _refuse(_findings(given))
        windows, values = [0.0], [0.0]
        greatest = 0.0
        for window_s, dirty in self.points:
            greatest = max(greatest, dirty)
            windows.append(window_s)
            values.append(greatest)
        values[0] = max(0.0, values[1] - (values[2] - values[1]) / (windows[2] - windows[1]) * windows[1])
        slopes = [(values[i + 1] - values[i]) / (windows[i + 1] - windows[i]) for i in range(len(windows) - 1)]
        set_ = object.__setattr__
        set_(self, "_windows", windows)
        set_(self, "_values", values)
        set_(self, "_slopes", [*slopes, slopes[-1]])
        set_(self, "_most", max(values[-1], self.total_bytes - self.zero_bytes))

    @classmethod
    def from_samples(
        cls, sampled: int, total: int, zero: int, periods_s: Sequence[float], dirty: Sequence[float]
    ) -> Curve:
        """A curve out of a sample of pages, as ``calc-dirty-rate`` takes one.

        Args:
            sampled: pages looked at.
            total: pages of the guest.
            zero: pages of the sample that were all zero.
            periods_s: lengths of the windows, seconds, rising.
            dirty: pages of the sample that had changed at the end of each.

        Raises:
            BadInput: naming every field that is wrong.
        """
        if sampled < 1 or sampled > total:
            raise BadInput("sampled", sampled, f"1 to {total} pages, all that the guest has")
        bytes_each = total / sampled * PAGE_BYTES
        return cls.from_mapping(
            {
                "window_s": list(periods_s),
                "dirty_bytes": [pages * bytes_each for pages in dirty],
                "total_bytes": total * PAGE_BYTES,
                "zero_bytes": zero * bytes_each,
            }
        )

    @classmethod
    def from_mapping(cls, given: Mapping[str, object]) -> Curve:
        """A curve out of a JSON object: ``window_s`` and ``dirty_bytes`` (lists alike in length), ``total_bytes``,
        ``zero_bytes`` (0 where it is missing).

        Raises:
            BadInput: naming every field that is wrong, and what is allowed for each.
        """
        _refuse(_findings(given))
        windows, dirty = _numbers(given["window_s"]), _numbers(given["dirty_bytes"])
        assert windows is not None
        assert dirty is not None
        points = tuple(zip(windows, dirty, strict=True))
        return cls(points, _number(given["total_bytes"]), _number(given.get("zero_bytes", 0)))

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, 0 or more seconds."""
        i = bisect_right(self._windows, window_s) - 1
        value = self._values[i] + self._slopes[i] * (window_s - self._windows[i])
        return value if value < self._most else self._most

    def scaled(self, part: float) -> Curve:
        """Of a part of the memory, above 0 to 1, that is written as the whole is."""
        points = tuple((window_s, part * dirty) for window_s, dirty in self.points)
        return Curve(points, part * self.total_bytes, part * self.zero_bytes)

    @property
    def most_bytes(self) -> float:
        """All that is not zero memory, where the last slope leads there; else the last point."""
        return self._most if self._slopes[-1] > 0 else self._values[-1]

    @property
    def knots_s(self) -> tuple[float, ...]:
        """The points, and where it ends."""
        if self._slopes[-1] <= 0:
            return tuple(self._windows)
        end_s = self._windows[-1] + (self._most - self._values[-1]) / self._slopes[-1]
        return (*self._windows, end_s) if end_s > self._windows[-1] else tuple(self._windows)


@dataclass(frozen=True, slots=True)
class PoissonClasses:
    """Pages that are each written at random times: ``sum of n (1 - exp(-rate tau))`` over classes of pages.

    Attributes:
        classes: (number of pages, writes per second to each one of them); 1 to `MOST_CLASSES` of them.

    Raises:
        BadInput: there are none or too many, or a number is negative or not finite.
    """

    classes: tuple[tuple[float, float], ...]
    _pairs: tuple[tuple[float, float], ...] = field(init=False, repr=False, compare=False, hash=False)
    _written: float = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise BadInput("classes", len(self.classes), f"1 to {MOST_CLASSES} classes")
        if not all(0 <= pages < math.inf and 0 <= rate < math.inf for pages, rate in self.classes):
            raise BadInput("classes", self.classes, "numbers of pages and rates that are finite, 0 or more")
        pairs = tuple((pages * PAGE_BYTES, -rate) for pages, rate in self.classes if rate > 0)
        object.__setattr__(self, "_pairs", pairs)
        object.__setattr__(self, "_written", sum(size for size, _ in pairs))

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, 0 or more seconds."""
        exp = math.exp
        return self._written - sum([size * exp(fall * window_s) for size, fall in self._pairs])

    @property
    def most_bytes(self) -> float:
        """All pages that are written at all."""
        return self._written

    @property
    def knots_s(self) -> tuple[float, ...]:
        """None: it is concave."""
        return ()


@dataclass(frozen=True, slots=True)
class ConstantRate:
    """``D tau`` up to an end: the papers' dirty rate, or a writer that goes through its range page after page.

    Attributes:
        bytes_per_s: the rate, 0 or more.
        most_bytes: where it ends.

    Raises:
        BadInput: a number is negative, or the rate not finite.
    """

    bytes_per_s: float
    most_bytes: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.bytes_per_s < math.inf:
            raise BadInput("bytes_per_s", self.bytes_per_s, "a rate that is finite, 0 or more")
        if not self.most_bytes >= 0:
            raise BadInput("most_bytes", self.most_bytes, "0 or more bytes")

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, 0 or more seconds."""
        return min(self.bytes_per_s * window_s, self.most_bytes)

    @property
    def knots_s(self) -> tuple[float, ...]:
        """None: it is concave."""
        return ()


@dataclass(frozen=True, slots=True)
class Slowed:
    """A guest that gets only a part of its time: ``f(speed tau)``.

    Attributes:
        curve: at full speed.
        speed: 0 to 1.
    """

    curve: DirtyCurve
    speed: float

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window, 0 or more seconds."""
        return self.curve.at(self.speed * window_s)

    @property
    def most_bytes(self) -> float:
        """As at full speed, unless it stands still."""
        return self.curve.most_bytes if self.speed > 0 else self.curve.at(0.0)

    @property
    def knots_s(self) -> tuple[float, ...]:
        """Those of the curve, further apart."""
        return tuple(knot / self.speed for knot in self.curve.knots_s) if self.speed > 0 else ()


@dataclass(frozen=True, slots=True)
class Together:
    """Writers that share no page: their curves add up.

    Attributes:
        curves: of each.
    """

    curves: tuple[DirtyCurve, ...]

    def at(self, window_s: float, /) -> float:
        """Expected distinct bytes dirtied in a window of guest time, 0 or more seconds."""
        return sum([curve.at(window_s) for curve in self.curves])

    @property
    def most_bytes(self) -> float:
        """Of all of them."""
        return sum(curve.most_bytes for curve in self.curves)

    @property
    def knots_s(self) -> tuple[float, ...]:
        """Those of all of them."""
        return tuple(sorted({knot for curve in self.curves for knot in curve.knots_s}))


# ---- what is wrong with a curve that was given


@dataclass(frozen=True, slots=True)
class _Finding:
    name: str
    given: object
    allowed: str


def _refuse(findings: list[_Finding]) -> None:
    """One error for all findings: the project's error has one field, so several are named side by side."""
    if len(findings) == 1:
        raise BadInput(findings[0].name, findings[0].given, findings[0].allowed)
    if findings:
        raise BadInput(
            ", ".join(finding.name for finding in findings),
            [finding.given for finding in findings],
            "; ".join(f"{finding.name}: {finding.allowed}" for finding in findings),
        )


def _findings(given: Mapping[str, object]) -> list[_Finding]:
    found = [_Finding(key, given[key], f"one of {', '.join(_FIELDS)}") for key in given if key not in _FIELDS]
    windows, dirty = _numbers(given.get("window_s")), _numbers(given.get("dirty_bytes"))
    total, zero = _number(given.get("total_bytes")), _number(given.get("zero_bytes", 0))
    if windows is None or len(windows) < 2:
        found.append(_Finding("window_s", given.get("window_s"), "a list of at least two numbers of seconds"))
    elif not windows[0] > 0 or any(a >= b for a, b in pairwise(windows)):
        found.append(_Finding("window_s", given["window_s"], "seconds above 0, rising"))
    if dirty is None:
        found.append(_Finding("dirty_bytes", given.get("dirty_bytes"), "a list of numbers of bytes"))
    elif windows is not None and len(windows) >= 2 and len(dirty) != len(windows):
        allowed = f"as many numbers as window_s has ({len(windows)}; these are {len(dirty)})"
        found.append(_Finding("dirty_bytes", given["dirty_bytes"], allowed))
    elif any(not 0 <= value <= (total if total > 0 else math.inf) for value in dirty):
        found.append(_Finding("dirty_bytes", given["dirty_bytes"], "bytes from 0 to total_bytes"))
    if not total > 0:
        found.append(_Finding("total_bytes", given.get("total_bytes"), "a number of bytes above 0"))
    if not 0 <= zero <= (total if total > 0 else math.inf):
        found.append(_Finding("zero_bytes", given.get("zero_bytes"), "a number of bytes from 0 to total_bytes"))
    return found


def _number(value: object) -> float:
    """As a float; not-a-number for whatever is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)


def _numbers(values: object) -> list[float] | None:
    """As floats; ``None`` where it is no list of finite numbers."""
    if not isinstance(values, list | tuple):
        return None
    numbers = [_number(value) for value in cast("Sequence[object]", values)]
    return None if any(math.isnan(number) for number in numbers) else numbers
