"""The badge on a real QEMU: one at a time, and gone when it is taken off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.guests import World, a_world
from whimbrel.engine.errors import QemuRefused
from whimbrel.qmp_driver import badge
from whimbrel.qmp_driver.monitor import Monitor


def test_no_two_are_alike_and_all_are_known_by_their_beginning() -> None:
    made = {badge.invent() for _ in range(100)}
    assert len(made) == 100
    assert all(each.startswith(badge.PREFIX) for each in made)


async def test_a_source_wears_the_last_one_only(short_folder: Path) -> None:
    async with a_world(short_folder) as world:
        guest = await World.boot(world, listen=False)
        async with await Monitor.connect(guest.qmp, side="source") as monitor:
            first, second = badge.invent(), badge.invent()
            assert not await badge.wears(monitor, first)
            await badge.put_on(monitor, first)
            assert await badge.wears(monitor, first)
            await badge.put_on(monitor, second)
            assert (await badge.wears(monitor, first), await badge.wears(monitor, second)) == (False, True)
            await badge.take_off(monitor, second)
            await badge.take_off(monitor, second)
            assert not await badge.wears(monitor, second)


class Plain:
    """A QEMU without secrets."""

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float = 10.0, oob: bool = False
    ) -> object:
        """Answer."""
        if command == "qom-list":
            return [{"name": "type", "type": "string"}]
        assert (timeout_s, oob) == (10.0, False)
        raise QemuRefused(command, "GenericError", f"invalid object type: {arguments}")


async def test_a_qemu_without_such_objects_says_so() -> None:
    with pytest.raises(QemuRefused):
        await badge.put_on(Plain(), badge.invent())
