"""A round is what the simulator's memory makes of the same sends and syncs, page by page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.sim.bounds.worlds import MIB, scenario, steady, writer
from tests.sim.bounds.worlds import trace as trace_with
from whimbrel.sim.bounds.rounds import Round, Synced, begin
from whimbrel.sim.bounds.trace import start_of, trace_of
from whimbrel.sim.clock import SECOND_NS
from whimbrel.sim.memory.contract import CHUNK_PAGES
from whimbrel.sim.memory.paged import PagedMemory
from whimbrel.sim.scenario import GuestPlan, Pattern, Scenario
from whimbrel.sim.seeds import number

WORLDS = {
    "uniform": scenario(writer(size_mib=2, rate_mb_per_s=3.0)),
    "zero pages, a device, half a vCPU": scenario(
        writer(size_mib=1, rate_mb_per_s=1.0, zero=True),
        writer("dma", size_mib=1, rate_mb_per_s=1.0, vcpu=None, pattern=Pattern.SWEEP),
        writer("half", size_mib=1, rate_mb_per_s=2.0, cpu_share=0.5),
    ),
    "phases": scenario(writer(size_mib=2, rate_mb_per_s=6.0, period_s=0.3, duty=0.4)),
    "noise": scenario(writer(size_mib=2, rate_mb_per_s=3.0), noise=0.5),
}


def small(plan: Scenario) -> Scenario:
    return replace(plan, guest=replace(plan.guest, ram_bytes=4 * MIB, zero_bytes=MIB // 2))


class Sender:
    """The simulator's memory, with each page sent at the time at which a round has it sent."""

    def __init__(self, plan: Scenario, seed: int) -> None:
        start = start_of(plan, seed)
        self.began_ns = start.logging_ns
        self.memory = PagedMemory(plan.guest, seed=number(seed, "memory"), kvm=plan.qemu.kvm)
        self.memory.run(0)
        self.memory.begin(self.began_ns)

    def ns(self, at_s: float) -> int:
        return self.began_ns + round(at_s * SECOND_NS)

    def send(self, this: Round, until_s: float) -> None:
        for at_s in this.sent_s[this.sent_s <= until_s]:
            self.memory.send(self.ns(float(at_s)), 1 << 20, 1)

    def owed_after(self, at_s: float) -> int:
        """How many pages are in the bitmap after a sync."""
        self.memory.sync(self.ns(at_s))
        return self.memory.remaining_pages


def same(ours: Synced, theirs: int) -> bool:
    """A write that falls on the very nanosecond of a send or a sync may go either way."""
    return abs(int(np.count_nonzero(ours.owed)) - theirs) <= 1


@pytest.mark.parametrize("plan", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("kvm", [False, True], ids=["tcg", "kvm"])
def test_after_each_sync_the_same_pages_are_owed(plan: Scenario, kvm: bool) -> None:
    plan = small(replace(plan, qemu=replace(plan.qemu, kvm=kvm)))
    trace, sender = trace_of(plan, 5), Sender(plan, 5)
    state = begin(trace)
    for part in (1.0, 0.4, 0.7, 1.0, 0.2, 1.0):
        this = Round(trace, state, kvm=kvm)
        at_s = state.at_s + part * this.span_s
        sender.send(this, at_s)
        state = this.sync(at_s)
        assert same(state, sender.owed_after(at_s))


@pytest.mark.parametrize("plan", WORLDS.values(), ids=WORLDS)
def test_a_throttle_slows_writers_as_the_simulators_memory_has_it(plan: Scenario) -> None:
    plan = small(plan)
    trace, sender = trace_of(plan, 6), Sender(plan, 6)
    state = begin(trace)
    first = Round(trace, state, throttle=0.7, slow_from=0.5)
    middle_s = first.span_s / 2
    sender.send(first, middle_s)
    sender.memory.throttle(sender.ns(middle_s), 0.7)
    for at_s in first.sent_s[first.sent_s > middle_s]:
        sender.memory.send(sender.ns(float(at_s)), 1 << 20, 1)
    state = first.sync(first.end_s)
    assert same(state, sender.owed_after(first.end_s))
    for _ in range(3):
        this = Round(trace, state, throttle=0.7)
        sender.send(this, this.end_s)
        state = this.sync(this.end_s)
        assert same(state, sender.owed_after(this.end_s))
    assert 0 < float(state.slowed.lost_s) <= 0.7 * (state.at_s - middle_s) + 1e-9


def test_guest_seconds_are_lost_as_the_simulator_counts_them() -> None:
    plan = small(scenario(writer(size_mib=2, rate_mb_per_s=3.0), writer("b", size_mib=1, cpu_share=0.4)))
    trace, sender = trace_of(plan, 6), Sender(plan, 6)
    this = Round(trace, begin(trace), throttle=0.7)
    sender.memory.count_work(sender.began_ns)
    sender.memory.throttle(sender.began_ns, 0.7)
    work = sender.memory.done_work(sender.ns(this.end_s))
    assert float(this.sync(this.end_s).slowed.lost_s) == pytest.approx((1 - work) * this.end_s, rel=1e-3)


def test_looks_between_the_syncs_say_what_a_sync_there_would_find() -> None:
    plan = small(WORLDS["zero pages, a device, half a vCPU"])
    trace = trace_of(plan, 7)
    state = Round(trace, begin(trace)).sync(0.2)
    this = Round(trace, state, longest=1.5)
    at_s = np.linspace(state.at_s, this.most_s, 23)
    looks = this.look(at_s)
    for number_, moment_s in enumerate(at_s.tolist()):
        synced = this.sync(moment_s)
        written = np.where(trace.written_s <= np.array(synced.clocks_s)[trace.group_of], trace.written_bytes, 0)
        owed = np.where(synced.owed, np.maximum(written, trace.fresh_bytes), 0).sum()
        assert looks.left_bytes[number_] == pytest.approx(owed)
        assert looks.sent_bytes[number_] == synced.sent_bytes
    assert looks.part(slice(0, 2)).at_s.tolist() == at_s[:2].tolist()


def test_kvm_forgets_what_was_written_before_a_chunk_was_begun() -> None:
    # Two chunks of 2^18 pages: the second one's log is cleared when the sender comes to it.
    plan = Scenario(
        guest=GuestPlan(
            ram_bytes=(1 << 30) + 8 * MIB,
            zero_bytes=(1 << 30) + 2 * MIB - 4 * MIB,
            writers=(writer(size_mib=4, rate_mb_per_s=1.0),),
            pages=True,
        ),
        limit_s=1.0,
    )
    plan = replace(plan, qemu=replace(plan.qemu, kvm=True))
    trace = trace_of(plan, 1)
    this = Round(trace, begin(trace), kvm=True)
    assert this.sync(this.end_s).owed[: 4 * MIB // 4096].any()
    assert not this.sync(this.end_s).owed[1 << 18 :].any()


def test_the_search_for_pages_goes_on_behind_the_last_one_that_was_sent() -> None:
    """Also where that one is dirty again: it has its turn when all the others have had theirs."""
    written = trace_with([(2.2, 1)], 4, steady(1.0))
    synced = Round(written, begin(written)).sync(2.5)
    assert (synced.owed.tolist(), synced.place) == ([False, True, True, True], 2)
    assert Round(written, synced).sync(3.6).owed.tolist() == [False, True, False, True]


@pytest.mark.parametrize(("kvm", "owed"), [(True, [True, False]), (False, [True, True])], ids=["kvm", "tcg"])
def test_a_write_to_a_chunk_that_is_not_begun_is_forgotten_by_kvm_alone(kvm: bool, owed: list[bool]) -> None:
    """Its log is cleared when its first page is sent; the first chunk's was when the round began."""
    second = CHUNK_PAGES
    written = trace_with([(0.5, 7), (0.5, second)], second + 2, steady(second / 10))
    after = Round(written, begin(written), kvm=kvm)
    assert after.sync(after.end_s).owed[[7, second]].tolist() == owed


def test_where_nothing_is_left_a_round_takes_no_time() -> None:
    plan = small(scenario(writer(size_mib=1, rate_mb_per_s=0.0)))
    trace = trace_of(plan, 1)
    state = Round(trace, begin(trace)).sync(5.0)
    assert not state.owed.any()
    this = Round(trace, state)
    assert this.span_s == 0.0
    assert this.look(np.array([state.at_s])).left_bytes[0] == 0.0
