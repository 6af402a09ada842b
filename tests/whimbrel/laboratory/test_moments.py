"""When things happened, out of a log."""

from __future__ import annotations

import pytest

from whimbrel.laboratory.moments import Moments


def test_a_moment_that_the_log_has_not_is_named() -> None:
    moments = Moments([{"kind": "header", "monotonic_ns": 5, "started_wall_s": 100.0}])
    with pytest.raises(LookupError, match="no mark source-stop"):
        moments.mark_s("source-stop")
    with pytest.raises(LookupError, match="no command migrate"):
        moments.command_ns("migrate")
    with pytest.raises(LookupError, match="no MIGRATION active of the source"):
        moments.qmp_s("source", "MIGRATION", "active")
    assert moments.wall_s(5 + 10**9) == 101.0
