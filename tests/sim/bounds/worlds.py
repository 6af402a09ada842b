"""Guests, links and traces that the tests of the bounds share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

from whimbrel.engine.policy import Objectives
from whimbrel.sim.bounds.trace import Capacity, Group, Trace, linked
from whimbrel.sim.guests.streams import ALWAYS
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer

MIB = 1 << 20
FREE = Objectives(downtime_s=0.3, greatest_throttle=0.99, may_pause=True, may_postcopy=True, may_abort=True)


def writer(name: str = "hot", size_mib: int = 6, rate_mb_per_s: float = 12.0, **more: Any) -> Writer:
    """A writer that needs all of its vCPU."""
    given: dict[str, Any] = {"cpu_share": 1.0} | more
    return Writer(name=name, size_bytes=size_mib * MIB, rate_bytes_per_s=rate_mb_per_s * 1e6, **given)


def scenario(
    *writers: Writer, rate_mb_per_s: float = 10.0, objectives: Objectives = FREE, limit_s: float = 8.0, **more: Any
) -> Scenario:
    """16 MiB of RAM, 1 MiB of it zero, over a link that needs 1.6 s for it."""
    return Scenario(
        guest=GuestPlan(ram_bytes=16 * MIB, zero_bytes=MIB, writers=writers or (writer(),), pages=True, vcpus=2),
        link=LinkPlan(bandwidth_bytes_per_s=rate_mb_per_s * 1e6, pipe_bytes=200_000, **more),
        objectives=objectives,
        limit_s=limit_s,
    )


def at_random(random: Random) -> Scenario:
    """Any guest, link, QEMU and objectives."""
    rate = random.choice([5e6, 10e6, 20e6])
    writers: list[Writer] = []
    left_mib = 14
    for number in range(random.choice([1, 1, 2, 3])):
        size_mib = random.randint(1, max(1, left_mib // 2))
        left_mib -= size_mib
        phases: dict[str, Any] = {}
        if random.random() < 0.3:
            phases = {
                "period_s": random.choice([0.5, 2.0]),
                "duty": random.choice([0.2, 0.6]),
                "shift_s": random.random(),
            }
        writers.append(
            Writer(
                name=f"w{number}",
                size_bytes=size_mib * MIB,
                rate_bytes_per_s=rate * random.choice([0.05, 0.3, 0.8, 2.0]),
                pattern=random.choice(list(Pattern)),
                cpu_share=random.choice([1.0, 1.0, 0.5, 0.0]),
                vcpu=random.choice([0, 1, None]),
                zero=random.random() < 0.2,
                **phases,
            )
        )
    more: dict[str, Any] = random.choice(
        [{}, {}, {"noise": 0.3, "noise_memory": 0.5}, {"steps": ((1.0, rate / 2),)}, {"outages": ((0.5, 0.3),)}]
    )
    version = random.choice(list(Version))
    return Scenario(
        guest=GuestPlan(ram_bytes=16 * MIB, zero_bytes=MIB, writers=tuple(writers), pages=True, vcpus=2),
        link=LinkPlan(bandwidth_bytes_per_s=rate, pipe_bytes=random.choice([100_000, 1_000_000]), **more),
        objectives=Objectives(
            downtime_s=random.choice([0.06, 0.3]),
            greatest_throttle=random.choice([0.0, 0.5, 0.99]),
            may_pause=random.random() < 0.5,
            may_postcopy=random.random() < 0.5,
            may_abort=True,
        ),
        qemu=QemuPlan(kvm=random.random() < 0.4, source=version, destination=version),
        limit_s=5 * 16 * MIB / rate,
    )


def steady(bytes_per_s: float) -> Capacity:
    """A link whose rate never changes."""
    return Capacity(np.array([0.0, 1e7]), np.array([0.0, 1e7 * bytes_per_s]))


def changing(bytes_by_second: Sequence[float]) -> Capacity:
    """A link that carries so much in each second, and a byte a second later on."""
    carried = np.concatenate(([0.0], np.cumsum(bytes_by_second)))
    times = np.arange(len(carried), dtype=np.float64)
    return Capacity(np.append(times, 1e7), np.append(carried, carried[-1] + 1e7))


def trace(writes: Sequence[tuple[float, int]], pages: int, capacity: Capacity, *, page_bytes: int = 1) -> Trace:
    """A trace of given writes (when, where), in order of time."""
    at_s = np.array([at_s for at_s, _ in writes], dtype=np.float64)
    made = linked(at_s, np.array([page for _, page in writes], dtype=np.int32))
    sizes = np.full(pages, page_bytes, dtype=np.int64)
    written_s = np.full(pages, math.inf)
    first = made.first(0, len(made))
    written_s[made.pages[first]] = made.at_s[first]
    return Trace(
        writes=made,
        groups=(Group(1.0, 1.0, ALWAYS, 0.0, made, at_s),),
        group_of=np.zeros(pages, dtype=np.int8),
        fresh_bytes=sizes,
        written_bytes=sizes,
        even_bytes=page_bytes,
        uneven=np.zeros(0, dtype=np.int32),
        written_s=written_s,
        capacity=capacity,
        lag_s=0.0,
        horizon_s=20.0,
        period_s=0.0,
    )
