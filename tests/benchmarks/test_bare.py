"""The bare script."""

from __future__ import annotations

import pytest

from benchmarks import bare
from benchmarks.guests import small
from whimbrel.laboratory.load import Stopwatch
from whimbrel.laboratory.place import Loopback
from whimbrel.laboratory.stage import stage


@pytest.mark.parametrize("ready", [False, True])
async def test_it_moves_a_guest_whose_memory_is_whole(ready: bool) -> None:
    async with stage(Loopback(), small()) as standing:
        watch = Stopwatch.start(standing.pids)
        move = await standing.judge("bare", await bare.move(standing, ready=ready), watch)
    assert 0 < move.stop_to_resume_s < move.gap_s + 0.02
    assert 0 < move.items["before"] < move.total_s <= move.call_s
    assert move.manager_cpu_s > 0
