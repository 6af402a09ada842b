"""Whole pages out of expected ones: what was taken off and not told yet is carried on to the next call."""

from __future__ import annotations

from dataclasses import dataclass

from .contract import PAGE_BYTES, PAGE_HEADER_BYTES, ZERO_PAGE_BYTES, Sent

FULL_BYTES = PAGE_HEADER_BYTES + PAGE_BYTES
"""Of a page in full, not compressed."""
DELTA_HEADER_BYTES = PAGE_HEADER_BYTES + 3
"""Of a page sent as its difference: the header of every page, one byte that says how, two with the length."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What becomes of the next page of a run, in expectation; `normal`, `zero`, `delta`, `unchanged` sum to 1.

    Attributes:
        normal: the probability that it goes in full.
        normal_bytes: what a page in full is on the wire.
        zero: that it is all zero.
        delta: that it goes as its difference.
        delta_bytes: what a difference is on the wire.
        unchanged: that XBZRLE finds it as it was.
        miss: that XBZRLE looks for it in vain.
        overflow: that its difference is too large.
    """

    normal: float = 1.0
    normal_bytes: float = FULL_BYTES
    zero: float = 0.0
    delta: float = 0.0
    delta_bytes: float = 0.0
    unchanged: float = 0.0
    miss: float = 0.0
    overflow: float = 0.0

    @property
    def cost_bytes(self) -> float:
        """Expected bytes of a page on the wire."""
        return self.normal * self.normal_bytes + self.zero * ZERO_PAGE_BYTES + self.delta * self.delta_bytes


FULL = Shares()
ZERO = Shares(normal=0.0, zero=1.0)


class Owed:
    """Pages taken off the bitmap, by expectation, that no `Sent` has told of."""

    __slots__ = (
        "_delta",
        "_delta_bytes",
        "_miss",
        "_normal",
        "_normal_bytes",
        "_others",
        "_overflow",
        "_unchanged",
        "_zero",
    )

    def __init__(self) -> None:
        self._normal = self._normal_bytes = self._zero = self._delta = self._delta_bytes = 0.0
        self._unchanged = self._miss = self._overflow = 0.0
        self._others = False

    @property
    def pages(self) -> float:
        """All of them; between calls less than one, or a little below 0."""
        return self._normal + self._zero + self._delta + self._unchanged

    @property
    def bytes(self) -> float:
        """What they come to on the wire."""
        return self._normal_bytes + self._zero * ZERO_PAGE_BYTES + self._delta_bytes

    def take(self, pages: float, shares: Shares) -> None:
        """So many more were taken."""
        if shares is FULL:
            self._normal += pages
            self._normal_bytes += pages * FULL_BYTES
            return
        self._others = True
        self._normal += pages * shares.normal
        self._normal_bytes += pages * shares.normal * shares.normal_bytes
        self._zero += pages * shares.zero
        self._delta += pages * shares.delta
        self._delta_bytes += pages * shares.delta * shares.delta_bytes
        self._unchanged += pages * shares.unchanged
        self._miss += pages * shares.miss
        self._overflow += pages * shares.overflow

    def _tell_full(self, pages: int, most_bytes: float) -> Sent:
        """`tell`, where all pages that ever were owed go in full, as they are: what happens nearly always."""
        size = FULL_BYTES * pages
        if size > most_bytes and pages > 1:
            pages -= 1
            size -= FULL_BYTES
        self._normal -= pages
        self._normal_bytes -= size
        return Sent(normal=pages, bytes=size)

    def tell(self, pages: int, most_bytes: float) -> Sent:
        """Tell of so many whole pages, or of fewer, if else they were more than these bytes (but of one in any case).

        Each kind is rounded to the nearest, pages in full are what remains: over many calls every kind comes to its
        expectation, to within a page.
        """
        if not self._others:
            return self._tell_full(pages, most_bytes)
        zero = _within(self._zero, pages)
        delta = _within(self._delta, pages - zero)
        unchanged = _within(self._unchanged, pages - zero - delta)
        normal = pages - zero - delta - unchanged
        delta_bytes = _average(self._delta_bytes, self._delta, delta)
        normal_bytes = _average(self._normal_bytes, self._normal, normal)
        while normal > 0 and pages > 1 and normal_bytes + delta_bytes + zero * ZERO_PAGE_BYTES > most_bytes:
            normal, pages = normal - 1, pages - 1
            normal_bytes = _average(self._normal_bytes, self._normal, normal)
        misses = _within(self._miss, normal)
        overflows = _within(self._overflow, normal - misses)
        self._normal -= normal
        self._normal_bytes -= normal_bytes
        self._zero -= zero
        self._delta -= delta
        self._delta_bytes -= delta_bytes
        self._unchanged -= unchanged
        self._miss -= misses
        self._overflow -= overflows
        return Sent(
            normal=normal,
            zero=zero,
            delta=delta,
            unchanged=unchanged,
            misses=misses,
            overflows=overflows,
            delta_bytes=delta_bytes,
            bytes=normal_bytes + delta_bytes + zero * ZERO_PAGE_BYTES,
        )


def _within(owed: float, most: int) -> int:
    """The nearest whole number, from 0 to the most."""
    return min(max(int(owed + 0.5), 0), most)


def _average(owed_bytes: float, owed: float, pages: int) -> int:
    """Bytes of so many of the pages that are owed: their average."""
    if not pages:
        return 0
    return int(owed_bytes / owed * pages + 0.5) if owed > 0.25 else pages * FULL_BYTES
