"""``ovirt_schedule``: a list of what to do after how many iterations; what oVirt does.

VDSM (lib/vdsm/virt/migration.py, ``MonitorThread``) looks every 10 s (``migration_monitor_interval``). Where QEMU has
begun another iteration since the last look, and the number of iterations since the first look exceeds the limit of
the entry at the head of its list, that one entry is carried out. It calls the number "stalling", but counts
iterations whether they progress or not. Entries whose limit is -1 come last, one at each look that finds another
iteration. Post-copy that can't be had is passed over: the next entry follows.

The lists are the engine's migration policies (ovirt-engine, packaging/dbscripts, ``MigrationPolicies``, 4.8), and
``legacy`` is VDSM's own (``exponential_downtime``): up to 500 ms in 5 steps, ``100 + 400^(k/4)`` ms. All of the
engine's ask for ``auto-converge``, and ``suspend_workload`` for XBZRLE. VDSM's limit of bandwidth, 52 MiB/s, holds
only where the engine sets none, which it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, one_of
from .last_resort import ABORT, START_POSTCOPY, capabilities, last_resort
from .permits import why_no_postcopy
from .polling import Polls

AT_ONCE = -1


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of a schedule.

    Attributes:
        after: it is taken when more iterations than this have begun since the first look.
        action: the downtime limit to set, seconds; or ``abort``, or ``postcopy``.
    """

    after: int
    action: float | str


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is done, in order.

    Attributes:
        first_s: the downtime limit at the start, seconds.
        steps: what follows.
        auto_converge: whether QEMU's throttle is asked for.
        xbzrle: whether XBZRLE is.
    """

    first_s: float
    steps: tuple[Step, ...]
    auto_converge: bool = True
    xbzrle: bool = False


_TO_200_MS = (Step(1, 0.15), Step(2, 0.2))
_TO_500_MS = (*_TO_200_MS, Step(3, 0.3), Step(4, 0.4), Step(6, 0.5))
_GIVE_UP = Step(AT_ONCE, ABORT)

SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "minimal_downtime": Schedule(0.1, (*_TO_500_MS, _GIVE_UP)),
        "suspend_workload": Schedule(0.1, (*_TO_500_MS, Step(AT_ONCE, 5.0), _GIVE_UP), xbzrle=True),
        "postcopy": Schedule(0.1, (*_TO_200_MS, Step(AT_ONCE, START_POSTCOPY), _GIVE_UP)),
        "very_large": Schedule(
            0.3,
            (Step(1, 0.4), Step(2, 0.5), Step(3, 0.7), Step(4, 1.0), Step(6, 1.5), Step(AT_ONCE, 5.0), _GIVE_UP),
        ),
        "legacy": Schedule(
            0.101,
            (Step(1, 0.104), Step(2, 0.12), Step(3, 0.189), Step(4, 0.5), Step(42, 0.5), _GIVE_UP),
            auto_converge=False,
        ),
    }
)
"""oVirt's own, by names shortened from theirs."""


@dataclass(slots=True, kw_only=True)
class OvirtSchedule:
    """Follow a schedule of iteration counts.

    Attributes:
        schedule: the name of one of `SCHEDULES`, or one of your own.
        poll_s: how often it looks, seconds.

    Raises:
        BadInput: no such schedule, or no time between looks.
    """

    schedule: str | Schedule = "minimal_downtime"
    poll_s: float = 10.0
    _plan: Schedule = field(init=False)
    _polls: Polls = field(init=False)
    _first: int | None = None
    """QEMU's number of the iteration at the first look."""
    _last: int = 0
    """And at the last one."""
    _next: int = 0
    """The entry that follows."""

    def __post_init__(self) -> None:
        above_zero(poll_s=self.poll_s)
        if isinstance(self.schedule, str):
            one_of("schedule", self.schedule, SCHEDULES)
            self._plan = SCHEDULES[self.schedule]
        else:
            self._plan = self.schedule
        self._polls = Polls(every_s=self.poll_s)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at each look."""
        plan = self._plan
        if seen.reason is Reason.SETUP:
            wanted = {"auto-converge": plan.auto_converge, "xbzrle": plan.xbzrle}
            later = START_POSTCOPY if any(step.action == START_POSTCOPY for step in plan.steps) else ABORT
            return Decision(
                downtime_limit_s=plan.first_s,
                capabilities={name: True for name, state in wanted.items() if state} | capabilities(later, seen),
                wake_after_s=self.poll_s,
                because=f"{plan.first_s * 1e3:.0f} ms, then by the count of iterations",
            )
        decision = self._look(seen) if self._polls.due(seen) else Decision()
        return replace(decision, wake_after_s=self._polls.wait_s(seen))

    def _look(self, seen: Observation) -> Decision:
        if self._first is None:
            self._first = self._last = seen.iteration
        if seen.iteration <= self._last or self._next >= len(self._plan.steps):
            return Decision()
        self._last = seen.iteration
        count, step = seen.iteration - self._first, self._plan.steps[self._next]
        if count <= step.after:
            return Decision()
        self._next += 1
        because = f"{count} iterations since the first look"
        if isinstance(step.action, str):
            if step.action == START_POSTCOPY and (refused := why_no_postcopy(seen)):
                return Decision(because=f"{because}, but {refused}: passed over")
            return last_resort(step.action, seen, because)
        return Decision(downtime_limit_s=step.action, because=f"{because}: {step.action * 1e3:.0f} ms")
