"""One seed of the swarm: a whole scenario drawn from it, run with its faults, and judged."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from random import Random
from typing import Any

from whimbrel.engine.policies import Fixed, LeastDowntime
from whimbrel.engine.policy import Objectives, Policy
from whimbrel.engine.protocol import DEFAULT_WAITS, Waits, is_settled
from whimbrel.engine.replay import replay
from whimbrel.engine.report import CompletedReport

from .checkers import Broken
from .driver import Driver
from .explorer.world import Breach
from .faults import Fault, draw
from .pair import Pair
from .qemu.contract import Costs, Version
from .scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer
from .seeds import stream
from .trial_steering import Steered, Steering
from .world import Wanting, World, expected_s

MIB = 1 << 20
PATIENCE_S = 15.0
"""After so long, and three times what it would take undisturbed, the user calls it off."""
STEERED = 0.3
"""So many policies do more than steer the limit (`whimbrel.sim.trial_steering`)."""
REST_S = 240.0
"""After its end: every fault has healed, and a connection that hung has been given up (135 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried.

    Attributes:
        seed: what all of it follows from.
        scenario: guest, link, QEMUs, objectives.
        faults: what goes wrong, and what people wish.
        capabilities: that the policy asks for besides.
        watched: whether the processes are of the manager's host.
        waits: how long the manager waits; shorter ones than usual are a fault, too.
        keep_source: whether the source is left.
        steering: what the policy does besides; ``None``: nothing.
    """

    seed: int
    scenario: Scenario
    faults: tuple[Fault, ...]
    capabilities: tuple[str, ...] = ()
    watched: bool = True
    waits: Waits = DEFAULT_WAITS
    keep_source: bool = False
    steering: Steering | None = None

    @classmethod
    def drawn(cls, seed: int) -> Trial:
        """The trial of a seed."""
        random = stream(seed, "trial")
        scenario = _draw_scenario(random)
        capabilities: list[str] = []
        postcopy = random.random() < 0.25
        if postcopy:
            capabilities.append("postcopy-ram")
        capabilities += [name for name in ("auto-converge", "xbzrle") if random.random() < 0.1]
        own = stream(seed, "steering")
        steering = Steering.drawn(own) if own.random() < STEERED else None
        if steering is not None:
            scenario = replace(scenario, objectives=steering.allowed(scenario.objectives))
        return cls(
            seed=seed,
            scenario=scenario,
            faults=tuple(draw(random, expected_s=expected_s(scenario), postcopy=postcopy)),
            capabilities=tuple(capabilities),
            watched=random.random() < 0.8,
            waits=_shortened(random.uniform(0.01, 0.3)) if random.random() < 0.1 else DEFAULT_WAITS,
            keep_source=random.random() < 0.1,
            steering=steering,
        )

    def described(self) -> dict[str, Any]:
        """All of it, for people and for a program."""
        return {
            "seed": self.seed,
            **{name: _plain(part) for name, part in asdict(self.scenario).items()},
            "capabilities": [*self.scenario.capabilities, *self.capabilities],
            "watched": self.watched,
            "keep_source": self.keep_source,
            "steering": None if self.steering is None else _plain(asdict(self.steering)),
            "waits": "usual" if self.waits == DEFAULT_WAITS else _plain(asdict(self.waits)),
            "faults": [str(fault) for fault in self.faults],
        }

    def policy(self) -> Policy:
        """A fresh one."""
        inner: Policy = Fixed() if self.scenario.policy == "fixed" else LeastDowntime()
        wanting = Wanting(inner, self.capabilities)
        return wanting if self.steering is None else Steered(wanting, self.steering)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a trial went.

    Attributes:
        seed: whose.
        digest: of its log and of all that was found.
        broken: invariants that do not hold.
        end: phase, owner and guest of the last end, or ``no end``.
        struck: the kinds of what was set off.
        virtual_s: how much time passed in the world.
        log: its lines.
    """

    seed: int
    digest: str
    broken: tuple[Broken, ...]
    end: str
    struck: tuple[str, ...]
    virtual_s: float
    log: tuple[str, ...]


def run(trial: Trial, *, make_driver: type[Driver] = Driver, tell: Callable[[str], None] = lambda _: None) -> Found:
    """Run a trial and judge it.

    Args:
        trial: which.
        make_driver: what managers are made with.
        tell: takes a sentence on everything that goes wrong.
    """
    world = World(
        trial.scenario,
        trial.seed,
        trial.policy(),
        faults=trial.faults,
        watched=trial.watched,
        judged=True,
        told={"waits": trial.waits, "keep_source": trial.keep_source},
        make_driver=make_driver,
        tell=tell,
    )
    (pair,), (havoc,) = world.pairs, world.havocs
    if trial.waits != DEFAULT_WAITS:
        pair.witness.excused = "short waits"
    try:
        _run(world, pair, trial, make_driver, tell)
    except Exception as error:  # a defect of ours is found out like any other
        place = traceback.extract_tb(error.__traceback__)[-1]
        how = f"it raised {error!r} in {place.name}"
        pair.witness.breaks(Breach.NO_END, how)
    lines = list(pair.log.lines())
    _replay(pair, [json.loads(line) for line in lines], trial)
    broken = tuple(pair.witness.broken)
    told = "\n".join((*lines, *map(str, broken)))
    return Found(
        seed=trial.seed,
        digest=sha256(told.encode()).hexdigest(),
        broken=broken,
        end=_end_of(pair.driver.report if pair.driver is not None else None),
        struck=tuple(fault.kind.value for _, fault in havoc.done) if havoc is not None else (),
        virtual_s=world.clock.now_ns / 1e9,
        log=tuple(lines),
    )


def _run(world: World, pair: Pair, trial: Trial, make_driver: type[Driver], tell: Callable[[str], None]) -> None:
    pair.begin(make_driver)
    _to_its_end(world, pair, PATIENCE_S + 3 * expected_s(trial.scenario))
    if pair.driver is not None and pair.driver.report is not None and not is_settled(pair.driver.machine.state):
        tell(f"{world.clock.now_ns / 1e9:.6f} it settled nothing: a new manager tries again")
        pair.take_over(make_driver)
        _to_its_end(world, pair, PATIENCE_S)


def _to_its_end(world: World, pair: Pair, patience_s: float) -> None:
    if not world.run_on(patience_s):
        phase = pair.driver.machine.phase.value if pair.driver is not None else "nobody manages it"
        pair.witness.breaks(Breach.NO_END, f"no end, long after every fault has healed: {phase}")
        return
    world.run_for(REST_S)
    if pair.source_qemu.slowed:
        pair.witness.breaks(Breach.WRONG_END, "the source's vCPUs are still slowed from outside")
    if pair.driver is not None:
        pair.witness.judge_end(pair.driver.machine.state)


def _replay(pair: Pair, lines: list[Mapping[str, Any]], trial: Trial) -> None:
    """A log says what happened: who reads it stands where the manager stood."""
    if pair.driver is None or pair.driver.report is None:
        return
    told = replay(lines, policy=trial.policy(), objectives=trial.scenario.objectives, waits=trial.waits)
    here, there = pair.driver.machine.state, told.machine.state
    if told.differs is not None:
        pair.witness.breaks(Breach.WRONG_END, f"its log is read otherwise: {told.differs}")
    elif (here.phase, here.owner, here.guest, here.facts) != (there.phase, there.owner, there.guest, there.facts):
        pair.witness.breaks(Breach.WRONG_END, f"its log leads elsewhere: to {there}, not to {here}")


def _end_of(report: CompletedReport | None) -> str:
    return "no end" if report is None else f"{report.outcome}, owner {report.owner}, guest {report.guest}"


# ---- drawing


def _draw_scenario(random: Random) -> Scenario:
    ram_bytes = random.choice((8, 32, 128, 512)) * MIB
    zero_bytes = int(ram_bytes * random.choice((0.0, 0.3, 0.7))) // MIB * MIB
    rivals = random.choice((0, 0, 0, 1, 3))
    # So that most take from a quarter of a second to four: it is their protocol that is tried.
    bandwidth = (1 + rivals) * (ram_bytes - zero_bytes) / random.choice((0.25, 1.0, 4.0))
    return Scenario(
        guest=GuestPlan(
            ram_bytes=ram_bytes,
            zero_bytes=zero_bytes,
            writers=_draw_writers(random, ram_bytes - zero_bytes, bandwidth / (1 + rivals)),
            vcpus=random.choice((1, 2, 4)),
        ),
        link=LinkPlan(
            bandwidth_bytes_per_s=bandwidth,
            latency_s=random.choice((0.0001, 0.001, 0.02)),
            pipe_bytes=random.choice((64_000, 1_000_000, 6_000_000)),
            noise=random.choice((0.0, 0.0, 0.1, 0.3)),
            noise_memory=random.choice((0.0, 0.8)),
            steps=((random.uniform(0.1, 5.0), bandwidth * random.uniform(0.2, 3.0)),) if random.random() < 0.2 else (),
            outages=((random.uniform(0.1, 5.0), random.uniform(0.05, 3.0)),) if random.random() < 0.1 else (),
            rivals=rivals,
        ),
        qemu=QemuPlan(
            source=random.choice(tuple(Version)),
            destination=random.choice(tuple(Version)),
            kvm=random.random() < 0.3,
            costs=Costs(load_s=random.choice((0.004, 0.05, 0.3))),
        ),
        objectives=Objectives(
            downtime_s=random.choice((0.05, 0.3, 1.0)),
            deadline_s=random.uniform(2.0, 30.0) if random.random() < 0.3 else None,
            greatest_throttle=random.choice((0.0, 0.9)),
            may_abort=random.random() < 0.2,
        ),
        policy=random.choice(("fixed", "least_downtime")),
    )


def _draw_writers(random: Random, room_bytes: int, bandwidth: float) -> tuple[Writer, ...]:
    writers: list[Writer] = []
    for number in range(random.choice((0, 1, 1, 2))):
        size_bytes = min(room_bytes // 2, random.choice((1, 4, 32)) * MIB) // MIB * MIB
        if size_bytes:
            writers.append(
                Writer(
                    name=f"w{number}",
                    size_bytes=size_bytes,
                    rate_bytes_per_s=bandwidth * random.choice((0.05, 0.3, 1.5)),
                    pattern=random.choice(tuple(Pattern)),
                    cpu_share=random.choice((0.0, 0.5)) if random.random() < 0.5 else 0.1,
                )
            )
            room_bytes -= size_bytes
    return tuple(writers)


def _shortened(part: float) -> Waits:
    return Waits(**{name: int(span_ns * part) for name, span_ns in asdict(DEFAULT_WAITS).items()})


def _plain(value: Any) -> Any:
    """The same in JSON's kinds."""
    return json.loads(json.dumps(value, default=str))
