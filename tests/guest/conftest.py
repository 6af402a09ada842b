"""A laboratory for every test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.guest.laboratory import Laboratory
from whimbrel.guest.monitor import GuestMonitor


@pytest.fixture
async def laboratory(tmp_path: Path) -> AsyncGenerator[Laboratory, None]:
    """A place to start guests in, with a monitor that listens to them; all ends with the test."""
    place = Laboratory(tmp_path, GuestMonitor())
    try:
        yield place
    finally:
        await place.end()
