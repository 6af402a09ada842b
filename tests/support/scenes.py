"""A guest and a link in a line, to try a policy on in the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.policy import Objectives, Policy
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A guest that writes uniformly over a working set, and a steady link."""

    link_bytes_per_s: float
    pipe_bytes: float
    ram_bytes: int
    working_set_bytes: int = 64 * MIB
    dirty_bytes_per_s: float = 0.0
    limit_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Course:
    """How it went."""

    outage_s: float
    """What the guest saw; infinite where it was not moved."""
    total_s: float
    iterations: int
    reasons: list[str]


def run(scene: Scene, policy: Policy, objectives: Objectives | None = None) -> Course:
    """Let a policy steer the simulated migration."""
    writer = Writer(
        name="working-set",
        size_bytes=min(scene.working_set_bytes, scene.ram_bytes),
        rate_bytes_per_s=scene.dirty_bytes_per_s,
    )
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=scene.ram_bytes, writers=(writer,)),
        link=LinkPlan(bandwidth_bytes_per_s=scene.link_bytes_per_s, pipe_bytes=round(scene.pipe_bytes)),
        objectives=objectives or Objectives(),
        limit_s=scene.limit_s,
    )
    outcome = simulate(scenario, 1, policy)
    truth = outcome.truth
    outage_s = truth.outage_s if truth.outage_s is not None else float("inf")
    reasons = [decision["because"] for decision in outcome.decisions if decision["because"]]
    return Course(outage_s, truth.total_s, truth.iterations, reasons)
