"""Our side of the comparison."""

from __future__ import annotations

import pytest

from benchmarks import ours
from benchmarks.guests import small
from benchmarks.load import Stopwatch
from benchmarks.place import Loopback, Place
from benchmarks.relay import paced_relay
from benchmarks.stage import Move, stage

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


def test_a_moment_that_the_log_has_not_is_named() -> None:
    moments = ours.Moments([{"kind": "header", "monotonic_ns": 5, "started_wall_s": 100.0}])
    with pytest.raises(LookupError, match="no mark source-stop"):
        moments.mark_s("source-stop")
    with pytest.raises(LookupError, match="no command migrate"):
        moments.command_ns("migrate")
    with pytest.raises(LookupError, match="no MIGRATION active of the source"):
        moments.qmp_s("source", "MIGRATION", "active")
    assert moments.wall_s(5 + 10**9) == 101.0
