"""Plan before you move: measure the guest, predict what each way to move it would come to, choose.

::

    planned = await whimbrel.plan("/run/vm/source.qmp", objectives=Objectives(downtime_s=0.3, deadline_s=60))
    print(planned.plan.sentence)
    if planned.plan.chosen is not None:
        await Migration("/run/vm/source.qmp", options=planned.options()).run()

Nothing of a migration is begun: no destination is started, and nothing is set on the source.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from whimbrel.calibration import typical
from whimbrel.engine.belief import Belief
from whimbrel.engine.errors import BadInput, Infeasible
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.plan import Candidate, Plan, Predicted, Strategy
from whimbrel.engine.planning import check, choose, floors, shortlist
from whimbrel.engine.policy import Abilities, Objectives, Observation, Policy, Reason
from whimbrel.engine.prediction import of_predicted
from whimbrel.forecasters import Forecasters, Question
from whimbrel.policies import available, resolve
from whimbrel.qmp_driver import replies
from whimbrel.qmp_driver.destination import Destination, Existing, FromCallable
from whimbrel.qmp_driver.journal import default_directory
from whimbrel.qmp_driver.kinds import host_of
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.sockets import Address, describe
from whimbrel.qmp_driver.survey import Survey, survey
from whimbrel.qmp_driver.truth import Peer

__all__ = ["Link", "Planned", "plan"]

JOBS = 2
DRAWS = 200
SHORTLIST_WITHIN_S = 1.5
"""From the end of the measuring; the rest of the promised 2 s is for what is done before and after."""
EACH_WITHIN_S = 6.0
"""For one of many candidates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What is known of the link between the hosts, or how to find out.

    Attributes:
        bytes_per_s: what it carries, wire bytes per second, where that is known; then it is not probed.
        probe: where ``whimbrel sink`` listens on the destination's host; ``None``: history is believed, or, for a
            destination on this host, the loopback is probed.
        may_probe: nothing is sent over it to measure it where this is false.
    """

    bytes_per_s: float | None = None
    probe: tuple[str, int] | None = None
    may_probe: bool = True

    def __post_init__(self) -> None:
        # What else can't be used `survey` tells.
        if self.probe is not None and not self.may_probe:
            raise BadInput("probe", describe(self.probe), "none where probing is forbidden")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and where it comes from.

    Attributes:
        plan: what to do, and why.
        survey: what was measured, and what that cost.
        thought_s: from the end of measuring to the plan, seconds.
    """

    plan: Plan
    survey: Survey
    thought_s: float

    def as_dict(self) -> dict[str, Any]:
        """One object with stable keys; of ranges ``inf`` (never) becomes JSON's null."""
        plan = asdict(self.plan)
        belief = plan["belief"]
        belief["points"] = [point._asdict() for point in self.plan.belief.points]
        candidates = [each | each.pop("candidate") for each in plan["predicted"]]
        chosen = None if self.plan.chosen is None else self.plan.predicted.index(self.plan.chosen)
        return {
            "recommended": None if chosen is None else candidates[chosen],
            "sentence": self.plan.sentence,
            "objectives": plan["objectives"],
            "floors": plan["floors"],
            "candidates": candidates,
            "belief": belief,
            "guest": asdict(self.survey.kind),
            "costs": asdict(self.survey.costs) | {"thought_s": self.thought_s},
        }

    def way(self, *, best_effort: bool = False) -> Predicted:
        """The way to take.

        Args:
            best_effort: where none is likely enough, the likeliest, and of those that are as likely what comes nearest
                to what is wanted.

        Raises:
            Infeasible: there is none.
        """
        if self.plan.chosen is not None:
            return self.plan.chosen
        possible = [each for each in self.plan.predicted if not each.excluded]
        if not best_effort or not possible:
            raise Infeasible(self.plan.sentence, plan=self.plan)
        return min(possible, key=self._missed_by)

    def _missed_by(self, way: Predicted) -> tuple[float, float]:
        """How often it misses something, and how many times over what is allowed its median then is."""
        if way.total_s is None or way.downtime_s is None:
            return 1.0, math.inf
        goal = self.plan.objectives
        late = 0.0 if goal.deadline_s is None else way.total_s.middle / goal.deadline_s
        return 1.0 - way.meets, max(late, way.downtime_s.middle / goal.downtime_s)

    def options(self, options: Options | None = None, *, best_effort: bool = False) -> Options:
        """Options with the policy that was chosen, the objectives of the plan, and what was predicted.

        Args:
            options: all else; ``None``: as it is by default.
            best_effort: as for `way`.

        Raises:
            Infeasible: as `way`.
        """
        way = self.way(best_effort=best_effort)
        policy = way.candidate.runs or way.candidate.policy
        return replace(
            options or Options(),
            objectives=self.plan.objectives,
            policy=resolve(policy),
            policy_name=policy,
            prediction=of_predicted(way, self.plan.belief),
        )


async def plan(
    source: Address,
    destination: Destination | None = None,
    *,
    objectives: Objectives,
    link: Link | None = None,
    span_s: float = 4.0,
    logs: Path | None = None,
    policies: Sequence[str] = (),
    everything: bool = False,
    draws: int = DRAWS,
    tell: Callable[[str], None] = lambda _: None,
    assessed: Callable[[Predicted, int], None] = lambda _, of: None,
) -> Planned:
    """Measure a running guest, predict what each way to move it would come to, and choose one.

    The guest is not paused and nothing is set; what it costs stands in `Planned.survey`. Takes `span_s`, about a second
    for the link where that is probed, and less than 2 s for the forecasts, in two processes of its own.

    Args:
        source: the QMP monitor of the running guest's QEMU: a socket's path or ``(host, port)``.
        destination: where it would go; ``None``: a QEMU of the same make on this host. It is not started; one that runs
            already (`Existing`) is asked what it can do.
        objectives: what is wanted.
        link: of the link between the hosts; ``None``: nothing is known, and it may be probed.
        span_s: how long the guest is measured, 0.1 to 60 s.
        logs: the folder with the logs of earlier migrations, from which the fixed costs are learnt; ``None``: where
            they go by default.
        policies: choose among these, as they are written on the command line; none: a short list of what the
            objectives and this QEMU allow.
        everything: besides the short list every policy that there is; that takes longer.
        draws: in how many of the ways that guest and link may really be each candidate is forecast; fewer where there
            is no time for more (`whimbrel.engine.planning.assess`).
        tell: told what is going on, a sentence at a time.
        assessed: told of each candidate when it was forecast, and of how many there are.

    Raises:
        BadInput: objectives that contradict each other, no such policy, or no bandwidth known and probing forbidden.
        CannotConnect, QemuRefused, OutcomeUnknown, WhimbrelError: a side can't be reached, or the guest can't be
            measured: it shut down meanwhile, say.

    If cancelled: what was begun on the source (a measurement of some seconds) ends by itself; nothing else is left.
    """
    link = link or Link()
    Options(objectives=objectives)  # each of them for itself
    check(objectives)  # against each other
    for text in policies:
        resolve(text)  # what can't be had is told before anything is measured
    async with Forecasters(min(JOBS, len(policies)) if policies else JOBS) as forecasters:
        other = await _Other.look(destination)
        surveyed = await survey(
            source,
            span_s=span_s,
            link=None if link.bytes_per_s is None else Estimate(link.bytes_per_s, 0.0, "given"),
            probe=link.probe,
            may_probe=link.may_probe,
            capped_bytes_per_s=objectives.bandwidth_bytes_per_s,
            local=other.local,
            typical=lambda kind, host: typical(logs or default_directory(), kind, other.host, source_host=host),
            tell=tell,
        )
        began_s = time.perf_counter()
        abilities = other.both(surveyed.abilities)
        candidates = _candidates(objectives, abilities, surveyed.belief, policies, everything)
        tell(f"forecasting {len(candidates)} ways to move it")
        least = await asyncio.to_thread(floors, surveyed.belief, objectives)
        within_s = EACH_WITHIN_S if everything else SHORTLIST_WITHIN_S * JOBS / max(len(candidates), JOBS)
        questions = [_question(surveyed, objectives, abilities, each, draws, within_s) for each in candidates]
        predicted = await forecasters.ask(questions, lambda each: assessed(each, len(candidates)))
        chosen = choose(surveyed.belief, objectives, least, predicted, abilities)
        return Planned(plan=chosen, survey=surveyed, thought_s=time.perf_counter() - began_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Other:
    """What can be told of the other end before it is started.

    Attributes:
        local: it is on this host.
        host: its host, as the logs name it, empty where it is not known; ``None``: this one.
        capabilities: what its QEMU has; ``None``: not known.
    """

    local: bool
    host: str | None = None
    capabilities: frozenset[str] | None = None

    @classmethod
    async def look(cls, destination: Destination | None) -> _Other:
        """Ask the one that runs already; the others would be started by us, on this host, or by somebody else."""
        if not isinstance(destination, Existing):
            elsewhere = isinstance(destination, FromCallable)
            return cls(local=not elsewhere, host="" if elsewhere else None)
        async with await Monitor.connect(destination.address, side="destination") as monitor:
            peer = await Peer.read(monitor)
            has = await replies.query_capabilities(monitor)
        here = peer.process is not None
        return cls(local=here, host=host_of(destination.address, here=here), capabilities=frozenset(has))

    def both(self, source: Abilities) -> Abilities:
        """What the pair can do, as far as it is known."""
        if self.capabilities is None:
            return source
        return replace(source, capabilities=source.capabilities & self.capabilities)


def _candidates(
    objectives: Objectives, abilities: Abilities, belief: Belief, policies: Sequence[str], everything: bool
) -> tuple[Candidate, ...]:
    """Those that were named; or the short list, and besides it every policy where all are wanted."""
    if policies:
        return tuple(_candidate(text, objectives, abilities) for text in policies)
    # Now and then a switchover takes longer than most: the policy leaves room for that.
    short = shortlist(objectives, abilities, belief.fixed_s.drawn(1.0))
    if not everything:
        return short
    listed = {each.policy for each in short}
    return (*short, *(_candidate(name, objectives, abilities) for name in available() if name not in listed))


def _candidate(text: str, objectives: Objectives, abilities: Abilities) -> Candidate:
    return Candidate(policy=text, strategy=strategy_of(resolve(text), objectives, abilities))


MEANS = {
    "multifd": Strategy.MULTIFD,
    "xbzrle": Strategy.XBZRLE,
    "postcopy-ram": Strategy.POSTCOPY,
    "auto-converge": Strategy.THROTTLED,
    "dirty-limit": Strategy.THROTTLED,
}
"""What a policy goes by, by the capability that it asks for; the one that changes most first."""


def strategy_of(policy: Policy, objectives: Objectives, abilities: Abilities) -> Strategy:
    """By what means a policy moves a guest, as far as it says so before the start.

    Args:
        policy: a fresh one; it is asked once and of no use after that.
        objectives: what is wanted.
        abilities: what the pair can do.
    """
    try:
        wanted = policy(Observation(reason=Reason.SETUP, objectives=objectives, abilities=abilities)).capabilities
    except Exception:
        return Strategy.PLAIN  # somebody's policy may fail in any way: what comes of that the forecast tells
    allowed = abilities.capabilities - (frozenset() if objectives.may_postcopy else {"postcopy-ram"})
    return next((means for name, means in MEANS.items() if wanted.get(name) and name in allowed), Strategy.PLAIN)


def _question(
    surveyed: Survey, objectives: Objectives, abilities: Abilities, candidate: Candidate, draws: int, within_s: float
) -> Question:
    return Question(
        belief=surveyed.belief,
        objectives=objectives,
        abilities=abilities,
        candidate=candidate,
        draws=draws,
        budget_s=within_s,
    )
