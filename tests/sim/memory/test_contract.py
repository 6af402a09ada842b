"""What every memory does, at both levels and with both kinds of dirty log."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sim.memory.plans import MIB, MIXED, begun, memory_at, plan, send_all, writer
from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS
from whimbrel.sim.memory.contract import PAGE_BYTES, PAGE_HEADER_BYTES, ZERO_PAGE_BYTES, Memory, Sent
from whimbrel.sim.scenario import Pattern

LEVELS = ["expected", "paged"]
FULL = PAGE_BYTES + PAGE_HEADER_BYTES
IDLE = plan(ram_mib=4, zero_mib=1)

pytestmark = pytest.mark.parametrize("kvm", [False, True], ids=["tcg", "kvm"])


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mixed(level: str, kvm: bool) -> Memory:
    return memory_at(level, MIXED, kvm=kvm)


@pytest.fixture
def idle(level: str, kvm: bool) -> Memory:
    return memory_at(level, IDLE, kvm=kvm)


def test_it_begins_with_every_page_in_the_bitmap(mixed: Memory) -> None:
    now_ns = begun(mixed)
    assert mixed.remaining_pages == mixed.total_pages == 64 * MIB // PAGE_BYTES
    assert mixed.sync(now_ns) == 0


def test_before_and_after_a_migration_nothing_remains_and_nothing_is_sent(mixed: Memory) -> None:
    mixed.run(0)
    assert mixed.remaining_pages == mixed.sync(SECOND_NS) == 0
    assert mixed.send(SECOND_NS, 1 << 20) == Sent()
    now_ns = begun(mixed)
    mixed.end(now_ns + SECOND_NS)
    assert mixed.remaining_pages == mixed.sync(now_ns + 2 * SECOND_NS) == 0
    assert mixed.send(now_ns + 2 * SECOND_NS, 1 << 20) == Sent()


def test_a_second_migration_begins_anew(mixed: Memory) -> None:
    now_ns = begun(mixed)
    mixed.send(now_ns, 4 * MIB)
    mixed.end(now_ns)
    mixed.begin(now_ns + SECOND_NS)
    assert mixed.remaining_pages == mixed.total_pages


def test_an_idle_guest_is_sent_once_at_its_price(idle: Memory) -> None:
    now_ns = begun(idle)
    sent = idle.send(now_ns, 1 << 40)
    assert sent == Sent(normal=768, zero=256, bytes=768 * FULL + 256 * ZERO_PAGE_BYTES)
    assert idle.remaining_pages == 0
    assert idle.sync(now_ns + SECOND_NS) == 0


def test_pages_leave_in_order_of_address(idle: Memory) -> None:
    """The pages that are not zero lie lowest: they come first."""
    now_ns = begun(idle)
    assert idle.send(now_ns, 768 * FULL).zero == 0
    assert idle.send(now_ns, 256 * ZERO_PAGE_BYTES) == Sent(zero=256, bytes=256 * ZERO_PAGE_BYTES)


@pytest.mark.parametrize("most_bytes", [FULL, 3 * FULL - 1, 100 * FULL, MIB])
def test_never_more_bytes_than_allowed_go_and_never_a_page_less_than_fits(mixed: Memory, most_bytes: int) -> None:
    now_ns = begun(mixed)
    for _ in range(3):
        before = mixed.remaining_pages
        sent = mixed.send(now_ns, most_bytes)
        assert most_bytes - 2 * FULL < sent.bytes <= most_bytes
        assert before - mixed.remaining_pages == sent.pages
        now_ns += MILLISECOND_NS


def test_one_page_goes_even_if_it_does_not_fit(mixed: Memory) -> None:
    now_ns = begun(mixed)
    assert mixed.send(now_ns, 0).pages == 1
    assert mixed.send(now_ns, FULL - 1).pages == 1


def test_never_more_pages_than_allowed_go(mixed: Memory) -> None:
    now_ns = begun(mixed)
    assert mixed.send(now_ns, 1 << 40, 0) == Sent()
    for most in (1, 2, 77):
        assert mixed.send(now_ns, 1 << 40, most).pages == most


def test_the_books_balance_through_a_migration(mixed: Memory) -> None:
    """What was found at syncs and was there in the beginning is what was sent and remains, to the page."""
    now_ns = begun(mixed)
    owed = mixed.total_pages
    for i in range(200):
        sent = mixed.send(now_ns, 700_000)
        owed -= sent.pages
        assert min(sent.normal, sent.zero) >= 0
        assert sent.bytes == sent.normal * FULL + sent.zero * ZERO_PAGE_BYTES
        assert mixed.remaining_pages == owed
        now_ns += 10 * MILLISECOND_NS
        if i % 7 == 0:
            owed += mixed.sync(now_ns)
    mixed.halt(now_ns)
    owed += mixed.sync(now_ns)
    while mixed.remaining_pages:
        owed -= mixed.send(now_ns, 1 << 30).pages
    assert owed == 0
    assert mixed.sync(now_ns + SECOND_NS) == 0


def test_what_is_written_shows_at_the_sync_and_not_before(mixed: Memory) -> None:
    now_ns = begun(mixed)
    send_all(mixed, now_ns)
    assert mixed.remaining_pages == 0
    found = mixed.sync(now_ns + SECOND_NS)
    assert found == mixed.remaining_pages > 1000


def test_a_guest_that_stands_still_dirties_nothing(mixed: Memory) -> None:
    now_ns = begun(mixed)
    mixed.halt(now_ns)
    send_all(mixed, now_ns)
    assert mixed.sync(now_ns + 5 * SECOND_NS) == 0
    mixed.run(now_ns + 5 * SECOND_NS)
    assert mixed.sync(now_ns + 6 * SECOND_NS) > 0


def test_a_page_that_is_dirty_already_counts_once(level: str, kvm: bool) -> None:
    """A working set that is written over and over, and never sent: its pages stay as many."""
    memory = memory_at(level, plan(writer(size_mib=1, rate_mib_per_s=64)), kvm=kvm)
    now_ns = begun(memory)
    send_all(memory, now_ns)
    found = [memory.sync(now_ns + i * SECOND_NS) for i in range(1, 5)]
    assert found == [256, 0, 0, 0]


def test_the_log_is_counted_whether_in_the_bitmap_already_or_not(level: str, kvm: bool) -> None:
    memory = memory_at(level, plan(writer(size_mib=1, rate_mib_per_s=64)), kvm=kvm)
    now_ns = begun(memory)
    send_all(memory, now_ns)
    for i in range(1, 4):
        memory.sync(now_ns + i * SECOND_NS)
        assert memory.logged_pages == 256


def test_a_throttle_slows_vcpus_that_need_their_time_and_no_device(level: str, kvm: bool) -> None:
    guest = plan(writer("busy", 16, 2.0, cpu_share=1.0), writer("device", 16, 2.0, vcpu=None))
    memory = memory_at(level, guest, kvm=kvm)
    now_ns = begun(memory)
    send_all(memory, now_ns)
    free = memory.sync(now_ns + SECOND_NS)
    send_all(memory, now_ns + SECOND_NS)
    memory.throttle(now_ns + SECOND_NS, 0.9)
    slowed = memory.sync(now_ns + 2 * SECOND_NS)
    assert slowed / free == pytest.approx(0.55, abs=0.05)
    assert memory.done_work(now_ns + 2 * SECOND_NS) < 1
    memory.throttle(now_ns + 2 * SECOND_NS, 0.0)
    send_all(memory, now_ns + 2 * SECOND_NS)
    assert memory.sync(now_ns + 3 * SECOND_NS) == pytest.approx(free, rel=0.1)


def test_a_dirty_limit_holds_each_vcpu_to_so_much(level: str, kvm: bool) -> None:
    memory = memory_at(level, plan(writer("a", 16, 16.0), writer("b", 8, 8.0, vcpu=1)), kvm=kvm)
    now_ns = begun(memory)
    memory.limit(now_ns, 1.0 * MIB)
    send_all(memory, now_ns)
    assert memory.sync(now_ns + SECOND_NS) == pytest.approx(512, rel=0.1)
    memory.limit(now_ns + SECOND_NS, None)
    send_all(memory, now_ns + SECOND_NS)
    assert memory.sync(now_ns + 2 * SECOND_NS) > 3000


def test_work_is_whole_while_nothing_hinders(mixed: Memory) -> None:
    now_ns = begun(mixed)
    assert mixed.done_work(now_ns) == pytest.approx(1)
    assert mixed.most_slowed == 0


def test_work_is_counted_from_when_it_is_asked_for_and_a_throttle_from_outside_costs_as_much_as_qemus(
    level: str, kvm: bool
) -> None:
    memory = memory_at(level, plan(writer("busy", 16, 2.0, cpu_share=1.0)), kvm=kvm)
    now_ns = begun(memory)
    memory.throttle_from_outside(now_ns, 0.75)
    memory.count_work(now_ns + SECOND_NS)
    assert memory.done_work(now_ns + SECOND_NS) == 1
    assert memory.done_work(now_ns + 2 * SECOND_NS) == pytest.approx(0.25)
    memory.throttle(now_ns + 2 * SECOND_NS, 0.5)
    assert memory.done_work(now_ns + 4 * SECOND_NS) == pytest.approx(0.25), "the larger one is felt"
    memory.throttle_from_outside(now_ns + 4 * SECOND_NS, 0.0)
    assert memory.done_work(now_ns + 5 * SECOND_NS) == pytest.approx((3 * 0.25 + 0.5) / 4)
    assert memory.most_slowed == 0.75


def test_a_vcpu_has_run_for_as_long_as_its_writers_need_at_their_speed(level: str, kvm: bool) -> None:
    memory = memory_at(level, plan(writer("a", 16, 2.0, cpu_share=0.5), writer("b", 8, 1.0, vcpu=1)), kvm=kvm)
    now_ns = begun(memory)
    before = memory.vcpu_s(now_ns)
    memory.throttle(now_ns + SECOND_NS, 0.75)
    after = memory.vcpu_s(now_ns + 2 * SECOND_NS)
    assert [b - a for a, b in zip(before, after, strict=True)] == pytest.approx([0.75, 0.0, 0.0, 0.0])


def test_pages_are_zero_until_they_are_written(level: str, kvm: bool) -> None:
    """4096 pages, 4096 random writes by the time of sending: ``1 - 1/e`` of them are not zero any more."""
    memory = memory_at(level, plan(writer(size_mib=16, rate_mib_per_s=8.0, zero=True), ram_mib=16, zero_mib=0), kvm=kvm)
    sent = memory.send(begun(memory, 2.0), 1 << 40)
    assert sent.zero == pytest.approx(4096 / 2.71828, rel=0.05)
    assert sent.zero + sent.normal == 4096


def test_once_nothing_is_left_the_search_begins_at_the_lowest_address(level: str, kvm: bool) -> None:
    """First only the lower of two ranges is written and sent, then both: the lower one comes first again."""
    low = writer("low", 2, 64.0, compressed_ratio=0.25)
    high = writer("high", 2, 64.0, compressed_ratio=0.5, period_s=4.0, duty=0.5, shift_s=2.0)
    memory = memory_at(level, plan(low, high), kvm=kvm)
    memory.compress(True)
    now_ns = begun(memory, 0.5)
    send_all(memory, now_ns)
    for second in (1, 3):
        assert memory.sync(now_ns + second * SECOND_NS) == (512 if second == 1 else 1024)
        assert memory.send(now_ns + second * SECOND_NS, 1 << 40, 512).bytes == 512 * (1024 + 8)
        send_all(memory, now_ns + second * SECOND_NS)


def test_compression_makes_pages_in_full_smaller_each_as_its_writer_says(level: str, kvm: bool) -> None:
    guest = plan(writer(size_mib=4, rate_mib_per_s=1.0, compressed_ratio=0.25), ram_mib=8, zero_mib=2)
    memory = memory_at(level, guest, kvm=kvm)
    memory.compress(True)
    sent = memory.send(begun(memory), 1 << 40)
    assert sent.bytes == 1024 * (1024 + 8) + 512 * FULL + 512 * ZERO_PAGE_BYTES
    memory.compress(False)
    now_ns = 3 * SECOND_NS
    found = memory.sync(now_ns)
    assert memory.send(now_ns, 1 << 40).bytes == found * FULL


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 400)),
        st.tuples(st.just("sync"), st.just(0)),
        st.tuples(st.just("send"), st.integers(0, 3 * MIB)),
        st.tuples(st.just("throttle"), st.integers(0, 99)),
        st.tuples(st.just("limit"), st.integers(0, 20)),
        st.tuples(st.just("halt"), st.just(0)),
        st.tuples(st.just("cache"), st.integers(0, 16)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("which", LEVELS)
@given(steps=STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_done_in_whatever_order_the_books_balance(
    which: str, kvm: bool, steps: list[tuple[str, int]]
) -> None:
    memory = memory_at(which, MIXED, kvm=kvm)
    now_ns = begun(memory)
    owed = memory.total_pages
    for what, amount in steps:
        now_ns += MILLISECOND_NS
        match what:
            case "wait":
                memory.run(now_ns)
                now_ns += amount * MILLISECOND_NS
            case "sync":
                found = memory.sync(now_ns)
                assert found >= 0
                owed += found
            case "send":
                sent = memory.send(now_ns, amount)
                assert sent.bytes <= amount or sent.pages == 1
                assert sent.misses + sent.overflows <= sent.normal
                owed -= sent.pages
            case "throttle":
                memory.throttle(now_ns, amount / 100)
            case "limit":
                memory.limit(now_ns, float(amount * MIB) or None)
            case "halt":
                memory.halt(now_ns)
            case _:
                memory.cache(amount * MIB or None)
        assert memory.remaining_pages == owed
        assert 0 <= owed <= memory.total_pages
        assert 0 <= memory.done_work(now_ns) <= 1


# ---- XBZRLE


def test_from_the_second_time_on_changed_pages_go_as_differences(level: str, kvm: bool) -> None:
    memory = memory_at(level, plan(writer(size_mib=4, rate_mib_per_s=64.0, delta_bytes=300)), kvm=kvm)
    memory.cache(64 * MIB)
    now_ns = begun(memory)
    first = memory.send(now_ns, 1 << 40)
    assert first.misses == first.delta == 0
    assert memory.send(now_ns, 1 << 40) == Sent()  # its search wraps: from here on XBZRLE is at work
    kinds: list[Sent] = []
    for i in range(1, 4):
        memory.sync(now_ns + i * SECOND_NS)
        kinds.append(memory.send(now_ns + i * SECOND_NS, 1 << 40))
    assert (kinds[0].misses, kinds[0].normal, kinds[0].delta) == (1024, 1024, 0)
    for sent in kinds[1:]:
        assert (sent.misses, sent.normal, sent.delta) == (0, 0, 1024)
        assert sent.bytes == sent.delta_bytes == 1024 * (300 + 11)


def test_the_first_iteration_knows_no_xbzrle_until_the_search_wraps(level: str, kvm: bool) -> None:
    """Pages of the lower end are sent, written, and sent again after all others: only then are they looked up."""
    memory = memory_at(level, plan(writer(size_mib=1, rate_mib_per_s=64.0, delta_bytes=100)), kvm=kvm)
    memory.cache(64 * MIB)
    now_ns = begun(memory)
    memory.send(now_ns, 1 << 40, 256)
    now_ns += SECOND_NS
    assert memory.sync(now_ns) == 256
    rest = memory.send(now_ns, 1 << 40, memory.remaining_pages - 256)
    assert rest.misses == 0
    assert memory.send(now_ns, 1 << 40).misses == 256


def test_a_difference_that_is_more_than_the_page_goes_as_the_page(level: str, kvm: bool) -> None:
    memory = memory_at(level, plan(writer(size_mib=4, rate_mib_per_s=64.0)), kvm=kvm)
    memory.cache(64 * MIB)
    now_ns = begun(memory)
    send_all(memory, now_ns)
    memory.send(now_ns, 1 << 40)
    sent = Sent()
    for i in range(1, 3):
        memory.sync(now_ns + i * SECOND_NS)
        memory.send(now_ns + i * SECOND_NS, 3000)
        sent = memory.send(now_ns + i * SECOND_NS, 1 << 40)
    assert (sent.normal, sent.overflows, sent.misses, sent.bytes) == (1023, 1023, 0, 1023 * FULL)


def test_without_a_cache_there_is_no_xbzrle(level: str, kvm: bool) -> None:
    memory = memory_at(level, plan(writer(size_mib=4, rate_mib_per_s=64.0, delta_bytes=300)), kvm=kvm)
    memory.cache(64 * MIB)
    memory.cache(None)
    now_ns = begun(memory)
    send_all(memory, now_ns)
    for i in range(1, 4):
        memory.sync(now_ns + i * SECOND_NS)
        sent = memory.send(now_ns + i * SECOND_NS, 1 << 40)
        assert (sent.normal, sent.misses, sent.delta) == (1024, 0, 0)


# ---- post-copy


def post_copy(memory: Memory, sent_s: float = 0.2) -> int:
    """Send for a while, then let the guest arrive."""
    now_ns = begun(memory)
    memory.send(now_ns, round(sent_s * 60e6))
    now_ns += round(sent_s * SECOND_NS)
    memory.halt(now_ns)
    memory.sync(now_ns)
    memory.arrive(now_ns)
    memory.run(now_ns)
    return now_ns


def test_the_guest_stands_still_at_a_missing_page_until_it_is_served(mixed: Memory) -> None:
    now_ns = post_copy(mixed)
    wait_ns = mixed.fault(now_ns)
    assert wait_ns is not None
    then_ns = now_ns + wait_ns
    assert mixed.fault(then_ns) == 0
    assert mixed.fault(then_ns + SECOND_NS) == 0
    before = mixed.remaining_pages
    sent = mixed.serve(then_ns + SECOND_NS)
    assert sent.pages == before - mixed.remaining_pages == 1
    mixed.run(then_ns + SECOND_NS)
    later_ns = mixed.fault(then_ns + SECOND_NS)
    assert later_ns is not None
    assert later_ns > 0


def test_running_again_before_it_is_served_is_of_no_use(mixed: Memory) -> None:
    now_ns = post_copy(mixed)
    wait_ns = mixed.fault(now_ns)
    assert wait_ns is not None
    mixed.run(now_ns + wait_ns)
    assert mixed.fault(now_ns + wait_ns + SECOND_NS) == 0


def test_a_guest_that_is_not_asked_stands_still_all_the_same(mixed: Memory) -> None:
    now_ns = post_copy(mixed)
    wait_ns = mixed.fault(now_ns)
    assert wait_ns is not None
    assert wait_ns < 5 * SECOND_NS
    assert mixed.fault(now_ns + 10 * SECOND_NS) == 0


def test_who_waits_for_a_page_that_the_push_has_sent_is_served_nothing(mixed: Memory) -> None:
    now_ns = post_copy(mixed)
    wait_ns = mixed.fault(now_ns)
    assert wait_ns is not None
    now_ns += wait_ns
    assert mixed.fault(now_ns) == 0
    send_all(mixed, now_ns)
    assert mixed.serve(now_ns) == Sent()
    assert mixed.fault(now_ns) is None


def test_nobody_waits_nobody_is_served(mixed: Memory) -> None:
    now_ns = post_copy(mixed)
    assert mixed.serve(now_ns) == Sent()


def test_a_guest_that_touches_nothing_has_no_faults(idle: Memory) -> None:
    now_ns = begun(idle)
    idle.arrive(now_ns)
    idle.run(now_ns)
    assert idle.fault(now_ns) is None


def test_faults_and_push_together_bring_every_page_over_once(mixed: Memory) -> None:
    now_ns = post_copy(mixed)
    owed, faults = mixed.remaining_pages, 0
    while mixed.remaining_pages:
        wait_ns = mixed.fault(now_ns)
        if wait_ns is not None and wait_ns < 2 * MILLISECOND_NS:
            now_ns += wait_ns
            sent = mixed.serve(now_ns)
            assert sent.pages == 1
            faults += 1
            mixed.run(now_ns)
        else:
            now_ns += 2 * MILLISECOND_NS
            sent = mixed.send(now_ns, 120_000)
        owed -= sent.pages
        assert mixed.remaining_pages == owed
    assert owed == 0
    assert faults > 100
    assert mixed.fault(now_ns) is None


def test_pages_written_at_the_destination_are_not_zero_any_more(level: str, kvm: bool) -> None:
    """All pages of a sweep are touched there, once; a second migration finds none of them zero."""
    guest = plan(writer(size_mib=2, rate_mib_per_s=64.0, zero=True, pattern=Pattern.SWEEP))
    memory = memory_at(level, guest, kvm=kvm)
    memory.run(0)
    memory.begin(0)
    memory.arrive(0)
    now_ns, zero = 0, 0
    while (wait_ns := memory.fault(now_ns)) is not None:
        now_ns += wait_ns
        zero += memory.serve(now_ns).zero
        memory.run(now_ns)
    assert zero == pytest.approx(512, abs=2)
    memory.halt(now_ns)
    memory.end(now_ns)
    memory.begin(now_ns + SECOND_NS)
    assert memory.send(now_ns + SECOND_NS, 1 << 40).zero == pytest.approx(4096, abs=1)
