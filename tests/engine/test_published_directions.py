"""Which way published comparisons of mechanisms go: the same way on the fast path.

Held to the *direction* only: the guests are rebuilt from what was printed of them, and what was not printed (how fast
a vCPU writes, how much of RAM is zero, how large the working set is) is said at each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from whimbrel.engine.curve import ConstantRate, Curve
from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Detector, Setting, Throttling, Writers
from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason

MIB = 1 << 20
GIB = 1 << 30

# ---- dirty limit against auto-converge (H. Huang, qemu-devel 2021 to 2023)

VCPUS = 4
WRITES_BYTES_PER_S = 4e9
"""What one vCPU writes when it does nothing else; not printed, a server's memory."""
GBE = 117e6
"""Goodput of 1 GbE."""
OTHERWISE_USED = 512 * MIB
"""Memory that is in use besides; not printed."""


def stress(size_mib: int, sleep_us: int, throttling: Throttling) -> Setting:
    """4 vCPUs go through `size_mib` together, each sleeping after every MiB; a guest of 4 GiB, downtime 300 ms.

    The sleeps are short against the throttle's slices of 10 ms, so that a throttle takes its share of them as of the
    work: the speed is ``1 - throttle`` (a `cpu_share` of 1).
    """
    rate = MIB / (MIB / WRITES_BYTES_PER_S + sleep_us / 1e6)
    one = Writers(curve=ConstantRate(rate, size_mib * MIB / VCPUS))
    return Setting(
        writers=(one,) * VCPUS,
        total_bytes=4 * GIB,
        zero_bytes=4 * GIB - size_mib * MIB - OTHERWISE_USED,
        bandwidth_bytes_per_s=GBE,
        pipe_bytes=500_000,
        objectives=Objectives(downtime_s=0.3, greatest_throttle=0.99),
        throttling=throttling,
        limit_s=1000.0,
    )


AUTO_CONVERGE = Throttling(always=True)
DIRTY_LIMIT = Throttling(always=True, vcpu_limit_bytes_per_s=1e6)
"""1 MB/s for each vCPU is QEMU's default."""

CONVERGED = [(1024, 1000), (1024, 500), (128, 10_000), (1024, 10_000)]
"""MB and µs of the rows in which both came to an end. (1024 and 500 stands in two tables: 203 s and 910 s in one, no
convergence in the other.)"""
STARRED = [(1024, 0), (2048, 0)]
"""In which auto-converge did not."""


@pytest.mark.parametrize(("size_mib", "sleep_us"), CONVERGED + STARRED)
def test_the_dirty_limit_is_quicker_than_auto_converge(size_mib: int, sleep_us: int) -> None:
    """Total time. Published: 45 s against 188, 46 against 203, 14 against 26, 44 against 158; 60 and 91 against never.

    Here, with nothing adjusted to these: 32 against 179, 32 against 183, 11 against 32, 32 against 152; 32 and 60.
    """
    limited = forecast(stress(size_mib, sleep_us, DIRTY_LIMIT), Fixed())
    throttled = forecast(stress(size_mib, sleep_us, AUTO_CONVERGE), Fixed())
    assert limited.converged
    assert limited.total_s < throttled.total_s


@pytest.mark.parametrize(("size_mib", "sleep_us"), STARRED)
def test_auto_converge_does_not_converge_where_it_did_not(size_mib: int, sleep_us: int) -> None:
    """Writers that never sleep: even at 99 % four of them dirty more than the link carries."""
    throttled = forecast(stress(size_mib, sleep_us, AUTO_CONVERGE), Fixed())
    assert not throttled.converged
    assert throttled.throttle == 0.99


@pytest.mark.parametrize(("size_mib", "sleep_us"), CONVERGED)
def test_auto_converge_converges_where_it_did(size_mib: int, sleep_us: int) -> None:
    assert forecast(stress(size_mib, sleep_us, AUTO_CONVERGE), Fixed()).converged


def test_vcpus_that_do_not_write_keep_their_time_under_the_dirty_limit() -> None:
    """UnixBench on 4 vCPUs: 1294 against 997 of an index. A vCPU that computes is not held by a limit on writes."""
    reader = Writers(curve=ConstantRate(100e3, 1e6))
    for throttling, slowed in ((DIRTY_LIMIT, False), (AUTO_CONVERGE, True)):
        setting = stress(1024, 1000, throttling)
        mixed = replace(setting, writers=(*setting.writers[:3], reader), zero_bytes=setting.zero_bytes - MIB)
        told = forecast(mixed, Fixed())
        assert told.converged
        limit = throttling.vcpu_limit_bytes_per_s
        kept = reader.speed_within(limit) if limit is not None else reader.speed(told.throttle)
        assert (kept < 1.0) is slowed


# ---- auto-converge: on against off (C. Vinod, 2013), refined detection (H. Huang, 2024)


def java(throttling: Throttling) -> Setting:
    """256 GiB of which 240 are zero, 20 vCPUs; 2.75 GB were left when it was called off after 1487 s, and 258 MB/s had
    been sent on average: that is the heap which is always dirty, and the goodput. It writes 2 GB/s (not printed)."""
    return Setting(
        writers=(Writers(curve=ConstantRate(2e9, 2.75e9), vcpus=20),),
        total_bytes=256 * GIB,
        zero_bytes=240 * GIB,
        bandwidth_bytes_per_s=258e6,
        objectives=Objectives(downtime_s=4.0, greatest_throttle=0.99),
        throttling=throttling,
        limit_s=1487.5,
    )


def test_a_java_guest_moves_with_auto_converge_only() -> None:
    """Off, unfinished after 1487.5 s with 383.7 GB sent; on, 241 s with 28.2 GB. That off goes on for ever and on does
    not is compared, and that on sends a fraction of it (the time comes out as 216 s, the data as twice the printed)."""
    off, on = forecast(java(Throttling()), Fixed()), forecast(java(AUTO_CONVERGE), Fixed())
    assert not off.converged
    assert on.converged
    assert off.transferred_bytes > 5 * on.transferred_bytes
    assert 120 < on.total_s < 480


RATES_MB = (350, 400, 450, 500, 600, 1000, 1200)
ORIGINAL_S = {350: 170.3, 400: 183.0, 450: 165.9, 500: 112.6, 600: 111.0}
"""At 1000 MB/s per vCPU it was 296 s, and at 1200 it failed at 300 s: that long it does not take here."""


def guestperf(rate_mb: int, throttling: Throttling) -> Setting:
    """10 vCPUs, 28 GiB, 1.53 Gbit/s, steps of 10 %.

    The original's 23 rounds in 170 s make 1.4 GB always dirty, which is not printed.
    """
    return Setting(
        writers=(Writers(curve=ConstantRate(10 * rate_mb * 1e6, 1.4e9), vcpus=10),),
        total_bytes=28 * GIB,
        zero_bytes=26 * GIB,
        bandwidth_bytes_per_s=1.53e9 / 8,
        pipe_bytes=500_000,
        objectives=Objectives(downtime_s=0.5, greatest_throttle=0.99),
        throttling=throttling,
        limit_s=300.0,
    )


REFINED = Throttling(always=True, detector=Detector.REFINED, periodic_sync_s=5.0)


@pytest.mark.parametrize("rate_mb", RATES_MB)
def test_the_refined_detection_is_earlier_than_the_original(rate_mb: int) -> None:
    """Total time. Published: 0.36 to 0.57 of the original's; here 0.78, with the original's own time in its place."""
    original = forecast(guestperf(rate_mb, AUTO_CONVERGE), Fixed())
    refined = forecast(guestperf(rate_mb, REFINED), Fixed())
    assert refined.converged
    assert refined.total_s < 0.9 * original.total_s
    if rate_mb in ORIGINAL_S:
        assert original.converged
        assert 0.7 * ORIGINAL_S[rate_mb] < original.total_s < 1.4 * ORIGINAL_S[rate_mb]


def test_syncs_within_iterations_are_all_that_the_refined_detection_can_count_on() -> None:
    """An ablation that its reviewer asked for: the syncs, and the second criterion beside the first, each alone.

    The syncs gain alone. The second criterion asks whether a ratio has not fallen that is the same time and again but
    for noise: it may add steps, and it may add none; it never takes one away.
    """
    totals = {
        (detector, every_s): forecast(
            guestperf(500, Throttling(always=True, detector=detector, periodic_sync_s=every_s)), Fixed()
        ).total_s
        for detector in Detector
        for every_s in (None, 5.0)
    }
    assert totals[Detector.ORIGINAL, 5.0] < 0.8 * totals[Detector.ORIGINAL, None]
    for every_s in (None, 5.0):
        assert totals[Detector.REFINED, every_s] <= 1.01 * totals[Detector.ORIGINAL, every_s]


# ---- stepped downtime (KubeVirt VEP 291, 2026)


@dataclass(slots=True)
class SteppedDowntime:
    """From the third iteration on the limit rises every 10 s or more, in 7 steps of 150 ms."""

    step_s: float = 0.15
    steps: int = 7
    every_s: float = 10.0
    _raised_s: float = 0.0
    _step: int = 1

    def __call__(self, seen: Observation) -> Decision:
        """Decide; a step is taken at a sync."""
        if seen.reason is Reason.SETUP:
            return Decision(downtime_limit_s=self.step_s)
        if seen.iteration < 3 or seen.elapsed_s < self._raised_s + self.every_s or self._step == self.steps:
            return Decision()
        self._step += 1
        self._raised_s = seen.elapsed_s
        return Decision(downtime_limit_s=self._step * self.step_s, because=f"step {self._step}")


def creeping(part: float) -> Setting:
    """8 GiB over 1 Gbit/s. Of what an iteration sends that `part` is dirty again, from 100 ms up to 1.5 s, and 300 MB
    at most: so iterations creep, as the published 69 rounds do (what the guest there wrote to is not printed).
    """
    link = 117e6
    points = ((0.1, part * link * 0.1), (1.5, part * link * 1.5), (4.0, 300e6), (60.0, 300e6))
    return Setting(
        writers=(Writers(curve=Curve(points, 8 * GIB)),),
        total_bytes=8 * GIB,
        bandwidth_bytes_per_s=link,
        pipe_bytes=500_000,
        objectives=Objectives(downtime_s=1.05),
    )


@pytest.mark.parametrize("part", [0.85, 0.88, 0.92])
def test_stepped_downtime_trades_outage_for_rounds_time_and_data(part: float) -> None:
    """Against a fixed 300 ms. Published: outage 611 ms against 451; rounds 28 against 69, total 92 s against 112, data
    9694 MiB against 11862."""
    setting = creeping(part)
    stepped = forecast(setting, SteppedDowntime())
    fixed = forecast(setting, Fixed(downtime_limit_s=0.3))
    assert stepped.converged
    assert fixed.converged
    assert stepped.downtime_s > fixed.downtime_s
    assert stepped.iterations < fixed.iterations
    assert stepped.total_s < fixed.total_s
    assert stepped.transferred_bytes < fixed.transferred_bytes
