"""Which pages own the slots of XBZRLE's cache, where more pages fall into a slot than it has room for: one.

QEMU does not drive out a page that was put in or found within the last two syncs (``page_cache.c``). So a page that is
written in every iteration keeps its slot, and others get it only once its owner was clean for an iteration and one of
them is sent before it. That is a Markov chain with two states for the owner of a slot: found in the last iteration, or
not. From it follow how long a page of each popularity owns a slot and how often it is found there; who gets a slot that
is free is a matter of how often each is sent. Popular pages are spread evenly over the addresses, so over the slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from whimbrel.sim.guests.laws import Measured, Sweep
from whimbrel.sim.guests.plan import Area
from whimbrel.sim.guests.popularity import groups_of

_HALVINGS = 40
_ALIKE = 0.05
"""Popularity classes whose probabilities of being dirty differ by less are counted as one."""
_ALWAYS = 1 - 1e-9
_PROTECTED = 2
"""Iterations after which the first owner of a slot may be driven out."""
_STAYS_EARLY = 0.4
"""Of what the long run is still away, so much is left with each iteration after those: fitted to the page
level; only the first few iterations depend on it."""


@dataclass(slots=True)
class _Owner:
    """Pages alike: how many, how probably each is sent in an iteration, and what follows for one that owns a slot."""

    pages: float
    sent: float
    stays: float = 0.0
    """Iterations for which it owns the slot, on average."""
    found: float = 0.0
    """Times that it is found there meanwhile."""

    @property
    def weight(self) -> float:
        """How often it gets a slot, were they free, times how long it stays."""
        return self.sent * self.stays


_Known = tuple[list[tuple[_Owner, float]], list[_Owner]]


class Slots:
    """The slots of the cache, in the long run.

    Args:
        slots: how many.
        areas: all RAM.
    """

    def __init__(self, slots: int, areas: tuple[Area, ...]) -> None:
        self._areas = areas
        self._span = sum(area.pages for area in areas if area.law is not None)
        self._slots = slots
        self._known: dict[tuple[int, float], _Known] = {}

    @property
    def enough(self) -> bool:
        """Whether every page that is written has a slot of its own."""
        return self._span <= self._slots

    def found(self, index: int, seconds: float, before: float = math.inf, times: int = 1 << 10) -> float:
        """The part of an area's pages, as they are sent, that is found in the cache.

        Args:
            index: of the area, which somebody writes.
            seconds: of writing that an iteration sends.
            before: seconds of writing whose pages were sent before, so may be in the cache.
            times: so many iterations were sent before. At first a slot belongs to whoever came first; those who are
                sent more often get the better of others only once the protection of these has ended.
        """
        if seconds <= 0:
            return 1.0
        key = (index, seconds)
        if key not in self._known:
            if len(self._known) > 256:
                self._known.clear()
            self._known[key] = self._owned(index, seconds)
        own, everyone = self._known[key]
        rounds = before / seconds
        first = min(self._slots / max(math.fsum(one.pages * _ever(one, rounds) for one in everyone), 1.0), 1.0)
        early = _STAYS_EARLY ** max(times - _PROTECTED, 0)
        sent = found = 0.0
        for one, owned in own:
            sent += one.pages * one.sent
            found += one.pages * one.sent * _ever(one, rounds) * (owned + (first - owned) * early)
        return min(found / sent, 1.0) if sent > 0 else 1.0

    def _owned(self, index: int, seconds: float) -> _Known:
        """Pages of an area and of all, by popularity; of the former, how probably they are found in the long run."""
        own: list[_Owner] = []
        everyone: list[_Owner] = []
        for i, area in enumerate(self._areas):
            owners = _owners(area, seconds)
            everyone.extend(owners)
            own = owners if i == index else own
        if self.enough:
            return [(one, 1.0) for one in own], everyone
        clean = math.fsum(owner.pages * (1 - owner.sent) for owner in everyone) / self._span
        contested = 1 - math.pow(max(clean, 0.0), self._span / self._slots - 1)
        for owner in everyone:
            _settle(owner, contested)
        scale = self._scale(everyone)
        owned = (min(scale * one.weight, 1.0) * one.found / one.stays / max(one.sent, 1e-12) for one in own)
        return [(one, min(share, 1.0)) for one, share in zip(own, owned, strict=True)], everyone

    def _scale(self, everyone: list[_Owner]) -> float:
        """The factor that makes weights probabilities of owning a slot, at most 1 each, so that no slot is empty."""
        low, high = 0.0, 1 / min(owner.weight for owner in everyone if owner.weight > 0)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            owned = math.fsum(owner.pages * min(middle * owner.weight, 1.0) for owner in everyone)
            low, high = (middle, high) if owned < self._slots else (low, middle)
        return high


def _ever(owner: _Owner, rounds: float) -> float:
    """The probability that such a page was sent at all in so many iterations."""
    return 1 - math.pow(1 - min(owner.sent, _ALWAYS), rounds)


def _settle(owner: _Owner, contested: float) -> None:
    """How long such a page owns a slot, and how often it is found there.

    Args:
        owner: filled in.
        contested: the probability that any of the others in the slot is sent in an iteration.
    """
    sent = min(owner.sent, _ALWAYS)
    # In the iteration after one in which it was clean: found before another comes, or driven out, or neither.
    again = sent * (1 - contested / 2)
    lost = max((1 - sent) * contested + sent * contested / 2, 1e-12)
    owner.stays = 1 / (1 - sent) + (1 + again / (1 - sent)) / lost
    owner.found = sent / (1 - sent) + again / ((1 - sent) * lost)


def _owners(area: Area, seconds: float) -> list[_Owner]:
    """The pages of an area by how probably an iteration of so many seconds of writing sends them; none: no writer."""
    law = area.law
    if law is None:
        return []
    draws = area.per_s * area.phases.duty * seconds
    if isinstance(law, Measured):
        raw = [(pages, min(seconds / period_s, 1.0)) for pages, period_s in law.sweeps()]
    elif isinstance(law, Sweep) or area.writer.size_bytes == 0:
        raw = [(float(area.pages), law.at(draws) / area.pages)]
    else:
        raw = [(float(pages), -math.expm1(-p * draws)) for pages, p in groups_of(area.writer, area.pages)]
    owners: list[_Owner] = []
    for pages, sent in raw:
        if owners and abs(owners[-1].sent - sent) <= _ALIKE * owners[-1].sent:
            last = owners[-1]
            last.sent = (last.pages * last.sent + pages * sent) / (last.pages + pages)
            last.pages += pages
        else:
            owners.append(_Owner(pages, sent))
    return owners
