"""Running a cell of the matrix in the simulator: one migration, as one row of the table."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import math
import re
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from whimbrel.engine._version import __version__
from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.engine.pilot import check_sense
from whimbrel.engine.policies import BUILT_IN
from whimbrel.engine.policy import Decision, Observation, Policy, Reason
from whimbrel.engine.signals import Command
from whimbrel.policies import resolve
from whimbrel.qmp_driver.supervision import Supervised
from whimbrel.scenario_writing import Plan, dumps
from whimbrel.sim.bounds import Bounds
from whimbrel.sim.bounds import bounds as bounds_of
from whimbrel.sim.scenario import Scenario
from whimbrel.sim.world import Outcome, simulate

from .matrix import Block
from .records import Backend, Case, Cell, Row

__all__ = ["FAULT", "CellFailed", "Done", "asked_of", "meets", "policy_source", "run", "run_block", "scenario_text"]

ANSWER_WITHIN_S = 10.0
"""Of a policy that did not come with Whimbrel; one that takes longer is taken to loop for ever."""
FAULT = "failed when it was asked"
"""In each note of `whimbrel.engine.pilot` on a policy that failed."""
NO_END = "no end"
"""The outcome of a run that did not end even though it was called off; the laboratory's word, there is no report."""

UNNAMED_POLICY = "fixed"
"""Stands in the text of a scenario, where the policy does not count."""

_FILES = re.compile(r"[^\s:,;()=]+\.py(?=:|$)")


class CellFailed(WhimbrelError):
    """A run broke, and not because of its policy: a defect, of the simulator or of the machine that it was run on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a block.

    Attributes:
        rows: one for each of its cells, in their order.
        bounds: of its case and seed, if they were found for it.
    """

    rows: tuple[Row, ...]
    bounds: Bounds | None = None


def run_block(block: Block) -> Done:
    """Run a block: whatever takes it, a process of ours or a worker of a cluster, calls this.

    Raises:
        CellFailed: a policy can't be had here, or a run broke.
    """
    known, found = block.bounds, None
    if block.bounded and known is None and block.case.scenario.guest.pages:
        with _said(f"the bounds of {block.case.name}, seed {block.seed}"):
            known = found = bounds_of(block.case.scenario, block.seed)
    rows: list[Row] = []
    for cell in block.cells:
        with _said(f"{cell.case.name}, {cell.policy}, seed {cell.seed}"):
            rows.append(run(cell, known))
    return Done(rows=tuple(rows), bounds=found)


@contextlib.contextmanager
def _said(what: str) -> Generator[None]:
    """What goes wrong is said in words, for not every exception survives the way from a worker to us."""
    try:
        yield
    except Exception as error:
        how = str(error) if isinstance(error, WhimbrelError) else f"it broke with {error!r}"
        raise CellFailed(f"{what}: {how}") from error


def run(cell: Cell, bounds: Bounds | None = None) -> Row:
    """Simulate a cell. The same cell gives the same row, bit for bit.

    Args:
        cell: which.
        bounds: of its case and seed; ``None``: the row has no regrets.

    Raises:
        BadInput: its policy can't be had here, or its scenario is impossible.
    """
    case = cell.case
    source = policy_source(cell.policy)
    watched = Watched(_policy(cell.policy, source))
    outcome = simulate(replace(case.scenario, policy=cell.policy), cell.seed, watched)
    course = _course(outcome)
    return Row(
        backend=Backend.SIMULATED.value,
        policy=cell.policy,
        seed=cell.seed,
        **asked_of(case),
        **course,
        **_regrets(bounds, course),
        goal_met=meets(case, moved=course["converged"], total_s=course["total_s"], downtime_s=course["downtime_s"]),
        faults=watched.tally.faults,
        whimbrel=__version__,
        qemu=_versions(case.scenario),
        scenario=scenario_text(case.scenario),
        policy_source=source,
    )


def asked_of(case: Case) -> dict[str, Any]:
    """The columns of a row that follow from its case alone."""
    goal = case.scenario.objectives
    return {
        "case": case.name,
        "family": case.family,
        "workload": case.workload,
        "link": case.link,
        "ram_bytes": case.scenario.guest.ram_bytes,
        "goal_downtime_s": goal.downtime_s,
        "goal_deadline_s": goal.deadline_s,
        "limit_s": case.scenario.limit_s,
    }


def meets(case: Case, *, moved: bool, total_s: float, downtime_s: float | None) -> bool:
    """Whether a run did what the user wanted: moved, within the greatest downtime, and the deadline if there is one."""
    goal = case.scenario.objectives
    in_time = goal.deadline_s is None or total_s <= goal.deadline_s
    return moved and downtime_s is not None and downtime_s <= goal.downtime_s and in_time


def policy_source(policy: str) -> str:
    """SHA-256 of the files that a policy comes from, all of them where it is composed of several; empty: of none.

    Raises:
        BadInput: a file that can't be read.
    """
    names = _FILES.findall(policy)
    if not names:
        return ""
    digest = hashlib.sha256()
    for name in names:
        try:
            digest.update(Path(name).read_bytes())
        except (OSError, ValueError):
            raise BadInput("policy", policy, f"a policy whose file can be read here ({name})") from None
    return digest.hexdigest()


# ---- the policy, and what it does wrong


@dataclass(slots=True)
class Tally:
    """Counts on when the simulator copies the policy."""

    faults: int = 0


@dataclass(slots=True)
class Watched:
    """A policy whose faults are counted; they go on to the pilot, which deals with them."""

    inner: Policy
    tally: Tally = field(default_factory=Tally)

    def __call__(self, seen: Observation) -> Decision:
        try:
            decision = self.inner(seen)
            check_sense(decision)
        except BaseException:  # whatever it is, it is a fault of the policy's; the pilot sees to what follows
            self.tally.faults += 1
            raise
        return decision

    def __deepcopy__(self, memo: dict[int, Any]) -> Watched:
        return Watched(copy.deepcopy(self.inner, memo), self.tally)


@functools.lru_cache(maxsize=256)
def _policy(text: str, source: str) -> Policy:
    """Made once in a process for each text of its files, for these are run to make it; each migration gets a copy.

    Our own answer at once. Others are given long: a limit that a busy machine could exceed would make rows differ.
    """
    made = resolve(text)
    if text.partition(":")[0] in BUILT_IN:
        return made
    return Supervised(made, within_s=ANSWER_WITHIN_S, first_within_s=ANSWER_WITHIN_S)


# ---- what came of it


def _course(outcome: Outcome) -> dict[str, Any]:
    """The columns that tell how it went."""
    truth, report = outcome.truth, outcome.report
    return {
        "outcome": NO_END if report is None else report.outcome,
        "why": "" if report is None else report.why,
        "converged": report is not None and report.moved,
        "waited_s": _waited_s(outcome),
        "total_s": truth.total_s,
        "downtime_s": truth.outage_s,
        "transferred_bytes": truth.transferred_bytes,
        "iterations": truth.iterations,
        "work": truth.work,
        "lost_guest_s": (1.0 - truth.work) * truth.total_s,
        "throttle": truth.throttle,
        "postcopy": truth.postcopy,
        "decisions": 0 if report is None else report.decisions,
        "fault": "" if report is None else next((note for note in report.notes if FAULT in note), ""),
    }


def _regrets(bounds: Bounds | None, course: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that tell how far it was from the best; what is beyond all bounds is not known."""
    if bounds is None:
        return {}
    names = ("total_s", "downtime_s", "transferred_bytes", "lost_guest_s", "converged", "postcopy", "waited_s")
    regret = bounds.regret(**{name: course[name] for name in names})
    return {name: value if value is None or math.isfinite(value) else None for name, value in asdict(regret).items()}


def _waited_s(outcome: Outcome) -> float:
    setups = [at_ns for at_ns, each in outcome.log.of_kind("decision") if each["asked"] == Reason.SETUP.value]
    starts = [at_ns for at_ns, each in outcome.log.of_kind("command") if each["command"] == Command.MIGRATE.value]
    return (starts[0] - setups[0]) / 1e9 if setups and starts else 0.0


def _versions(scenario: Scenario) -> str:
    source, destination = scenario.qemu.source.value, scenario.qemu.destination.value
    return source if source == destination else f"{source} to {destination}"


@functools.lru_cache(maxsize=256)
def scenario_text(scenario: Scenario) -> str:
    """A scenario as a file has it, for `Row.scenario`; policy and seed in it do not count."""
    return dumps(Plan(scenario=replace(scenario, policy=UNNAMED_POLICY)))
