"""What other policies would have done, out of the log of a real migration.

Either the log has it (policies that watched while it ran, `whimbrel.engine.machine.Machine.shadows`), or its statistics
are shown to other policies now. Both are counterfactual: a policy that does not steer sees what came of *another*
policy's settings. So what is said goes as far as that can be held: when each would have decided what, and the first
sync at which QEMU would have let the guest go under the limit that it had set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .machine import Learnt, Measured, Sampled, Shadowed
from .pilot import Pilot
from .policy import Objectives, Policy, Reason
from .records import of_shadow
from .replay import event_of
from .states import Phase
from .statistics import Ledger, Statistics

Line = Mapping[str, Any]

ACTUAL = "(the one that steered)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A decision that was not carried out.

    Attributes:
        at_s: when, seconds since ``migrate`` (0 before it).
        iteration: QEMU's number of the iteration under way; 0 before the first.
        asked: the value of the `Reason`.
        changes: knobs that it would have changed, by their field in `Knobs`.
        wishes: of ``switch_over``, ``pause``, ``start_postcopy``, ``abort``, those that it asked for.
        because: its sentence.
        fault: what it did wrong, if anything.
    """

    at_s: float
    iteration: int
    asked: str
    changes: Mapping[str, Any]
    wishes: tuple[str, ...] = ()
    because: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """What one policy would have done.

    Attributes:
        policy: its name; `ACTUAL` for the one that steered.
        wishes: its decisions that changed something or failed, in order of time.
        ends_at_s: when pre-copy would have ended by it, seconds since ``migrate``; ``None``: not while it watched.
        ends_by: ``fits`` (a sync found no more than fits into its limit), ``pause``, ``post-copy``, ``abort``; empty:
            it would have gone on. Of the one that steered: the phase that came after pre-copy.
        outage_s: what was left then, as time at QEMU's bandwidth; ``None``: it would have gone on, given up, or sent it
            by post-copy; or it steered, and the report has its outage.
        asked: how often it was asked.
    """

    policy: str
    wishes: tuple[Wish, ...]
    ends_at_s: float | None
    ends_by: str
    outage_s: float | None
    asked: int


@dataclass(slots=True)
class _Story:
    """What is read out of a log for the policies."""

    objectives: Objectives
    pilots: list[Pilot]
    phase: str = ""
    ledger: Ledger = field(default_factory=Ledger)
    started_ns: int | None = None
    syncs: list[Statistics] = field(default_factory=list[Statistics])
    """Answers that were the first of an iteration."""
    left: tuple[int, str] | None = None
    """When pre-copy was left, and for which phase."""
    told: dict[str, list[Line]] = field(default_factory=dict[str, list[Line]])

    def take(self, line: Line) -> None:
        match line["kind"]:
            case "step":
                before, self.phase = self.phase, str(line["phase"])
                if before == Phase.PRECOPY.value != self.phase:
                    self.left = int(line["t_ns"]), self.phase
            case "command" if line["command"] == "arm":
                self._ask(Reason.SETUP, int(line["t_ns"]))
            case "command" if line["command"] == "migrate":
                self.started_ns = int(line["t_ns"])
                for pilot in self.pilots:
                    pilot.start(self.started_ns)
            case "shadow":
                self._tell(str(line["policy"]), line)
            case "decision":
                self._tell(ACTUAL, line)
            case _:
                self._take_event(line)

    def _take_event(self, line: Line) -> None:
        match event_of(line):
            case Learnt(abilities=can) if can is not None:
                for pilot in self.pilots:
                    pilot.learn(can)
            case Measured(measurements):
                for pilot in self.pilots:
                    pilot.measurements += measurements
            case Sampled(statistics) if self.phase == Phase.PRECOPY.value:
                self._sample(statistics, int(line["t_ns"]))
            case _:
                pass  # nothing that a policy sees

    def _sample(self, statistics: Statistics, now_ns: int) -> None:
        before = self.ledger
        self.ledger = before.add(statistics)
        synced = len(self.ledger.iterations) > len(before.iterations)
        if synced:
            self.syncs.append(statistics)
        self._ask(Reason.ITERATION if synced else Reason.TICK, now_ns)
        for pilot in self.pilots:
            due_ns = pilot.deadline_ns()
            if due_ns is not None and now_ns >= due_ns:
                self._tell(pilot.name, _line(pilot.name, pilot, Reason.DEADLINE, self.ledger, now_ns))

    def _ask(self, reason: Reason, now_ns: int) -> None:
        for pilot in self.pilots:
            if reason is not Reason.TICK or pilot.tick_due(now_ns):
                self._tell(pilot.name, _line(pilot.name, pilot, reason, self.ledger, now_ns))

    def _tell(self, name: str, line: Line) -> None:
        self.told.setdefault(name, []).append(line)

    def seconds(self, t_ns: int) -> float:
        return max(0, t_ns - self.started_ns) / 1e9 if self.started_ns is not None else 0.0


def _line(name: str, pilot: Pilot, reason: Reason, ledger: Ledger, now_ns: int) -> Line:
    steering = pilot.setup(now_ns) if reason is Reason.SETUP else pilot.ask(reason, ledger, now_ns)
    _, fields = of_shadow(Shadowed(name, steering))
    return {"t_ns": now_ns, **fields}


def shadows(
    lines: Iterable[Line], policies: Mapping[str, Policy] | None = None, objectives: Objectives | None = None
) -> tuple[Shadow, ...]:
    """What the policy that steered, those that watched, and others would have done.

    Args:
        lines: of a log, the header first.
        policies: others, by name, that are shown now what the log has seen.
        objectives: for these; ``None``: those of the log.

    Returns:
        The one that steered, those that watched as they come in the log, and the others.

    Raises:
        ValueError: a line is not what its kind says; it is named by its number.
    """
    told = iter(lines)
    try:
        header = next(told)
        goal = objectives if objectives is not None else Objectives(**header["objectives"])
    except (StopIteration, KeyError, TypeError) as error:
        raise ValueError(f"line 1 is no header of a log: {error!r}") from error
    story = _Story(goal, [Pilot(policy, goal, name) for name, policy in (policies or {}).items()])
    for number, line in enumerate(told, 2):
        try:
            story.take(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is no line of a log: {error!r}") from error
    order = dict.fromkeys((ACTUAL, *story.told))
    actual = Objectives(**header["objectives"])
    given = set(policies or {})
    return tuple(_shadow(story, name, goal if name in given else actual) for name in order)


def _shadow(story: _Story, name: str, goal: Objectives) -> Shadow:
    lines = story.told.get(name, [])
    wishes = tuple(_wishes(story, lines))
    if name != ACTUAL:
        ends_at_s, ends_by, outage_s = _end(story, wishes, goal)
    elif story.left is not None:
        ends_at_s, ends_by, outage_s = story.seconds(story.left[0]), story.left[1], None
    else:
        ends_at_s, ends_by, outage_s = None, "", None
    worth_telling = tuple(each for each in wishes if each.changes or each.wishes or each.fault)
    return Shadow(
        policy=name,
        wishes=worth_telling,
        ends_at_s=ends_at_s,
        ends_by=ends_by,
        outage_s=outage_s,
        asked=len(lines),
    )


def _wishes(story: _Story, lines: Iterable[Line]) -> Iterator[Wish]:
    for line in lines:
        t_ns = int(line["t_ns"])
        yield Wish(
            at_s=story.seconds(t_ns),
            iteration=max((each.iteration for each in story.syncs if each.at_ns <= t_ns), default=0),
            asked=str(line["asked"]),
            changes=line["changes"],
            wishes=tuple(line.get("wishes", ())),
            because=str(line["because"]),
            fault=str(line.get("fault", "")),
        )


ENDS = {"pause": "pause", "start_postcopy": "post-copy", "abort": "abort"}
"""Wishes that end pre-copy by themselves, and what that is called."""


def _end(story: _Story, wishes: tuple[Wish, ...], goal: Objectives) -> tuple[float | None, str, float | None]:
    """When and how pre-copy would have ended; see `Shadow`."""
    limit_s, left = goal.downtime_s, list(wishes)
    for sync in story.syncs:
        at_s = story.seconds(sync.at_ns)
        while left and left[0].at_s < at_s:  # what it says *at* this sync comes after QEMU's look
            wish = left.pop(0)
            limit_s = float(wish.changes.get("downtime_limit_s", limit_s))
            if (end := _ended_by(story, wish)) is not None:
                return end
        rate = sync.bandwidth_bytes_per_s
        if rate > 0 and sync.remaining_bytes <= limit_s * rate:
            return at_s, "fits", sync.remaining_bytes / rate
    for wish in left:
        if (end := _ended_by(story, wish)) is not None:
            return end
    return None, "", None


def _ended_by(story: _Story, wish: Wish) -> tuple[float, str, float | None] | None:
    """The end of pre-copy that a wish is by itself; the outage is said of a pause, post-copy has next to none."""
    asked = next((each for each in wish.wishes if each in ENDS), None)
    if asked is None:
        return None
    seen = [each for each in story.syncs if story.seconds(each.at_ns) <= wish.at_s and each.bandwidth_bytes_per_s > 0]
    known = asked == "pause" and seen
    return wish.at_s, ENDS[asked], seen[-1].remaining_bytes / seen[-1].bandwidth_bytes_per_s if known else None
