"""Workloads that a policy does badly on, found by search: ``python -m whimbrel.laboratory.search POLICY ...``.

A scenario is sixteen numbers between 0 and 1 (`scenario_of`): two writers with sets, rates, patterns, phases, one of
them a device perhaps; a link that is noisy, fades, or stands still for a while. A small evolution looks for the one on
which the policy's *regret* is greatest: how much more it costs than the best of some references that may do the same
(stop rules against stop rules, throttles against throttles), in rounds, on that of two seeds on which it is less; or,
with ``--against bound``, than the best that QEMU's knobs can do (`whimbrel.sim.bounds`), which knows the guest ahead.
Scenarios that none of the references can do within the goal do not count, for nobody could blame the policy.

What a run costs, in seconds: its total time, ten times its downtime, and the guest-seconds of work that it lost; a run
that did not get there counts twice its limit (PAR2, as in the contests of SAT solvers). The same seed finds the same
scenario, as long as the policies and the simulator are the same.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import Final, TypeVar

from whimbrel.engine.errors import BadInput
from whimbrel.policies import resolve
from whimbrel.sim.bounds import bounds
from whimbrel.sim.scenario import LinkPlan, Pattern, Scenario
from whimbrel.sim.world import simulate

from .catalogue_adversarial import Finding, as_text
from .catalogue_scale import KVM, MIB, Part, Size, Workload, goal, steady

GENES: Final = 16
SIZE: Final = Size(filled_bytes=56 * MIB, zero_bytes=8 * MIB, limit_s=24.0)
"""Small, so that many can be tried: 14336 pages in 3 s, called off after eight rounds."""
SEEDS: Final = (1, 2)
DOWNTIME_WEIGHT: Final = 10.0
"""A second in which the guest stands still is as bad as ten in which it is moved."""
NEAR_GOAL: Final = 1.5
"""A reference that stops the guest for longer than so many times the goal has not done it."""

STOP_RULES: Final = ("fixed", "least_downtime", "xen_classic")
THROTTLES: Final = ("fixed", "least_downtime", "auto_converge", "throttle_to_fit")
POSTCOPIES: Final = ("fixed", "least_downtime", "auto_converge", "hybrid_after")
REFERENCES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"pause": STOP_RULES, "precopy": THROTTLES, "": POSTCOPIES}
)
"""By the word for what is allowed (`whimbrel.laboratory.catalogue_scale.goal`): whom a policy is measured against."""
ALLOWED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "auto_converge": "precopy",
        "refined_auto_converge": "precopy",
        "dirty_limit": "precopy",
        "sdps_like": "precopy",
        "deadline": "precopy",
        "throttle_to_fit": "precopy",
        "proxmox_double": "precopy",
        "ovirt_schedule": "precopy",
        "ganeti_two_sync": "",
        "nova_steps": "",
        "kubevirt_legacy": "",
        "hybrid_after": "",
        "hybrid_progress": "",
        "predictive": "",
    }
)
"""What a policy is allowed in its search: as much as it makes use of. Any other is a stop rule: ``pause``."""

BOUND: Final = "bound"
"""As a reference: the best use of QEMU's knobs before post-copy."""

WORDS: Final[Mapping[str, str]] = MappingProxyType({"pause": "pause", "throttle": "precopy", "all": ""})
"""The same as it is asked for on the command line."""

INFEASIBLE: Final = -1.0
FIRST: Final = 12
"""Scenarios drawn at random before the evolution begins, or a third of the budget, whatever is less."""
KEPT: Final = 6
STEP: Final = 0.15
CHANGED: Final = 0.3
PLAIN: Final = (13, 12, 8, 11, 10, 5, 15, 2)
"""The numbers that stand, at 0, for something plainer: no event, no noise, no second writer, no phases, ..."""
ENOUGH: Final = 0.9
"""What is left out may cost a tenth of the regret."""

Genes = tuple[float, ...]
_T = TypeVar("_T")


# ---- from numbers to a scenario


def scenario_of(genes: Genes, word: str) -> Scenario:
    """The scenario that these numbers stand for.

    Args:
        genes: `GENES` numbers, 0 to 1.
        word: what is allowed (`whimbrel.laboratory.catalogue_scale.goal`).
    """
    parts = [_first_writer(genes)]
    if genes[8] > 0.4:
        parts.append(_second_writer(genes))
    workload = Workload(about="", parts=tuple(parts), size=SIZE, qemu=KVM)
    return Scenario(
        guest=workload.guest(),
        link=_link(genes),
        qemu=KVM,
        objectives=goal(SIZE, word),
        limit_s=SIZE.censored_s,
    )


def _first_writer(genes: Genes) -> Part:
    pattern = _choice(genes[2], (Pattern.UNIFORM, Pattern.SWEEP, Pattern.ZIPF, Pattern.HOTSPOT))
    period = 0.0 if genes[5] < 0.4 else _log((genes[5] - 0.4) / 0.6, 0.1, 4.0)
    made = Part(
        name="first",
        part=_log(genes[0], 0.02, 0.6),
        rate=_log(genes[1], 0.1, 6.0),
        cpu=_line(genes[3], 0.02, 0.7),
        pattern=pattern,
        delta_bytes=4096 if genes[15] < 0.7 else round(_line((genes[15] - 0.7) / 0.3, 200, 2000)),
    )
    if period:
        made = replace(made, period=period, duty=_line(genes[6], 0.1, 0.9), shift=_line(genes[7], 0, period))
    if pattern is Pattern.ZIPF:
        return replace(made, skew=_line(genes[4], 0.3, 1.3))
    return replace(made, hot=_line(genes[4], 0.05, 0.5)) if pattern is Pattern.HOTSPOT else made


def _second_writer(genes: Genes) -> Part:
    kind = _choice(genes[10], ("uniform", "sweep", "device"))
    period = 0.0 if genes[11] < 0.5 else _log((genes[11] - 0.5) / 0.5, 0.1, 4.0)
    made = Part(
        name="second",
        part=_log((genes[8] - 0.4) / 0.6, 0.02, 0.35),
        rate=_log(genes[9], 0.02, 2.0),
        cpu=0.0 if kind == "device" else 0.2,
        pattern=Pattern.SWEEP if kind != "uniform" else Pattern.UNIFORM,
        vcpu=None if kind == "device" else 0,
    )
    return replace(made, period=period, duty=0.5) if period else made


def _link(genes: Genes) -> LinkPlan:
    plan = steady(SIZE)
    if genes[12] > 0.5:
        plan = replace(plan, noise=_line((genes[12] - 0.5) / 0.5, 0.05, 0.4), noise_memory=0.9)
    at_s = _line(genes[14], 0.2, 4.0) * SIZE.round_s
    if 0.6 < genes[13] <= 0.8:
        return replace(plan, steps=((round(at_s, 3), plan.bandwidth_bytes_per_s / 2),))
    if genes[13] > 0.8:
        return replace(plan, outages=((round(at_s, 3), 0.5 * SIZE.round_s),))
    return plan


def _line(gene: float, low: float, high: float) -> float:
    return round(low + gene * (high - low), 3)


def _log(gene: float, low: float, high: float) -> float:
    return round(low * math.pow(high / low, gene), 3)


def _choice(gene: float, several: Sequence[_T]) -> _T:
    return several[min(int(gene * len(several)), len(several) - 1)]


# ---- what a run costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A run, as the search sees it.

    Attributes:
        cost_s: what it costs; see the module's text.
        total_s, downtime_s: of it; with a run that did not get there, when it ended, and 0.
        done: it moved the guest.
    """

    cost_s: float
    total_s: float
    downtime_s: float
    done: bool


def cost(scenario: Scenario, seed: int, policy: str) -> Cost:
    """What a policy costs on a scenario.

    Raises:
        BadInput: there is no such policy.
    """
    outcome = simulate(scenario, seed, resolve(policy))
    truth = outcome.truth
    done = truth.outage_s is not None and outcome.report is not None and outcome.report.outcome == "completed"
    if not done:
        return Cost(cost_s=2 * scenario.limit_s, total_s=truth.total_s, downtime_s=0.0, done=False)
    downtime_s = truth.outage_s or 0.0
    lost_s = (1 - truth.work) * truth.total_s
    spent_s = truth.total_s + DOWNTIME_WEIGHT * downtime_s + lost_s
    return Cost(cost_s=min(spent_s, 2 * scenario.limit_s), total_s=truth.total_s, downtime_s=downtime_s, done=True)


def bound_cost(scenario: Scenario, seed: int) -> Cost:
    """What the best use of QEMU's knobs costs, throttles where they are allowed; post-copy is not among these knobs."""
    most_s = math.inf if scenario.objectives.greatest_throttle else 0.0
    found = [
        Cost(cost_s=total_s + DOWNTIME_WEIGHT * downtime_s + lost_s, total_s=total_s, downtime_s=downtime_s, done=True)
        for total_s, downtime_s, throttled_s, _, lost_s in bounds(scenario, seed).points
        if throttled_s <= most_s
    ]
    nobody = Cost(cost_s=2 * scenario.limit_s, total_s=scenario.limit_s, downtime_s=0.0, done=False)
    return min(found, key=lambda each: each.cost_s, default=nobody)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A scenario with what a policy makes of it.

    Attributes:
        regret: rounds that the policy costs more than the best reference, on the seed on which that is least;
            `INFEASIBLE` where no reference does it within the goal.
        against: that reference.
        policy, reference: what both came to on that seed.
    """

    regret: float
    against: str = ""
    policy: Cost | None = None
    reference: Cost | None = None


def judge(
    scenario: Scenario,
    policy: str,
    references: Sequence[str],
    *,
    seeds: Sequence[int] = SEEDS,
    above: float = -math.inf,
) -> Judged:
    """The regret of a policy on a scenario; see `Judged`.

    Args:
        scenario: where.
        policy: whose.
        references: whom it is measured against.
        seeds: one or more.
        above: a regret of so much or less is of no interest: where the policy's own cost shows that it will be one (for
            nobody needs less than a round), no reference is run.
    """
    least: Judged | None = None
    for seed in seeds:
        own = cost(scenario, seed, policy)
        if own.cost_s / SIZE.round_s - 1 <= above:
            return Judged(regret=INFEASIBLE)
        runs = {
            name: bound_cost(scenario, seed) if name == BOUND else cost(scenario, seed, name)
            for name in references
            if name != policy
        }
        able = {
            name: run
            for name, run in runs.items()
            if run.done and run.downtime_s <= NEAR_GOAL * scenario.objectives.downtime_s
        }
        if not able:
            return Judged(regret=INFEASIBLE)
        best = min(able, key=lambda name: able[name].cost_s)
        found = Judged(
            regret=(own.cost_s - able[best].cost_s) / SIZE.round_s, against=best, policy=own, reference=able[best]
        )
        if least is None or found.regret < least.regret:
            least = found
    if least is None:
        raise BadInput("seeds", "none", "one or more")
    return least


# ---- the search


def search(
    policy: str,
    *,
    budget: int = 60,
    seed: int = 1,
    word: str | None = None,
    references: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Finding | None:
    """Look for a scenario that a policy does badly on.

    Args:
        policy: as on the command line.
        budget: scenarios that are tried; each costs a run of the policy and of each reference on two seeds.
        seed: of the search.
        word: what is allowed; ``None``: by `ALLOWED`.
        references: whom it is measured against, policies or `BOUND`; none: by `REFERENCES`.
        tell: takes a line on each scenario that is worse than all before it.

    Returns:
        The worst; ``None`` where the policy was nowhere worse than the best reference.

    Raises:
        BadInput: there is no such policy, or no budget.
    """
    if budget < 1:
        raise BadInput("budget", budget, "1 or more")
    allowed = ALLOWED.get(policy.partition(":")[0], "pause") if word is None else word
    against = tuple(references) or REFERENCES.get(allowed, POSTCOPIES)
    dice = Random(f"{policy}/{allowed}/{seed}")
    drawn = max(1, min(FIRST, budget // 3))
    population: list[tuple[Judged, Genes]] = []
    worst = 0.0
    for number in range(budget):
        genes = _drawn(dice) if number < drawn else _bred(dice, population)
        above = population[-1][0].regret if len(population) == KEPT else -math.inf
        judged = judge(scenario_of(genes, allowed), policy, against, above=above)
        population.append((judged, genes))
        population.sort(key=lambda each: each[0].regret, reverse=True)
        del population[KEPT:]
        if judged.regret > worst:
            worst = judged.regret
            tell(f"{policy}: {number + 1} of {budget}: {worst:.2f} rounds behind {judged.against}")
    judged, genes = population[0]
    if judged.regret <= 0:
        return None
    judged, genes = _reduced(judged, genes, lambda each: judge(scenario_of(each, allowed), policy, against))
    tell(f"{policy}: reduced to what matters: {judged.regret:.2f} rounds behind {judged.against}")
    return Finding(
        policy=policy,
        number=seed,
        regret=round(judged.regret, 3),
        against=judged.against,
        seeds=SEEDS,
        does=_told(judged),
        why="",
        scenario=scenario_of(genes, allowed),
    )


def _reduced(judged: Judged, genes: Genes, judge_: Callable[[Genes], Judged]) -> tuple[Judged, Genes]:
    """The same without what its regret does not need, one thing after the other."""
    least = ENOUGH * judged.regret
    for place in PLAIN:
        plainer = (*genes[:place], 0.0, *genes[place + 1 :])
        if scenario_of(plainer, "") == scenario_of(genes, ""):
            continue
        found = judge_(plainer)
        if found.regret >= least:
            judged, genes = found, plainer
    return judged, genes


def _drawn(dice: Random) -> Genes:
    return tuple(dice.random() for _ in range(GENES))


def _bred(dice: Random, population: Sequence[tuple[Judged, Genes]]) -> Genes:
    """Two parents, the better the likelier; each number from either, some of them moved a little."""
    weights = [1 / (rank + 1) for rank in range(len(population))]
    mother, father = (genes for _, genes in dice.choices(population, weights, k=2))
    mixed = [one if dice.random() < 0.7 else other for one, other in zip(mother, father, strict=True)]
    moved = [each + dice.gauss(0, STEP) if dice.random() < CHANGED else each for each in mixed]
    return tuple(min(max(each, 0.0), math.nextafter(1.0, 0.0)) for each in moved)


def _told(judged: Judged) -> str:
    return f"{_course(judged.policy)}; {judged.against}: {_course(judged.reference)}"


def _course(run: Cost | None) -> str:
    if run is None or not run.done:
        return "does not get there"
    return f"{run.total_s:.1f} s with {run.downtime_s * 1e3:.0f} ms of downtime"


ABOUT: Final = "Look for workloads that a policy does badly on; findings go to standard output as TOML."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; findings go to standard output as text that `whimbrel.laboratory.catalogue_adversarial` reads."""
    parser = argparse.ArgumentParser(prog="python -m whimbrel.laboratory.search", description=ABOUT)
    parser.add_argument("policy", nargs="+", help="as for --policy")
    parser.add_argument("--budget", type=int, default=60, help="scenarios that are tried for each (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the search (default: 1)")
    parser.add_argument(
        "--against", action="append", help="a policy, or 'bound'; may be repeated (default: by its kind)"
    )
    parser.add_argument(
        "--allow", choices=WORDS, help="what the policy may do to the guest (default: by its name; pause, if unknown)"
    )
    given = parser.parse_args(arguments)
    word = None if given.allow is None else WORDS[given.allow]
    for policy in given.policy:
        try:
            found = search(
                policy,
                budget=given.budget,
                seed=given.seed,
                word=word,
                references=given.against or (),
                tell=_say,
            )
        except BadInput as error:
            _say(str(error))
            return 2
        if found is None:
            _say(f"{policy}: nowhere worse than the best of its references")
        else:
            sys.stdout.write(as_text(found))
            sys.stdout.flush()
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
