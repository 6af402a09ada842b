"""Models by name: what each says of the published case, what each refuses, and that the two of ours agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from whimbrel.curve_file import measured_guest, read_curve
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.sim.qemu.contract import Costs
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer
from whimbrel.simulating import MODELS, drawn, refuse_what_it_lacks, setting_of, simulate
from whimbrel.simulation_records import Run

MIB = 1 << 20
GIBIT = 2**30 / 8
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
MEMCACHED = measured_guest(read_curve(EXAMPLES / "memcached.json"))

SMALL = Scenario(
    guest=GuestPlan(
        ram_bytes=256 * MIB,
        zero_bytes=64 * MIB,
        writers=(
            Writer(name="hot", size_bytes=16 * MIB, rate_bytes_per_s=20.0 * MIB),
            Writer(name="warm", size_bytes=64 * MIB, rate_bytes_per_s=10.0 * MIB, pattern=Pattern.ZIPF),
        ),
    ),
    policy="fixed",
)


def published(gibit: float, limit_s: float) -> Scenario:
    """The guest of the published table on a link of so many 2^30 bits per second."""
    return Scenario(
        guest=MEMCACHED,
        link=LinkPlan(bandwidth_bytes_per_s=gibit * GIBIT),
        objectives=Objectives(downtime_s=limit_s),
        policy="fixed",
    )


def one(scenario: Scenario, model: str) -> Run:
    """The first run."""
    return simulate(scenario, model=model).first


# ---- the published case


@pytest.mark.parametrize(
    ("gibit", "limit_s", "total_s", "rounds", "last_s"),
    [(2, 5.0, 101, 6, 4.786), (5, 0.125, 48, 65, 0.119), (40, 0.25, 3, 2, 0.148), (1, 5.0, None, None, None)],
)
def test_the_recurrence_gives_the_published_cells(
    gibit: float, limit_s: float, total_s: float | None, rounds: int | None, last_s: float | None
) -> None:
    """Total time as printed, and rounds and the last one's length as computed anew; never where it says never."""
    run = one(published(gibit, limit_s), "recurrence")
    assert run.converged is (total_s is not None)
    if total_s is not None and last_s is not None:
        assert (round(run.total_s), run.iterations) == (total_s, rounds)
        assert run.downtime_s == pytest.approx(last_s, abs=0.001)
        assert run.remaining[-1][0] == pytest.approx(run.total_s)


def test_a_single_rate_is_wrong_where_the_curve_is_right() -> None:
    """At 2 Gbit/s with 125 ms the constant rate of the longest window promises what the curve denies."""
    scenario = published(2, 0.125)
    assert one(scenario, "constant-rate").total_s == pytest.approx(80, abs=1)
    assert not one(scenario, "recurrence").converged
    assert not one(scenario, "fast").converged


def test_the_two_segment_model_says_nothing_of_downtime() -> None:
    run = one(published(10, 0.5), "two-segment")
    assert run.converged
    assert run.downtime_s is None
    assert len(run.each_iteration) == 3


# ---- our own two


@pytest.mark.parametrize("limit_s", [0.02, 0.1, 0.3])
def test_the_fast_and_the_stepwise_model_agree(limit_s: float) -> None:
    """Iterations to one, times and bytes to a few percent; the outage to what a slice of 50 ms can shift it."""
    scenario = replace(SMALL, objectives=Objectives(downtime_s=limit_s))
    fast, stepwise = one(scenario, "fast"), one(scenario, "stepwise")
    assert fast.converged
    assert stepwise.converged
    assert abs(fast.iterations - stepwise.iterations) <= 1
    assert fast.total_s == pytest.approx(stepwise.total_s, rel=0.03)
    assert fast.transferred_bytes == pytest.approx(stepwise.transferred_bytes, rel=0.03)
    assert fast.downtime_s == pytest.approx(stepwise.downtime_s, abs=0.03)


def test_a_policy_that_looks_between_syncs_is_followed_roughly() -> None:
    """The default policy empties the pipe at the end by what it sees every few milliseconds."""
    scenario = replace(SMALL, policy="least_downtime")
    fast, stepwise = one(scenario, "fast"), one(scenario, "stepwise")
    assert fast.total_s == pytest.approx(stepwise.total_s, rel=0.2)
    assert fast.downtime_s == pytest.approx(stepwise.downtime_s, abs=0.03)


def test_a_guest_that_never_converges_is_called_off_at_its_limit() -> None:
    run = one(replace(published(1, 0.1), limit_s=300.0), "fast")
    assert (run.converged, run.downtime_s, run.downtime) == (False, None, {})
    assert run.total_s == pytest.approx(300, abs=1)
    assert run.reason


# ---- what a model leaves out

BEYOND: list[tuple[str, Callable[[Scenario], Scenario]]] = [
    ("link.noise", lambda s: replace(s, link=replace(s.link, noise=0.1))),
    ("link.steps", lambda s: replace(s, link=replace(s.link, steps=((1.0, 1e6),)))),
    ("link.outages", lambda s: replace(s, link=replace(s.link, outages=((1.0, 1.0),)))),
    ("link.rivals", lambda s: replace(s, link=replace(s.link, rivals=1))),
    ("migrations", lambda s: replace(s, migrations=2)),
    ("faults", lambda s: replace(s, faults=True)),
    ("guest.pages", lambda s: replace(s, guest=replace(s.guest, pages=True))),
    ("postcopy", lambda s: replace(s, postcopy_at_s=1.0)),
    (r"qemu.capabilities \(multifd, xbzrle\)", lambda s: replace(s, capabilities=("xbzrle", "return-path", "multifd"))),
]


@pytest.mark.parametrize(("key", "change"), BEYOND, ids=[key for key, _ in BEYOND])
@pytest.mark.parametrize("model", ["fast", "recurrence", "constant-rate", "two-segment"])
def test_what_a_model_leaves_out_is_refused_by_name(
    model: str, key: str, change: Callable[[Scenario], Scenario]
) -> None:
    with pytest.raises(BadInput, match=f"^model: '{model}' is not allowed; .*{key}.*: stepwise"):
        simulate(change(SMALL), model=model)
    refuse_what_it_lacks(change(SMALL), "stepwise")


def test_no_cost_is_passed_over_in_silence() -> None:
    """Every cost of the simulator is known to the forecast, too, or refused where it is not at its default."""
    for name in Costs.__dataclass_fields__:
        costs = replace(Costs(), **{name: getattr(Costs(), name) * 2 + 1})
        scenario = replace(SMALL, qemu=QemuPlan(costs=costs))
        if not list(MODELS["fast"].lacks(scenario)):
            assert getattr(setting_of(scenario).costs, name) == getattr(costs, name)


def test_what_is_taken_for_what_is_noted() -> None:
    notes = simulate(published(10, 0.5), model="constant-rate").notes
    assert any("1m" in note for note in notes)
    phased = replace(SMALL.guest.writers[0], period_s=2.0, duty=0.5)
    told = simulate(replace(SMALL, guest=replace(SMALL.guest, writers=(phased,))), model="fast").notes
    assert any("averaged" in note for note in told)


@pytest.mark.parametrize("model", ["fast", "stepwise"])
def test_a_sender_that_is_slower_than_the_link_is_noted(model: str) -> None:
    quick = replace(SMALL, link=LinkPlan(bandwidth_bytes_per_s=3e9))
    assert any("the sender itself is what limits" in note for note in simulate(quick, model=model).notes)
    capped = replace(quick, objectives=Objectives(bandwidth_bytes_per_s=10**8))
    assert simulate(capped, model=model).notes == ()


def test_models_and_runs_that_there_are_not() -> None:
    with pytest.raises(BadInput, match=r"^model: 'slow' is not allowed; allowed: one of stepwise, fast, "):
        simulate(SMALL, model="slow")
    with pytest.raises(BadInput, match=r"^runs: 2 is not allowed; allowed: 1: the model fast throws no dice"):
        simulate(SMALL, model="fast", runs=2)
    with pytest.raises(BadInput, match=r"^policy: "):
        simulate(replace(SMALL, policy="nosuch"), model="fast")


def test_what_a_seed_draws_can_be_told_before_anything_is_run() -> None:
    """The same as the run says afterwards; what can't be run is refused here already."""
    chancy = replace(SMALL, faults=True)
    assert drawn(chancy, model="stepwise", seed=3) == simulate(chancy, model="stepwise", seed=3).first.drawn
    assert drawn(SMALL, model="fast", seed=3) == {}
    with pytest.raises(BadInput, match=r"^model: "):
        drawn(chancy, model="fast", seed=3)


def test_every_run_is_told_when_it_is_over() -> None:
    ended: list[int] = []
    told = simulate(SMALL, model="stepwise", seed=5, runs=3, ended=lambda run: ended.append(run.seed))
    assert ended == [5, 6, 7]
    assert told.first.threshold
    assert not told.runs[1].threshold


def test_every_run_has_its_own_seed() -> None:
    noisy = replace(SMALL, link=LinkPlan(noise=0.2, noise_memory=0.5))
    runs = simulate(noisy, model="stepwise", seed=5, runs=3).runs
    assert [run.seed for run in runs] == [5, 6, 7]
    assert len({run.total_s for run in runs}) == 3
    assert runs[0].total_s == simulate(noisy, model="stepwise", seed=5).first.total_s
    assert all(math.isfinite(run.total_s) for run in runs)
