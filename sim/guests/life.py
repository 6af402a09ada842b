"""The guest's own time and what hinders it: halts, the throttle, the dirty limit."""

from __future__ import annotations

import math

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.memory.contract import PAGE_BYTES

from .laws import Law
from .plan import Area
from .streams import Stream

_HALVINGS = 40
"""Steps of the search for the speed that a dirty limit allows: to 1e-12 of the full speed."""


class Life:
    """How long the guest has run, and how many draws each of its writers has made.

    Its own time stands still while it is halted, as the clock of a stopped QEMU does, so that its phases go on where
    they were.

    Args:
        areas: all RAM; `streams` has an entry for each.
    """

    def __init__(self, areas: tuple[Area, ...]) -> None:
        self._areas = areas
        self.streams = [Stream(area.per_s, area.phases) if area.law else None for area in areas]
        self._free = [Stream(area.per_s, area.phases) if area.law else None for area in areas]
        self.running = False
        self._guest_ns = 0
        self._since_ns = 0
        self._began_ns: int | None = None
        self._throttle = 0.0
        self._limit: float | None = None

    def guest_s(self, now_ns: int) -> float:
        """Seconds for which the guest has run."""
        return self.guest_ns(now_ns) / SECOND_NS

    def guest_ns(self, now_ns: int) -> int:
        """Nanoseconds for which the guest has run."""
        return self._guest_ns + (now_ns - self._since_ns if self.running else 0)

    def run(self, now_ns: int) -> None:
        """It runs from here on."""
        if not self.running:
            self._since_ns, self.running = now_ns, True
            if self._began_ns is None:
                self._began_ns = now_ns

    def halt(self, now_ns: int) -> None:
        """It stands still from here on."""
        self._guest_ns = self.guest_ns(now_ns)
        self._since_ns, self.running = now_ns, False

    def throttle(self, now_ns: int, fraction: float) -> None:
        """Each vCPU is asleep for this part of its time."""
        self._throttle = fraction
        self._set_speeds(now_ns)

    def limit(self, now_ns: int, bytes_per_s: float | None) -> None:
        """The most that each vCPU may dirty."""
        self._limit = bytes_per_s
        self._set_speeds(now_ns)

    def done_work(self, now_ns: int) -> float:
        """Draws made against those of a guest that was never hindered, whose time never stood still."""
        if self._began_ns is None or now_ns <= self._began_ns:
            return 1.0
        wall_s = (now_ns - self._began_ns) / SECOND_NS
        guest_s = self.guest_s(now_ns)
        done = wanted = 0.0
        for stream, free in zip(self.streams, self._free, strict=True):
            if stream is not None and free is not None:
                done += stream.draws(guest_s)
                # While it is halted its phases stand still: what it would have done then is the mean of a cycle.
                wanted += free.draws(guest_s) + free.per_s * free.phases.duty * (wall_s - guest_s)
        return min(done / wanted, 1.0) if wanted else 1.0

    def expected_bytes(self, now_ns: int, window_s: float) -> float:
        """Distinct bytes that a window of its own time from now on is expected to dirty, at its present speeds."""
        guest_s = self.guest_s(now_ns)
        pages = 0.0
        for area, stream in zip(self._areas, self.streams, strict=True):
            if area.law is not None and stream is not None:
                pages += area.law.at(stream.draws(guest_s + window_s) - stream.draws(guest_s))
        return pages * PAGE_BYTES

    def _set_speeds(self, now_ns: int) -> None:
        guest_s = self.guest_s(now_ns)
        allowed = self._allowed()
        for area, stream in zip(self._areas, self.streams, strict=True):
            if stream is not None:
                vcpu = area.writer.vcpu
                speed = throttled(self._throttle, area.writer.cpu_share) if vcpu is not None else 1.0
                stream.go_at(guest_s, min(speed, allowed.get(vcpu, 1.0)))

    def _allowed(self) -> dict[int | None, float]:
        """By vCPU: the speed that the dirty limit leaves it."""
        by_vcpu: dict[int | None, list[tuple[Law, float]]] = {}
        if self._limit is not None:
            for area in self._areas:
                if area.law is not None and area.writer.vcpu is not None:
                    by_vcpu.setdefault(area.writer.vcpu, []).append((area.law, area.per_s))
        pages = (self._limit or 0.0) / PAGE_BYTES
        return {vcpu: _limited(laws, pages) for vcpu, laws in by_vcpu.items()}


def throttled(fraction: float, cpu_share: float) -> float:
    """The speed of a writer whose vCPU sleeps for a part of its time.

    Args:
        fraction: of the time asleep, 0 to 1.
        cpu_share: how much of the vCPU the writer needs at its full speed; with 0, next to nothing.
    """
    awake = 1.0 - fraction
    if awake >= cpu_share:
        return 1.0 if awake > 0 else 0.0
    return awake / cpu_share


def _limited(laws: list[tuple[Law, float]], pages_per_s: float) -> float:
    """The speed at which the writers of a vCPU, while on, dirty no more distinct pages in a second.

    QEMU measures over one second (``vcpu_dirty_rate_stat``, ``softmmu/dirtylimit.c``) and has the vCPU sleep where
    its dirty ring is full, which slows all its writers alike, whatever share of the CPU they need.
    """

    def dirtied(speed: float) -> float:
        return math.fsum(law.at(per_s * speed) for law, per_s in laws)

    if dirtied(1.0) <= pages_per_s:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if dirtied(middle) <= pages_per_s else (low, middle)
    return low
