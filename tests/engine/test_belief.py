"""What a belief says of its own error."""

from __future__ import annotations

import pytest

from whimbrel.engine.belief import outage_error


@pytest.mark.parametrize(("outage_s", "part"), [(0.0, 1.0), (0.05, 1.0), (0.1, 1.0), (0.2, 0.5), (2.0, 0.05)])
def test_beyond_a_tenth_of_a_second_an_outage_is_off_by_the_same_seconds(outage_s: float, part: float) -> None:
    assert outage_error(outage_s) == pytest.approx(part)
