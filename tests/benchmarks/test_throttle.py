"""The computed throttle against the ladder: what is asked, and one round of small moves."""

from __future__ import annotations

import pytest

from benchmarks import throttle
from benchmarks.guests import small
from benchmarks.pairs import Manner
from whimbrel.laboratory.place import Loopback
from whimbrel.laboratory.stage import Move


def move(by: str, total_s: float, lost_s: float) -> Move:
    return Move(
        by=by,
        guest="writes 150%",
        total_s=total_s,
        call_s=total_s,
        gap_s=0.3,
        before_stop_s=0.0,
        stop_to_resume_s=0.3,
        after_resume_s=0.0,
        stalls_s=0.3,
        work=1 - lost_s / total_s,
        lost_s=lost_s,
        manager_cpu_s=0.1,
        others_cores=0.0,
    )


@pytest.mark.parametrize(
    ("total_s", "lost_s", "met"), [(8.0, 2.0, [True, True]), (9.0, 2.0, [False, True]), (8.0, 2.3, [True, False])]
)
def test_time_and_lost_work_are_held_against_the_ladder(total_s: float, lost_s: float, met: list[bool]) -> None:
    rounds = throttle.Rounds()
    for name in throttle.POLICIES:
        values = (30.0, 2.0) if name == throttle.LADDER else (total_s, lost_s)
        rounds.moves[name] += [move(name, *values) for _ in range(3)]
    result = throttle.judge(rounds, "a note")
    assert [bar.met for bar in result.bars] == met * (len(throttle.POLICIES) - 1)
    assert result.notes == ("a note",)
    rows = {row.name: row.measured.value for row in result.rows}
    assert rows["from outside: times as quick as auto-converge"] == pytest.approx(30 / total_s)
    assert rows["auto_converge: outage"] == pytest.approx(300)


async def test_each_round_moves_the_guest_every_way() -> None:
    said: list[str] = []
    rounds = await throttle.run_rounds(Loopback(), small(), Manner(runs=1, say=said.append))
    assert {name: len(moves) for name, moves in rounds.moves.items()} == dict.fromkeys(throttle.POLICIES, 1)
    assert [each.by for moves in rounds.moves.values() for each in moves] == list(throttle.POLICIES)
    assert all(each.lost_s == 0 for moves in rounds.moves.values() for each in moves)  # it writes nothing
    pairs = rounds.pairs("by QEMU")
    assert (len(pairs.bare), len(pairs.ours)) == (1, 1)
    assert len(said) == 1
