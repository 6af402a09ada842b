"""What is set on both sides, and put back, against scripted monitors."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.support.qmp_server import Refusal
from tests.support.scripted_sides import Scripted, scripted
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.machine import Event, Learnt
from whimbrel.engine.negotiation import REQUIRED
from whimbrel.engine.pilot import Steering
from whimbrel.engine.policy import Decision, Knobs, Reason
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.settings import Settings

OFF: dict[str, bool] = dict[str, bool].fromkeys((*REQUIRED, "xbzrle", "multifd"), False)
KNOBS = Knobs(downtime_limit_s=0.05, bandwidth_bytes_per_s=1000, multifd_channels=4)


def wanting(**capabilities: bool) -> Steering:
    """What a policy wants before the start."""
    return Steering(
        asked=Reason.SETUP, decision=Decision(capabilities=capabilities), knobs=KNOBS, changes={}, clamped=()
    )


@dataclass
class Book:
    """Settings with somebody who reads along."""

    events: list[Event] = field(default_factory=list[Event])
    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list[tuple[str, dict[str, object]]])

    @property
    def notes(self) -> list[str | None]:
        """The sentences for the report."""
        return [event.note for event in self.events if isinstance(event, Learnt)]

    def open(self) -> Settings:
        """Those of a source with one parameter, between two QEMUs that have all off; the destination has no XBZRLE."""
        made = Settings(self.events.append, lambda kind, fields: self.lines.append((kind, fields)))
        made.has = {"source": dict(OFF), "destination": {name: False for name in OFF if name != "xbzrle"}}
        made.parameters = {"downtime-limit": 300, "max-bandwidth": 7, "multifd-channels": 2, "tls-creds": ""}
        return made


def takes_all(side: Scripted) -> None:
    """Have it take whatever is set."""
    for command in ("migrate-set-capabilities", "migrate-set-parameters"):
        side.server.on(command, {})


def told(side: Scripted, command: str) -> list[dict[str, object]]:
    """What it was told by a command."""
    return [dict(each.arguments) for each in side.server.received if each.command == command]


def test_a_wish_that_cannot_be_had_is_a_note() -> None:
    book = Book()
    agreed = book.open().agree(wanting(xbzrle=True, multifd=True))
    assert agreed.capabilities["multifd"]
    assert not agreed.capabilities["xbzrle"]
    assert book.notes == ["xbzrle dropped: the destination has none"]


async def test_the_destination_is_told_what_it_has_to_know_before_it_listens() -> None:
    """How both had it stands in the log by then."""
    book = Book()
    settings = book.open()
    async with scripted(SideName.DESTINATION) as destination:
        takes_all(destination)
        destination.server.on("query-migrate-parameters", {"multifd-channels": 2, "downtime-limit": 300})
        await settings.tell_destination(destination.side.require(), settings.agree(wanting(multifd=True)), KNOBS)
        assert told(destination, "migrate-set-parameters") == [{"multifd-channels": 4}]
    written = {str(fields["side"]): fields for kind, fields in book.lines if kind == "settings"}
    assert written["source"]["parameters"] == {"downtime-limit": 300, "max-bandwidth": 7, "multifd-channels": 2}
    assert written["destination"]["parameters"] == {"multifd-channels": 2}
    assert written["destination"]["capabilities"] == dict.fromkeys((*REQUIRED, "multifd"), False)
    assert settings.armed


async def test_what_cannot_be_written_down_is_not_changed() -> None:
    """Nobody could put it back."""
    settings = Book().open()

    def fail(kind: str, fields: dict[str, object]) -> None:
        raise WhimbrelError("disk full")

    settings.write = fail
    async with scripted(SideName.DESTINATION) as destination:
        destination.server.on("query-migrate-parameters", {"multifd-channels": 2})
        with pytest.raises(WhimbrelError, match="disk full"):
            await settings.tell_destination(destination.side.require(), settings.agree(wanting()), KNOBS)
        assert destination.asked() == []


async def test_a_source_that_keeps_its_guest_gets_everything_back() -> None:
    """The badge goes first; it is worn while the settings are ours."""
    book = Book()
    settings = book.open()
    async with scripted() as source:
        takes_all(source)
        source.server.on("qom-list", [])
        for command in ("object-add", "object-del"):
            source.server.on(command, {})
        monitor = source.side.require()
        agreed = settings.agree(wanting())
        settings.changed, settings.before = {"source": {"events": False}}, {"source": {"downtime-limit": 300}}
        await settings.tell_source(monitor, agreed, KNOBS)
        assert settings.worn is not None
        await settings.put_back(monitor)
        assert settings.worn is None
        assert source.asked()[-3:] == ["object-del", "migrate-set-parameters", "migrate-set-capabilities"]
        assert told(source, "migrate-set-parameters")[-1] == {"downtime-limit": 300}
    assert [fields["id"] is None for kind, fields in book.lines if kind == "badge"] == [False, True]


async def test_one_that_cannot_be_marked_is_moved_all_the_same() -> None:
    book = Book()
    settings = book.open()
    async with scripted() as source:
        takes_all(source)
        source.server.on("qom-list", [])
        source.server.on("object-add", Refusal("no such type"))
        await settings.tell_source(source.side.require(), settings.agree(wanting()), KNOBS)
    assert settings.worn is None
    assert book.notes == ["the source can't be marked as ours: no such type"]


@pytest.mark.parametrize("stays", [False, True])
async def test_after_a_success_whoever_stays_has_its_own_settings(stays: bool) -> None:
    settings = Book().open()
    settings.changed = {"source": {"events": False}, "destination": {"events": False}}
    settings.before = {"source": {"downtime-limit": 300}, "destination": {"multifd-channels": 2}}
    async with scripted() as source, scripted(SideName.DESTINATION) as destination:
        takes_all(source)
        takes_all(destination)
        await settings.leave(source.side, destination.side, source_stays=stays)
        assert destination.asked() == ["migrate-set-parameters", "migrate-set-capabilities"]
        assert source.asked() == (["migrate-set-capabilities"] if stays else [])
