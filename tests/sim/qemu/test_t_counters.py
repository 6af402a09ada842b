"""Tests of whimbrel.sim.qemu.t_counters."""

from __future__ import annotations

import pytest

from whimbrel.sim.memory.contract import PAGE_BYTES, Sent
from whimbrel.sim.qemu.contract import Settings, Version
from whimbrel.sim.qemu.t_counters import Counters, compresses, number
from whimbrel.sim.qemu.t_rules import rules_of


def counters(version: Version = Version.V10_0, **parameters: object) -> Counters:
    """A fresh set, with parameters in QEMU's names but for the underscores."""
    given = {name.replace("_", "-"): value for name, value in parameters.items()}
    return Counters(rules_of(version), Settings(parameters=given), 0)


def pages(count: int) -> Sent:
    """Pages in full."""
    return Sent(normal=count, bytes=count * 4104)


def test_a_window_is_not_closed_before_its_time() -> None:
    """99 ms move nothing; 100 ms do."""
    count = counters(downtime_limit=300)
    count.add(pages(1000), 18, 8, False)
    count.close_window(99)
    assert (count.mbps, count.threshold_bytes, count.window_ms) == (0.0, 0, 0)
    count.close_window(100)
    assert count.bandwidth == pytest.approx(4_104_018 / 100)
    assert count.threshold_bytes == int(4_104_018 / 100 * 300)
    assert count.mbps == pytest.approx(4_104_018 * 8 / 0.1 / 1e6)
    assert count.pages_per_s == 10_000
    assert count.window_ms == 100


def test_a_window_of_101_ms_reads_lower_as_recorded() -> None:
    """Recorded from 7.2 at 128 MiB/s: 1073.9 Mbit/s and 32710 pages/s, and 1063.3 and 32386 now and then."""
    count = counters()
    count.add(pages(3271), 18, 8, False)
    count.close_window(100)
    assert (round(count.mbps, 1), count.pages_per_s) == (1073.9, 32710)
    count.add(pages(3271), 18, 8, False)
    count.close_window(201)
    assert (round(count.mbps, 1), int(count.pages_per_s)) == (1063.3, 32386)


def test_expected_downtime_waits_for_a_dirty_rate() -> None:
    """It stays at the first downtime-limit until a sync more than a second after the first; see 7.2's ``exp: 300``."""
    count = counters(downtime_limit=300)
    count.synced(0, 0, 65_000)
    count.add(pages(3271), 18, 8, False)
    count.close_window(100)
    assert count.synced(900, 31_745, 31_745) is None
    count.add(pages(3271), 18, 8, False)
    count.close_window(200)
    assert count.expected_ms == 300
    assert count.synced(1702, 22_000, 31_745) is not None
    assert count.expected_ms == 300
    count.add(pages(3271), 18, 8, False)
    count.close_window(300)
    assert count.expected_ms == 968


def test_expected_downtime_does_not_move_in_a_window_without_traffic() -> None:
    """Less than 10000 bytes: the old value stays, though bandwidth and threshold fall."""
    count = counters()
    count.synced(0, 0, 10_000)
    count.synced(1001, 10_000, 10_000)
    count.add(pages(100), 0, 0, False)
    count.close_window(100)
    before = count.expected_ms
    count.add(pages(1), 0, 0, False)
    count.close_window(200)
    assert count.expected_ms == before
    assert count.bandwidth < 100


def test_a_told_bandwidth_replaces_the_measured_one_from_8_2_on() -> None:
    """In threshold and estimate, not in mbps; 7.2 does not know it."""
    for version, threshold in ((Version.V10_0, 100_000 * 300), (Version.V7_2, 4104 * 300)):
        count = counters(version, downtime_limit=300, avail_switchover_bandwidth=100_000_000)
        count.add(pages(100), 0, 0, False)
        count.close_window(100)
        assert count.threshold_bytes == threshold
        assert round(count.mbps, 2) == 32.83


def test_a_period_ends_more_than_a_second_after_the_last() -> None:
    """Dirty pages add up over the syncs in between; exactly a second is not more."""
    count = counters()
    count.synced(0, 0, 0)
    count.add(pages(500), 0, 0, False)
    assert count.synced(1000, 300, 300) is None
    assert count.dirty_pages_per_s == 0
    assert count.synced(1500, 300, 600) == (600 * PAGE_BYTES, 500 * 4104)
    assert count.dirty_pages_per_s == 400
    assert count.synced(2501, 1001, 1001) == (1001 * PAGE_BYTES, 0)
    assert count.dirty_pages_per_s == 1000


def test_xbzrle_counts_hits_as_encoded_and_overflows_as_a_whole_page() -> None:
    """Bytes without the page's header; rates only at the end of a period."""
    count = counters()
    count.synced(0, 0, 0)
    sent = Sent(normal=8, delta=4, unchanged=2, misses=7, overflows=1, delta_bytes=4 * 111, bytes=8 * 4104 + 444)
    count.add(sent, 0, 0, False)
    assert (count.deltas, count.misses, count.overflows) == (7, 7, 1)
    assert count.delta_bytes == 4 * 103 + 4096
    assert count.miss_rate == 0.0
    count.synced(1001, 5, 5)
    assert count.miss_rate == pytest.approx(7 / 14)
    assert count.encoding_rate == pytest.approx(7 * 4096 / (412 + 4096))
    count.synced(2002, 5, 5)
    assert count.miss_rate == pytest.approx(7 / 14), "no page was sent since: the rates stay"
    count.add(Sent(normal=6, delta=2, misses=2, delta_bytes=2 * 58, bytes=6 * 4104 + 116), 0, 0, False)
    count.synced(3003, 5, 5)
    assert count.miss_rate == pytest.approx(2 / 8), "of the period, not of all time"
    assert count.encoding_rate == pytest.approx(2 * 4096 / 100)


def test_phases_share_out_what_was_sent() -> None:
    """Before the stop, after it, and in post-copy; 11.1 has no downtime-bytes."""
    for version, shares in ((Version.V10_0, [4112, 8208, 4104]), (Version.V11_1, [4112 + 8208, 0, 4104])):
        count = counters(version)
        count.add(pages(1), 18, 8, False)
        count.stopped()
        count.add(pages(2), 0, 0, False)
        count.in_postcopy()
        count.add(pages(1), 0, 0, False)
        assert count.phase_bytes == shares


def test_multifd_bytes_leave_the_main_stream() -> None:
    """Zero pages are the main stream's before 9.0, the channels' after."""
    sent = Sent(normal=10, zero=10, bytes=10 * 4104 + 10 * 9)
    old, new = counters(Version.V7_2), counters(Version.V10_0)
    old.add(sent, 18, 8, True)
    new.add(sent, 18, 8, True)
    assert old.multifd_bytes < new.multifd_bytes == sent.bytes
    assert new.phase_bytes[0] == 8


def test_the_average_of_the_whole_run() -> None:
    """What ``completed`` shows; a run of no time keeps the last window's."""
    count = counters()
    count.add(pages(1000), 0, 0, False)
    count.average(0)
    assert count.mbps == 0.0
    count.average(500)
    assert count.mbps == pytest.approx(4_104_000 * 8 / 500 / 1000)


def test_settings_are_read_with_their_defaults() -> None:
    """A parameter that is not there, and compression by channel or by page."""
    assert number(Settings(), "max-bandwidth", 7) == 7
    assert number(Settings(parameters={"max-bandwidth": 9}), "max-bandwidth", 7) == 9
    assert compresses(Settings(capabilities={"compress": True}))
    assert not compresses(Settings(capabilities={"multifd": True, "compress": True}))
    assert compresses(Settings(capabilities={"multifd": True}, parameters={"multifd-compression": "zstd"}))
