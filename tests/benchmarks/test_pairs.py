"""Pairs of moves."""

from __future__ import annotations

import fcntl
from pathlib import Path

from benchmarks.guests import small
from benchmarks.pairs import Manner, run_pairs
from whimbrel.laboratory.place import Loopback


def test_each_guest_is_moved_both_ways_and_each_pair_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    manner = Manner(runs=1, lock=tmp_path / "lock", say=said.append)
    pairs = run_pairs(Loopback(), small(), manner, ready=True)
    ours, bare = pairs.values(lambda move: move.gap_s)
    assert [move.by for move in (*pairs.bare, *pairs.ours)] == ["bare", "whimbrel"]
    assert len(ours) == len(bare) == len(said) == 1
    assert "small 1/1" in said[0]
    with (tmp_path / "lock").open() as lock:  # let go of again
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
