"""A plan made by hand, for what shows plans."""

from __future__ import annotations

import math
from dataclasses import replace

from whimbrel.engine.belief import Belief, CurvePoint, Kind
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.plan import Candidate, Floors, Plan, Predicted, Strategy
from whimbrel.engine.policy import Abilities, Objectives
from whimbrel.planning import Planned
from whimbrel.qmp_driver.survey import Costs, Survey

MIB = 1 << 20

BELIEF = Belief(
    total_bytes=256 * MIB,
    zero_bytes=Estimate(96.0 * MIB, 0.02, "sampled"),
    points=(
        CurvePoint(0.05, 2.0 * MIB, 0.4 * MIB),
        CurvePoint(0.5, 12.0 * MIB, 1.0 * MIB),
        CurvePoint(4.0, 31.0 * MIB, 1.5 * MIB),
    ),
    bandwidth_bytes_per_s=Estimate(100.0 * MIB, 0.03, "probed"),
    pipe_bytes=Estimate(1.0 * MIB, 0.3, "probed"),
    fixed_s=Estimate(0.02, 0.2, "from 12 migrations"),
    preparation_s=Estimate(0.2, 0.2, "from 12 migrations"),
    notes=("A note about the measuring.",),
)
OBJECTIVES = Objectives(downtime_s=0.3, deadline_s=60.0, greatest_throttle=0.8)
PLAIN = Predicted(
    candidate=Candidate(policy="predictive:throttle=false", strategy=Strategy.PLAIN),
    moves=1.0,
    meets=0.97,
    meets_low=0.94,
    meets_high=0.99,
    misses={"downtime": 0.03, "deadline": 0.0, "never": 0.0},
    total_s=Range(6.5, 7.1, 8.2),
    downtime_s=Range(0.213, 0.24, 0.31),
    transferred_bytes=Range(280.0 * MIB, 300.0 * MIB, 330.0 * MIB),
    iterations=Range(7.0, 8.0, 11.0),
    lost_s=Range(0.4, 0.5, 0.7),
    throttle=Range(0.0, 0.0, 0.0),
    postcopy_s=Range(0.0, 0.0, 0.0),
    components={"preparation": Range(0.1, 0.2, 0.3), "iterations": Range(6.0, 6.8, 7.9)},
    draws=200,
)
THROTTLED = replace(
    PLAIN,
    candidate=Candidate(policy="predictive", strategy=Strategy.THROTTLED),
    meets=0.62,
    meets_low=0.56,
    meets_high=0.68,
    misses={"downtime": 0.25, "deadline": 0.0, "never": 0.13},
    throttle=Range(0.6, 0.64, 0.71),
    postcopy_s=Range(0.0, 1.2, 1.5),
)
EXCLUDED = Predicted(
    candidate=Candidate(policy="predictive:xbzrle=true", strategy=Strategy.XBZRLE),
    excluded="these QEMUs have no xbzrle",
)
FLOORS = Floors(
    first_pass_s=1.6,
    floor_s=Range(0.1, 0.12, 0.15),
    plateau_s=Range(0.9, 1.3, math.inf),
    least_bandwidth_bytes_per_s=Range(120.0 * MIB, 130.0 * MIB, 150.0 * MIB),
    least_throttle=Range(0.5, 0.55, 0.6),
)
KIND = Kind(machine="pc-q35-7.2", ram_bytes=256 * MIB, vcpus=1, accelerator="tcg", version=(7, 2, 22))


def a_plan(*predicted: Predicted, chosen: Predicted | None = PLAIN, objectives: Objectives = OBJECTIVES) -> Plan:
    """A plan of these candidates, with one of them chosen or none."""
    sentence = "predictive, plain pre-copy: 7.1 s" if chosen is not None else "nothing is likely to meet the objectives"
    return Plan(
        belief=BELIEF,
        objectives=objectives,
        floors=FLOORS,
        predicted=predicted or (PLAIN, THROTTLED, EXCLUDED),
        chosen=chosen,
        sentence=sentence,
    )


def planned(plan: Plan) -> Planned:
    """It, as if a guest had been measured for it."""
    survey = Survey(
        belief=plan.belief,
        abilities=Abilities(),
        kind=KIND,
        costs=Costs(took_s=4.1, read_bytes=64 * MIB, cpu_s=0.12, link_bytes=128 * MIB),
        pid=None,
    )
    return Planned(plan=plan, survey=survey, thought_s=1.2)
