"""CPU of the managing process."""

from __future__ import annotations

from benchmarks.cpu import judge
from benchmarks.pairs import Pairs
from whimbrel.laboratory.stage import Move


def _move(by: str, cpu_s: float) -> Move:
    return Move(
        by=by,
        guest="any",
        total_s=1.0,
        call_s=2.0,
        gap_s=0.1,
        before_stop_s=0.0,
        stop_to_resume_s=0.1,
        after_resume_s=0.0,
        stalls_s=0.0,
        work=1.0,
        manager_cpu_s=cpu_s,
        others_cores=0.0,
    )


def test_cpu_is_given_per_migration_as_a_ratio_and_as_a_share_of_a_core() -> None:
    (result,) = judge({"long": Pairs([_move("bare", 0.02)] * 3, [_move("whimbrel", 0.06)] * 3)})
    values = {row.name: row.measured.value for row in result.rows}
    assert values["long: whimbrel, per migration"] == 60
    assert round(values["long: whimbrel over bare"], 6) == 3
    assert round(values["long: whimbrel, share of a core"], 6) == 3
