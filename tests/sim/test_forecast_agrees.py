"""The fast path against the stepwise one: the same scenarios, the same policies, no step in common.

Stepwise is all of `simulate`: two modelled QEMUs, the link with its pipe, the curve-level memory and the real
machine. What separates the two is where in its slice of 51 ms the sender stands when what is left comes below the
threshold (18 bytes a slice, windows of whole milliseconds, a policy that is asked a few milliseconds late): a sync may
come a slice sooner or later, and where it finds just about as much as the threshold there may be one iteration more.

Measured over drawn scenarios (uniform, hotspot, zipf and Poisson writers at 0.1 to 1.3 of the link, some with a
device's writes beside them; 25 to 250 MB/s; limits of 30 ms to 1 s). Median, 95th percentile and worst of how far
they are apart:

======================  ============================  ============================
..                      holds or steps the limit      ``least_downtime``
======================  ============================  ============================
drawn, converge         2000, 1842                    1000, 923
verdict                 alike in all                  alike in all
total time              0.1 %, 0.7 %, 8 %             0.2 %, 3 %, 22 %
bytes                   0.03 %, 0.5 %, 8 %            0.1 %, 1.5 %, 22 %
outage                  2 ms, 32 ms, 0.37 s           2 ms, 15 ms, 90 ms
as a part of the limit  0.01, 0.16, 0.99              0.01, 0.13, 1.2
======================  ============================  ============================

Writers at up to 0.9 of the link are within the bounds below in all. At 1.3 four were not: where each iteration ends a
hair above what the limit lets through, hundreds of them may pass until one does (190 against 227 of them: 38.4 s and
40.1 s; with ``least_downtime`` 269 against 221: 39.6 s and 36.2 s). ``least_downtime`` asks every 10 to 100 ms and
decides by what it sees, so that a slice sooner or later moves its landing by more than the slice. Not within any
bounds: sweeps (whether one is caught depends on where it stands).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.engine.forecast import forecast
from whimbrel.engine.forecast_records import Deltas, Forecast
from whimbrel.engine.policies import Fixed, LeastDowntime
from whimbrel.engine.policy import Decision, Objectives, Observation, Policy, Reason
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer
from whimbrel.sim.world import Outcome, simulate
from whimbrel.simulating import setting_of

MIB = 1 << 20
APART, APART_S = 0.01, 0.1
"""Time, and bytes as time on the link, may be so far apart: a part of it, and seconds."""
ASKING_APART_S = 0.3
"""Seconds, where the policy asks between the syncs."""
OUTAGE_APART, OUTAGE_APART_S = 0.6, 0.06
"""The outage: a part of the limit, and a slice."""


def stepping(seen: Observation) -> Decision:
    """Begin low and give a tenth of what is allowed more at each iteration."""
    if seen.reason is Reason.SETUP:
        return Decision(downtime_limit_s=0.02)
    return Decision(downtime_limit_s=seen.objectives.downtime_s * min(1.0, seen.iteration / 10))


def laddering(seen: Observation) -> Decision:
    """QEMU's auto-converge with long steps."""
    if seen.reason is Reason.SETUP:
        return Decision(
            capabilities={"auto-converge": True}, throttle_initial=0.4, throttle_increment=0.2, throttle_ceiling=0.9
        )
    return Decision()


def hold() -> Policy:
    return Fixed()


def step() -> Policy:
    return stepping


def ladder() -> Policy:
    return laddering


def both(scenario: Scenario, make: Callable[[], Policy]) -> tuple[Outcome, Forecast]:
    """Both paths, each with a policy of its own: one with a memory is used up by a migration."""
    return simulate(scenario, 1, make()), forecast(setting_of(scenario), make())


def scenario(
    pattern: Pattern = Pattern.UNIFORM,
    *,
    ram_mib: int = 256,
    part: float = 0.25,
    zeros: float = 0.5,
    link: float = 125e6,
    ratio: float = 0.5,
    dma: float = 0.0,
    share: float = 1.0,
    pipe: int = 500_000,
    downtime_s: float = 0.3,
) -> Scenario:
    """A guest that dirties at a ratio of the link's rate, with a range of its own for a device."""
    size = int(ram_mib * MIB * part) // 4096 * 4096
    rate = ratio * link
    writers: tuple[Writer, ...] = (
        Writer(name="cpu", size_bytes=size, rate_bytes_per_s=rate, pattern=pattern, cpu_share=share),
    )
    if dma:
        device = Writer(name="dma", size_bytes=size // 8192 * 4096, rate_bytes_per_s=dma * rate, vcpu=None)
        writers = (*writers, device)
    rest = ram_mib * MIB - 2 * size
    return Scenario(
        guest=GuestPlan(ram_bytes=ram_mib * MIB, zero_bytes=int(rest * zeros) // 4096 * 4096, writers=writers),
        link=LinkPlan(bandwidth_bytes_per_s=link, pipe_bytes=pipe),
        objectives=Objectives(downtime_s=downtime_s, greatest_throttle=0.99),
        limit_s=40.0,
    )


def scenarios(*ratios: float) -> st.SearchStrategy[Scenario]:
    """Scenarios whose writer is at one of these ratios."""
    return st.builds(
        scenario,
        st.sampled_from([Pattern.UNIFORM, Pattern.HOTSPOT, Pattern.ZIPF, Pattern.POISSON]),
        ram_mib=st.sampled_from([128, 256, 512]),
        part=st.sampled_from([0.1, 0.25, 0.4]),
        zeros=st.sampled_from([0.0, 0.5, 0.9]),
        link=st.sampled_from([25e6, 50e6, 125e6, 250e6]),
        ratio=st.sampled_from(ratios),
        dma=st.sampled_from([0.0, 0.1]),
        share=st.sampled_from([0.3, 1.0]),
        pipe=st.sampled_from([200_000, 2_500_000]),
        downtime_s=st.sampled_from([0.03, 0.1, 0.3, 1.0]),
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    scenarios(0.1, 0.3, 0.6, 0.9), st.sampled_from([(hold, APART_S), (step, APART_S), (LeastDowntime, ASKING_APART_S)])
)
def test_the_two_paths_agree_within_their_bounds(drawn: Scenario, steered: tuple[Callable[[], Policy], float]) -> None:
    make, apart_s = steered
    slow, fast = both(drawn, make)
    truth, link = slow.truth, drawn.link.bandwidth_bytes_per_s
    assert fast.converged == (truth.outage_s is not None)
    if truth.outage_s is None:
        return
    assert abs(fast.total_s - truth.total_s) <= APART * truth.total_s + apart_s
    assert abs(fast.transferred_bytes - truth.transferred_bytes) <= APART * truth.transferred_bytes + apart_s * link
    assert abs(fast.downtime_s - truth.outage_s) <= OUTAGE_APART * drawn.objectives.downtime_s + OUTAGE_APART_S


@settings(max_examples=15, deadline=None, derandomize=True)
@given(scenarios(1.3), st.sampled_from([hold, step, LeastDowntime]))
def test_beyond_the_links_rate_verdicts_are_alike_and_times_within_a_quarter(
    drawn: Scenario, make: Callable[[], Policy]
) -> None:
    slow, fast = both(drawn, make)
    assert fast.converged == (slow.truth.outage_s is not None)
    if fast.converged:
        assert fast.total_s == pytest.approx(slow.truth.total_s, rel=0.25, abs=ASKING_APART_S)
        assert fast.transferred_bytes == pytest.approx(slow.truth.transferred_bytes, rel=0.25)


GRID = [
    scenario(pattern, ratio=ratio, downtime_s=downtime_s)
    for pattern in (Pattern.UNIFORM, Pattern.HOTSPOT, Pattern.ZIPF, Pattern.POISSON)
    for ratio in (0.2, 0.5, 0.9)
    for downtime_s in (0.05, 0.3)
]


def test_in_the_median_they_are_half_a_percent_and_ten_milliseconds_apart() -> None:
    time: list[float] = []
    sent: list[float] = []
    outage: list[float] = []
    for each in GRID:
        slow, fast = both(each, hold)
        truth = slow.truth
        assert truth.outage_s is not None
        time.append(abs(fast.total_s / truth.total_s - 1))
        sent.append(abs(fast.transferred_bytes / truth.transferred_bytes - 1))
        outage.append(abs(fast.downtime_s - truth.outage_s))
    assert statistics.median(time) <= 0.005
    assert statistics.median(sent) <= 0.005
    assert statistics.median(outage) <= 0.010


@pytest.mark.parametrize("make", [Fixed, LeastDowntime])
def test_iterations_are_alike(make: Callable[[], Policy]) -> None:
    """Far from any edge: as many of them, each as long, from the same bytes, to a slice's worth."""
    one = scenario(ratio=0.5, ram_mib=512, zeros=0.0, downtime_s=0.1)
    slow, fast = both(one, make)
    seen = [each for each in slow.iterations if each.duration_s > 0.2]
    ours = [row for row in fast.rows if row.duration_s > 0.2]
    assert len(seen) == len(ours) >= 3
    for real, row in zip(seen, ours, strict=True):
        assert row.duration_s == pytest.approx(real.duration_s, abs=0.06)
        assert row.dirtied_bytes == pytest.approx(real.dirtied_bytes, rel=0.05, abs=0.06 * 125e6)


@pytest.mark.parametrize("pattern", [Pattern.UNIFORM, Pattern.HOTSPOT, Pattern.ZIPF])
def test_with_the_log_of_kvm_they_agree_to_three_percent(pattern: Pattern) -> None:
    """6 GiB, so that the chunks of 1 GiB are cleared one after the other; it makes a difference of up to 10 %."""
    tcg = scenario(pattern, ram_mib=6144, part=0.4, zeros=0.2, link=1250e6, ratio=0.8, downtime_s=0.1)
    kvm = replace(tcg, qemu=replace(tcg.qemu, kvm=True))
    truth = simulate(kvm, 1, Fixed()).truth
    fast = forecast(replace(setting_of(kvm), clear_chunk_bytes=1 << 30), Fixed())
    assert fast.total_s == pytest.approx(truth.total_s, rel=0.03)
    assert fast.transferred_bytes == pytest.approx(truth.transferred_bytes, rel=0.03)
    assert fast.total_s < forecast(replace(setting_of(tcg), clear_chunk_bytes=None), Fixed()).total_s


def test_a_guest_that_must_be_slowed_is_slowed_alike() -> None:
    """A ladder of long steps; the device's writes are not slowed in either."""
    busy = scenario(ratio=1.2, ram_mib=512, part=0.4, zeros=0.0, dma=0.1, link=50e6, downtime_s=0.3)
    assert not forecast(setting_of(busy), Fixed()).converged
    slow, fast = both(busy, ladder)
    assert fast.converged
    assert slow.truth.outage_s is not None
    assert fast.throttle == max(sample.throttle for sample in slow.samples) >= 0.4
    assert fast.total_s == pytest.approx(slow.truth.total_s, rel=0.03, abs=0.25)
    assert fast.work == pytest.approx(slow.truth.work, abs=0.04)


# ---- what a policy may do besides the limit

FREE = Objectives(downtime_s=0.3, greatest_throttle=0.99, may_postcopy=True, may_pause=True)


def wild() -> Scenario:
    """It dirties more than the link takes; half of a CPU is what it needs for that."""
    one = scenario(ratio=1.3, ram_mib=256, part=0.4, zeros=0.0, link=50e6, downtime_s=0.3)
    writers = tuple(replace(each, cpu_share=0.5) for each in one.guest.writers)
    return replace(one, guest=replace(one.guest, writers=writers), objectives=FREE, limit_s=60.0)


def at_once(setup: Decision, later: Decision | None = None) -> Callable[[], Policy]:
    """Decides that at the setup, and the other from three seconds on."""

    def decide(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return replace(setup, wake_after_s=1.0)
        return later if later is not None and seen.elapsed_s >= 3.0 else Decision()

    return lambda: decide


def test_a_throttle_from_outside_does_the_same_in_both() -> None:
    """From the start, and from the middle of an iteration on."""
    for make in (at_once(Decision(outside_throttle=0.8)), at_once(Decision(), Decision(outside_throttle=0.85))):
        slow, fast = both(wild(), make)
        assert slow.truth.outage_s is not None
        assert fast.converged
        assert fast.total_s == pytest.approx(slow.truth.total_s, rel=0.03, abs=0.1)
        assert fast.work == pytest.approx(slow.truth.work, abs=0.03)
        assert fast.throttle == slow.truth.throttle
        assert slow.truth.throttle >= 0.8


def test_a_dirty_limit_does_the_same_in_both() -> None:
    kvm = QemuPlan(source=Version.V10_0, destination=Version.V10_0, kvm=True)
    limit = Decision(capabilities={"dirty-limit": True}, dirty_limit_bytes_per_s=20 * MIB)
    slow, fast = both(replace(wild(), qemu=kvm), at_once(limit))
    assert slow.truth.outage_s is not None
    assert fast.converged
    assert fast.total_s == pytest.approx(slow.truth.total_s, rel=0.05, abs=0.2)
    assert fast.work == pytest.approx(slow.truth.work, abs=0.06)


@pytest.mark.parametrize("pipe_bytes", [100_000, 1_500_000])
def test_post_copy_takes_as_long_in_both_and_costs_the_guest_about_as_much(pipe_bytes: int) -> None:
    """What is left and the link say how long; what the guest does meanwhile is an estimate."""
    one = wild()
    one = replace(one, link=replace(one.link, pipe_bytes=pipe_bytes))
    make = at_once(Decision(capabilities={"postcopy-ram": True}), Decision(start_postcopy=True))
    slow, fast = both(one, make)
    assert slow.truth.postcopy
    assert fast.moved_s == pytest.approx(slow.truth.moved_s, abs=0.15)
    assert fast.total_s == pytest.approx(slow.truth.total_s, rel=0.05)
    assert fast.transferred_bytes == pytest.approx(slow.truth.transferred_bytes, rel=0.05)
    assert fast.work == pytest.approx(slow.truth.work, abs=0.1)


def test_a_pause_does_the_same_in_both() -> None:
    slow, fast = both(wild(), at_once(Decision(), Decision(pause=True)))
    assert slow.truth.outage_s is not None
    assert fast.downtime_s == pytest.approx(slow.truth.outage_s, rel=0.1, abs=0.05)
    assert fast.total_s == pytest.approx(slow.truth.total_s, rel=0.03)


def test_what_is_measured_before_the_start_is_the_same_but_for_the_sample() -> None:
    found: list[list[float]] = []

    def measuring() -> Policy:
        told: list[float] = []
        found.append(told)

        def decide(seen: Observation) -> Decision:
            if seen.reason is Reason.SETUP and not seen.measurements:
                return Decision(measure_s=(1.0, 4.0))
            told[:] = [each.dirtied_bytes for each in seen.measurements] + list(seen.measurements[0].vcpu_shares)
            return Decision()

        return decide

    both(replace(wild(), limit_s=2.0), measuring)
    stepwise, fast = found
    assert stepwise == pytest.approx(fast, rel=0.1)
    assert fast[-1] == 0.5


# ---- XBZRLE and multifd


def asking(capability: str, channels: int | None = None) -> Callable[[], Policy]:
    """Asks for it, and lets QEMU do the rest."""

    def decide(seen: Observation) -> Decision:
        if seen.reason is not Reason.SETUP:
            return Decision()
        return Decision(capabilities={capability: True}, multifd_channels=channels)

    return lambda: decide


@pytest.mark.parametrize(
    ("pattern", "ratio", "ram_mib", "part", "delta_bytes"),
    [
        (Pattern.UNIFORM, 0.9, 256, 0.4, 400),
        (Pattern.UNIFORM, 1.3, 256, 0.4, 2000),
        (Pattern.UNIFORM, 0.9, 1024, 0.4, 400),
        (Pattern.HOTSPOT, 1.3, 1024, 0.4, 400),
        (Pattern.ZIPF, 1.3, 1024, 0.4, 2000),
    ],
)
def test_differences_save_as_much_in_both(
    pattern: Pattern, ratio: float, ram_mib: int, part: float, delta_bytes: int
) -> None:
    """A cache of 64 MiB, which has room for all that is written, or for a sixth of it.

    Measured over 54 scenarios: time and bytes within 1.7 %, outages within 50 ms.
    """
    one = scenario(pattern, ratio=ratio, ram_mib=ram_mib, part=part)
    writers = tuple(replace(each, delta_bytes=delta_bytes) for each in one.guest.writers)
    one = replace(one, guest=replace(one.guest, writers=writers))
    make = asking("xbzrle")
    truth = simulate(one, 1, make()).truth
    # The simulated thread compares pages in no time.
    deltas = Deltas(ratio=delta_bytes / 4096, encode_bytes_per_s=1e15)
    fast, without = forecast(replace(setting_of(one), deltas=deltas), make()), forecast(setting_of(one), make())
    assert truth.outage_s is not None
    assert fast.total_s == pytest.approx(truth.total_s, rel=0.02)
    assert fast.transferred_bytes == pytest.approx(truth.transferred_bytes, rel=0.02)
    assert fast.downtime_s == pytest.approx(truth.outage_s, abs=0.06)
    assert abs(fast.transferred_bytes - truth.transferred_bytes) < 0.7 * (
        without.transferred_bytes - truth.transferred_bytes
    )


@pytest.mark.parametrize(("cpu", "link", "channels"), [(100e6, 250e6, 2), (60e6, 250e6, 3), (1.5e9, 125e6, 4)])
def test_channels_make_a_slow_thread_faster_and_a_slow_link_not_in_both(cpu: float, link: float, channels: int) -> None:
    one = scenario(ratio=0.3, part=0.3, link=link)
    one = replace(one, qemu=replace(one.qemu, costs=replace(one.qemu.costs, cpu_bytes_per_s=cpu)))
    make = asking("multifd", channels)
    truth = simulate(one, 1, make()).truth
    fast = forecast(replace(setting_of(one), several_channels=True), make())
    assert truth.outage_s is not None
    assert fast.total_s == pytest.approx(truth.total_s, rel=0.01)
    assert fast.transferred_bytes == pytest.approx(truth.transferred_bytes, rel=0.01)
    assert fast.downtime_s == pytest.approx(truth.outage_s, abs=0.06)
