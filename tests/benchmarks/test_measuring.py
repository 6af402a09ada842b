"""What measuring costs a guest: how the loss is reckoned, and a run of it all."""

from __future__ import annotations

import pytest

from benchmarks import measuring
from benchmarks.pairs import Manner
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.laboratory.stage import Guest

WRITER = Guest("writer", WorkloadSpec.parse(("hot:size=2MiB,rate=8MiB/s", "cold:size=6MiB"), beat_hz=200), 24512 << 10)


def window(writes_per_s: float) -> measuring.Window:
    return measuring.Window(writes_per_s=writes_per_s, qemu_cpu_s=1.0, our_cpu_s=0.1, lasted_s=1.0)


def test_a_loss_is_what_is_missing_of_the_pair_beside_it() -> None:
    sides = measuring.Sides([window(99.0), window(198.0)], [window(100.0), window(200.0)])
    lost = measuring.loss(sides)
    assert lost.value == pytest.approx(1.0)
    assert lost.low <= lost.value <= lost.high


def test_only_looking_is_held_to_a_bar() -> None:
    pair = measuring.Sides([window(99.0)], [window(100.0)])
    result = measuring.judge({measuring.LOOKS: pair, "calc-dirty-rate": pair})
    (bar,) = result.bars
    assert bar.met
    assert bar.bound == measuring.GREATEST_LOSS
    rows = {row.name: row.measured.value for row in result.rows}
    assert rows["the guest loses to calc-dirty-rate"] == pytest.approx(1.0)
    assert rows["looks at its pages: less done in a second of QEMU's processor time"] == pytest.approx(1.0)
    assert "looks at its pages: read" not in rows


async def test_a_guest_is_looked_at_and_left_alone_in_turn() -> None:
    """Two pairs of short looks at a small one."""
    said: list[str] = []
    found = await measuring.run(Manner(runs=2, say=said.append), {measuring.LOOKS: measuring.looks(0.1)}, WRITER)
    sides = found[measuring.LOOKS]
    assert len(said) == len(sides.during) == len(sides.without) == 2
    assert all(each.read_bytes > 0 and each.writes_per_s > 0 for each in sides.during)
    assert all(each.read_bytes == 0 and each.writes_per_s > 0 for each in sides.without)
