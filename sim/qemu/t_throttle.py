"""What slows the guest where it dirties faster than it is sent: auto-converge's ladder, and the dirty limit."""

from __future__ import annotations

from whimbrel.sim.memory.contract import Memory

from .contract import Settings
from .t_counters import number
from .t_rules import HIGHEST_THROTTLE, LOWEST_THROTTLE, Rules

STRIKES = 2
"""So many periods with too much dirtied make a step (ram.c). A good period between them changes nothing."""
TIMESLICE_NS = 10_000_000
"""For so long a vCPU is awake at a time (``CPU_THROTTLE_TIMESLICE_NS``, softmmu/cpu-throttle.c)."""
_MIB = 1 << 20


class Throttle:
    """The detector, and what it moves.

    Attributes:
        percentage: of its time that each vCPU is asleep (auto-converge); 0: it is off.
        limit_mib_per_s: what each vCPU may dirty (dirty limit); 0: no limit.
    """

    __slots__ = (
        "_auto_converge",
        "_dirty_limit",
        "_memory",
        "_settings",
        "_since_ns",
        "_strikes",
        "limit_mib_per_s",
        "percentage",
    )

    def __init__(self, memory: Memory, settings: Settings, rules: Rules) -> None:
        """Nothing is slowed yet; auto-converge goes before the dirty limit."""
        capabilities = settings.capabilities
        self._memory = memory
        self._settings = settings
        self._auto_converge = bool(capabilities.get("auto-converge"))
        self._dirty_limit = rules.dirty_limit and bool(capabilities.get("dirty-limit"))
        self._strikes = 0
        self._since_ns = 0
        self.percentage = 0
        self.limit_mib_per_s = 0

    def judge(self, now_ns: int, dirty_bytes: int, sent_bytes: int) -> None:
        """A period has ended.

        Args:
            now_ns: now.
            dirty_bytes: pages found dirty in it.
            sent_bytes: sent in it.
        """
        bearable_bytes = sent_bytes * number(self._settings, "throttle-trigger-threshold", 50) // 100
        if dirty_bytes <= bearable_bytes:
            return
        self._strikes += 1
        if self._strikes < STRIKES:
            return
        self._strikes = 0
        if self._auto_converge:
            self.percentage, self._since_ns = self._next(dirty_bytes, bearable_bytes), now_ns
            self._memory.throttle(now_ns, self.percentage / 100)
        elif self._dirty_limit:
            limit = number(self._settings, "vcpu-dirty-limit", 1)
            if limit != self.limit_mib_per_s:
                self.limit_mib_per_s = limit
                self._memory.limit(now_ns, float(limit * _MIB))

    def asleep_for_ns(self, now_ns: int) -> int:
        """How long the vCPUs go on sleeping: all begin at the same tick of a timer, and are awake for a timeslice each.

        At 99 % they sleep 990 ms at a time.
        """
        if not self.percentage:
            return 0
        cycle_ns = TIMESLICE_NS * 100 // (100 - self.percentage)
        return max(0, cycle_ns - TIMESLICE_NS - (now_ns - self._since_ns) % cycle_ns)

    def off(self, now_ns: int) -> None:
        """The migration is over."""
        if self.percentage:
            self.percentage = 0
            self._memory.throttle(now_ns, 0.0)
        if self.limit_mib_per_s:
            self.limit_mib_per_s = 0
            self._memory.limit(now_ns, None)

    def _next(self, dirty_bytes: int, bearable_bytes: int) -> int:
        settings = self._settings
        if not self.percentage:
            target = number(settings, "cpu-throttle-initial", 20)
        else:
            step = number(settings, "cpu-throttle-increment", 10)
            if settings.parameters.get("cpu-throttle-tailslow"):
                awake = 100 - self.percentage
                # With this share of its time awake it would dirty just what is bearable.
                ideal = int(awake * (bearable_bytes / dirty_bytes))
                step = min(awake - ideal, step)
            target = min(self.percentage + step, number(settings, "max-cpu-throttle", 99))
        return max(LOWEST_THROTTLE, min(HIGHEST_THROTTLE, target))
