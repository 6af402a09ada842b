"""``deadline``: end at a given time, no earlier than it must be, no later if it can be helped; after Pacer.

*Pacer: A Progress Management System for Live Virtual Machine Migration in Cloud Computing* (Zheng et al., Rice
University; its QEMU is public). The user gives the finish time. Every 5 s the greatest rate that can be had is
estimated (0.8 of the old value and 0.2 of the new), the rate for the next 5 s follows from what remains, what is
dirtied and the time left, and is 1 MiB/s at least; where that is more than can be had the migration is late, goes on
at full speed, and writes of the guest are slowed to a fifth. Here that is a fifth of its CPU time, and half as much
every time that it turns out not to do.

Pacer paces the copying of the disk and sends memory at full speed; here there is memory only, so the same rule paces
that:

- first pass: ``remaining / (time left - t3)``, where ``t3`` is what the passes after it take at full speed, from the
  dirty rate measured before the start (one window of 1 s) where the source can be measured, else a fifth of the time;
- later: ``remaining / time left + dirty rate``: the rest shrinks by the difference, to nothing at the finish time;
- when the rest, at full speed, needs all of the time left: full speed, and all of the downtime allowed.

Until then QEMU's own rule is held off, since a slow rate also lowers the bandwidth by which it decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from whimbrel.engine.pilot import LEAST_THROTTLE
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, share
from .permits import HOLD_S, stop_now, why_no_outside_throttle, why_no_qemu_throttle
from .room import LEARN_EVERY_S, Room

LEAST_BYTES_PER_S = 1 << 20
"""Pacer's own least rate."""
RESERVE = 0.2
"""The part of the time that is kept for later passes where nothing is known of them."""
MEASURED_S = 1.0
SHORT = 0.9
"""Less than this part of a rate that was set was not had."""


@dataclass(slots=True, kw_only=True)
class Deadline:
    """Pacer: finish at a given time, as slowly as that allows; when late, at full speed and with the guest slowed.

    Needs: slowing the guest, to make up for lost time; without it a late migration is sent at full speed only.

    Attributes:
        finish_s: when it is to end, seconds from its start; ``None``: at the objectives' deadline.
        spare: where there is no deadline either, so many times what the RAM takes on the link once, 1 or more.
        every_s: how often the rate is set, seconds.
        memory: the part of the old value in the estimates, 0 to below 1.
        slowed: the part of the vCPUs' time that is taken when it is late.

    Raises:
        BadInput: a time or a share makes no sense.
    """

    finish_s: float | None = None
    spare: float = 3.0
    every_s: float = 5.0
    memory: float = 0.8
    slowed: float = 0.8
    _room: Room = field(default_factory=Room, init=False)
    _most: float = field(default=0.0, init=False)
    """The greatest rate that can be had, bytes per second; 0: not known yet."""
    _dirty: float | None = field(default=None, init=False)
    """The dirty rate, bytes per second."""
    _full: bool = field(default=True, init=False)
    """Whether it is being sent as fast as can be, so that the rate tells what can be had."""
    _taken: float = field(default=0.0, init=False)
    """The part of the vCPUs' time that is taken."""
    _taken_s: float = field(default=0.0, init=False)
    """When more of it was taken last."""
    _by_qemu: bool = field(default=False, init=False)
    """Whether QEMU's throttle stands by."""

    def __post_init__(self) -> None:
        above_zero(finish_s=1.0 if self.finish_s is None else self.finish_s, every_s=self.every_s, spare=self.spare)
        share(memory=self.memory, slowed=self.slowed)

    def __call__(self, seen: Observation) -> Decision:
        """Decide every so often, and at the start of each pass."""
        if seen.reason is Reason.SETUP:
            return self._setup(seen)
        if seen.reason is Reason.DEADLINE:
            return stop_now(seen, "the deadline has passed", bandwidth_bytes_per_s=self._allowed(seen))
        if not self._most:
            self._most = self._first_rate(seen)
            if not self._most:
                return Decision()
        else:
            self._learn(seen)
        return self._pace(seen, self._finish_s(seen) - seen.elapsed_s)

    def _setup(self, seen: Observation) -> Decision:
        if seen.abilities.measuring and not seen.measurements:
            return Decision(measure_s=(MEASURED_S,), because="how much the guest dirties is to be known")
        if seen.measurements:
            last = seen.measurements[-1]
            self._dirty = last.dirtied_bytes / last.window_s
        self._by_qemu = bool(why_no_outside_throttle(seen)) and not why_no_qemu_throttle(seen)
        # QEMU's throttle stands by at its least: it can't be asked for later.
        least = LEAST_THROTTLE if self._by_qemu else None
        return Decision(
            downtime_limit_s=HOLD_S,
            bandwidth_bytes_per_s=self._allowed(seen),
            capabilities={"auto-converge": True} if self._by_qemu else {},
            throttle_initial=least,
            throttle_increment=least,
            throttle_ceiling=least,
            wake_after_s=LEARN_EVERY_S,
            because="at full speed until the link is known",
        )

    def _first_rate(self, seen: Observation) -> float:
        """What can be had, bytes per second; 0: not known yet."""
        if self._room.learn(seen):
            return self._room.link_bytes_per_s or 0.0
        # A first pass that was too short to tell is all there is to go by.
        return seen.iterations[0].bandwidth_bytes_per_s if seen.iterations else 0.0

    def _learn(self, seen: Observation) -> None:
        # A rate that was asked for and not had tells as much of the link as full speed does.
        short = seen.bandwidth_bytes_per_s < SHORT * seen.knobs.bandwidth_bytes_per_s
        if self._full or short:
            self._most = self._smooth(self._most, seen.bandwidth_bytes_per_s)
        if seen.reason is Reason.ITERATION and seen.iterations:
            self._dirty = self._smooth(self._dirty, seen.iterations[-1].dirty_bytes_per_s)

    def _smooth(self, old: float | None, new: float) -> float:
        return new if old is None else self.memory * old + (1 - self.memory) * new

    def _pace(self, seen: Observation, time_left_s: float) -> Decision:
        dirty, left = self._dirty or 0.0, seen.remaining_bytes
        needed_s = left / (self._most - dirty) if self._most > dirty else float("inf")
        if seen.iteration <= 1:
            after_s = self._after_first_s(seen, dirty)
            needed_s = left / self._most + after_s
            wanted = left / (time_left_s - after_s) if time_left_s > after_s else float("inf")
        else:
            wanted = left / time_left_s + dirty if time_left_s > 0 else float("inf")
        if wanted < self._most and needed_s + seen.objectives.downtime_s < time_left_s:
            return self._slowly(seen, wanted, time_left_s)
        return self._at_full_speed(seen, needed_s, time_left_s)

    def _after_first_s(self, seen: Observation, dirty: float) -> float:
        """What the passes after the first take at full speed, seconds."""
        if self._dirty is None:
            return RESERVE * self._finish_s(seen)
        dirtied = min(float(seen.total_bytes), dirty * seen.total_bytes / self._most)
        return dirtied / (self._most - dirty) if self._most > dirty else float("inf")

    def _slowly(self, seen: Observation, wanted: float, time_left_s: float) -> Decision:
        allowed = self._allowed(seen)
        rate = max(LEAST_BYTES_PER_S, round(wanted))
        self._full = False
        return Decision(
            downtime_limit_s=HOLD_S,
            bandwidth_bytes_per_s=min(rate, allowed) if allowed else rate,
            wake_after_s=min(self.every_s, max(0.1, time_left_s / 4)),
            because=f"{seen.remaining_bytes >> 20} MiB left, {time_left_s:.1f} s: {rate / (1 << 20):.1f} MiB/s",
        )

    def _at_full_speed(self, seen: Observation, needed_s: float, time_left_s: float) -> Decision:
        self._full = True
        ending = seen.iteration > 1
        decision = Decision(
            downtime_limit_s=self._room.limit_s(seen) if ending else HOLD_S,
            bandwidth_bytes_per_s=self._allowed(seen),
            wake_after_s=self.every_s,
            because=f"{needed_s:.1f} s needed, {time_left_s:.1f} s left: full speed",
        )
        waits = self._taken > 0 and seen.elapsed_s < self._taken_s + self.every_s
        if not ending or needed_s <= time_left_s or waits:
            return decision
        return self._slowing(seen, decision)

    def _slowing(self, seen: Observation, decision: Decision) -> Decision:
        """The same, and the guest slowed as far as that is allowed."""
        because = f"{decision.because}, late"
        refused = why_no_outside_throttle(seen)
        if refused and not self._by_qemu:
            return replace(decision, because=f"{because}; {refused}")
        # Where that was not enough, half of what is left.
        wanted = 1 - (1 - self._taken) / 2 if self._taken else self.slowed
        slowed = min(wanted, seen.objectives.greatest_throttle)
        if slowed == self._taken:
            return decision
        self._taken, self._taken_s = slowed, seen.elapsed_s
        if not refused:
            return replace(decision, outside_throttle=slowed, because=f"{because}: {slowed:.0%} of its time taken")
        because = f"{because}; {refused}: QEMU's throttle up to {slowed:.0%}"
        return replace(decision, throttle_increment=slowed, throttle_ceiling=slowed, because=because)

    def _finish_s(self, seen: Observation) -> float:
        wanted_s = seen.objectives.deadline_s if self.finish_s is None else self.finish_s
        return self.spare * seen.total_bytes / self._most if wanted_s is None else wanted_s

    @staticmethod
    def _allowed(seen: Observation) -> int:
        """All that the user allows; 0: no bound."""
        return seen.objectives.bandwidth_bytes_per_s or 0
