"""Recording a real migration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from benchmarks.fidelity import plan, record, traces
from benchmarks.fidelity.moving import Moved, move, traced_stage
from benchmarks.fidelity.record import BUSY_CORES, GREATEST_REPEATS, outcome_of
from benchmarks.fidelity.records import Run, load_runs
from benchmarks.guests import MIB
from whimbrel.guest.spec import PAGE_BYTES, PageClass, WorkloadSpec
from whimbrel.laboratory.place import Loopback
from whimbrel.laboratory.stage import Guest

GUEST = Guest("small", WorkloadSpec(classes=(PageClass(name="cold", size_bytes=16 * MIB),)), 40 * MIB + (64 << 10))


async def moved_within(cut_off_s: float) -> Moved:
    async with traced_stage(Loopback(), GUEST) as stage:
        return await move(stage, 0.1, cut_off_s)


async def test_a_migration_is_recorded_with_every_sync_and_its_switchover_in_parts() -> None:
    moved = await moved_within(60.0)
    outcome = outcome_of(moved, 1)
    assert (outcome.verdict, outcome.repeated) == ("converged", 1)
    assert outcome.iterations == len(outcome.rows) >= 2
    assert outcome.normal_pages * PAGE_BYTES >= GUEST.spec.size_bytes
    assert outcome.bytes > outcome.normal_pages * PAGE_BYTES
    assert outcome.migrated_s is not None
    assert 0 < outcome.migrated_s <= outcome.total_s + 0.05
    items = dict(outcome.downtime)
    assert items.pop("total") == pytest.approx(sum(items.values()), abs=1e-5)
    assert set(outcome.traced) == {"stop", "pause", "last_ram", "devices", "answer"}
    assert outcome.outage_s is not None
    assert outcome.outage_s >= outcome.downtime["total"] - 0.01
    at_s = [row[0] for row in outcome.rows]
    assert at_s == sorted(at_s)
    assert traces.moment_s(moved.trace, "migration_thread_setup_complete") is not None


async def test_a_migration_that_takes_too_long_is_called_off_and_that_is_its_verdict() -> None:
    outcome = outcome_of(await moved_within(0.0), 0)
    assert outcome.verdict == "cut off"
    assert outcome.downtime == outcome.traced == {}
    assert outcome.migrated_s is outcome.outage_s is None
    assert outcome.work == 1.0


def recorded_beside(*cores: float) -> Callable[[int], Awaitable[Run]]:
    """Something that records a run, while others use so much each time."""
    run = load_runs()[0]

    async def once(attempt: int) -> Run:
        return msgspec.structs.replace(
            run, outcome=msgspec.structs.replace(run.outcome, others_cores=cores[attempt], repeated=attempt)
        )

    return once


async def test_a_disturbed_run_is_repeated_until_one_is_not() -> None:
    said: list[str] = []
    run = await record.undisturbed(recorded_beside(2.0, BUSY_CORES, 0.0), said.append)
    assert (run.outcome.others_cores, run.outcome.repeated) == (BUSY_CORES, 1)
    assert len(said) == 2
    assert "others 2.00 cores" in said[0]


async def test_where_all_are_disturbed_the_least_disturbed_one_is_kept() -> None:
    cores = [2.0, 1.5, 1.8, 1.9][: GREATEST_REPEATS + 1]
    run = await record.undisturbed(recorded_beside(*cores), lambda _text: None)
    assert run.outcome.others_cores == 1.5


def test_what_is_on_record_is_not_recorded_once_more_unless_asked() -> None:
    names = [case.name for case in plan.cases()]
    assert [case.name for case in record.wanted(names[3:])] == names[:3]
    assert [case.name for case in record.wanted(names, anew=True)] == names
    assert {case.pattern for case in record.wanted([], only="zipf")} == {"zipf"}
