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
        vcpus: how many vCPUs it has.
    """

    def __init__(self, areas: tuple[Area, ...], vcpus: int = 1) -> None:
        self._areas = areas
        self.streams = [Stream(area.per_s, area.phases) if area.law else None for area in areas]
        self._free = [Stream(area.per_s, area.phases) if area.law else None for area in areas]
        self.running = False
        self._guest_ns = 0
        self._since_ns = 0
        self._counted_from = (0, 0.0)
        """From when on work is counted, and the seconds of it that were lost by then."""
        self._slowed_s = 0.0
        """Seconds of work lost to low speeds, by the last change of speeds."""
        self._marked = (0.0, 0.0, 0.0)
        """The guest's time then, the draws made and those that would have been made."""
        self._began_ns: int | None = None
        self._throttle = 0.0
        self._outside = 0.0
        self._limit: float | None = None
        self.most_slowed = 0.0
        """The most of their time that was ever taken from the vCPUs, by whatever means, 0 to 1."""
        self._vcpus = [_Vcpu(number, areas, self.streams) for number in range(vcpus)]

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
        """Each vCPU is asleep for this part of its time, by QEMU's own doing."""
        self._throttle = fraction
        self._set_speeds(now_ns)

    def throttle_from_outside(self, now_ns: int, fraction: float) -> None:
        """Each vCPU's thread gets no more than the rest of the time from its host."""
        if fraction != self._outside:
            self._outside = fraction
            self._set_speeds(now_ns)

    @property
    def taken(self) -> float:
        """The part of its time that each vCPU does not get.

        QEMU's throttle has the thread sleep; a quota from outside bounds how much CPU it may use in each of the
        scheduler's periods. A thread that sleeps uses none of its quota, and one that is held by its quota sleeps off
        part of QEMU's sleep meanwhile, so that the two overlap: the larger one is what is felt, not their sum.
        """
        return max(self._throttle, self._outside)

    def limit(self, now_ns: int, bytes_per_s: float | None) -> None:
        """The most that each vCPU may dirty."""
        self._limit = bytes_per_s
        self._set_speeds(now_ns)

    def vcpu_s(self, now_ns: int) -> tuple[float, ...]:
        """How long each vCPU has run, seconds of its thread's time.

        What its writers need at their full speeds (`Writer.cpu_share`), as far as they make their draws; several on one
        vCPU add up, to no more than there is. What the guest does besides is not modelled: a writer without a share
        needs next to nothing.
        """
        guest_s = self.guest_s(now_ns)
        return tuple([each.ran_s(guest_s) for each in self._vcpus])

    def count_work(self, now_ns: int) -> None:
        """Count work from here on, and no more what was done, or lost, before."""
        self._mark(self.guest_s(now_ns))
        self._counted_from = (now_ns, self._lost_s(now_ns))

    def done_work(self, now_ns: int) -> float:
        """The part of its time that the guest had for its work, 0 to 1; one that never writes has none to lose.

        What it stood still is lost. What it ran at less than its full speed is lost as far as it made fewer draws than
        it wanted to: a throttle costs nothing while nobody wants to write.
        """
        since_ns, lost_before_s = self._counted_from
        if self._began_ns is None or not any(self.streams):
            return 1.0
        since_ns = max(since_ns, self._began_ns)
        if now_ns <= since_ns:
            return 1.0
        lost_s = self._lost_s(now_ns) - lost_before_s
        return min(1.0, max(0.0, 1.0 - lost_s * SECOND_NS / (now_ns - since_ns)))

    def _lost_s(self, now_ns: int) -> float:
        """Since the guest began."""
        if self._began_ns is None:
            return 0.0
        guest_s = self.guest_s(now_ns)
        return (now_ns - self._began_ns) / SECOND_NS - guest_s + self._slowed_s + self._slowed_since_s(guest_s)

    def _slowed_since_s(self, guest_s: float) -> float:
        """What is lost of the time since the last change of speeds."""
        from_s, done_before, wanted_before = self._marked
        done, wanted = self._draws(self.streams, guest_s), self._draws(self._free, guest_s)
        if wanted <= wanted_before:
            return 0.0
        return (guest_s - from_s) * (1.0 - (done - done_before) / (wanted - wanted_before))

    def _mark(self, guest_s: float) -> None:
        self._slowed_s += self._slowed_since_s(guest_s)
        self._marked = (guest_s, self._draws(self.streams, guest_s), self._draws(self._free, guest_s))

    @staticmethod
    def _draws(streams: list[Stream | None], guest_s: float) -> float:
        return math.fsum([stream.draws(guest_s) for stream in streams if stream is not None])

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
        allowed, taken = self._allowed(), self.taken
        self._mark(guest_s)
        for vcpu in self._vcpus:
            vcpu.mark(guest_s, taken)
        self.most_slowed = max(self.most_slowed, taken, *(1.0 - speed for speed in allowed.values()))
        for area, stream in zip(self._areas, self.streams, strict=True):
            if stream is not None:
                number = area.writer.vcpu
                speed = throttled(taken, area.writer.cpu_share) if number is not None else 1.0
                stream.go_at(guest_s, min(speed, allowed.get(number, 1.0)))

    def _allowed(self) -> dict[int | None, float]:
        """By vCPU: the speed that the dirty limit leaves it."""
        by_vcpu: dict[int | None, list[tuple[Law, float]]] = {}
        if self._limit is not None:
            for area in self._areas:
                if area.law is not None and area.writer.vcpu is not None:
                    by_vcpu.setdefault(area.writer.vcpu, []).append((area.law, area.per_s))
        pages = (self._limit or 0.0) / PAGE_BYTES
        return {vcpu: _limited(laws, pages) for vcpu, laws in by_vcpu.items()}


class _Vcpu:
    """How long one vCPU has run, from the draws of those who write on it."""

    __slots__ = ("_awake", "_from_needed_s", "_from_ran_s", "_from_s", "_writers")

    def __init__(self, number: int, areas: tuple[Area, ...], streams: list[Stream | None]) -> None:
        self._writers = [
            (stream, area.writer.cpu_share / stream.per_s)
            for area, stream in zip(areas, streams, strict=True)
            if stream is not None and area.writer.vcpu == number and area.writer.cpu_share
        ]
        self._from_s = self._from_needed_s = self._from_ran_s = 0.0
        self._awake = 1.0

    def ran_s(self, guest_s: float) -> float:
        """By a moment of the guest's time."""
        needed_s = self._needed_s(guest_s) - self._from_needed_s
        return self._from_ran_s + min(needed_s, self._awake * (guest_s - self._from_s))

    def mark(self, guest_s: float, taken: float) -> None:
        """From this moment on so much of its time is taken from it."""
        self._from_ran_s = self.ran_s(guest_s)
        self._from_s, self._from_needed_s, self._awake = guest_s, self._needed_s(guest_s), 1.0 - taken

    def _needed_s(self, guest_s: float) -> float:
        needed_s = 0.0
        for stream, each_s in self._writers:
            needed_s += stream.draws(guest_s) * each_s
        return needed_s


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
