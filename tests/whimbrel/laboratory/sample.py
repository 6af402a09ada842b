"""A small comparison, really simulated, that the tests of pictures and pages share."""

from __future__ import annotations

import functools

from whimbrel.engine.policy import Objectives
from whimbrel.laboratory.matrix import Matrix
from whimbrel.laboratory.pictures import Front
from whimbrel.laboratory.records import Case
from whimbrel.laboratory.running import run
from whimbrel.laboratory.summary import Comparison, compared
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer

MIB = 1 << 20
POLICIES = ("fixed", "fixed:downtime_limit=20ms", "hybrid_after", "auto_converge:initial=0.9")
BOUNDS = {"busy@slow": Front(clairvoyant=((1.0, 0.5), (2.0, 0.05)), restricted=((1.5, 0.6), (3.0, 0.1)))}


def case(name: str, rate_bytes_per_s: float) -> Case:
    """A guest of 32 MiB over a link that takes a second for it, called off after five."""
    writer = Writer(name="set", size_bytes=16 * MIB, rate_bytes_per_s=rate_bytes_per_s, cpu_share=1.0)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=32 * MIB, writers=(writer,)),
        link=LinkPlan(bandwidth_bytes_per_s=32.0 * MIB, pipe_bytes=1 << 19),
        objectives=Objectives(downtime_s=0.2, greatest_throttle=0.99, may_postcopy=True),
        limit_s=5.0,
    )
    workload, _, link = name.partition("@")
    return Case(
        name=name, family="basic", workload=workload, link=link, scenario=scenario, about="Writes <all> day & night."
    )


@functools.cache
def comparison() -> Comparison:
    """Four policies on three cases with two seeds."""
    cases = (case("idle@slow", 0.0), case("busy@slow", 16.0 * MIB), case("hot@slow", 128.0 * MIB))
    matrix = Matrix(cases=cases, policies=POLICIES, seeds=(1, 2))
    return compared(matrix, [run(cell) for cell in matrix.cells()])
