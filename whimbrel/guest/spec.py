"""What the workload guest is asked to do: page classes, rates, patterns, contents, phases.

A class is a range of pages that are alike. Its rate counts page *writes*, each of which rewrites the page
(4096 bytes, or ``touch`` of them): 40 MiB/s are 10240 writes a second. Writes are spread evenly over the time
that the class is on. How many *distinct* bytes that dirties is another question: `PageClass.dirtied_bytes`.

As text, one class is ``name:key=value,...``::

    hot:size=64MiB,rate=20MiB/s,pattern=zipf,skew=0.9,content=random,period=2s,duty=25%
    cold:size=192MiB

Keys: ``size``; ``rate`` (or ``writes``, per second); ``pattern`` = ``uniform``, ``sweep``, ``zipf`` (with ``skew``)
or ``hotspot`` (``share`` of the writes goes to ``part`` of the pages); ``content`` = ``zero``, ``constant``,
``compressible``, ``random``; ``touch``; ``period``, ``duty`` and ``shift``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from whimbrel.engine.errors import BadInput
from whimbrel.sim.guests.laws import Independent, Law, Sweep
from whimbrel.sim.guests.popularity import stride_for
from whimbrel.sim.guests.streams import Phases, dirtied_pages
from whimbrel.units import parse_duration, parse_fraction, parse_rate, parse_size

from .curve import range_law
from .popularity import Step, hotspot_steps, probabilities, uniform_steps, zipf_steps

__all__ = ["PAGE_BYTES", "Content", "PageClass", "Pattern", "WorkloadSpec"]

PAGE_BYTES: Final = 4096
#: Bytes of a page's header and trailer, rewritten by every write.
FRAME_BYTES: Final = 48
#: Bytes of a page's body, rewritten in whole vectors of 16.
BODY_BYTES: Final = PAGE_BYTES - FRAME_BYTES
#: Pages of the program itself, its state and stack, that every turn of its loop dirties.
HOT_PAGES: Final = 1
#: Pages whose accumulators share one page of memory: 512 groups of 64.
PAGES_PER_BOOK: Final = 512 * 64
MAX_CLASSES: Final = 16
MAX_STEPS: Final = 512
_MAX_PAGES: Final = (1 << 20) - 1
_U32: Final = (1 << 32) - 1
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")


class Pattern(StrEnum):
    """Which page of its class a write goes to."""

    UNIFORM = "uniform"
    """Any, with equal probability, independently of the last."""
    SWEEP = "sweep"
    """The next one, round and round."""
    ZIPF = "zipf"
    """The page of rank r with probability about ``r ** -skew`` (in steps: see :mod:`whimbrel.guest.popularity`)."""
    HOTSPOT = "hotspot"
    """``share`` of the writes go to ``part`` of the pages, uniformly within each."""


class Content(StrEnum):
    """What the body of a page holds."""

    ZERO = "zero"
    """Zeros. A class that is never written stays wholly zero; else header and trailer carry the proof."""
    CONSTANT = "constant"
    """The same everywhere and always: delta and general compression take it down to next to nothing."""
    COMPRESSIBLE = "compressible"
    """A quarter is random, the rest constant."""
    RANDOM = "random"
    """Nothing that a general compressor could use."""


_CONTENT_LETTER: Final = {
    Content.ZERO: "z",
    Content.CONSTANT: "c",
    Content.COMPRESSIBLE: "p",
    Content.RANDOM: "r",
}


def _check(condition: bool, field: str, given: object, allowed: str) -> None:
    if not condition:
        raise BadInput(field, given, allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageClass:
    """Pages that are alike.

    Raises:
        BadInput: a value is out of its range; names the field.
    """

    name: str
    """1 to 15 letters, digits, ``_``, ``.`` or ``-``."""
    size_bytes: int
    """A multiple of 4096, below 4 GiB; at least one page."""
    rate_bytes_per_s: float = 0.0
    """4096 times the page writes per second while the class is on; 0: filled once, never rewritten."""
    pattern: Pattern = Pattern.UNIFORM
    content: Content = Content.RANDOM
    touch_bytes: int = BODY_BYTES
    """Bytes of the body that a write changes, 0 to 4048 in steps of 16; 48 bytes of header and trailer come on top."""
    skew: float = 0.99
    """Zipf's exponent, 0 to 4. The default is that of YCSB (Cooper et al., SoCC 2010)."""
    share: float = 0.95
    """Hotspot: part of the writes that goes to the hot pages, above 0 and below 1."""
    part: float = 0.2
    """Hotspot: part of the pages that is hot, above 0 and below 1."""
    period_s: float = 0.0
    """Length of a phase cycle, to the microsecond, at most 4294 s; 0: always on."""
    duty: float = 1.0
    """Part of each period, from its beginning, in which the class writes; above 0, at most 1."""
    shift_s: float = 0.0
    """How far into its first period the class begins."""

    def __post_init__(self) -> None:
        """Checks every field."""
        at = f"class {self.name}: "
        _check(_NAME.fullmatch(self.name) is not None, "class name", self.name, "1 to 15 of A-Z a-z 0-9 _ . -")
        _check(
            0 < self.size_bytes <= _MAX_PAGES * PAGE_BYTES and self.size_bytes % PAGE_BYTES == 0,
            at + "size",
            self.size_bytes,
            "a multiple of 4096 bytes, below 4 GiB",
        )
        _check(
            self.rate_bytes_per_s >= 0 and self.rate_mpps <= _U32,
            at + "rate",
            self.rate_bytes_per_s,
            "0 to 16GiB/s",
        )
        _check(
            0 <= self.touch_bytes <= BODY_BYTES and self.touch_bytes % 16 == 0,
            at + "touch",
            self.touch_bytes,
            f"0 to {BODY_BYTES} bytes, in steps of 16",
        )
        _check(0 <= self.skew <= 4, at + "skew", self.skew, "0 to 4")
        _check(0 < self.share < 1, at + "share", self.share, "above 0%, below 100%")
        _check(0 < self.part < 1, at + "part", self.part, "above 0%, below 100%")
        _check(0 <= self.period_s * 1e6 <= _U32, at + "period", self.period_s, "0 to 4294 s")
        _check(0 < self.duty <= 1, at + "duty", self.duty, "above 0%, at most 100%")
        _check(self.period_us == 0 or self.on_us > 0, at + "duty", self.duty, "at least 1 us of a period")
        _check(0 <= self.shift_s * 1e6 <= _U32, at + "shift", self.shift_s, "0 to 4294 s")
        self._check_relevance(at)

    def _check_relevance(self, at: str) -> None:
        """Refuses what would have no effect: silence would let a user believe that it had one."""
        for key, pattern in (("skew", Pattern.ZIPF), ("share", Pattern.HOTSPOT), ("part", Pattern.HOTSPOT)):
            value = getattr(self, key)
            _check(self.pattern is pattern or value == _DEFAULTS[key], at + key, value, f"only with pattern={pattern}")
        for key, value, default in (("duty", self.duty, 1.0), ("shift", self.shift_s, 0.0)):
            _check(self.period_s > 0 or value == default, at + key, value, "only with a period")

    @property
    def pages(self) -> int:
        """Number of pages."""
        return self.size_bytes // PAGE_BYTES

    @property
    def rate_mpps(self) -> int:
        """Thousandths of a page write per second, while on: what the guest counts in."""
        return round(self.rate_bytes_per_s * 1000 / PAGE_BYTES)

    @property
    def period_us(self) -> int:
        """Length of a phase cycle in microseconds, 0 if always on."""
        return round(self.period_s * 1e6) if self.duty < 1 else 0

    @property
    def on_us(self) -> int:
        """Microseconds of each period in which the class writes."""
        return round(self.period_us * self.duty)

    @property
    def shift_us(self) -> int:
        """How far into its first period the class begins, in microseconds."""
        return round(self.shift_s * 1e6)

    @property
    def mean_rate_bytes_per_s(self) -> float:
        """Bytes written per second, averaged over the phases."""
        return self.rate_bytes_per_s * (self.on_us / self.period_us if self.period_us else 1.0)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The popularity of the pages exactly as the guest uses it; empty for a sweep."""
        match self.pattern:
            case Pattern.UNIFORM:
                return uniform_steps(self.pages)
            case Pattern.SWEEP:
                return ()
            case Pattern.ZIPF:
                return zipf_steps(self.pages, self.skew)
            case Pattern.HOTSPOT:
                return hotspot_steps(self.pages, self.share, self.part)

    @property
    def writes_per_s(self) -> float:
        """Page writes per second while on, in the numbers that the guest is given."""
        return self.rate_mpps / 1000

    @property
    def phases(self) -> Phases:
        """When it is on, in the numbers that the guest is given."""
        return Phases(self.period_us / 1e6, self.on_us / 1e6, self.shift_us / 1e6)

    @property
    def law(self) -> Law:
        """Distinct pages as a function of the writes."""
        return Independent(probabilities(self.steps)) if self.steps else Sweep(self.pages)

    def dirtied_bytes(self, tau_s: float, start_s: float | None = None) -> float:
        """Expected distinct bytes (whole pages) of the class that a window of ``tau_s`` seconds dirties.

        Args:
            tau_s: length of the window.
            start_s: its start, in seconds after the writing began; None: the mean over all starts.
        """
        return PAGE_BYTES * dirtied_pages(self.law, self.writes_per_s, self.phases, tau_s, start_s)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``name:key=value,...`` (the module's docstring lists the keys).

        Raises:
            BadInput: an unknown key, a value that cannot be read or is out of range; names the field.
        """
        name, colon, rest = text.partition(":")
        if not colon:
            raise BadInput("class", text, "NAME:size=...,rate=...,... such as hot:size=64MiB,rate=20MiB/s")
        name = name.strip()
        values: dict[str, object] = {}
        for item in filter(None, (part.strip() for part in rest.split(","))):
            key, equals, value = (part.strip() for part in item.partition("="))
            if not equals or key not in _KEYS:
                raise BadInput(f"class {name}", item, f"key=value with a key of {', '.join(_KEYS)}")
            field, read = _KEYS[key]
            if field in values:
                raise BadInput(f"class {name}: {key}", item, "each value once")
            values[field] = read(value, f"class {name}: {key}")
        if "size_bytes" not in values:
            raise BadInput(f"class {name}: size", text, "a size, for instance size=64MiB")
        return cls(name=name, **values)  # type: ignore[arg-type]  # _KEYS pairs fields with readers of their types

    def __str__(self) -> str:
        """The class as text; :meth:`parse` reads back an equal one."""
        words = [f"size={self.size_bytes}"]
        for key, (field, _read) in _KEYS.items():
            if key in {"size", "writes"}:
                continue
            value = getattr(self, field)
            if value != _DEFAULTS[field]:
                words.append(f"{key}={value}")
        return f"{self.name}:{','.join(words)}"

    def kernel_words(self) -> str:
        """The class as the guest reads it from its command line."""
        words = [self.name, f"pages={self.pages}", f"content={_CONTENT_LETTER[self.content]}"]
        if self.rate_mpps:
            words += [f"rate={self.rate_mpps}", f"touch={self.touch_bytes // 16}"]
            if self.period_us:
                words += [f"period={self.period_us}", f"on={self.on_us}", f"shift={self.shift_us}"]
            if steps := self.steps:
                words.append("steps=" + "/".join(f"{step.pages}:{step.limit}" for step in steps))
                if len(steps) > 1:
                    words.append(f"stride={stride_for(self.pages)}")
        return "class=" + ",".join(words)


def _read_writes(text: str, field: str) -> float:
    try:
        value = float(text.removesuffix("/s"))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise BadInput(field, text, "page writes per second such as 5000")
    return value * PAGE_BYTES


def _read_number(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(field, text, "a number") from None


def _read_pattern(text: str, field: str) -> Pattern:
    try:
        return Pattern(text)
    except ValueError:
        raise BadInput(field, text, ", ".join(Pattern)) from None


def _read_content(text: str, field: str) -> Content:
    try:
        return Content(text)
    except ValueError:
        raise BadInput(field, text, ", ".join(Content)) from None


_KEYS: Final[dict[str, tuple[str, Callable[[str, str], object]]]] = {
    "size": ("size_bytes", parse_size),
    "rate": ("rate_bytes_per_s", parse_rate),
    "writes": ("rate_bytes_per_s", _read_writes),
    "pattern": ("pattern", _read_pattern),
    "content": ("content", _read_content),
    "touch": ("touch_bytes", parse_size),
    "skew": ("skew", _read_number),
    "share": ("share", parse_fraction),
    "part": ("part", parse_fraction),
    "period": ("period_s", parse_duration),
    "duty": ("duty", parse_fraction),
    "shift": ("shift_s", parse_duration),
}
_DEFAULTS: Final[dict[str, object]] = {field.name: field.default for field in PageClass.__dataclass_fields__.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSpec:
    """A whole workload.

    Raises:
        BadInput: a value is out of its range, or two classes share a name; names the field.
    """

    classes: tuple[PageClass, ...] = ()
    """At most 16; they lie behind each other in memory, from 2 MiB on."""
    beat_hz: int = 200
    """Heartbeats per second, 1 to 10000 (a line takes about 0.1 ms to send under emulation)."""
    seed: int = 1
    """Of all choices and contents, 0 to 2**32 - 1."""
    check_pages_per_s: int = 2000
    """Speed of the continuous check; 0: only on demand. It reads every page, which post-copy notices."""

    def __post_init__(self) -> None:
        """Checks every field."""
        _check(len(self.classes) <= MAX_CLASSES, "classes", len(self.classes), f"at most {MAX_CLASSES}")
        names = [page_class.name for page_class in self.classes]
        _check(len(set(names)) == len(names), "classes", ", ".join(names), "a different name for each")
        _check(sum(c.pages for c in self.classes) <= _MAX_PAGES, "classes", "all sizes", "below 4 GiB together")
        _check(1 <= self.beat_hz <= 10000, "beat_hz", self.beat_hz, "1 to 10000 per second")
        _check(0 <= self.seed <= _U32, "seed", self.seed, "0 to 4294967295")
        _check(0 <= self.check_pages_per_s <= _U32, "check_pages_per_s", self.check_pages_per_s, "0 or more")
        steps = sum(len(c.steps) for c in self.classes if c.rate_mpps)
        _check(steps <= MAX_STEPS, "classes", f"{steps} steps of popularity", f"at most {MAX_STEPS}: fewer zipf ones")

    @property
    def size_bytes(self) -> int:
        """Bytes of all classes together."""
        return sum(page_class.size_bytes for page_class in self.classes)

    @property
    def rate_bytes_per_s(self) -> float:
        """Bytes written per second by all classes, averaged over their phases."""
        return sum(page_class.mean_rate_bytes_per_s for page_class in self.classes)

    @classmethod
    def parse(cls, classes: Iterable[str], *, beat_hz: int = 200, seed: int = 1) -> Self:
        """Reads one text for each class, see :meth:`PageClass.parse`.

        Raises:
            BadInput: a class cannot be read; names the field.
        """
        return cls(classes=tuple(PageClass.parse(text) for text in classes), beat_hz=beat_hz, seed=seed)

    @classmethod
    def idle(cls, fill_bytes: int) -> Self:
        """A guest that holds ``fill_bytes`` (a multiple of 4096) of random content and writes nothing."""
        return cls(classes=(PageClass(name="cold", size_bytes=fill_bytes),))

    @classmethod
    def uniform(cls, fill_bytes: int, working_set_bytes: int, rate_bytes_per_s: float) -> Self:
        """Uniform writes over a working set that is part of ``fill_bytes`` of random content (multiples of 4096)."""
        hot = PageClass(name="hot", size_bytes=working_set_bytes, rate_bytes_per_s=rate_bytes_per_s)
        if fill_bytes == working_set_bytes:
            return cls(classes=(hot,))
        return cls(classes=(hot, PageClass(name="cold", size_bytes=fill_bytes - working_set_bytes)))

    def dirtied_bytes(self, tau_s: float, start_s: float | None = None) -> float:
        """Expected distinct bytes that the guest dirties in a window: its target curve f(tau).

        Whole pages, with those that hold the program's state and the accumulators. It holds while the guest keeps
        up with its rates; what it gave up is counted in its heartbeats.

        Args:
            tau_s: length of the window, seconds. Below 4 ms an idle guest may not have woken at all.
            start_s: its start, in seconds after the writing began (the banner's ``started_us``); None: the mean over
                all starts (of each class on its own).
        """
        if tau_s <= 0:
            return 0.0
        pages = HOT_PAGES + self.dirtied_book_pages(tau_s, start_s)
        return PAGE_BYTES * pages + sum(c.dirtied_bytes(tau_s, start_s) for c in self.classes)

    def dirtied_book_pages(self, tau_s: float, start_s: float | None = None) -> float:
        """Expected distinct pages of accumulators (8 bytes for each 64 pages) that a window dirties."""
        total = sum(c.pages for c in self.classes)
        dirtied = 0.0
        for begin in range(0, total, PAGES_PER_BOOK):
            clean, first = 1.0, 0
            for page_class in self.classes:
                low, high = max(begin - first, 0), min(begin + PAGES_PER_BOOK - first, page_class.pages)
                first += page_class.pages
                if low < high and page_class.rate_mpps:
                    law = range_law(page_class.steps, page_class.pages, low, high)
                    clean *= 1 - dirtied_pages(law, page_class.writes_per_s, page_class.phases, tau_s, start_s)
            dirtied += 1 - clean
        return dirtied

    def kernel_arguments(self) -> str:
        """The command line of the guest: what QEMU is given with ``-append``."""
        words = ["whimbrel-guest", f"hz={self.beat_hz}", f"seed={self.seed}", f"check={self.check_pages_per_s}"]
        return " ".join(words + [page_class.kernel_words() for page_class in self.classes])
