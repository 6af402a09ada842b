"""One real migration of a case."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import whimbrel
from benchmarks.foresight.design import Case
from benchmarks.foresight.moving import move, stamp
from benchmarks.foresight.records import Came
from tests.support.foresight import BELIEF, MIB, case, predicted
from whimbrel.engine.policy import Objectives
from whimbrel.engine.prediction import COMPONENTS, of_predicted
from whimbrel.laboratory.place import Loopback
from whimbrel.laboratory.stage import stage
from whimbrel.policies import resolve

SMALL = msgspec.structs.replace(
    case(policy="fixed"),
    classes=("cold:size=16MiB",),
    ram_bytes=40 * MIB + (64 << 10),
    objectives=Objectives(downtime_s=0.3, deadline_s=20.0),
)


async def moved(asked: Case, log: Path) -> Came:
    options = whimbrel.Options(
        policy=resolve(asked.policy),
        policy_name=asked.policy,
        prediction=of_predicted(predicted(asked.policy), BELIEF),
        log_path=log,
    )
    async with stage(Loopback(), asked.guest) as standing:
        return await move(standing, asked, options, attempt=2, said="abc")


async def test_a_migration_is_put_down_with_its_components_and_keeps_its_log(tmp_path: Path) -> None:
    came = await moved(SMALL, tmp_path / "log.jsonl")
    assert (came.case, came.attempt, came.said) == (SMALL.name, 2, "abc")
    assert came.moved
    assert came.met
    assert came.downtime_s is not None
    assert came.outage_s is not None
    assert 0 < came.downtime_s <= came.outage_s + 0.01
    assert came.downtime_s < came.total_s < 20
    assert set(came.components) == set(COMPONENTS)
    assert sum(came.components[name] for name in COMPONENTS[1:]) == pytest.approx(came.total_s, abs=0.02)
    assert came.transferred_bytes > 16 * MIB
    assert 1 <= came.iterations <= max(1, len(came.rows))  # none of them has ended where it was over at once
    assert (came.throttle, came.postcopy_s) == (0.0, 0.0)
    assert b'"prediction"' in (tmp_path / "log.jsonl").read_bytes()


async def test_one_that_is_late_is_called_off_and_that_is_its_verdict(tmp_path: Path) -> None:
    # So little that the first look at it is too late: nothing here hangs on how quick a machine is.
    late = msgspec.structs.replace(SMALL, objectives=Objectives(downtime_s=0.3, deadline_s=1e-18))
    came = await moved(late, tmp_path / "log.jsonl")
    assert (came.moved, came.met) == (False, False)
    assert came.downtime_s is came.outage_s is None
    assert came.components == came.items == {}
    assert "the deadline is over" in came.why


def test_a_moment_is_told_in_utc_to_the_millisecond() -> None:
    assert stamp(0.0015) == "1970-01-01T00:00:00.001+00:00"
