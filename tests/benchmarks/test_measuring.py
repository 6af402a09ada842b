"""What measuring costs a guest: how the loss is reckoned, and a run of it all."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import measuring
from benchmarks.pairs import Manner
from whimbrel.laboratory.stage import Stage


def window(writes_per_s: float) -> measuring.Window:
    return measuring.Window(writes_per_s=writes_per_s, qemu_cpu_s=1.0, our_cpu_s=0.1, lasted_s=1.0)


def test_a_loss_is_what_is_missing_of_the_pair_beside_it() -> None:
    sides = measuring.Sides([window(99.0), window(198.0)], [window(100.0), window(200.0)])
    lost = measuring.loss(sides)
    assert lost.value == pytest.approx(1.0)
    assert lost.low <= lost.value <= lost.high


def test_only_looking_is_held_to_a_bar() -> None:
    """Two pairs of short looks, and of nothing at all in the place of the others."""
    said: list[str] = []
    (result,), pairs = measuring.measure(
        Manner(runs=2, say=said.append), {measuring.LOOKS: measuring.looks(0.4), "nothing": nothing}
    )
    assert pairs == {}
    assert len(said) == 4
    (bar,) = result.bars
    assert bar.bound == measuring.GREATEST_LOSS
    assert bar.measured.value < 50
    rows = {row.name: row.measured.value for row in result.rows}
    assert rows["looks at its pages: read"] > 1
    assert abs(rows["the guest loses to nothing"]) < 50


async def nothing(_: Stage) -> int:
    """Is done to it."""
    await asyncio.sleep(0.2)
    return 0
