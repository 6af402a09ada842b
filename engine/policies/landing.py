"""A landing: the end of an iteration, sent so that the pipe has run empty when the guest stops.

QEMU sends in windows of 100 ms, each portion as one burst at the window's start: a bandwidth of ``q / 100 ms`` is a
portion of q bytes. The last iteration is sent in ever smaller portions, slower than the link; while the pipe drains the
link is busy, so that costs next to nothing. What lies in the pipe when the guest stops is outage: the device state
waits behind it.

The constants were found on QEMU 7.2 at 200 Mbit/s and 1 Gbit/s (benchmarks/README.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from whimbrel.engine.link import LinkEstimate
from whimbrel.engine.policy import Decision, Observation

from .room import sending_s

WINDOW_S = 0.1
"""QEMU's window (BUFFER_DELAY, migration/migration.c): bandwidth is measured, and portions are sent, once in each."""
ROOM = 0.95
"""A portion leaves 5 % of a window free: for headers, and an estimate that is a little high."""
SURE = 0.97
"""So much of the goodput is counted on when a landing is planned."""
LEAST_THRESHOLD_BYTES = 64 << 10
"""Below the few pages that any guest dirties at once QEMU would sync in a tight loop (81 times in 0.1 s were seen)."""
DEEP_FIRST_S, DEEP_LATER_S = 0.04, 0.01
"""A pipe of so many seconds is worth a landing: in the first iteration, and in later ones."""
LANDING_S, GREATEST_COST = 0.15, 0.03
"""A landing takes about 0.15 s; in the first iteration it may be 3 % of the time that has gone by."""
EMPTY_S = 0.006
"""A pipe of so many seconds counts as empty."""
TRICKLE_BYTES = 8 << 10
"""A portion that holds the sender for one window."""


@dataclass(slots=True)
class _Portions:
    """The end of an iteration, sent in portions so that the pipe is empty when the guest stops."""

    first: bool
    """In the first iteration, where the windows were not ours."""
    rest_bytes: float
    """What is to be left when the pipe is empty."""
    portion_bytes: float
    pipe_bytes: float
    at_s: float
    sent_bytes: int


@dataclass(slots=True)
class Landing:
    """Sees QEMU's windows, and plans what is sent in each.

    Attributes:
        link: what was learnt of it.
    """

    link: LinkEstimate
    _portions: _Portions | None = None
    _window: tuple[float, float] = (0.0, 0.0)
    """When the present window was seen to begin, and QEMU's measured bandwidth by which that was seen."""

    @property
    def under_way(self) -> bool:
        """Whether one has begun in this iteration."""
        return self._portions is not None

    def watch(self, seen: Observation) -> None:
        """Take a look: a new bandwidth is a new window."""
        if _measured(seen) != self._window[1]:
            self._window = (sending_s(seen), _measured(seen))

    def end(self) -> None:
        """A sync has come, or there is no time for it."""
        self._portions = None

    def gains(self, seen: Observation, ratio: float | None) -> bool:
        """Whether draining the pipe costs less than it gains.

        Args:
            seen: now; the link is known.
            ratio: what the guest dirties for each byte that is sent; ``None``: in the first iteration nobody knows.
        """
        allowed, goodput = seen.objectives.bandwidth_bytes_per_s, self.link.goodput_bytes_per_s
        if goodput is None or (allowed and goodput > ROOM * allowed):
            return False  # the user's bound is what slows it, not the link: the pipe does not fill
        pipe_s = self.link.pipe_s
        if ratio is None:
            return pipe_s >= DEEP_FIRST_S
        return pipe_s >= DEEP_LATER_S and ratio <= 0.8 * pipe_s / (pipe_s + WINDOW_S)

    def decide(self, seen: Observation, aim_s: float, *, may_begin: bool) -> Decision | None:
        """What is to be sent in the windows to come, and a limit at which QEMU does not switch over before.

        Args:
            seen: now; the link is known.
            aim_s: the outage aimed at, seconds of link time.
            may_begin: whether a landing may begin, where none is under way.

        Returns:
            ``None``: nothing is to be changed.
        """
        goodput = self.link.goodput_bytes_per_s
        assert goodput is not None
        portion: float | None = None
        if self._portions is not None:
            portion = self._next_portion(seen, goodput, self._portions)
        elif may_begin and seen.iteration <= 1:
            portion = self._begin_first(seen, goodput, aim_s)
        elif may_begin:
            portion = self._begin_later(seen, goodput)
        if portion is None:
            return None
        limit_s = LEAST_THRESHOLD_BYTES * WINDOW_S / max(portion, 0.3 * aim_s * goodput)
        left, pipe_ms = seen.remaining_bytes >> 10, self.link.pipe_s * 1e3
        return Decision(
            downtime_limit_s=min(seen.objectives.downtime_s, limit_s),
            bandwidth_bytes_per_s=_rate(seen, portion),
            because=f"landing: {left} KiB left, the pipe holds {pipe_ms:.0f} ms, next portion {portion / 1024:.0f} KiB",
        )

    def _begin_first(self, seen: Observation, goodput: float, aim_s: float) -> float | None:
        """The end of the first iteration: a stream whose portions were not ours, so the pipe has to be followed."""
        if GREATEST_COST * sending_s(seen) + 0.01 < LANDING_S:
            return None
        rest, room, pipe = 1.3 * aim_s * goodput, ROOM * WINDOW_S * goodput, self.link.pipe_bytes
        portions = max(1, math.ceil(pipe / room))
        # Where in its window the sender is is not known: half a portion is the best guess.
        begin_at = (portions + 0.5) * room - pipe + rest
        if not rest <= seen.remaining_bytes <= begin_at:
            return None
        return self._begin(seen, first=True, rest=rest, portion=min(room, seen.remaining_bytes - rest))

    def _begin_later(self, seen: Observation, goodput: float) -> float | None:
        """The end of a short iteration: portions of this window and the next, so that the last finds the pipe empty."""
        room, pipe = ROOM * WINDOW_S * goodput, self.link.pipe_bytes
        rest = max(64 << 10, 0.002 * goodput)
        to_send = seen.remaining_bytes - rest
        if seen.remaining_bytes < 0.3 * room:
            return None
        phase_s = min(WINDOW_S, max(0.0, sending_s(seen) - self._window[0]))
        used = goodput * phase_s
        for windows in range(1, 3 if self.link.pipe_s < WINDOW_S else 4):
            portion = (to_send + used) / (windows + 1)
            if portion < used:
                portion = to_send / windows
            carried = SURE * goodput * (WINDOW_S - phase_s + windows * WINDOW_S)
            if portion <= room and pipe + to_send <= carried:
                return self._begin(seen, first=False, rest=rest, portion=portion)
        return None

    def _begin(self, seen: Observation, *, first: bool, rest: float, portion: float) -> float:
        self._portions = _Portions(
            first=first,
            rest_bytes=rest,
            portion_bytes=portion,
            pipe_bytes=self.link.pipe_bytes,
            at_s=sending_s(seen),
            sent_bytes=seen.transferred_bytes,
        )
        return portion

    def _next_portion(self, seen: Observation, goodput: float, landing: _Portions) -> float | None:
        """The portion for the windows to come, where it is to be another one than now."""
        at_s = sending_s(seen)
        sent = seen.transferred_bytes - landing.sent_bytes
        landing.pipe_bytes = max(0.0, landing.pipe_bytes - goodput * (at_s - landing.at_s) + sent)
        landing.at_s, landing.sent_bytes = at_s, seen.transferred_bytes
        into_s = at_s - self._window[0]
        # What the next window's burst will find in the pipe.
        in_the_way = max(0.0, landing.pipe_bytes - goodput * max(0.0, WINDOW_S - into_s))
        choose = self._portion_first if landing.first else self._portion_later
        wanted = choose(seen.remaining_bytes, goodput, landing, in_the_way, into_s, sent)
        if wanted is not None:
            landing.portion_bytes = wanted
        return wanted

    def _portion_first(
        self, left: int, goodput: float, landing: _Portions, in_the_way: float, into_s: float, sent: int
    ) -> float | None:
        rest, portion = landing.rest_bytes, landing.portion_bytes
        if left > 1.6 * rest:
            wanted = min(portion, left - rest)
        elif in_the_way > EMPTY_S * goodput:
            wanted = min(portion, TRICKLE_BYTES)
        elif left > 0.75 * rest or portion < left / 2:
            wanted = left / 2
        else:
            return None
        # Raised again only well after this window's burst, so that it counts for the next window.
        held = portion <= TRICKLE_BYTES < wanted and into_s > 0.3 * WINDOW_S
        return wanted if wanted < 0.9 * portion or held else None

    def _portion_later(
        self, left: int, goodput: float, landing: _Portions, in_the_way: float, into_s: float, sent: int
    ) -> float | None:
        """Planned anew while QEMU sleeps, its portion sent."""
        if sent or left < 2.5 * landing.rest_bytes or into_s < 0.1 * WINDOW_S:
            return None
        to_send, room = left - landing.rest_bytes, ROOM * WINDOW_S * goodput
        by_room, by_pipe = to_send / room, (in_the_way + to_send) / (SURE * goodput * WINDOW_S)
        wanted = to_send / max(1, math.ceil(max(by_room, by_pipe)))
        return wanted if abs(wanted - landing.portion_bytes) >= 0.05 * landing.portion_bytes else None


def _rate(seen: Observation, portion_bytes: float) -> int:
    """The bandwidth that is a portion of so many bytes."""
    rate = max(1, round(portion_bytes / WINDOW_S))
    return min(rate, seen.objectives.bandwidth_bytes_per_s or rate)


def _measured(seen: Observation) -> float:
    return seen.samples[-1].bandwidth_bytes_per_s if seen.samples else 0.0
