"""``clark_rate``: each pass a little faster than the guest dirtied during the one before (Clark et al., NSDI 2005).

*Live Migration of Virtual Machines*, "dynamic rate-limiting": the first pass is sent at the least rate; each later
one at the rate at which pages were dirtied during the pass before, plus a constant 50 Mbit/s. Pre-copying ends when
that would be more than the greatest rate, or when less than 256 KB are left; the rest is sent at the greatest rate
with the guest stopped. The two rates are the administrator's; the code of that time (Xen,
tools/libxc/xc_linux_save.c, ``ADAPTIVE_SAVE``) has 100 and 500 Mbit/s, and bounds it by 29 passes and three times the
RAM besides: without these a guest that writes to a small part of its memory again and again, which it dirties slowly
when a pass is slow, would never be stopped.

All three rates are of the time of Gigabit Ethernet. Here the greatest is the link, and the others are in proportion:
on a link of 500 Mbit/s they are the published ones. The link is the bandwidth that is allowed, or what the first
second at full speed shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from whimbrel.engine.pilot import GREATEST_WAKE_S
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative, share
from .permits import HOLD_S, stop_now
from .room import LEARN_EVERY_S, Room
from .xen_classic import enough_sent

MBIT = 125_000
"""Bytes per second of 1 Mbit/s."""


@dataclass(slots=True, kw_only=True)
class ClarkRate:
    """Clark 2005: send at the last pass's dirty rate and a little more; stop when that is too much, or little is left.

    Needs: pausing, since it takes no heed of the downtime. Without it the stop is made if the rest fits what is
        allowed.

    Attributes:
        least: the rate of the first pass, and of any at least, as a part of the link.
        most: the greatest rate, likewise; also that of the rest.
        step: by how much a pass is to be faster than the guest dirties, likewise.
        link_bytes_per_s: what the link carries; ``None``: what is allowed or seen.
        small_bytes: so little is sent with the guest stopped.
        passes: so many at most.
        factor: so many times the RAM is sent at most.

    Raises:
        BadInput: a parameter makes no sense.
    """

    least: float = 0.2
    most: float = 1.0
    step: float = 0.1
    link_bytes_per_s: int | None = None
    small_bytes: int = 256 << 10
    passes: int = 29
    factor: float = 3.0
    _room: Room = field(default_factory=Room, init=False)
    _link: float = field(default=0.0, init=False)
    """What the link carries, bytes per second; 0: not known yet."""

    def __post_init__(self) -> None:
        share(least=self.least, most=self.most, step=self.step)
        above_zero(least=self.least, most=self.most, passes=self.passes, factor=self.factor)
        above_zero(link_bytes_per_s=1 if self.link_bytes_per_s is None else self.link_bytes_per_s)
        not_negative(small_bytes=self.small_bytes)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at the start of each pass, and once the link is known."""
        if seen.reason is Reason.SETUP:
            self._link = self.link_bytes_per_s or seen.objectives.bandwidth_bytes_per_s or 0
            if self._link:
                return self._first_pass()
            return Decision(
                downtime_limit_s=HOLD_S,
                bandwidth_bytes_per_s=0,
                wake_after_s=LEARN_EVERY_S,
                because="at full speed until the link is known",
            )
        if not self._link and self._learnt(seen):
            return self._first_pass() if seen.iteration <= 1 else self._pass(seen)
        if seen.reason is not Reason.ITERATION or not seen.iterations:
            return Decision()
        return self._pass(seen)

    def _learnt(self, seen: Observation) -> bool:
        """Whether the link is known by now; a first pass that was too short for that is all there is to go by."""
        if self._room.learn(seen):
            self._link = self._room.link_bytes_per_s or 0.0
        elif seen.iterations:
            self._link = seen.iterations[0].bandwidth_bytes_per_s
        return self._link > 0

    def _first_pass(self) -> Decision:
        least = round(self.least * self._link)
        return Decision(
            downtime_limit_s=HOLD_S,
            bandwidth_bytes_per_s=max(1, least),
            wake_after_s=GREATEST_WAKE_S,
            because=f"first pass at {_mbit(least)}, of {_mbit(self._link)}",
        )

    def _pass(self, seen: Observation) -> Decision:
        most = max(1, round(self.most * self._link))
        dirty = seen.iterations[-1].dirty_bytes_per_s
        wanted = dirty + self.step * self._link
        told = f"{_mbit(dirty)} dirtied, {_mbit(wanted)} wanted"
        why = ""
        if seen.remaining_bytes < self.small_bytes:
            why = f"{seen.remaining_bytes >> 10} KiB left"
        elif wanted > most:
            why = f"{told}, {_mbit(most)} allowed"
        if why := why or enough_sent(seen, self.passes, self.factor):
            return stop_now(seen, why, bandwidth_bytes_per_s=most)
        rate = max(1, round(max(self.least * self._link, wanted)))
        return Decision(downtime_limit_s=HOLD_S, bandwidth_bytes_per_s=rate, because=told)


def _mbit(bytes_per_s: float) -> str:
    return f"{bytes_per_s / MBIT:.0f} Mbit/s"
