"""The world of one or several simulated migrations, from a scenario and a seed: `simulate` runs it to its end.

Everything that is left to chance follows from the seed, by streams with names (`whimbrel.sim.seeds`); the same
scenario and seed give the same log, byte for byte.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import BUILT_IN
from whimbrel.engine.policy import Decision, Observation, Policy, Reason
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.signals import Command
from whimbrel.engine.states import Phase
from whimbrel.engine.statistics import Iteration

from .clock import SECOND_NS, Clock
from .driver import Driver, Settings
from .driver_log import Log
from .faults import Fault, Havoc, draw
from .link.local import LocalNetwork
from .pair import Pair
from .scenario import Scenario
from .scenario_findings import findings
from .seeds import number, stream

POLICIES_ALLOWED = f"one of {', '.join(sorted(BUILT_IN))}, or a policy itself"
"""A scenario may name those that come with Whimbrel; any other, and one with parameters, is handed over."""
GRACE_S = 1200.0
"""From the moment at which it is called off to that at which it must have ended: every wait of the protocol, twice."""

RETRY_NS = SECOND_NS // 100
MAY_BE_PRECOPY = frozenset({None, Phase.PRECOPY, Phase.RESOLVING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the manager saw at one time; seconds since ``migrate``, bytes."""

    at_s: float
    iteration: int
    remaining_bytes: int
    transferred_bytes: int
    throttle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true, whoever saw it.

    Attributes:
        outage_s: from the guest's stop at the source to its first step at the destination; ``None``: never.
        moved_s: from ``migrate`` to that step, or to the end where there was none.
        total_s: from ``migrate`` until all of the guest was at the destination, with post-copy its memory, too; or to
            the end where it never was.
        wire_bytes: what the link carried forth for all migrations on it, protocol and pages.
        transferred_bytes: QEMU's last ``ram.transferred``.
        iterations: QEMU's last ``dirty-sync-count``.
        work: what the guest did in that time, as a part of what it would have done without the migration.
        throttle: the most of their time that was taken from its vCPUs, by QEMU or from outside of it; where each may
            only dirty so much, the most of its speed that one lost. 0 to 1.
        postcopy: it went over to post-copy.
    """

    outage_s: float | None
    moved_s: float
    total_s: float
    wire_bytes: int
    transferred_bytes: int
    iterations: int
    work: float
    throttle: float
    postcopy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one simulated migration went.

    Attributes:
        scenario, seed: what it follows from.
        report: the machine's; ``None``: it did not end, though it was called off.
        log: its lines, as those of a real one.
        truth: what is true.
        derived: what was drawn from the seed, by name.
        others: with several migrations at the same time, the others.
    """

    scenario: Scenario
    seed: int
    report: CompletedReport | None
    log: Log
    truth: Truth
    derived: dict[str, Any]
    others: tuple[Outcome, ...] = ()

    @property
    def iterations(self) -> tuple[Iteration, ...]:
        """The iterations that the manager saw end."""
        return self.report.iterations if self.report is not None else ()

    @property
    def samples(self) -> Iterator[Sample]:
        """What the manager saw, in order of time."""
        began_ns = self.derived["migrate_ns"] or 0
        for each in self.log.statistics():
            yield Sample(
                at_s=(each.at_ns - began_ns) / SECOND_NS,
                iteration=each.iteration,
                remaining_bytes=each.remaining_bytes,
                transferred_bytes=each.transferred_bytes,
                throttle=each.throttle,
            )

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """The log's lines of decisions."""
        return [line for line in self.log.records() if line["kind"] == "decision"]


@dataclass(frozen=True, slots=True)
class Wanting:
    """A policy that asks for capabilities besides."""

    inner: Policy
    capabilities: tuple[str, ...]

    def __call__(self, seen: Observation) -> Decision:
        """Decide as the other does."""
        decision = self.inner(seen)
        if seen.reason is not Reason.SETUP:
            return decision
        return replace(decision, capabilities=dict(decision.capabilities) | dict.fromkeys(self.capabilities, True))


class World:
    """Guests, QEMUs, a link, and managers.

    Attributes:
        clock: its time.
        network: its link.
        pairs: the migrations.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        policy: Policy | None = None,
        *,
        faults: Sequence[Fault] = (),
        watched: bool = True,
        judged: bool = False,
        told: Mapping[str, Any] | None = None,
        make_driver: type[Driver] = Driver,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make it; nothing has happened.

        Args:
            scenario: what is simulated.
            seed: what everything that is left to chance follows from.
            policy: instead of the scenario's; an object with a state is copied for each migration.
            faults: what befalls each migration; none, and the scenario asks for some: they are drawn from the seed.
            watched: whether the processes are of the manager's host.
            judged: whether what managers say is judged, also where nothing goes wrong.
            told: further things that managers are told (`whimbrel.sim.driver.Settings`).
            make_driver: what a manager is made with; another one only to show that a broken one is found out.
            tell: takes a sentence on everything that goes wrong, with its time before it.

        Raises:
            BadInput: the policy that the scenario names is not known here.
        """
        self.scenario = scenario
        self.seed = seed
        self.clock = Clock(stream(seed, "order"))
        self.network = LocalNetwork(self.clock, scenario.link, number(seed, "network"))
        self._make_driver = make_driver
        self._called_off = False
        self._limit_s: float | None = None
        self._tell = tell
        settings = Settings(
            make_policy=_maker(scenario, policy),
            policy_name=scenario.policy,
            objectives=scenario.objectives,
            **(told or {}),
        )
        seeds = [seed if index == 0 else number(seed, f"migration {index}") for index in range(scenario.migrations)]
        judged = judged or bool(faults) or scenario.faults
        self.pairs = [
            Pair(self.clock, self.network, scenario, each, settings, watched=watched, judged=judged) for each in seeds
        ]
        self.havocs = [self._havoc(pair, each, faults) for pair, each in zip(self.pairs, seeds, strict=True)]
        self._looks = [havoc.look for havoc in self.havocs if havoc is not None]

    def _havoc(self, pair: Pair, seed: int, faults: Sequence[Fault]) -> Havoc | None:
        pair.on_order = partial(self._ordered, pair)
        if self.scenario.faults and not faults:
            faults = draw(stream(seed, "faults"), expected_s=expected_s(self.scenario), postcopy=False)
        if not faults:
            return None
        havoc = Havoc(self.clock, self.network, pair, faults, take_over=partial(self._take_over, pair), tell=self._say)

        def ordered(command: Command) -> None:
            self._ordered(pair, command)
            havoc.ordered(command)

        pair.on_order, pair.on_command = ordered, havoc.commanded
        return havoc

    def _ordered(self, pair: Pair, command: Command) -> None:
        if command is Command.MIGRATE:
            self.network.begin()
            if self.scenario.postcopy_at_s is not None:
                self.clock.after(round(self.scenario.postcopy_at_s * SECOND_NS), partial(self._choose_postcopy, pair))
            if self._limit_s is not None:
                self.clock.after(round(self._limit_s * SECOND_NS), partial(self._limit_is_over, pair))

    def _choose_postcopy(self, pair: Pair) -> None:
        driver = pair.driver
        phase = driver.machine.phase if driver is not None else None
        if driver is not None and phase is Phase.PRECOPY and driver.source.status == "active":
            driver.choose_postcopy()
        elif phase in MAY_BE_PRECOPY:  # too early for QEMU, or nobody knows at the moment
            self.clock.after(RETRY_NS, partial(self._choose_postcopy, pair))

    def _limit_is_over(self, pair: Pair) -> None:
        if not pair.ended:
            self._say(f"called off after {self._limit_s:g} s")
            self._called_off = True
            self._call_off(pair)

    def _take_over(self, pair: Pair) -> None:
        driver = pair.take_over(self._make_driver)
        if self._called_off:  # whoever wanted that wants it still, once the new one has looked around
            self.clock.after(SECOND_NS, lambda: self._call_off(pair) if pair.driver is driver else None)

    def _call_off(self, pair: Pair) -> None:
        driver = pair.driver
        if driver is not None and driver.report is None:
            if driver.machine.phase is Phase.RECOVERING:
                pair.witness.excused = "mending was called off"
            driver.cancel("it took too long")

    def _say(self, text: str) -> None:
        self._tell(f"{self.clock.now_ns / SECOND_NS:.6f} {text}")

    # ---- running

    def run(self) -> None:
        """Run all of it to the end; what takes longer than the scenario's limit, from ``migrate`` on, is called off."""
        self._limit_s = self.scenario.limit_s
        for pair in self.pairs:
            pair.begin(self._make_driver)
        self._run_until(self.clock.now_ns + round((self._limit_s + 2 * GRACE_S) * SECOND_NS))
        self.run_for(1.0)  # whoever was told to run, or to quit, does

    def run_on(self, limit_s: float) -> bool:
        """Go on until every migration has ended, calling off what has not within a time; whether all have.

        Args:
            limit_s: from now on; then there are `GRACE_S` more.
        """
        start_ns = self.clock.now_ns
        if self._run_until(start_ns + round(limit_s * SECOND_NS)):
            return True
        self._say(f"called off after {limit_s:g} s")
        self._called_off = True
        for pair in self.pairs:
            self._call_off(pair)
        return self._run_until(self.clock.now_ns + round(GRACE_S * SECOND_NS))

    def run_for(self, span_s: float) -> None:
        """Let time pass, whoever manages or not."""
        self._run_until(self.clock.now_ns + round(span_s * SECOND_NS), or_ended=False)

    def _run_until(self, until_ns: int, *, or_ended: bool = True) -> bool:
        clock = self.clock
        looks = [pair.witness.look if havoc else pair.witness.glance for pair, havoc in self._watched()] + self._looks
        going = list(self.pairs) if or_ended else []
        over: list[bool] = []
        limit = clock.at(until_ns, lambda: over.append(True))
        step, (first_look, *others) = clock.step, looks
        while not over:
            step()
            first_look()
            for look in others:
                look()
            if going and going[0].ended:
                going = [pair for pair in going if not pair.ended]
                if not going:
                    limit.cancel()
                    return True
        return False

    def _watched(self) -> Iterator[tuple[Pair, Havoc | None]]:
        return zip(self.pairs, self.havocs, strict=True)

    def outcomes(self) -> list[Outcome]:
        """How each migration went."""
        return [self._outcome(pair) for pair in self.pairs]

    def _outcome(self, pair: Pair) -> Outcome:
        witness = pair.witness
        report = pair.driver.report if pair.driver is not None else None
        migrate_ns = pair.migrate_ns
        now_ns = self.clock.now_ns
        end_ns = pair.ended_ns if pair.ended_ns is not None else now_ns
        over_ns = witness.whole_ns if witness.whole_ns is not None else end_ns
        moved_ns = witness.resumed_ns if witness.resumed_ns is not None else end_ns
        began_ns = migrate_ns if migrate_ns is not None else over_ns
        last = pair.source_figures()
        return Outcome(
            scenario=self.scenario,
            seed=self.seed,
            report=report,
            log=pair.log,
            truth=Truth(
                outage_s=None if witness.outage_ns is None else witness.outage_ns / SECOND_NS,
                moved_s=max(0, moved_ns - began_ns) / SECOND_NS,
                total_s=max(0, over_ns - began_ns) / SECOND_NS,
                wire_bytes=self.network.carried_bytes,
                transferred_bytes=last.transferred_bytes if last else 0,
                iterations=last.iteration if last else 0,
                work=pair.work if pair.work is not None else pair.memory.done_work(now_ns),
                throttle=pair.memory.most_slowed,
                postcopy=pair.source_qemu.outgoing.in_postcopy,
            ),
            derived=self.derived() | {"migrate_ns": migrate_ns - pair.began_ns if migrate_ns is not None else None},
        )

    def derived(self) -> dict[str, Any]:
        """What was drawn from the seed."""
        drawn: dict[str, Any] = {"destination_start_s": [pair.start_s for pair in self.pairs]}
        if any(havoc is not None for havoc in self.havocs):
            drawn["faults"] = [[str(each) for each in havoc.faults] if havoc else [] for havoc in self.havocs]
        return drawn


def expected_s(scenario: Scenario) -> float:
    """About how long a migration takes, to spread faults over: its RAM over its part of the link, and half as much."""
    rate = scenario.link.bandwidth_bytes_per_s / (1 + scenario.link.rivals) / scenario.migrations
    return 0.2 + 1.5 * (scenario.guest.ram_bytes - scenario.guest.zero_bytes) / max(1.0, rate)


def _maker(scenario: Scenario, policy: Policy | None) -> Callable[[], Policy]:
    make, capabilities = _plain_maker(scenario, policy), scenario.asked_capabilities
    return (lambda: Wanting(make(), capabilities)) if capabilities else make


def _plain_maker(scenario: Scenario, policy: Policy | None) -> Callable[[], Policy]:
    if policy is not None:
        return lambda: copy.deepcopy(policy)
    if scenario.policy not in BUILT_IN:
        raise BadInput("policy", scenario.policy, POLICIES_ALLOWED)
    return BUILT_IN[scenario.policy]


def check(scenario: Scenario, policy: Policy | None = None) -> None:
    """Refuse what cannot be simulated.

    Args:
        scenario: what is to be simulated.
        policy: instead of the scenario's.

    Raises:
        BadInput: says everything that is wrong with it (`whimbrel.sim.scenario_findings`), and, where no policy is
            handed over, whether the one that it names is not known here.
    """
    found = findings(scenario)
    if policy is None and scenario.policy not in BUILT_IN:
        if not found:
            raise BadInput("policy", scenario.policy, POLICIES_ALLOWED)
        found.append(f"policy: {scenario.policy!r} is not {POLICIES_ALLOWED}")
    if found:
        raise BadInput("scenario", "; ".join(found), "a scenario without these findings")


def simulate(scenario: Scenario, seed: int, policy: Policy | None = None) -> Outcome:
    """Simulate a migration, or several at the same time over one link.

    Args:
        scenario: what is simulated.
        seed: what everything that is left to chance follows from.
        policy: instead of the scenario's, which may only name one of those that come with Whimbrel.

    Returns:
        How it went; with several migrations the first's, with the `others`.

    Raises:
        BadInput: the scenario is impossible, or the policy that it names is not known here; says all of it.
    """
    check(scenario, policy)
    world = World(scenario, seed, policy)
    world.run()
    first, *others = world.outcomes()
    return replace(first, others=tuple(others)) if others else first
