"""``proxmox_double``: six growths double the limit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.asking import boundary, setup, tick
from whimbrel.engine.curve import PoissonClasses
from whimbrel.engine.errors import BadInput
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Outcome, Setting, Writers
from whimbrel.engine.policies.proxmox_double import ProxmoxDouble
from whimbrel.engine.policy import Abilities, Decision, Objectives

MIB = 1 << 20


def looks(policy: ProxmoxDouble, left: Iterable[int], **what: Any) -> list[float | None]:
    """A look a second, at each of which something more has been sent: the limits that are set."""
    limits: list[float | None] = []
    for second, bytes_left in enumerate(left, start=1):
        given = {"remaining_bytes": bytes_left, "transferred_bytes": second} | what
        limits.append(policy(tick(float(second), **given)).downtime_limit_s)
    return limits


def test_it_begins_with_100_ms_auto_converge_and_xbzrle() -> None:
    assert ProxmoxDouble()(setup()) == Decision(
        downtime_limit_s=0.1,
        capabilities={"auto-converge": True, "xbzrle": True},
        wake_after_s=1.0,
        because="100 ms, doubled where what is left grows",
    )


def test_both_can_be_left_out() -> None:
    assert ProxmoxDouble(auto_converge=False, xbzrle=False)(setup()).capabilities == {}


def test_the_sixth_growth_doubles_it() -> None:
    assert looks(ProxmoxDouble(), range(100, 1300, 100)) == [None] * 6 + [0.2] + [None] * 5


def test_and_six_more_double_it_again() -> None:
    limits = looks(ProxmoxDouble(), range(100, 2000, 100))
    assert [limit for limit in limits if limit] == [0.2, 0.4, 0.8]
    assert limits.index(0.8) - limits.index(0.4) == limits.index(0.4) - limits.index(0.2) == 6


def test_growths_count_whatever_lies_between_them() -> None:
    """A saw-tooth that converges well counts as much as one that does not: the counter is never taken back."""
    falling = [900, 1000, 800, 890, 700, 780, 600, 670, 500, 560, 400, 450]
    assert looks(ProxmoxDouble(), falling) == [None] * 11 + [0.2]


def test_nothing_left_counts_too() -> None:
    assert looks(ProxmoxDouble(), [0] * 6) == [None] * 5 + [0.2]


def test_growth_from_nothing_is_none() -> None:
    assert looks(ProxmoxDouble(growths=0), [0, 500, 400]) == [0.2, None, None]


def test_a_look_at_which_nothing_was_sent_is_none() -> None:
    assert looks(ProxmoxDouble(growths=0), [100, 200, 300], transferred_bytes=7) == [None, None, None]


def test_how_many_is_a_parameter() -> None:
    assert looks(ProxmoxDouble(downtime_s=0.05, growths=1), [1, 2, 3, 4, 5]) == [None, None, 0.1, None, 0.2]


def test_it_ends_at_qemus_own_bound() -> None:
    anything = Objectives(downtime_s=2000.0)
    limits = [limit for limit in looks(ProxmoxDouble(growths=0), range(1, 30), objectives=anything) if limit]
    assert limits[-3:] == [819.2, 1638.4, 2000.0]
    assert len(limits) == 15


def test_beyond_what_is_allowed_it_does_not_double() -> None:
    """The step that reaches it is bounded by the engine, and is the last."""
    allowed = Objectives(downtime_s=0.3)
    limits = looks(ProxmoxDouble(growths=0), range(1, 30), objectives=allowed)
    assert [limit for limit in limits if limit] == [0.2, 0.4]


def test_once_the_end_is_near_it_looks_ten_times_a_second() -> None:
    policy = ProxmoxDouble()
    assert policy(tick(1.0, transferred_bytes=100, remaining_bytes=900)).wake_after_s == 1.0
    # 100 bytes after two looks are 50 a look, and fewer are left
    assert policy(tick(2.0, transferred_bytes=200, remaining_bytes=49)).wake_after_s == pytest.approx(0.1)
    assert policy(tick(2.1, transferred_bytes=300, remaining_bytes=900)).wake_after_s == pytest.approx(0.1)


def test_between_its_looks_it_decides_nothing() -> None:
    policy = ProxmoxDouble(growths=0, xbzrle=False)
    assert policy(tick(1.0, remaining_bytes=100, transferred_bytes=1)) == Decision(wake_after_s=1.0)
    assert policy(boundary(1.5, remaining_bytes=200, transferred_bytes=2)) == Decision(wake_after_s=0.5)


@pytest.mark.parametrize(("ram_mib", "cache_mib"), [(1024, 128), (640, 64), (641, 128), (100, 16)])
def test_the_cache_is_a_tenth_of_the_ram_rounded_up(ram_mib: int, cache_mib: int) -> None:
    policy = ProxmoxDouble()
    assert policy(tick(0.1, total_bytes=0)).xbzrle_cache_bytes is None
    decision = policy(tick(0.2, total_bytes=ram_mib * MIB))
    assert decision.xbzrle_cache_bytes == cache_mib * MIB
    assert decision.because == f"XBZRLE's cache has {cache_mib} MiB for {ram_mib} MiB of RAM"
    assert policy(tick(0.3, total_bytes=ram_mib * MIB)).xbzrle_cache_bytes is None


def test_both_reasons_are_given_where_the_limit_doubles_as_well() -> None:
    decision = ProxmoxDouble(growths=0)(tick(1.0, transferred_bytes=1, remaining_bytes=0))
    assert decision.because == ("what is left grew 1 times: 200 ms; XBZRLE's cache has 256 MiB for 2048 MiB of RAM")


def test_no_cache_where_there_is_no_xbzrle() -> None:
    assert ProxmoxDouble()(tick(0.1, abilities=Abilities())).xbzrle_cache_bytes is None
    assert ProxmoxDouble(xbzrle=False)(tick(0.1)).xbzrle_cache_bytes is None


@pytest.mark.parametrize("wrong", [{"downtime_s": 0.0}, {"poll_s": 0.0}, {"growths": -1}, {"cache_share": 10.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        ProxmoxDouble(**wrong)


def test_in_the_fast_path_it_doubles_until_the_plateau_fits() -> None:
    """A plateau of some 330 ms, and so iterations of that length: 400 ms do, or 800."""
    setting = Setting(
        writers=(Writers(curve=PoissonClasses(((10_000, 50.0),))),),
        total_bytes=256 * MIB,
        bandwidth_bytes_per_s=125e6,
        objectives=Objectives(downtime_s=5.0),
        limit_s=120.0,
    )
    course = forecast(setting, ProxmoxDouble())
    assert course.outcome is Outcome.COMPLETED
    limits = [
        decided.changes["downtime_limit_s"] for decided in course.decisions if "downtime_limit_s" in decided.changes
    ]
    assert limits[:2] == [0.1, 0.2]
    assert limits[-1] in (0.4, 0.8)
