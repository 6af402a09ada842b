"""A post-copy migration that lost its link: what each side is told, and what a refusal means."""

from __future__ import annotations

import pytest

from tests.support.qmp_server import Drop, Refusal
from tests.support.scripted_sides import WITHIN_S, scripted
from whimbrel.engine.errors import OutcomeUnknown, QemuRefused, WhimbrelError
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.postcopy import listen, pause

NOT_NOW = Refusal("migrate-pause is currently only supported during postcopy-active state")
PAUSED = {"status": "postcopy-paused"}
ADDRESS = {"type": "inet", "host": "127.0.0.1", "port": "4712"}


async def test_both_give_the_link_up() -> None:
    """Out of band: the main loop may wait for that very link. Who has noticed by itself refuses, which is as good."""
    async with scripted() as source, scripted(SideName.DESTINATION) as destination:
        source.server.on("migrate-pause", {})
        source.server.on_next("query-migrate", {"status": "postcopy-active"})
        source.server.on("query-migrate", PAUSED)
        destination.server.on("migrate-pause", NOT_NOW)
        destination.server.on("query-migrate", PAUSED)
        await pause((source.side, destination.side), within_s=WITHIN_S)
        assert (await destination.server.until_received("migrate-pause")).oob
        source.server.on("migrate-pause", Drop())
        with pytest.raises(OutcomeUnknown):
            await pause((source.side, destination.side), within_s=WITHIN_S)


async def test_who_does_not_give_it_up_is_said() -> None:
    """The other side can't come back to it."""
    async with scripted() as source:
        source.server.on("migrate-pause", {})
        source.server.on("query-migrate", {"status": "postcopy-active"})
        with pytest.raises(WhimbrelError, match="does not give its link up"):
            await pause([source.side], within_s=WITHIN_S, paused_within_s=0.05)
        source.server.on("migrate-pause", NOT_NOW)
        with pytest.raises(QemuRefused, match="currently only supported"):
            await pause([source.side], within_s=WITHIN_S, paused_within_s=0.05)


async def test_the_destination_listens_again() -> None:
    """At the newest of the addresses that it names; one that names none can't be come back to."""
    async with scripted(SideName.DESTINATION) as destination:
        destination.server.on("migrate-recover", {})
        destination.server.on("query-migrate", {"socket-address": [{**ADDRESS, "port": "1"}, ADDRESS]})
        assert await listen(destination.side, "tcp:127.0.0.1:0", within_s=WITHIN_S) == "tcp:127.0.0.1:4712"
        told = await destination.server.until_received("migrate-recover")
        assert told.oob
        assert told.arguments == {"uri": "tcp:127.0.0.1:0"}
        destination.server.on("query-migrate", {})
        with pytest.raises(WhimbrelError, match="where it listens"):
            await listen(destination.side, "tcp:127.0.0.1:0", within_s=WITHIN_S)
