"""Every policy that comes with Whimbrel, at the edges of what a QEMU and a user may do: none fails, all say why."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from whimbrel.engine.pilot import Pilot
from whimbrel.engine.policies import BUILT_IN
from whimbrel.engine.policy import Abilities, Measurement, Objectives, Reason
from whimbrel.engine.statistics import Ledger, Statistics

CAPABILITIES = ("auto-converge", "dirty-limit", "multifd", "postcopy-ram", "xbzrle")
COURSES = 12
LOOKS = 60


def objectives(dice: random.Random) -> Objectives:
    """From nothing at all to everything."""
    return Objectives(
        downtime_s=dice.choice([0.001, 0.03, 0.3, 2000.0]),
        deadline_s=dice.choice([None, 0.0, 0.001, 30.0, 1e6]),
        bandwidth_bytes_per_s=dice.choice([None, 1, 125_000_000, (1 << 63) - 1]),
        greatest_throttle=dice.choice([0.0, 0.005, 0.01, 0.3, 0.99]),
        may_abort=dice.random() < 0.5,
        may_pause=dice.random() < 0.5,
        may_postcopy=dice.random() < 0.5,
    )


def abilities(dice: random.Random) -> Abilities:
    """What some pair of QEMUs can do."""
    return Abilities(
        capabilities=frozenset(name for name in CAPABILITIES if dice.random() < 0.6),
        outside_throttle=dice.random() < 0.5,
        measuring=dice.random() < 0.5,
    )


def measured(dice: random.Random, windows_s: tuple[float, ...]) -> Iterator[Measurement]:
    """Some of the windows, at odd times, from nothing dirtied to more than there can be."""
    at_s = 0.0
    for window_s in windows_s:
        at_s += window_s * dice.choice([1.0, 1.0, 0.0, 2.0])
        if dice.random() < 0.9:
            dirtied = dice.choice([0.0, 1e3, 1e8, 1e15 * dice.random()])
            yield Measurement(
                at_s=at_s, window_s=window_s, dirtied_bytes=dirtied, vcpu_shares=dice.choice([(), (0.5,)])
            )


def course(dice: random.Random) -> Iterator[Statistics]:
    """Answers of a QEMU: of no RAM or 16 TiB, over no link or 8 Tbit/s, all at once or minutes apart."""
    ram, link = int(dice.choice([0, 4096, 1 << 26, 1 << 44])), dice.choice([0.0, 1.0, 1e6, 125e6, 1e12])
    now_ns, left, sent, iteration, ran_s = 0, ram, 0, dice.choice([0, 1, 5]), 0.0
    for _ in range(LOOKS):
        step_ns = dice.choice([0, 1, 10**6, 2 * 10**7, 10**8, 6 * 10**10])
        now_ns += step_ns
        moved = int(min(left, link * step_ns / 1e9))
        left, sent, ran_s = left - moved, sent + moved, ran_s + step_ns / 1e9 * dice.random()
        if (left == 0 and dice.random() < 0.8) or dice.random() < 0.05:
            iteration += dice.choice([1, 1, 1, 10])
            left = min(ram, left + int(ram * dice.choice([0.0, 1e-6, 0.01, 0.3, 1.0])))
        yield Statistics(
            at_ns=now_ns,
            iteration=iteration,
            remaining_bytes=left,
            transferred_bytes=sent,
            total_bytes=ram,
            normal_pages=sent // 4096,
            bandwidth_bytes_per_s=dice.choice([0.0, link]),
            throttle=dice.choice([0.0, 0.2, 0.99]),
            vcpu_s=dice.choice([(), (ran_s,)]),
        )


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("name", BUILT_IN)
def test_no_policy_fails_whatever_it_is_shown(name: str, adopted: bool) -> None:
    """Where a dead manager's migration is taken over it is not asked before the start."""
    for number in range(COURSES):
        dice = random.Random(f"{name} {number}")
        pilot = Pilot(BUILT_IN[name](), objectives(dice), name)
        pilot.learn(abilities(dice))
        starts, told = adopted, 0
        while not starts:
            setup = pilot.setup(0)
            assert not setup.fault
            told += 1
            starts = setup.decision.not_yet_s is None and not setup.decision.measure_s
            pilot.measurements += tuple(measured(dice, setup.decision.measure_s))
        assert told < 20, "it starts by itself"
        pilot.start(0)
        ledger = Ledger()
        for statistics in course(dice):
            before, ledger = len(ledger.iterations), ledger.add(statistics)
            deadline_ns = pilot.deadline_ns()
            if len(ledger.iterations) > before:
                reason = Reason.ITERATION
            else:
                reason = Reason.TICK if deadline_ns is None or statistics.at_ns < deadline_ns else Reason.DEADLINE
            steering = pilot.ask(reason, ledger, statistics.at_ns)
            assert not steering.fault
            assert steering.decision.because or not (steering.changes or steering.decision.switch_over), "it says why"
