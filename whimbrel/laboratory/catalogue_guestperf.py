"""guestperf's matrix, and more: QEMU's own benchmark (``tests/migration-stress/guestperf`` in its source).

Its guest has one thread on each vCPU, which goes over its share of memory without end and XORs every page with a random
one, so that the whole of each page changes (more than XBZRLE can take). It has 512 MiB besides. One pass takes 400 ms a
GiB (Berrangé, qemu-devel, 2016), so that lambda is 203 at its 0.1 Gbit/s (12 MiB/s) and 0.2 at its 100 Gbit/s; it is
cut to 16 here. Its knobs (steps of the throttle, caches, channels, limits) are parameters of policies, not of cases.
What it lacks is added: writers whose rate is under control, changes that are small, and a working set that is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from whimbrel.engine.costs import Costs
from whimbrel.sim.scenario import Pattern

from .catalogue_scale import KVM, MIB, Part, Size, Workload, make
from .records import Case

STRESS: Final = Size(filled_bytes=64 * MIB, zero_bytes=32 * MIB)
"""1 GiB for the stress and 512 MiB besides, by a sixteenth."""
PASS_BYTES_PER_S: Final = 2.56e9
"""400 ms a GiB."""
GIB: Final = 1 << 30
THREAD_BYTES_PER_S: Final = 1.5e9
"""What one sender thread copies."""
GREATEST_RATE: Final = 16.0


def _stress(rate: float, *, vcpus: int = 1, cpu: float = 1.0, part: float = 1.0, delta_bytes: int = 4096) -> list[Part]:
    return [
        Part(
            name=f"stress{number}",
            part=part / vcpus,
            rate=rate / vcpus,
            cpu=cpu,
            pattern=Pattern.SWEEP,
            delta_bytes=delta_bytes,
            vcpu=number,
        )
        for number in range(vcpus)
    ]


def _at(link_bytes_per_s: float, round_s: float, limit_s: float = 0.0) -> Workload:
    """The endless sweep against one of guestperf's bandwidths."""
    rate = min(GREATEST_RATE, PASS_BYTES_PER_S / link_bytes_per_s)
    real = PASS_BYTES_PER_S / link_bytes_per_s
    cut = f" (lambda {real:.0f}, cut to {rate:.0f})" if rate < real else f" (lambda {rate:.2g})"
    return Workload(
        about=f"guestperf: an endless XOR over all of its memory at {link_bytes_per_s / MIB:.0f} MiB/s{cut}.",
        parts=tuple(_stress(rate)),
        size=replace(STRESS, round_s=round_s, limit_s=limit_s),
    )


def guestperf() -> tuple[Case, ...]:
    """Its bandwidths under its workload, and further ones at its 1 Gbit/s."""
    fast = _at(12500.0 * MIB, 0.1, 8.0)
    thread = THREAD_BYTES_PER_S * STRESS.filled_bytes / GIB
    fast = replace(
        fast,
        about=f"{fast.about} One thread of the sender copies less than an eighth of that: multifd's case.",
        qemu=replace(KVM, costs=Costs(cpu_bytes_per_s=thread)),
    )
    paced = "guestperf's sweep with its rate under control, which it lacks"
    cases = [
        make("stress@0.1g", "guestperf", _at(12.0 * MIB, 6.0, 36.0)),
        make("stress@0.3g", "guestperf", _at(37.0 * MIB, 4.5, 36.0)),
        make("stress@1g", "guestperf", _at(125.0 * MIB, 3.0)),
        make("stress@10g", "guestperf", _at(1250.0 * MIB, 0.82)),
        make("stress@100g", "guestperf", fast),
        make("stress4@1g", "guestperf", _workload("guestperf's sweep on four vCPUs.", _stress(16.0, vcpus=4), vcpus=4)),
        make("paced50@1g", "guestperf", _workload(f"{paced}: half the link.", _stress(0.5, cpu=0.03))),
        make("paced150@1g", "guestperf", _workload(f"{paced}: 1.5 x the link.", _stress(1.5, cpu=0.09))),
        make("paced400@1g", "guestperf", _workload(f"{paced}: 4 x the link.", _stress(4.0, cpu=0.25))),
        make(
            "quarter@1g",
            "guestperf",
            _workload("guestperf's sweep over a quarter of its memory.", _stress(16.0, part=0.25)),
        ),
        make(
            "smallxor@1g",
            "guestperf",
            _workload(
                "guestperf's sweep, but 256 bytes of each page change: XBZRLE's case.", _stress(4.0, delta_bytes=256)
            ),
        ),
    ]
    cases.append(make("stress@1g-precopy", "guestperf", _at(125.0 * MIB, 3.0), about="Post-copy is not allowed."))
    return tuple(cases)


def _workload(about: str, parts: list[Part], *, vcpus: int = 1) -> Workload:
    return Workload(about=about, parts=tuple(parts), size=STRESS, vcpus=vcpus)
