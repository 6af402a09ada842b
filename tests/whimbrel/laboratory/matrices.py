"""Small matrices, and rows made up, that the tests of the laboratory share."""

from __future__ import annotations

from dataclasses import replace

from whimbrel.engine.policy import Objectives
from whimbrel.laboratory.matrix import Matrix
from whimbrel.laboratory.records import Case, Row
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer

MIB = 1 << 20


def tiny(
    name: str = "busy@slow", *, rate_bytes_per_s: float = 8.0 * MIB, size_bytes: int = 4 * MIB, pages: bool = False
) -> Case:
    """A guest of 16 MiB over a link that takes half a second for it, called off after three."""
    writer = Writer(name="set", size_bytes=size_bytes, rate_bytes_per_s=rate_bytes_per_s)
    scenario = Scenario(
        guest=GuestPlan(ram_bytes=16 * MIB, writers=(writer,), pages=pages),
        link=LinkPlan(bandwidth_bytes_per_s=32.0 * MIB, pipe_bytes=1 << 19),
        objectives=Objectives(downtime_s=0.2, may_postcopy=True),
        limit_s=3.0,
    )
    workload, _, link = name.partition("@")
    return Case(name=name, family="basic", workload=workload, link=link, scenario=scenario)


def hot(*, pages: bool = False) -> Case:
    """One that never converges: it writes three times what the link takes, to more than fits into the goal."""
    return tiny("hot@slow", rate_bytes_per_s=96.0 * MIB, size_bytes=12 * MIB, pages=pages)


def small_matrix(
    seeds: int = 2, *, policies: tuple[str, ...] = ("fixed", "least_downtime"), pages: bool = False
) -> Matrix:
    """Two cases, one of which does not converge."""
    cases = (tiny(pages=pages), hot(pages=pages))
    return Matrix(cases=cases, policies=policies, seeds=tuple(range(1, seeds + 1)))


def row(
    policy: str = "one",
    *,
    case: str = "busy@slow",
    seed: int = 1,
    total_s: float = 2.0,
    downtime_s: float | None = 0.1,
    lost_guest_s: float = 0.1,
    moved: bool = True,
    met: bool | None = None,
) -> Row:
    """A row with these figures; without a word on the goal it was met by what moved within 0.2 s."""
    made = Row(
        backend="simulated",
        case=case,
        family="basic",
        workload=case.partition("@")[0],
        link=case.partition("@")[2],
        policy=policy,
        seed=seed,
        ram_bytes=16 * MIB,
        goal_downtime_s=0.2,
        goal_deadline_s=None,
        limit_s=3.0,
        outcome="completed" if moved else "cancelled",
        why="moved" if moved else "it took too long",
        converged=moved,
        waited_s=0.0,
        total_s=total_s,
        downtime_s=downtime_s,
        transferred_bytes=round(total_s * MIB),
        iterations=3,
        work=1.0 - lost_guest_s / total_s,
        lost_guest_s=lost_guest_s,
        throttle=0.0,
        postcopy=False,
        goal_met=moved and downtime_s is not None and downtime_s <= 0.2,
        decisions=1,
        faults=0,
        whimbrel="0",
        qemu="7.2",
        scenario="",
    )
    return made if met is None else replace(made, goal_met=met)
