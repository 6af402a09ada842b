"""Constants out of measurements."""

from __future__ import annotations

import pytest

from benchmarks.fidelity.calibrate import two_costs
from benchmarks.fidelity.records import load_calibration


def test_two_costs_are_found_again() -> None:
    rows = [(x, y, 15e-9 * x + 1.2e-6 * y) for x, y in ((65e3, 0.0), (65e3, 12e3), (32e3, 0.0), (65e3, 600.0))]
    assert two_costs(rows) == pytest.approx((15e-9, 1.2e-6))


def test_a_small_measurement_counts_as_much_as_a_large_one() -> None:
    exact = [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0)]
    both = [*exact, (1.0, 0.0, 1.1), (0.0, 1000.0, 1100.0)]
    first, second = two_costs(both)
    assert first == pytest.approx(second)
    assert 1.0 < first < 1.1


def test_the_constants_on_record_are_of_the_right_order() -> None:
    constants = load_calibration().constants
    assert 1e-9 < constants["sync_s_per_page"] < 1e-7
    assert 1e-7 < constants["sync_s_per_dirty_page"] < 1e-5
    assert 10_000 < constants["device_state_bytes"] < 200_000
    assert 0 < constants["stop_s"] < 0.01
    assert 0 < constants["load_s"] < 0.05
