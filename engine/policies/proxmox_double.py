"""``proxmox_double``: whenever more was left than a moment ago, six times over, the downtime limit doubles.

Proxmox VE (qemu-server, src/PVE/QemuMigrate.pm, ``phase2``) begins with 100 ms (``migrate_downtime``) and looks once
a second, and ten times a second from the first time that less is left than is sent from one look to the next on
average. A look at which something was sent, and more is left than at the one before, or nothing at all, counts; when
more than five have counted, whenever that was, the limit doubles and it counts anew. There is neither a bound to it,
but QEMU's own 2000 s, nor any timeout: here the objectives bound it.

Proxmox also asks for ``auto-converge``, with QEMU's own ladder, and for ``xbzrle`` with a cache of a tenth of the
RAM, rounded up to a power of two. How much RAM there is a policy sees at its first look, so the cache is set then; it
is not used before the second pass in any case. Where nobody bounds the bandwidth Proxmox says 16 GiB/s, which is no
bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative, share
from .polling import Polls

QEMUS_GREATEST_S = 2000.0
MIB = 1 << 20


@dataclass(slots=True, kw_only=True)
class ProxmoxDouble:
    """Double the downtime limit each time that what is left has grown often enough.

    Attributes:
        downtime_s: the first limit, seconds.
        growths: more of them than this double it, 0 or more.
        poll_s: how often it looks, seconds.
        near_poll_s: how often once the end has been near, seconds.
        auto_converge: whether to ask for QEMU's throttle.
        xbzrle: whether to ask for XBZRLE.
        cache_share: its cache, as a share of the RAM.

    Raises:
        BadInput: a parameter out of its range.
    """

    downtime_s: float = 0.1
    growths: int = 5
    poll_s: float = 1.0
    near_poll_s: float = 0.1
    auto_converge: bool = True
    xbzrle: bool = True
    cache_share: float = 0.1
    _polls: Polls = field(init=False)
    _limit_s: float = field(init=False)
    _looks: int = 0
    _grown: int = 0
    _sent_bytes: int = 0
    """At the last look."""
    _left_bytes: int = 0
    """At the last look at which something had been sent."""
    _cached: bool = False
    """The cache's size has been set."""

    def __post_init__(self) -> None:
        above_zero(downtime_s=self.downtime_s, poll_s=self.poll_s, near_poll_s=self.near_poll_s)
        not_negative(growths=self.growths)
        share(cache_share=self.cache_share)
        self._polls = Polls(every_s=self.poll_s)
        self._limit_s = self.downtime_s

    def __call__(self, seen: Observation) -> Decision:
        """Decide at each look."""
        if seen.reason is Reason.SETUP:
            wanted = {"auto-converge": self.auto_converge, "xbzrle": self.xbzrle}
            return Decision(
                downtime_limit_s=self._limit_s,
                capabilities={name: True for name, state in wanted.items() if state},
                wake_after_s=self.poll_s,
                because=f"{self._limit_s * 1e3:.0f} ms, doubled where what is left grows",
            )
        decision = self._look(seen) if self._polls.due(seen) else Decision()
        if self._may_size_cache(seen):
            self._cached = True
            size_bytes = 1 << (max(1, int(self.cache_share * seen.total_bytes)) - 1).bit_length()
            because = f"XBZRLE's cache has {size_bytes / MIB:g} MiB for {seen.total_bytes / MIB:.0f} MiB of RAM"
            because = f"{decision.because}; {because}" if decision.because else because
            decision = replace(decision, xbzrle_cache_bytes=size_bytes, because=because)
        return replace(decision, wake_after_s=self._polls.wait_s(seen))

    def _look(self, seen: Observation) -> Decision:
        self._looks += 1
        sent_before, self._sent_bytes = self._sent_bytes, seen.transferred_bytes
        if seen.transferred_bytes == sent_before:
            return Decision()
        if seen.remaining_bytes < sent_before / self._looks:
            self._polls.every_s = self.near_poll_s
        left_before, self._left_bytes = self._left_bytes, seen.remaining_bytes
        if 0 < left_before < seen.remaining_bytes or seen.remaining_bytes == 0:
            self._grown += 1
        if self._grown <= self.growths or self._limit_s >= min(seen.objectives.downtime_s, QEMUS_GREATEST_S):
            return Decision()
        self._grown = 0
        self._limit_s = min(2 * self._limit_s, QEMUS_GREATEST_S)
        return Decision(
            downtime_limit_s=self._limit_s,
            because=f"what is left grew {self.growths + 1} times: {self._limit_s * 1e3:.0f} ms",
        )

    def _may_size_cache(self, seen: Observation) -> bool:
        wanted = self.xbzrle and "xbzrle" in seen.abilities.capabilities
        return wanted and not self._cached and seen.total_bytes > 0
