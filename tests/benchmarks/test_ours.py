"""Our side of the comparison."""

from __future__ import annotations

import pytest

from benchmarks import ours
from benchmarks.guests import small
from whimbrel.laboratory.load import Stopwatch
from whimbrel.laboratory.place import Loopback, Place
from whimbrel.laboratory.relay import paced_relay
from whimbrel.laboratory.stage import Move, stage

PARTS = ("before.open", "before.inspect", "before.prepare", "before.arm", "before.migrate")


async def _moved(place: Place, *, ready: bool) -> Move:
    async with stage(place, small()) as standing:
        watch = Stopwatch.start(standing.pids)
        return await standing.judge("whimbrel", await ours.move(standing, ready=ready), watch)


@pytest.mark.parametrize("ready", [False, True])
async def test_it_moves_a_guest_and_says_where_the_time_went(ready: bool) -> None:
    move = await _moved(Loopback(), ready=ready)
    assert sum(move.items[name] for name in PARTS) == pytest.approx(move.items["before"])
    downtime_s = sum(value for name, value in move.items.items() if name.startswith("downtime."))
    assert downtime_s == pytest.approx(move.stop_to_resume_s, abs=1e-6)
    assert 0 < move.items["after"] <= move.items["device to resume"]
    assert move.total_s < move.call_s + 0.5


async def test_through_the_relay_all_of_it_goes() -> None:
    """The source is sent to the relay by way of the proxy before the destination's monitor."""
    with paced_relay(64 << 20) as relay:
        move = await _moved(relay, ready=False)
    assert move.total_s >= (16 << 20) / (64 << 20) * 0.9
