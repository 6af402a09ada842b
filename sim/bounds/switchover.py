"""What a switchover takes besides the last pages, at the least: what no sender and no operator can save.

The guest stands from STOP on. QEMU waits for ``migrate-continue``, syncs once more and sends what is left and the
state of the devices behind it; the destination loads that and says so; then it is told ``cont``. The times between are
those of the simulator (`whimbrel.sim.qemu.t_rules`, `whimbrel.sim.pair`, `whimbrel.engine.costs`); where they are
drawn, the least that can be drawn counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.pair import MONITOR_LATENCY_NS, REACTION_NS
from whimbrel.sim.qemu.t_rules import PAUSE_NS, PROCEED_NS
from whimbrel.sim.scenario import Scenario

from .trace import Capacity, Seconds

_LEAST_DRAWN = 0.5
"""A message to a monitor, or a manager's reaction, takes at least half of the usual time."""
TOLD_S = _LEAST_DRAWN * (2 * MONITOR_LATENCY_NS + REACTION_NS) / SECOND_NS
"""From an event at a monitor to the arrival of the command with which a manager answers it."""


@dataclass(frozen=True, slots=True)
class Switchover:
    """The fixed parts.

    Attributes:
        before_s: from STOP until what is left may be sent.
        state_bytes: of the devices, behind the last page.
        after_s: from the last byte's leaving the link until the guest runs at the destination.
    """

    before_s: float
    state_bytes: int
    after_s: float

    @property
    def least_s(self) -> float:
        """The outage of a guest that has nothing left to send, over a link without end."""
        return self.before_s + self.after_s

    def arrivals_s(self, stops_s: Seconds, due_bytes: Seconds, capacity: Capacity) -> Seconds:
        """When the guest runs at the destination.

        What is left may go over from the stop on, as far as it lies in the pipe already; only the devices' state has
        to wait for the sync after it.

        Args:
            stops_s: when the guest stops.
            due_bytes: what the link can have carried, from the beginning on, when the last page is through.
            capacity: of the link.

        Returns:
            One for each stop; infinite where the link never carries so much.
        """
        ready = capacity.carried(stops_s + self.before_s)
        through_s = capacity.when(np.maximum(due_bytes, ready) + self.state_bytes)
        return np.maximum(through_s, stops_s + self.before_s) + self.after_s


def switchover_of(scenario: Scenario) -> Switchover:
    """The fixed parts of a scenario's switchover."""
    costs = scenario.qemu.costs
    sync_s = costs.sync_s + costs.sync_s_per_page * scenario.guest.ram_bytes / PAGE_BYTES
    return Switchover(
        before_s=(PAUSE_NS + PROCEED_NS) / SECOND_NS + TOLD_S + sync_s,
        state_bytes=costs.device_state_bytes,
        after_s=scenario.link.latency_s + costs.load_s + TOLD_S + costs.resume_s,
    )
