"""The items of the outage add up to the outage, whatever was seen of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.timeline import Mark, itemise

SEEN = {
    Mark.SOURCE_STOP: 10.0,
    Mark.SOURCE_PRE_SWITCHOVER: 10.001,
    Mark.CONTINUE_SENT: 10.003,
    Mark.DESTINATION_COMPLETED: 10.013,
    Mark.SOURCE_COMPLETED: 10.014,
    Mark.CONT_SENT: 10.016,
    Mark.DESTINATION_RESUME: 10.017,
}


def test_the_items_of_an_ordinary_switchover() -> None:
    found = itemise(SEEN, left_bytes=4000, bandwidth_bytes_per_s=1_000_000)
    assert found is not None
    assert found.total_s == pytest.approx(0.017)
    assert found.stop_s == pytest.approx(0.001)
    assert found.drain_s == pytest.approx(0.002)
    assert found.last_ram_s == pytest.approx(0.004)
    assert found.device_state_s == pytest.approx(0.006)
    assert found.load_s == pytest.approx(0.003)
    assert found.resume_s == pytest.approx(0.001)


def test_where_the_hand_over_was_seen_to_end_the_last_ram_is_measured() -> None:
    marks = {Mark.SOURCE_STOP: 10.0, Mark.CONTINUE_SENT: 10.0, Mark.DESTINATION_COMPLETED: 10.1}
    marks[Mark.DESTINATION_RESUME] = 10.2
    found = itemise(marks, left_bytes=10**6, bandwidth_bytes_per_s=1e6, handed_s=0.03)
    assert found is not None
    assert found.measured
    assert (found.last_ram_s, found.device_state_s) == pytest.approx((0.03, 0.07))
    late = itemise(marks, left_bytes=10**4, bandwidth_bytes_per_s=1e6, handed_s=0.5)
    assert late is not None
    assert not late.measured
    assert late.last_ram_s == pytest.approx(0.01)


def test_without_stop_or_resume_there_is_nothing_to_itemise() -> None:
    assert itemise({}) is None
    assert itemise({Mark.SOURCE_STOP: 1.0}) is None


@given(
    st.dictionaries(st.sampled_from(list(Mark)), st.floats(0, 100)),
    st.integers(0, 10**9),
    st.floats(0, 1e9),
)
def test_the_items_add_up(marks: dict[Mark, float], left_bytes: int, bandwidth: float) -> None:
    """Whatever moments were missed or came out of order, nothing is negative and the sum holds."""
    found = itemise(marks, left_bytes=left_bytes, bandwidth_bytes_per_s=bandwidth)
    if found is None:
        return
    assert list(found.items) == ["stop_s", "drain_s", "last_ram_s", "device_state_s", "load_s", "resume_s"]
    assert all(getattr(found, name) == value >= 0 for name, value in found.items.items())
    assert sum(found.items.values()) == pytest.approx(max(found.total_s, 0.0), abs=1e-6)


def test_in_postcopy_the_guest_runs_there_long_before_its_destination_has_everything() -> None:
    """Until we sent ``cont`` it was sent what it needs; the rest of the outage is its resumption."""
    marks = {
        Mark.SOURCE_STOP: 10.0,
        Mark.SOURCE_PRE_SWITCHOVER: 10.001,
        Mark.CONTINUE_SENT: 10.002,
        Mark.CONT_SENT: 10.018,
        Mark.DESTINATION_RESUME: 10.025,
        Mark.DESTINATION_COMPLETED: 12.0,
    }
    found = itemise(marks)
    assert found is not None
    assert found.total_s == pytest.approx(0.025)
    assert found.last_ram_s == 0.0
    assert found.load_s == pytest.approx(0.0)
    assert found.device_state_s == pytest.approx(0.016)
    assert found.resume_s == pytest.approx(0.007)
