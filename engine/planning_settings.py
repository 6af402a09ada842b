"""From what is believed of a guest and its link to the settings of forecasts: one for each way that it may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from .belief import Belief, outage_error
from .believed import believed
from .costs import Costs
from .curve import PAGE_BYTES, Curve
from .estimate import NORMAL, normal_draws
from .forecast_records import Deltas, Setting, Writers
from .policy import Abilities, Objectives
from .slowing import UNKNOWN_SHARE

DIMENSIONS = 15
"""Of a draw: three for the curve, then one for each of what `drawn` takes apart."""
SHARE_SPREAD = 0.5
"""How far off a vCPU's share is that used next to nothing of its time, as the logarithm of a factor: much of it is
waking up, which a throttle puts together (0.09 were seen of a vCPU that needed 0.015). One that never sleeps needs all
of it for sure; in between in proportion."""
KVM, TCG = "kvm", "tcg"
CLEAR_CHUNK_BYTES = 1 << 30
"""KVM's log is cleared by so much (``x-clear-bitmap-shift`` of 18)."""
TCG_SYNC_S_PER_PAGE = 1.2e-6
"""For each dirty page TCG clears the translation of every vCPU (measured on 7.2)."""
TCG_SETUP_S_PER_PAGE = 0.9e-6
"""The same for all RAM, in the setup: every page is dirty when logging begins (measured on 7.2)."""
SCATTER = 0.05
"""Of the bandwidth that QEMU measures over its windows of 100 ms, as a part of it: from 0.84 to 1.07 of a link's rate
was seen. It decides which of the last iterations ends a migration that hovers about its limit."""
SCATTERS = 16
"""So many iterations differ by it; then they repeat themselves."""
_GOLDEN = (math.sqrt(5) - 1) / 2
ALIKE = 0.1
"""vCPUs whose shares differ by no more are one group of writers."""
MOST_GROUPS = 3
IDLE = 0.02
"""A vCPU that ran less than that writes nothing worth mentioning."""
PASSES = 20
"""Without a deadline a migration is followed for so many first passes,"""
LEAST_FOLLOWED_S = 60.0
"""and for so long at least."""
BEYOND, BEYOND_S = 1.25, 2.0
"""With a deadline so many times as long, and so much: policies give all that they may once it has passed."""
MOST_ITERATIONS = 150
"""By then it has been seen that they lead nowhere."""
MOST_SENDING = 0.5
"""Of the time for the device state no more goes to sending it: a cost that was measured over a fast link says so."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One way that guest, link and hosts may really be.

    Attributes:
        curve: of the guest.
        total_bytes, zero_bytes: of its RAM.
        link_bytes_per_s, cpu_bytes_per_s: what the link carries, and what QEMU's thread sends.
        pipe_bytes: what lies on the way.
        fixed_s, preparation_s: of a switchover, and from the call to the first byte.
        vcpu_shares: what its vCPUs need of their time; one that is taken for all where nobody could tell.
        delta_ratio: of XBZRLE; ``None``: not measured.
        scatter: of what QEMU measures, iteration by iteration.
        time, bytes: what really comes of a forecast, as a factor of it.
        downtime_off: the same of a small outage, as the logarithm of the factor.
    """

    curve: Curve
    total_bytes: int
    zero_bytes: int
    link_bytes_per_s: float
    cpu_bytes_per_s: float
    pipe_bytes: float
    fixed_s: float
    preparation_s: float
    vcpu_shares: tuple[float, ...]
    delta_ratio: float | None
    scatter: tuple[float, ...]
    time: float
    bytes: float
    downtime_off: float

    def outage_factor(self, outage_s: float) -> float:
        """What really comes of an outage that was forecast, as a factor of it."""
        return math.exp(self.downtime_off * outage_error(outage_s))


@lru_cache(maxsize=4)
def drawn(belief: Belief, draws: int) -> tuple[Drawn, ...]:
    """So many ways that it may be, all as likely; the first of them are as evenly spread as all."""
    curves = believed(belief.points)
    found: list[Drawn] = []
    for normals in normal_draws(draws, DIMENSIONS):
        level, tilt, bend, *rest = normals
        link, pipe, fixed, preparation, zero, share, delta, cpu, scatter, time, sent, downtime = rest
        greatest = max(point.dirtied_bytes for point in belief.points)
        zero_bytes = min(belief.zero_bytes.drawn(zero), max(0.0, belief.total_bytes - greatest))
        whole_zero = int(zero_bytes / PAGE_BYTES) * PAGE_BYTES
        curve = curves.drawn(level, tilt, bend, total_bytes=belief.total_bytes, zero_bytes=whole_zero)
        found.append(
            Drawn(
                curve=curve,
                total_bytes=belief.total_bytes,
                zero_bytes=whole_zero,
                link_bytes_per_s=belief.bandwidth_bytes_per_s.drawn(link),
                cpu_bytes_per_s=belief.cpu_bytes_per_s.drawn(cpu),
                pipe_bytes=belief.pipe_bytes.drawn(pipe),
                fixed_s=belief.fixed_s.drawn(fixed),
                preparation_s=belief.preparation_s.drawn(preparation),
                vcpu_shares=tuple([_share(each, share) for each in belief.vcpu_shares or (UNKNOWN_SHARE,)]),
                delta_ratio=None if belief.delta_ratio is None else min(1.0, belief.delta_ratio.drawn(delta)),
                scatter=_scatter(scatter),
                time=belief.model_time.drawn(time),
                bytes=belief.model_bytes.drawn(sent),
                downtime_off=math.log(belief.model_downtime.value) + belief.model_downtime.spread * downtime,
            )
        )
    return tuple(found)


def _scatter(normal: float) -> tuple[float, ...]:
    """Factors that are spread evenly over their distribution, wherever they begin."""
    begin = NORMAL.cdf(normal)
    places = ((begin + number * _GOLDEN) % 1.0 for number in range(SCATTERS))
    return tuple([math.exp(SCATTER * NORMAL.inv_cdf(min(max(place, 1e-6), 1 - 1e-6))) for place in places])


def settings(belief: Belief, objectives: Objectives, abilities: Abilities, draws: int = 200) -> Iterator[Setting]:
    """What to forecast: a setting for each way that it may be.

    Args:
        belief: what is known.
        objectives: what is wanted; a cap on the bandwidth is heeded by whoever steers.
        abilities: what the pair can do; XBZRLE and several channels are used where the policy asks for them.
        draws: how many.
    """
    for one in drawn(belief, draws):
        yield setting_of(one, belief, objectives, abilities)


def setting_of(one: Drawn, belief: Belief, objectives: Objectives, abilities: Abilities) -> Setting:
    """The setting for one of the ways that it may be."""
    return Setting(
        writers=_writers(one),
        total_bytes=one.total_bytes,
        zero_bytes=one.zero_bytes,
        bandwidth_bytes_per_s=one.link_bytes_per_s,
        pipe_bytes=int(one.pipe_bytes),
        objectives=objectives,
        abilities=abilities,
        costs=_costs(one, belief.accelerator, belief.device_state_part),
        clear_chunk_bytes=CLEAR_CHUNK_BYTES if belief.accelerator == KVM else None,
        deltas=None if one.delta_ratio is None else Deltas(ratio=one.delta_ratio),
        several_channels=True,
        scatter=one.scatter,
        limit_s=_followed_s(one, objectives),
        most_iterations=MOST_ITERATIONS,
    )


def _followed_s(one: Drawn, objectives: Objectives) -> float:
    """For how long a migration is followed: beyond that nothing is learnt about what is wanted."""
    if objectives.deadline_s is not None:
        return BEYOND * objectives.deadline_s + BEYOND_S
    rate = min(one.link_bytes_per_s, objectives.bandwidth_bytes_per_s or math.inf)
    return max(LEAST_FOLLOWED_S, PASSES * (one.total_bytes - one.zero_bytes) / rate)


def _costs(one: Drawn, accelerator: str, part: float) -> Costs:
    """The fixed cost of a switchover in its parts: the device state, sent and loaded, and all else as resuming."""
    state_s = part * one.fixed_s
    sending_s = min(Costs().device_state_bytes / one.link_bytes_per_s, MOST_SENDING * state_s)
    tcg = accelerator == TCG
    return Costs(
        cpu_bytes_per_s=one.cpu_bytes_per_s,
        sync_s_per_dirty_page=TCG_SYNC_S_PER_PAGE if tcg else 0.0,
        setup_s=Costs().setup_s + (TCG_SETUP_S_PER_PAGE * one.total_bytes / PAGE_BYTES if tcg else 0.0),
        device_state_bytes=int(sending_s * one.link_bytes_per_s),
        load_s=state_s - sending_s,
        resume_s=one.fixed_s - state_s,
    )


def _share(seen: float, normal: float) -> float:
    """What a vCPU may really need of its time."""
    share = min(1.0, max(0.0, seen))
    return min(1.0, share * math.exp(SHARE_SPREAD * (1.0 - share) * normal))


def _writers(one: Drawn) -> tuple[Writers, ...]:
    """Who dirties the memory: each group of vCPUs that ran alike has its part of the curve, as it has of all that ran.

    Which of them writes can't be seen from outside; one that only computes is taken for one that writes, too.
    """
    groups: list[list[float]] = []
    for share in sorted((share for share in one.vcpu_shares if share >= IDLE), reverse=True):
        if groups and (groups[-1][0] - share <= ALIKE or len(groups) == MOST_GROUPS):
            groups[-1].append(share)
        else:
            groups.append([share])
    groups = groups or [[max(one.vcpu_shares)]]
    whole = sum(sum(group) for group in groups)
    found: list[Writers] = []
    first = 0
    normal_pages = (one.total_bytes - one.zero_bytes) // PAGE_BYTES
    for group in groups:
        part = sum(group) / whole if len(groups) > 1 else 1.0
        found.append(
            Writers(
                curve=one.curve.scaled(part) if part < 1.0 else one.curve,
                cpu_share=sum(group) / len(group),
                vcpus=len(group),
                range_bytes=float(int(part * normal_pages) * PAGE_BYTES),  # whole pages, so that they add up
                vcpu=first,
            )
        )
        first += len(group)
    return tuple(found)
