"""A cell run in the simulator: every column of its row, and what a policy may do wrong without stopping anything."""

from __future__ import annotations

import copy
import hashlib
import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.whimbrel.laboratory.matrices import hot, tiny
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.laboratory.matrix import Block
from whimbrel.laboratory.records import Case, Cell
from whimbrel.laboratory.running import CellFailed, meets, policy_source, run, run_block, scenario_text
from whimbrel.laboratory.summary import REGRETS
from whimbrel.scenario_file import loads
from whimbrel.scenario_writing import Plan
from whimbrel.sim.bounds import bounds
from whimbrel.sim.world import simulate

RAISES = """
def policy(seen):
    raise RuntimeError("no idea")
"""
LOOPS = """
def policy(seen):
    while True:
        pass
"""
WAITS = """
from whimbrel.engine.policy import Decision, Reason


def policy(seen):
    if seen.reason is Reason.SETUP and not policy.waited:
        policy.waited = True
        return Decision(not_yet_s=2.5, because="later")
    return Decision()


policy.waited = False
"""


def of_file(tmp_path: Path, text: str) -> str:
    """A policy out of a file."""
    path = tmp_path / "mine.py"
    path.write_text(text)
    return f"{path}:policy"


def cell(policy: str = "fixed", seed: int = 1, case: Case | None = None) -> Cell:
    """A cell of the tiny case."""
    return Cell(case=case or tiny(), policy=policy, seed=seed)


def test_a_row_tells_what_the_simulator_knows_to_be_true() -> None:
    asked = cell()
    row, outcome = run(asked), simulate(replace(asked.case.scenario, policy="fixed"), 1)
    truth = outcome.truth
    assert row.key == asked.key
    assert (row.total_s, row.downtime_s, row.transferred_bytes) == (
        truth.total_s,
        truth.outage_s,
        truth.transferred_bytes,
    )
    assert (row.iterations, row.work, row.throttle, row.postcopy) == (truth.iterations, truth.work, 0.0, False)
    assert row.lost_guest_s == pytest.approx((1 - truth.work) * truth.total_s)
    assert (row.outcome, row.converged, row.faults) == ("completed", True, 0)
    assert (row.ram_bytes, row.goal_downtime_s, row.goal_deadline_s, row.limit_s) == (16 << 20, 0.2, None, 3.0)
    assert (row.case, row.workload, row.link, row.family) == ("busy@slow", "busy", "slow", "basic")


def test_the_same_cell_gives_the_same_row() -> None:
    assert run(cell("least_downtime")) == run(cell("least_downtime"))
    assert run(cell(seed=2)) != run(cell(seed=1))


def test_a_run_that_is_called_off_says_how_long_it_was_waited_for() -> None:
    row = run(cell(case=hot()))
    assert (row.converged, row.outcome, row.goal_met, row.downtime_s) == (False, "cancelled", False, None)
    assert row.total_s == pytest.approx(row.limit_s, abs=0.1)


def test_what_is_waited_before_the_start_is_no_part_of_the_time(tmp_path: Path) -> None:
    waits, plain = run(cell(of_file(tmp_path, WAITS))), run(cell())
    assert waits.waited_s == pytest.approx(2.5 + plain.waited_s, abs=0.05)
    assert plain.waited_s < 0.05
    assert waits.total_s == pytest.approx(plain.total_s, abs=0.3)


def test_postcopy_shows_in_the_row() -> None:
    row = run(cell("hybrid_after", case=hot()))
    assert (row.postcopy, row.converged) == (True, True)
    assert row.downtime_s is not None
    assert row.total_s > row.downtime_s


def test_a_policy_that_raises_is_counted_and_changes_nothing_else(tmp_path: Path) -> None:
    """Asked at the start, it raises; the migration goes on under QEMU's own settings."""
    row = run(cell(of_file(tmp_path, RAISES)))
    assert row.faults >= 1
    assert row.converged


def test_a_policy_that_loops_for_ever_ends_nothing_but_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once, given up, and the migration goes on without it."""
    monkeypatch.setattr("whimbrel.laboratory.running.ANSWER_WITHIN_S", 0.1)
    row = run(cell(of_file(tmp_path, LOOPS)))
    assert (row.faults >= 1, row.converged) == (True, True)
    assert "no answer within 0.1 s" in row.fault


def test_a_copied_policy_counts_its_faults_in_the_same_place(tmp_path: Path) -> None:
    from whimbrel.engine.policy import Observation, Reason
    from whimbrel.laboratory.running import Watched

    def wrong(seen: Observation) -> None:
        return None

    watched = Watched(wrong)  # type: ignore[arg-type]  # that is what is wrong with it
    copied = copy.deepcopy(watched)
    for each in (watched, copied):
        with pytest.raises(ValueError, match="Decision"):
            each(Observation(reason=Reason.SETUP))
    assert watched.tally.faults == 2


# ---- the goal


@pytest.mark.parametrize(
    ("moved", "total_s", "downtime_s", "deadline_s", "met"),
    [
        (True, 5.0, 0.2, None, True),
        (True, 5.0, 0.21, None, False),
        (True, 5.0, 0.1, 5.0, True),
        (True, 5.1, 0.1, 5.0, False),
        (False, 1.0, None, None, False),
        (False, 1.0, 0.1, None, False),
        (True, 1.0, None, None, False),
    ],
)
def test_the_goal_is_downtime_and_deadline_of_a_guest_that_moved(
    moved: bool, total_s: float, downtime_s: float | None, deadline_s: float | None, met: bool
) -> None:
    case = tiny()
    asked = replace(case, scenario=replace(case.scenario, objectives=Objectives(downtime_s=0.2, deadline_s=deadline_s)))
    assert meets(asked, moved=moved, total_s=total_s, downtime_s=downtime_s) is met


# ---- doing it again


def test_the_text_of_a_row_is_its_scenario() -> None:
    row = run(cell("least_downtime"))
    assert loads(row.scenario) == Plan(scenario=replace(tiny().scenario, policy="fixed"), seed=1)
    assert row.scenario == scenario_text(replace(tiny().scenario, policy="xen_classic"))


def test_a_policys_files_are_told_by_their_sum(tmp_path: Path) -> None:
    text = of_file(tmp_path, RAISES)
    assert policy_source(text) == hashlib.sha256(RAISES.encode()).hexdigest()
    assert policy_source(f"{text}:after=60") == policy_source(text)
    assert policy_source("fixed:downtime_limit=50ms") == policy_source("least_downtime") == ""
    twice = hashlib.sha256(RAISES.encode() * 2).hexdigest()
    assert policy_source(f"first({text}, {text})") == twice
    with pytest.raises(BadInput, match=r"nowhere\.py"):
        policy_source("nowhere.py:policy")


def test_a_file_that_was_changed_is_run_again(tmp_path: Path) -> None:
    """A worker of a cluster outlives a sweep: what its row says of the file must be true of what was run."""
    asked = cell(of_file(tmp_path, RAISES))
    assert run(asked).faults >= 1
    of_file(tmp_path, WAITS)
    changed = run(asked)
    assert (changed.faults, changed.waited_s > 2) == (0, True)
    assert changed.policy_source == hashlib.sha256(WAITS.encode()).hexdigest()


# ---- blocks


def test_a_block_gives_a_row_for_each_of_its_cells_in_their_order() -> None:
    cells = (cell("fixed"), cell("least_downtime"))
    done = run_block(Block(cells=cells))
    assert [row.key for row in done.rows] == [each.key for each in cells]
    assert done.bounds is None
    assert all(getattr(row, name) is None for row in done.rows for name in REGRETS)


def test_bounds_are_found_once_and_give_regrets() -> None:
    case = tiny(pages=True)
    found = bounds(case.scenario, 1)
    done = run_block(Block(cells=(cell(case=case),), bounded=True))
    assert done.bounds == found
    (row,) = done.rows
    assert row.policy_downtime_s is not None
    assert row.mechanism_downtime_s is not None
    again = run_block(Block(cells=(cell(case=case),), bounded=True, bounds=found))
    assert again.bounds is None
    assert again.rows == done.rows


def test_a_guest_without_pages_has_no_bounds() -> None:
    done = run_block(Block(cells=(cell(),), bounded=True))
    assert done.bounds is None
    assert done.rows[0].policy_downtime_s is None


def test_what_goes_wrong_names_the_cell_and_survives_the_way_from_a_worker() -> None:
    """Not every exception can be pickled; this one is."""
    with pytest.raises(CellFailed, match=r"busy@slow, nowhere\.py:policy, seed 3: policy: ") as raised:
        run_block(Block(cells=(cell("nowhere.py:policy", seed=3),)))
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_every_column_says_what_it_is() -> None:
    for each in fields(run(cell())):
        assert each.metadata["about"], each.name
        assert (each.metadata["unit"] == "s") == each.name.endswith("_s"), each.name
        assert (each.metadata["unit"] == "B") == each.name.endswith("_bytes"), each.name
