"""The switchover gap."""

from __future__ import annotations

import pytest

from benchmarks import gap
from benchmarks.pairs import Manner


def test_the_gap_is_split_into_three_parts_on_either_side() -> None:
    (result,), measured = gap.measure(Manner(runs=1, say=lambda text: None))
    (ours,), (bare,) = measured["gap"].values(lambda move: move.gap_s)
    assert result.bars[0].measured.value == pytest.approx((ours - bare) * 1e3)
    for move in (*measured["gap"].ours, *measured["gap"].bare):
        parts_s = move.before_stop_s + move.stop_to_resume_s + move.after_resume_s
        assert parts_s == pytest.approx(move.gap_s, abs=1e-3)
