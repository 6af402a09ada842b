"""A QMP monitor: greeting, negotiation, order, descriptors."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.qemu.pair import PLAIN, Pair, Seat, guest
from whimbrel.sim.clock import Clock
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.qemu.contract import Costs, QmpMessage, Version
from whimbrel.sim.qemu.process import Qemu
from whimbrel.sim.scenario import LinkPlan


@pytest.fixture
def seat() -> Seat:
    """A client that has not negotiated."""
    clock = Clock()
    network = LocalNetwork(clock, LinkPlan(), 1)
    qemu = Qemu(clock, Version.V7_2, network, PLAIN.split(), guest(), Costs(), 1, 7, 1e9)
    return Seat(qemu, clock).sit(negotiate=False)


def _raw(seat: Seat, message: QmpMessage) -> QmpMessage:
    assert seat.client is not None
    heard = len(seat.heard)
    seat.client.send(message)
    seat.clock.advance_to(seat.clock.now_ns + 10**7)
    assert len(seat.heard) == heard + 1
    return seat.heard[-1]


def test_the_greeting_comes_first_and_names_the_version(seat: Seat) -> None:
    """And offers out-of-band commands."""
    seat.clock.advance_to(10**6)
    assert seat.heard == [
        {
            "QMP": {
                "version": {
                    "qemu": {"micro": 22, "minor": 2, "major": 7},
                    "package": "Debian 1:7.2+dfsg-7+deb12u18",
                },
                "capabilities": ["oob"],
            }
        }
    ]


def test_before_the_negotiation_nothing_else_is_carried_out(seat: Seat) -> None:
    """Nor are events sent; afterwards it can't be repeated."""
    seat.clock.advance_to(10**6)
    early = _raw(seat, {"execute": "query-status", "id": None})
    words = "Expecting capabilities negotiation with 'qmp_capabilities'"
    assert early == {"id": None, "error": {"class": "CommandNotFound", "desc": words}}
    seat.qemu.emit("STOP")
    assert _raw(seat, {"execute": "qmp_capabilities", "id": 1}) == {"return": {}, "id": 1}
    again: Any = _raw(seat, {"execute": "qmp_capabilities"})
    assert again["error"]["desc"] == "Capabilities negotiation is already complete, command ignored"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"execute": 5}, "QMP input member 'execute' must be a string"),
        ({"arguments": {}}, "QMP input lacks member 'execute'"),
        ({"execute": "quit", "arguments": []}, "QMP input member 'arguments' must be an object"),
        ({"execute": "quit", "what": 1}, "QMP input member 'what' is unexpected"),
        ({"exec-oob": "quit"}, "QMP input member 'exec-oob' is unexpected"),
        ({"execute": "nosuch"}, "The command nosuch has not been found"),
    ],
)
def test_what_is_no_command_is_refused(seat: Seat, message: QmpMessage, words: str) -> None:
    """In the words of 7.2; out of band was not asked for here."""
    seat.clock.advance_to(10**6)
    _raw(seat, {"execute": "qmp_capabilities"})
    answer: Any = _raw(seat, message)
    assert answer["error"]["desc"] == words


def test_out_of_band_is_for_few_commands_and_one_kind_at_a_time(seat: Seat) -> None:
    """Once it was asked for."""
    seat.clock.advance_to(10**6)
    _raw(seat, {"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}})
    both: Any = _raw(seat, {"execute": "quit", "exec-oob": "quit"})
    assert both["error"]["desc"] == "QMP input member 'execute' clashes with 'exec-oob'"
    other: Any = _raw(seat, {"exec-oob": "query-status"})
    assert other["error"]["desc"] == "The command query-status does not support OOB"
    assert _raw(seat, {"exec-oob": "query-yank", "id": "x"})["id"] == "x"


@pytest.mark.parametrize(
    ("enable", "words"),
    [
        ([5], "Invalid parameter type for 'enable[0]', expected: string"),
        (["x"], "Parameter 'enable[0]' does not accept value 'x'"),
        ("oob", "Invalid parameter type for 'enable', expected: array"),
    ],
)
def test_what_is_not_offered_can_t_be_enabled(seat: Seat, enable: object, words: str) -> None:
    """And the negotiation is still to come."""
    seat.clock.advance_to(10**6)
    answer: Any = _raw(seat, {"execute": "qmp_capabilities", "arguments": {"enable": enable}})
    assert answer["error"]["desc"] == words
    assert _raw(seat, {"execute": "qmp_capabilities"}) == {"return": {}}


def test_a_second_client_gets_no_greeting_until_the_first_has_gone() -> None:
    """One client per monitor; another monitor is another matter."""
    pair = Pair()
    qemu = pair.source.qemu
    assert qemu.connect(lambda message: None, lambda: None) is None
    other = Seat(qemu, pair.clock).sit(1)
    assert other.ask("query-status")["status"] == "running"
    assert pair.source.client is not None
    pair.source.client.close()
    again = Seat(qemu, pair.clock).sit()
    assert again.ask("query-status")["running"]


def test_every_monitor_gets_every_event_with_the_time_of_the_wall() -> None:
    """In microseconds since 1970."""
    pair = Pair()
    other = Seat(pair.source.qemu, pair.clock).sit(1)
    pair.go(1.25)
    pair.source.ask("stop")
    pair.go(0.01)
    events = [[message for message in seat.heard if "event" in message] for seat in (pair.source, other)]
    assert events[0] == events[1]
    stamp: Any = events[0][0]["timestamp"]
    assert stamp["seconds"] == 1_000_000_001
    assert list(events[0][0]) == ["timestamp", "event"]


def test_commands_of_one_monitor_are_answered_in_order_those_out_of_band_at_once() -> None:
    """Though all were sent together."""
    pair = Pair()
    numbers = [pair.source.say("query-status") for _ in range(3)]
    urgent = pair.source.say("query-yank", oob=True)
    pair.go(0.01)
    answered = [message["id"] for message in pair.source.heard if message.get("id") in (*numbers, urgent)]
    assert answered == [numbers[0], urgent, *numbers[1:]], "the first one found the main loop idle"


def test_a_descriptor_belongs_to_the_client_that_handed_it_over() -> None:
    """It is there under its name, until it is closed or used."""
    pair = Pair()
    assert pair.source.ask("getfd", fdname="a") == "No file descriptor supplied via SCM_RIGHTS"
    assert pair.source.client is not None
    pair.source.client.hand_over("a", "tcp:127.0.0.1:1")
    assert pair.source.ask("getfd", fdname="a") == {}
    assert pair.source.ask("closefd", fdname="a") == {}
    assert pair.source.ask("closefd", fdname="a") == "File descriptor named 'a' not found"


def test_what_was_said_before_the_end_arrives_and_then_the_end() -> None:
    """A client reads the events up to the end of file."""
    pair = Pair()
    pair.source.say("quit")
    pair.go(0.01)
    assert "SHUTDOWN" in pair.source.events
    assert pair.source.closed
    assert pair.source.qemu.exit_code == 0
