"""Streams over one link."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.sim.clock import SECOND_NS, Clock
from whimbrel.sim.link.flow import NEVER_NS
from whimbrel.sim.link.shared import LinkStream, SharedLink
from whimbrel.sim.scenario import LinkPlan

FAST = 1e9


def link_of(clock: Clock, bandwidth: float = 1e6, *, pipe: int = 100_000, **more: Any) -> SharedLink:
    """A link of 1 MB/s with a pipe of 100 KB and no latency, unless told otherwise."""
    values: dict[str, Any] = {"bandwidth_bytes_per_s": bandwidth, "pipe_bytes": pipe, "latency_s": 0.0}
    return SharedLink(clock, LinkPlan(**(values | more)), 3)


def alone(bandwidth: float = 1e6, **more: Any) -> tuple[Clock, LinkStream]:
    """One stream on a link of its own."""
    clock = Clock()
    return clock, link_of(clock, bandwidth, **more).open()


def test_a_writer_fills_the_pipe_at_its_speed_and_then_gets_on_at_that_of_the_link() -> None:
    clock, stream = alone()
    assert stream.push(0, 100_000, FAST) == 100_000  # 100 us at 1 GB/s
    done_ns = stream.push(100_000, 100_000, FAST)
    assert done_ns == pytest.approx(0.1 * SECOND_NS, rel=0.01)
    clock.advance_to(done_ns)
    assert stream.level_bytes(done_ns) == 100_000
    assert stream.passed_bytes == pytest.approx(100_000, rel=0.01)


def test_what_is_put_in_last_waits_behind_all_of_the_pipe() -> None:
    clock, stream = alone(latency_s=0.01)
    told: list[int] = []
    stream.push(0, 100_000, FAST)
    clock.advance_to(100_000)
    stream.message(clock.now_ns, 1_000, lambda: told.append(clock.now_ns))
    clock.advance_to(SECOND_NS)
    assert told == [pytest.approx(0.111 * SECOND_NS, rel=1e-3)]


def test_a_message_into_an_empty_pipe_takes_the_latency_alone() -> None:
    clock, stream = alone(latency_s=0.01)
    told: list[int] = []
    stream.message(0, 0, lambda: told.append(clock.now_ns))
    clock.advance_to(SECOND_NS)
    assert told == [10_000_000]


def test_two_streams_have_half_each_and_the_one_that_is_left_has_all() -> None:
    clock = Clock()
    link = link_of(clock, pipe=10_000)
    first, second = link.open(), link.open()
    told: dict[str, int] = {}

    def tell(name: str) -> None:
        told[name] = clock.now_ns

    first.message(0, 100_000, lambda: tell("first"))
    second.message(0, 300_000, lambda: tell("second"))
    assert (first.rate_bytes_per_s(0), second.rate_bytes_per_s(0)) == (500_000, 500_000)
    clock.advance_to(SECOND_NS)
    assert told == {"first": pytest.approx(0.2e9, rel=1e-3), "second": pytest.approx(0.4e9, rel=1e-3)}


def test_rivals_take_their_share_all_the_time() -> None:
    _, stream = alone(rivals=3)
    assert stream.rate_bytes_per_s(0) == 250_000


def test_who_listens_is_told_when_another_stream_comes_and_goes() -> None:
    clock = Clock()
    link = link_of(clock)
    first, second = link.open(), link.open()
    rates: list[tuple[int, float]] = []
    first.push(0, 1_000_000, FAST)
    first.on_change(lambda: rates.append((clock.now_ns, first.rate_bytes_per_s(clock.now_ns))))
    second.message(0, 50_000, lambda: None)
    clock.advance_to(SECOND_NS // 2)
    assert rates == [(0, 500_000.0), (100_000_000, 1_000_000.0)]
    assert first.push(clock.now_ns, 0, FAST) == pytest.approx(0.95 * SECOND_NS, rel=1e-3)


def test_steps_and_outages_of_the_plan_are_foreseen() -> None:
    clock = Clock()
    link = link_of(clock, outages=((0.5, 2.0),), steps=((3.0, 500_000.0),))
    link.begin(0)
    stream = link.open()
    # 0.5 s, then nothing until 2.5 s, 0.5 s more, and the rest at half the rate; 100 KB stay in the pipe.
    assert stream.push(0, 1_600_000, FAST) == pytest.approx(4.0 * SECOND_NS, rel=1e-4)
    assert stream.room_bytes(0, 2 * SECOND_NS, FAST) == 0  # what waits comes first
    clock.advance_to(5 * SECOND_NS)
    assert stream.level_bytes(clock.now_ns) == 0


def test_an_outage_that_nobody_foresees_stops_everything_until_it_is_over() -> None:
    clock = Clock()
    link = link_of(clock)
    stream = link.open()
    told: list[str] = []
    arrived: list[int] = []
    stream.on_change(lambda: told.append("change"))
    stream.message(0, 200_000, lambda: arrived.append(clock.now_ns))
    clock.advance_to(SECOND_NS // 10)
    link.set_down(True)
    assert told == ["change"]
    assert stream.push(clock.now_ns, 1_000_000, FAST) == NEVER_NS
    clock.advance_to(10 * SECOND_NS)
    assert arrived == []
    link.set_down(False)
    clock.advance_to(20 * SECOND_NS)
    assert arrived == [pytest.approx(10.1 * SECOND_NS, rel=1e-6)]


def test_a_stream_whose_reader_does_not_read_leaves_the_link_to_others() -> None:
    clock = Clock()
    link = link_of(clock)
    first, second = link.open(), link.open()
    first.push(0, 1_000_000, FAST)
    second.push(0, 1_000_000, FAST)
    first.clog(True)
    assert (first.rate_bytes_per_s(0), second.rate_bytes_per_s(0)) == (0.0, 1_000_000.0)
    first.clog(False)
    assert second.rate_bytes_per_s(0) == 500_000.0


def test_a_reset_loses_what_is_in_the_pipe_and_not_what_has_left_it() -> None:
    clock, stream = alone(latency_s=0.5)
    told: list[str] = []
    stream.message(0, 1_000, lambda: told.append("first"))
    stream.message(0, 90_000, lambda: told.append("second"))
    clock.advance_to(2_000_000)
    stream.reset()
    assert stream.broken
    assert stream.push(clock.now_ns, 100, FAST) == clock.now_ns
    stream.message(clock.now_ns, 0, lambda: told.append("third"))
    clock.advance_to(10 * SECOND_NS)
    assert told == ["first"]
    assert (stream.level_bytes(clock.now_ns), stream.room_bytes(clock.now_ns, 20 * SECOND_NS, FAST)) == (0, 0)


def test_one_that_is_closed_delivers_what_it_holds_and_then_leaves_the_link() -> None:
    clock = Clock()
    link = link_of(clock)
    first, second = link.open(), link.open()
    told: list[int] = []
    first.message(0, 50_000, lambda: told.append(clock.now_ns))
    first.close(0)
    second.push(0, 1_000_000, FAST)
    clock.advance_to(SECOND_NS // 2)
    assert told == [pytest.approx(0.1 * SECOND_NS, rel=1e-3)]
    assert not link.is_shared
    second.close(clock.now_ns)
    clock.advance_to(5 * SECOND_NS)
    assert second.level_bytes(clock.now_ns) == 0


ACTS = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=2),
        st.sampled_from(["push", "message", "clog", "wait", "down"]),
        st.integers(min_value=1, max_value=400_000),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(ACTS, st.integers(min_value=0, max_value=2), st.booleans())
def test_bytes_are_conserved_and_messages_arrive_in_order(
    acts: list[tuple[int, str, int]], rivals: int, noisy: bool
) -> None:
    """Whatever three streams on one link do, and however the link behaves."""
    clock = Clock()
    noise: dict[str, Any] = {"noise": 0.4, "noise_every_s": 0.03} if noisy else {}
    link = link_of(clock, rivals=rivals, latency_s=0.002, **noise)
    streams = [link.open() for _ in range(3)]
    put, sent, arrived = [0, 0, 0], [0, 0, 0], [list[int](), list[int](), list[int]()]
    for who, act, size in acts:
        now_ns = clock.now_ns
        if act == "push":
            streams[who].push(now_ns, size, 5e6)
            put[who] += size
        elif act == "message":
            streams[who].message(now_ns, size, partial(arrived[who].append, sent[who]))
            put[who] += size
            sent[who] += 1
        elif act == "clog":
            streams[who].clog(not streams[who].clogged)
        elif act == "down":
            link.set_down(not link.down)
        else:
            clock.advance_to(now_ns + size * 1000)
        for each in streams:
            assert each.level_bytes(clock.now_ns) <= 100_000
    link.set_down(False)
    for each in streams:
        each.clog(False)
    clock.advance_to(clock.now_ns + 3600 * SECOND_NS)
    for each, all_of_it, many, came in zip(streams, put, sent, arrived, strict=True):
        assert each.level_bytes(clock.now_ns) == 0
        assert each.passed_bytes == all_of_it
        assert came == list(range(many))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(min_value=1, max_value=500_000), min_size=1, max_size=6),
    st.integers(min_value=10_000, max_value=10**7),
    st.integers(min_value=1, max_value=10**7),
)
def test_more_bandwidth_never_delays_an_arrival(sizes: list[int], bandwidth: int, more: int) -> None:
    def arrivals(rate: int) -> list[int]:
        clock, stream = alone(float(rate))
        times: list[int] = []
        for size in sizes:
            stream.message(0, size, lambda: times.append(clock.now_ns))
        clock.advance_to(10_000 * SECOND_NS)
        return times

    slow, fast = arrivals(bandwidth), arrivals(bandwidth + more)
    assert len(slow) == len(fast) == len(sizes)
    assert all(sooner <= later for sooner, later in zip(fast, slow, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(min_value=1, max_value=2 * SECOND_NS),
    st.integers(min_value=1_000, max_value=10**9),
    st.integers(min_value=0, max_value=100_000),
    st.booleans(),
)
def test_the_room_that_is_promised_is_there(span_ns: int, fastest: int, before: int, noisy: bool) -> None:
    """Over noise and an outage, too: it goes in within the time, and a page more does not."""
    clock = Clock()
    noise: dict[str, Any] = {"noise": 0.3, "noise_every_s": 0.05, "outages": ((0.3, 0.4),)} if noisy else {}
    link = link_of(clock, **noise)
    link.begin(0)
    stream = link.open()
    start_ns = stream.push(0, before, FAST) if before else 0
    clock.advance_to(start_ns)
    room = stream.room_bytes(start_ns, start_ns + span_ns, fastest)
    assert stream.push(start_ns, room, fastest) <= start_ns + span_ns
    assert stream.push(start_ns, 4096, fastest) > start_ns + span_ns
