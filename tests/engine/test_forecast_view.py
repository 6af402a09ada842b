"""A policy is shown what a driver that polls often would show it."""

from __future__ import annotations

from whimbrel.engine.curve import ConstantRate
from whimbrel.engine.forecast_records import Setting, Throttling, Writers
from whimbrel.engine.forecast_sender import Sending
from whimbrel.engine.forecast_throttle import Throttle
from whimbrel.engine.forecast_view import View
from whimbrel.engine.statistics import Ledger

SECOND = 1_000_000_000
SETTING = Setting(
    writers=(Writers(curve=ConstantRate(1000.0)),),
    total_bytes=4096 * 100_000,
    zero_bytes=4096 * 20_000,
    bandwidth_bytes_per_s=4104e4,
)


def looked(*moments_s: float) -> tuple[View, Sending, Throttle]:
    view, sender = View(SETTING.total_bytes, 0.1), Sending.of(SETTING, 0.1)
    throttle = Throttle(Throttling(), False, 0.1)
    for at_s in (0.1, *moments_s):
        while sender.now_s < at_s:
            sender.advance(at_s)
        view.add(view.look(sender, throttle, 1, round(at_s * SECOND)))
    return view, sender, throttle


def test_a_look_is_query_migrate() -> None:
    _, sender, throttle = looked()
    throttle.fraction, throttle.dirty_bytes_per_s = 0.3, 77.0
    while sender.now_s < 1.1:
        sender.advance(1.1)
    seen = View(SETTING.total_bytes, 0.1).look(sender, throttle, 3, SECOND)
    assert (seen.iteration, seen.total_bytes, seen.throttle, seen.dirty_bytes_per_s) == (3, 409_600_000, 0.3, 77.0)
    assert abs(seen.normal_pages - 10_000) <= 1
    assert abs(seen.transferred_bytes - 4104e4) < 10
    assert (seen.qemu_total_s, seen.setup_s, seen.status) == (1.1, 0.1, "active")
    assert abs(seen.bandwidth_bytes_per_s - 4104e4) < 1e3


def test_a_sync_ends_an_iteration_with_exact_figures() -> None:
    view, sender, throttle = looked(0.5)
    now = view.look(sender, throttle, 2, SECOND // 2)
    view.add_sync(now, 1000.7, 500.2)
    (ended,) = view.ledger.iterations
    assert (ended.number, ended.started_ns, ended.ended_ns) == (1, SECOND // 10, SECOND // 2)
    assert (ended.remaining_at_end_bytes, ended.dirtied_bytes) == (1000, 500)
    assert ended.sent_bytes == now.transferred_bytes
    assert view.ledger.last == view.ledger.opened == now


def test_an_iteration_that_took_less_than_a_second_leaves_the_looks_of_that_second() -> None:
    view, sender, throttle = looked(0.3, 0.5)
    view.add_sync(view.look(sender, throttle, 2, SECOND // 2), 0.0, 0.0)
    assert [each.at_ns for each in view.ledger.window] == [SECOND // 10, SECOND * 3 // 10, SECOND // 2, SECOND // 2]


def test_looks_of_more_than_a_second_ago_are_dropped() -> None:
    view, sender, throttle = looked(0.3, 0.9)
    view.add_sync(view.look(sender, throttle, 2, SECOND * 5 // 4), 0.0, 0.0)
    assert [each.at_ns for each in view.ledger.window] == [SECOND * 3 // 10, SECOND * 9 // 10, SECOND * 5 // 4]


def test_after_a_long_iteration_the_bandwidth_is_known_all_the_same() -> None:
    """No look in the last second: one is made up on the way from the iteration's start."""
    view, sender, throttle = looked()
    while sender.now_s < 5.1:
        sender.advance(5.1)
    now = view.look(sender, throttle, 2, SECOND * 51 // 10)
    view.add_sync(now, 0.0, 0.0)
    before, after = view.ledger.window
    assert (before.at_ns, after) == (SECOND * 41 // 10, now)
    assert before.iteration == 1
    assert abs(before.remaining_bytes - (409_600_000 - 4 * 4096 * 10_000)) < 4 * 4096
    assert abs(view.ledger.sent_bandwidth_bytes_per_s - 4104e4) < 5e4


def test_the_ledger_is_the_one_that_looks_would_have_made() -> None:
    """Looks right before and after the sync, folded by the driver's own ledger, give the same iteration."""
    view, sender, throttle = looked(0.3, 0.5)
    ledger: Ledger = view.ledger
    marked = 4096 * 7
    left = sender.pending_bytes
    sender.normal_bytes += marked
    now = view.look(sender, throttle, 2, SECOND // 2)
    view.add_sync(now, left, marked)
    (ours,), (theirs,) = view.ledger.iterations, ledger.add(now).iterations
    assert abs(ours.dirtied_bytes - theirs.dirtied_bytes) <= 4096
    assert abs(ours.remaining_at_end_bytes - theirs.remaining_at_end_bytes) <= 4096
    assert (ours.sent_bytes, ours.started_ns, ours.ended_ns) == (theirs.sent_bytes, theirs.started_ns, theirs.ended_ns)
