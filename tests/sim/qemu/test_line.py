"""One end of a connection, in a process's own time."""

from __future__ import annotations

from whimbrel.sim.clock import Clock
from whimbrel.sim.link.contract import Channel
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.qemu.line import Line, Message
from whimbrel.sim.qemu.own_time import OwnTime
from whimbrel.sim.scenario import LinkPlan
from whimbrel.sim.seeds import stream


class _Ends:
    """Two joined lines, each with what it heard."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock(order=stream(seed, "order"))
        self.network = LocalNetwork(self.clock, LinkPlan(), 1)
        self.times = [OwnTime(self.clock), OwnTime(self.clock)]
        self.heard: list[list[Message | str]] = [[], []]
        self.lines: dict[int, Line] = {}
        self.network.listen("unix:x", lambda channel: self._join(1, channel))
        self.network.connect("unix:x", lambda channel: self._join(0, channel), lambda words: None)
        self.settle()
        assert self.heard == [[{"kind": "connected"}], [{"kind": "connected"}]]
        for heard in self.heard:
            heard.clear()

    def _join(self, end: int, channel: Channel) -> None:
        heard = self.heard[end]
        self.lines[end] = Line(channel, self.times[end], heard.append, heard.append)

    def settle(self) -> None:
        self.clock.advance_to(self.clock.now_ns + 10**9)


def test_messages_and_the_end_come_in_order() -> None:
    """Whatever else is due at the same instant."""
    for seed in range(4):
        ends = _Ends(seed)
        for number in range(5):
            ends.lines[0].send({"kind": str(number)}, 10)
        ends.lines[0].close()
        ends.settle()
        assert ends.heard[1] == [*({"kind": str(number)} for number in range(5)), "end of file"]
        assert not ends.lines[1].open


def test_a_frozen_process_hears_nothing_until_it_goes_on() -> None:
    """And then all of it."""
    ends = _Ends()
    ends.times[1].freeze()
    ends.lines[0].send({"kind": "a"}, 10)
    ends.settle()
    assert ends.heard[1] == []
    ends.times[1].thaw()
    ends.settle()
    assert ends.heard[1] == [{"kind": "a"}]


def test_whoever_ends_it_is_told_nothing_more() -> None:
    """Not of its own end either; the other end hears of a reset."""
    ends = _Ends()
    ends.lines[1].send({"kind": "late"}, 10)
    ends.lines[0].reset()
    ends.lines[0].send({"kind": "lost"}, 10)
    ends.settle()
    assert ends.heard[0] == []
    assert ends.heard[1] == ["Connection reset by peer"]


def test_an_end_that_does_not_read_holds_the_other_up() -> None:
    """What is sent to it stays in the pipe."""
    ends = _Ends()
    ends.lines[1].hold(True)
    ends.lines[0].stream.push(ends.clock.now_ns, 100_000, 1e12)
    ends.settle()
    assert ends.lines[0].stream.level_bytes(ends.clock.now_ns) == 100_000
    ends.lines[1].hold(False)
    ends.settle()
    assert ends.lines[0].stream.level_bytes(ends.clock.now_ns) == 0
