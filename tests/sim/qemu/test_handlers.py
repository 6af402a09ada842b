"""What a command is made of."""

from __future__ import annotations

from tests.sim.qemu.pair import Pair
from whimbrel.sim.qemu.handlers import fixed, whole


def test_a_fixed_answer() -> None:
    """Whoever asks, and with whatever."""
    pair = Pair()
    assert pair.source.client is not None
    assert fixed([])(pair.source.qemu, pair.source.client, {"a": 1}) == []


def test_a_number() -> None:
    """That was checked to be one."""
    assert whole(17) == 17
