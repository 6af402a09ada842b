"""Locks on image files."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu.errors import Refusal
from whimbrel.sim.qemu.images import Images


def test_one_process_at_a_time_and_all_or_nothing() -> None:
    """Who is refused gets none of what it asked for."""
    images = Images()
    images.take(1, ["a"])
    images.take(1, ["a", "b"])
    with pytest.raises(Refusal, match='Failed to get "write" lock'):
        images.take(2, ["c", "b"])
    assert images.held_by_other(2, ["c", "b"]) == "b"
    images.take(3, ["c"])
    images.drop(1)
    images.take(2, ["a", "b"])
    assert images.held_by_other(1, ["c", "b"]) == "c"
    assert images.held_by_other(2, ["a", "b"]) is None
