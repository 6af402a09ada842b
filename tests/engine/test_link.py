"""Goodput and the depth of the pipe, read out of what a sender saw."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.link import STILL_GROWS, UNSEEN_S, LinkEstimate, slope


def watch(goodput: float, pipe: float, seconds: float = 3.0, every: float = 0.02) -> LinkEstimate:
    """What is learnt of a link whose pipe fills at once."""
    link = LinkEstimate()
    for step in range(1, round(seconds / every)):
        at_s = step * every
        link.add(at_s, round(goodput * at_s + pipe))
    return link


@given(st.floats(1e5, 1e9), st.floats(0, 0.3))
def test_a_steady_link_is_read_right(goodput: float, pipe_s: float) -> None:
    link = watch(goodput, pipe_s * goodput)
    assert link.goodput_bytes_per_s == pytest.approx(goodput, rel=1e-3)
    assert link.pipe_s == pytest.approx(STILL_GROWS * pipe_s + UNSEEN_S, abs=2e-3)


def test_nothing_is_claimed_too_early() -> None:
    link = watch(1e6, 0, seconds=0.5)
    assert link.goodput_bytes_per_s is None
    assert link.pipe_bytes == 0.0
    assert link.pipe_s == 0.0


def test_without_early_readings_a_small_pipe_is_assumed() -> None:
    link = LinkEstimate()
    for step in range(100):
        link.add(10 + step * 0.02, 1000 * step)
    assert link.pipe_s == pytest.approx(0.03)


def test_old_readings_are_forgotten() -> None:
    """A link that became slower is taken at its new speed."""
    link, sent = LinkEstimate(), 0.0
    for step in range(1, 500):
        sent += (1e6 if step < 200 else 5e5) * 0.02
        link.add(step * 0.02, round(sent))
    assert link.goodput_bytes_per_s == pytest.approx(5e5, rel=0.01)


def test_what_does_not_rise_has_no_slope() -> None:
    assert slope(deque([(0.0, 5), (1.0, 5)])) is None
    assert slope(deque([(1.0, 5), (1.0, 7)])) is None
