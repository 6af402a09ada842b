"""Where QEMUs listen and connect."""

from __future__ import annotations

import pytest

from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.link.contract import Channel
from whimbrel.sim.link.local import CONNECT_NS, LocalNetwork
from whimbrel.sim.scenario import LinkPlan

MILLISECOND_NS = 1_000_000
PLAN = LinkPlan(bandwidth_bytes_per_s=1e6, latency_s=0.001, pipe_bytes=100_000)


class Pair:
    """Two ends of a connection, and all that they were told."""

    def __init__(self, plan: LinkPlan = PLAN) -> None:
        self.clock = Clock()
        self.network = LocalNetwork(self.clock, plan, 1)
        self.heard: list[tuple[str, object]] = []
        address = self.network.listen("tcp:127.0.0.1:0", lambda channel: self._take("far", channel))
        self.uri = f"tcp:127.0.0.1:{address['port']}"
        self.network.connect(self.uri, lambda channel: self._take("near", channel), self._failed)
        self.ends: dict[str, Channel] = {}
        self.clock.advance_to(10 * MILLISECOND_NS)

    def _take(self, name: str, channel: Channel) -> None:
        self.ends[name] = channel
        channel.on_message(lambda message: self.heard.append((name, message)))
        channel.on_broken(lambda why: self.heard.append((name, why)))

    def _failed(self, why: str) -> None:
        self.heard.append(("near", why))

    @property
    def near(self) -> Channel:
        return self.ends["near"]

    @property
    def far(self) -> Channel:
        return self.ends["far"]


def test_messages_go_both_ways_and_arrive_in_order() -> None:
    pair = Pair()
    pair.near.send({"n": 1}, 1000)
    pair.near.send({"n": 2})
    pair.far.send({"n": 3})
    pair.clock.advance_to(SECOND_NS)
    assert pair.heard == [("far", {"n": 1}), ("far", {"n": 2}), ("near", {"n": 3})] or pair.heard == [
        ("near", {"n": 3}),
        ("far", {"n": 1}),
        ("far", {"n": 2}),
    ]


def test_a_port_that_the_kernel_chooses_is_a_new_one_each_time() -> None:
    network = LocalNetwork(Clock(), PLAN, 1)
    first = network.listen("tcp:127.0.0.1:0", lambda _: None)
    second = network.listen("tcp:127.0.0.1:0", lambda _: None)
    assert first == {"port": "40001", "ipv4": True, "host": "127.0.0.1", "type": "inet"}
    assert second["port"] == "40002"
    assert network.listen("tcp:[::1]:7", lambda _: None) == {"port": "7", "ipv6": True, "host": "::1", "type": "inet"}
    assert network.listen("unix:/run/m", lambda _: None) == {"type": "unix", "path": "/run/m"}


@pytest.mark.parametrize("uri", ["tcp:127.0.0.1:40001", "unix:/run/m"])
def test_two_cannot_listen_in_one_place(uri: str) -> None:
    network = LocalNetwork(Clock(), PLAN, 1)
    network.listen(uri, lambda _: None)
    with pytest.raises(OSError, match="Address already in use"):
        network.listen(uri, lambda _: None)
    network.withdraw(uri)
    network.listen(uri, lambda _: None)


@pytest.mark.parametrize("uri", ["tcp:here", "tcp::1", "exec:cat", "tcp:a:b"])
def test_what_is_no_address_cannot_be_listened_at(uri: str) -> None:
    with pytest.raises(OSError, match="cannot listen"):
        LocalNetwork(Clock(), PLAN, 1).listen(uri, lambda _: None)


def test_where_nobody_listens_a_connection_is_refused_after_a_round_trip() -> None:
    clock = Clock()
    told: list[tuple[int, str]] = []
    LocalNetwork(clock, PLAN, 1).connect("tcp:h:1", lambda _: None, lambda why: told.append((clock.now_ns, why)))
    clock.advance_to(SECOND_NS)
    assert told == [(2 * MILLISECOND_NS, "Connection refused")]


def test_an_end_that_closes_is_heard_of_behind_all_that_it_sent() -> None:
    pair = Pair()
    pair.near.send({"n": 1}, 50_000)
    pair.near.close()
    pair.near.close()
    pair.clock.advance_to(SECOND_NS)
    assert pair.heard == [("far", {"n": 1}), ("far", "end of file")]


def test_an_end_that_is_reset_loses_what_it_sent_and_the_other_is_told_once() -> None:
    pair = Pair()
    pair.near.send({"n": 1}, 50_000)
    pair.far.send({"n": 2}, 50_000)
    pair.near.reset()
    pair.clock.advance_to(SECOND_NS)
    assert pair.heard == [("far", "Connection reset by peer")]
    pair.far.send({"n": 3})
    pair.clock.advance_to(2 * SECOND_NS)
    assert len(pair.heard) == 1
    assert pair.far.stream.broken


def test_nobody_is_told_of_anything_before_an_outage_is_over() -> None:
    pair = Pair()
    pair.network.set_down(True)
    pair.near.reset()
    pair.clock.advance_to(100 * SECOND_NS)
    assert pair.heard == []
    pair.network.set_down(False)
    pair.clock.advance_to(101 * SECOND_NS)
    assert pair.heard == [("far", "Connection reset by peer")]


def test_a_network_that_resets_tells_both() -> None:
    pair = Pair()
    pair.network.reset_all()
    assert sorted(pair.heard) == [("far", "Connection reset by peer"), ("near", "Connection reset by peer")]


def test_a_process_that_does_not_read_fills_the_pipe_and_no_more_arrives() -> None:
    pair = Pair()
    pair.far.hold(True)
    pair.near.send({"n": 1}, 50_000)
    pair.clock.advance_to(100 * SECOND_NS)
    assert pair.heard == []
    assert pair.near.stream.level_bytes(pair.clock.now_ns) == 50_000
    pair.far.hold(False)
    pair.clock.advance_to(101 * SECOND_NS)
    assert pair.heard == [("far", {"n": 1})]


def test_a_clogged_network_stands_and_goes_on() -> None:
    pair = Pair()
    pair.network.clog(True)
    pair.near.send({"n": 1}, 5)
    pair.clock.advance_to(SECOND_NS)
    assert pair.heard == []
    pair.network.clog(False)
    pair.clock.advance_to(2 * SECOND_NS)
    assert pair.heard == [("far", {"n": 1})]


def test_a_connection_in_an_outage_waits_for_its_end_or_times_out() -> None:
    clock = Clock()
    network = LocalNetwork(clock, PLAN, 1)
    told: list[str] = []
    network.listen("tcp:h:1", lambda _: told.append("accepted"))
    network.set_down(True)
    network.connect("tcp:h:1", lambda _: told.append("connected"), told.append)
    clock.advance_to(SECOND_NS)
    network.set_down(False)
    clock.advance_to(2 * SECOND_NS)
    assert told == ["accepted", "connected"]
    network.set_down(True)
    network.connect("tcp:h:1", lambda _: told.append("connected"), told.append)
    clock.advance_to(2 * SECOND_NS + CONNECT_NS)
    network.set_down(False)
    clock.advance_to(3 * SECOND_NS + CONNECT_NS)
    assert told == ["accepted", "connected", "Connection timed out"]


def test_an_outage_of_the_plan_holds_news_up_too() -> None:
    plan = LinkPlan(bandwidth_bytes_per_s=1e6, latency_s=0.001, outages=((0.1, 5.0),))
    pair = Pair(plan)
    pair.network.begin()
    began_ns = pair.clock.now_ns
    pair.clock.advance_to(began_ns + SECOND_NS)
    pair.near.reset()
    pair.clock.advance_to(began_ns + 5 * SECOND_NS)
    assert pair.heard == []
    pair.clock.advance_to(began_ns + 6 * SECOND_NS)
    assert pair.heard == [("far", "Connection reset by peer")]


def test_what_arrives_before_anybody_listens_is_kept() -> None:
    clock = Clock()
    network = LocalNetwork(clock, PLAN, 1)
    far: list[Channel] = []
    network.listen("tcp:h:1", far.append)
    network.connect("tcp:h:1", lambda near: near.send({"n": 1}), lambda _: None)
    clock.advance_to(SECOND_NS)
    heard: list[dict[str, object]] = []
    far[0].on_message(heard.append)
    assert heard == [{"n": 1}]
