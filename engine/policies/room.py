"""What of a downtime is left for the limit that QEMU is given, when the whole of the outage is to fit.

QEMU compares its limit with what it has not sent yet. What was sent and is still on its way (`whimbrel.engine.link`),
the state of the devices and the hand-over come on top. Policies that stand for a product leave that as the product
does; those of our own take it off the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from whimbrel.engine.link import LinkEstimate
from whimbrel.engine.pilot import GREATEST_WAKE_S, LEAST_DOWNTIME_LIMIT_S
from whimbrel.engine.policy import Decision, Observation

LEARN_EVERY_S = 0.05
"""How often to look while the link is being learnt; it is known after about 0.7 s."""
FIXED_S = 0.025
"""What a switchover takes with nothing left to send: 20 to 25 ms on QEMU 7.2 with a small guest."""
LEAST_PART = 0.2
"""Of the downtime, what is left for the limit in any case: QEMU has to find a rest that fits."""


def sending_s(seen: Observation) -> float:
    """How long the transfer has been going on, seconds, by QEMU's own clock where it tells."""
    last = seen.samples[-1] if seen.samples else None
    if last is None or last.qemu_total_s is None:
        return seen.elapsed_s
    return last.qemu_total_s - (last.setup_s or 0.0)


@dataclass(slots=True)
class Room:
    """Learns the link in the first iteration, and knows the limit that leaves room for what QEMU does not count."""

    _link: LinkEstimate = field(default_factory=LinkEstimate)
    _told: bool = field(default=False)

    @property
    def link_bytes_per_s(self) -> float | None:
        """What the link carries; ``None``: not known."""
        return self._link.goodput_bytes_per_s

    def learn(self, seen: Observation) -> bool:
        """Take what is seen, while nothing but the link limits the sender; whether the link is known by now."""
        if seen.iteration <= 1 and seen.remaining_bytes > 0:
            self._link.add(sending_s(seen), seen.transferred_bytes)
        return self.link_bytes_per_s is not None

    def news(self, seen: Observation) -> Decision:
        """The limit, once: when the link is known, or the first iteration is over and told too little."""
        if self._told or not (self.learn(seen) or seen.iteration > 1):
            return Decision()
        self._told = True
        limit_s = self.limit_s(seen)
        goal_ms = seen.objectives.downtime_s * 1e3
        because = f"{limit_s * 1e3:.0f} ms, of {goal_ms:.0f} ms: the rest is for what QEMU leaves out"
        return Decision(downtime_limit_s=limit_s, wake_after_s=GREATEST_WAKE_S, because=because)

    def limit_s(self, seen: Observation) -> float:
        """The limit with which the outage fits the greatest downtime allowed, seconds."""
        goal_s = seen.objectives.downtime_s
        return max(LEAST_DOWNTIME_LIMIT_S, LEAST_PART * goal_s, goal_s - self._link.pipe_s - FIXED_S)
