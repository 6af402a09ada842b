"""What the simulated driver reads in QEMU's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.sim.small_qemu import Refused, SmallQemu, line_to, started, wire_to
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.sampling import statistics_of
from whimbrel.sim import driver_replies as replies
from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.driver_line import Line
from whimbrel.sim.driver_tasks import Loop, Work

ACTIVE: dict[str, Any] = {
    "status": "active",
    "expected-downtime": 120,
    "setup-time": 3,
    "cpu-throttle-percentage": 30,
    "ram": {
        "total": 1000 * 4096,
        "remaining": 10 * 4096,
        "transferred": 123456,
        "dirty-sync-count": 4,
        "dirty-pages-rate": 50,
        "page-size": 4096,
        "mbps": 800.0,
        "normal": 20,
        "duplicate": 7,
    },
}


def ask(work: Callable[[Line], Work[Any]], answers: dict[str, Any]) -> tuple[Any, SmallQemu]:
    """Ask a QEMU that answers like this."""
    clock = Clock()
    loop = Loop(clock)
    qemu = SmallQemu(clock, answers)

    def whole() -> Work[Any]:
        line = yield from line_to(loop, wire_to(qemu))
        return (yield from work(line))

    task = started(loop, whole())
    clock.advance_to(30 * SECOND_NS)
    return task.result(), qemu


def test_an_answer_is_read_as_the_real_driver_reads_it() -> None:
    info, _ = ask(replies.query_migrate, {"query-migrate": ACTIVE})
    seen = statistics_of(info, 77)
    assert (seen.status, seen.iteration, seen.remaining_bytes) == ("active", 4, 40960)
    assert (seen.bandwidth_bytes_per_s, seen.throttle, seen.setup_s) == (100_000_000, 0.3, 0.003)
    assert (seen.normal_pages, seen.duplicate_pages) == (20, 7)


def test_an_idle_qemu_answers_with_nothing_at_all() -> None:
    info, _ = ask(replies.query_migrate, {"query-migrate": {}})
    assert (info.status, info.ram, info.blocked_reasons) == (None, None, ())
    with pytest.raises(WhimbrelError, match="where it listens"):
        assert info.uri


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ({"type": "inet", "host": "127.0.0.1", "port": "40001"}, "tcp:127.0.0.1:40001"),
        ({"type": "inet", "host": "::1", "port": "4"}, "tcp:[::1]:4"),
        ({"type": "unix", "path": "/run/m"}, "unix:/run/m"),
    ],
)
def test_the_newest_address_is_where_it_listens(address: dict[str, str], uri: str) -> None:
    old = {"type": "inet", "host": "old", "port": "1"}
    assert replies.Info.of({"socket-address": [old, address]}).uri == uri


def test_capabilities_are_read_and_set_by_name() -> None:
    said = [{"capability": "events", "state": False}, {"capability": "xbzrle", "state": True}]
    has, _ = ask(replies.query_capabilities, {"query-migrate-capabilities": said})
    assert has == {"events": False, "xbzrle": True}
    heard: list[Any] = []
    ask(lambda line: replies.set_capabilities(line, {"events": True}), {"migrate-set-capabilities": heard.append})
    assert heard == [{"capabilities": [{"capability": "events", "state": True}]}]


def test_a_badge_takes_the_place_of_all_others() -> None:
    names = [{"name": "type"}, {"name": "whimbrel-migration-old"}]
    _, qemu = ask(lambda line: replies.put_badge_on(line, "whimbrel-migration-new"), {"qom-list": names})
    assert qemu.heard[1:] == ["qom-list", "object-del", "object-add"]


def test_a_badge_that_is_gone_is_no_trouble() -> None:
    def gone(_: dict[str, Any]) -> None:
        raise Refused("object not found")

    ask(lambda line: replies.take_badge_off(line, "whimbrel-migration-1"), {"object-del": gone})
