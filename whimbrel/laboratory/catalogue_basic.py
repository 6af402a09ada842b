"""The workloads of the measured baselines, and those that the workload guest can be on a real QEMU.

A guest of 512 MiB (448 of them random) on 1 Gbit/s is halved here, with its link; one of 128 MiB on 200 Mbit/s stands
as it is. What a writer needs of its vCPU was measured: 26 % for 240 MiB/s of whole pages, under TCG.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from whimbrel.engine.policy import Objectives
from whimbrel.guest.spec import BODY_BYTES, PAGE_BYTES, Content, PageClass, WorkloadSpec
from whimbrel.guest.spec import Pattern as ClassPattern
from whimbrel.guest_plan import guest_plan
from whimbrel.sim.scenario import LinkPlan, Pattern, Scenario

from .catalogue_scale import MIB, TCG, Part, Size, Workload, make
from .records import Case

GIGABIT: Final = Size(filled_bytes=224 * MIB, zero_bytes=32 * MIB, round_s=3.926)
"""448 MiB at 114.1 MiB/s, the goodput of one TCP stream, halved."""
SLOW: Final = Size(filled_bytes=112 * MIB, zero_bytes=16 * MIB, round_s=4.89)
"""112 MiB at 22.9 MiB/s."""
SLOW_PIPE_S: Final = 2 * MIB / (22.9 * MIB)
"""About 2 MiB lie in its socket buffers and its queue."""
CPU_PER_BYTE_PER_S: Final = 0.26 / (240 * MIB)
SMALL_TOUCH_BYTES: Final = 64
SMALL_DELTA_BYTES: Final = 116
"""64 bytes of each page, a page's header and trailer, two runs' lengths: see `whimbrel.guest_plan`."""
SET: Final = 4 / 7
"""The part that is written: 256 of 448 MiB."""


def _workloads(size: Size, goodput_bytes_per_s: float) -> dict[str, Workload]:
    def rewrites(rate: float, *, delta_bytes: int = PAGE_BYTES) -> Part:
        cpu = round(rate * goodput_bytes_per_s * CPU_PER_BYTE_PER_S, 4)
        return Part(name="set", part=SET, rate=rate, cpu=cpu, delta_bytes=delta_bytes)

    def hotspot(hot: float) -> Part:
        return replace(rewrites(1.5), pattern=Pattern.HOTSPOT, share=0.95, hot=hot)

    def of(about: str, *parts: Part) -> Workload:
        return Workload(about=about, parts=parts, size=size, qemu=TCG)

    where = "measured with libvirt, bare QMP and guestperf"
    return {
        "idle": of(f"Writes nothing; {where}."),
        "low": of(f"Random pages of 57 % of its RAM at 5 % of the link; {where}.", rewrites(0.05)),
        "d50": of(f"Random pages of 57 % of its RAM at half the link; {where}.", rewrites(0.5)),
        "d90": of(f"Random pages of 57 % of its RAM at 90 % of the link; converges, slowly; {where}.", rewrites(0.9)),
        "d150": of(
            f"Random pages of 57 % of its RAM at 1.5 x the link; no limit below 1 s ends it; {where}.", rewrites(1.5)
        ),
        "hot": of(f"1.5 x the link, 95 % of it to a fifth of the set; {where}.", hotspot(0.2)),
        "hot2": of(
            f"1.5 x the link, 95 % of it to 35 % of the set: stays just above the goal; {where}.", hotspot(0.35)
        ),
        "d150s": of(
            f"As d150, but only 64 bytes of each page change: XBZRLE's case; {where}.",
            rewrites(1.5, delta_bytes=SMALL_DELTA_BYTES),
        ),
    }


def basic() -> tuple[Case, ...]:
    """The workloads of the baselines on both of their links."""
    fast = _workloads(GIGABIT, 114.1 * MIB)
    slow = _workloads(SLOW, 22.9 * MIB)
    cases = [make(f"{name}@1g", "basic", workload) for name, workload in fast.items()]
    cases += [make(f"{name}@200m", "basic", workload, pipe_s=SLOW_PIPE_S) for name, workload in slow.items()]
    cases += [
        make("d50@1g-tight", "basic", fast["d50"], about="At most 60 ms."),
        make("d90@1g-soon", "basic", fast["d90"], about="Within 2.5 rounds."),
        make("d150@1g-precopy", "basic", fast["d150"], about="Post-copy is not allowed: throttling has to do it."),
        make(
            "hot2@1g-gentle", "basic", fast["hot2"], about="Neither throttle nor post-copy: the moment is all there is."
        ),
    ]
    return tuple(cases)


# ---- what the workload guest can be on a real QEMU

REAL_RAM_BYTES: Final = 192 * MIB + (64 << 10)
"""Given to ``-m``. Not a multiple of 256 KiB: see `whimbrel.guest.boot.DEFAULT_RAM_BYTES`."""
EXTRA_BYTES: Final = 520 << 10
"""RAM blocks besides it, by QEMU 7.2: ROMs and the ACPI tables (measured: ``ram.total`` less ``-m``)."""
FILLED_BYTES: Final = 160 * MIB
REAL_SET_BYTES: Final = 96 * MIB
REAL_LINK_BYTES_PER_S: Final = float(112 * MIB)
"""About what one TCP stream gets through 1 Gbit/s."""
REAL_CPU_SHARE: Final = 0.36
"""What the workload guest behaves as under QEMU's throttle, whatever it uses (a fifth of its vCPU at 1.5 x the link):
it makes up for at most 20 ms after each sleep, so that of a writer asleep for a part t of its time ``2.8 (1 - t)`` is
left (measured on QEMU 7.2 under TCG)."""
REAL_LIMIT_S: Final = 12.0
REAL_GOAL_S: Final = 0.15
"""A tenth of a round, as elsewhere."""


def _class(rate: float, *, pattern: ClassPattern = ClassPattern.UNIFORM, touch_bytes: int = BODY_BYTES) -> PageClass:
    rate_bytes_per_s = round(rate * REAL_LINK_BYTES_PER_S / PAGE_BYTES) * PAGE_BYTES
    return PageClass(
        name="set",
        size_bytes=REAL_SET_BYTES,
        rate_bytes_per_s=float(rate_bytes_per_s),
        pattern=pattern,
        touch_bytes=touch_bytes,
    )


def _real_classes() -> dict[str, tuple[str, PageClass | None]]:
    hotspot = ClassPattern.HOTSPOT
    return {
        "idle": ("Writes nothing.", None),
        "d50": ("Random pages of 60 % of its RAM at half the link.", _class(0.5)),
        "d90": ("Random pages of 60 % of its RAM at 90 % of the link.", _class(0.9)),
        "d150": ("Random pages of 60 % of its RAM at 1.5 x the link.", _class(1.5)),
        "hot": (
            "1.5 x the link, 95 % of it to a fifth of 60 % of RAM.",
            replace(_class(1.5, pattern=hotspot), part=0.2),
        ),
        "sweep": ("60 % of its RAM round and round at 80 % of the link.", _class(0.8, pattern=ClassPattern.SWEEP)),
        "small": ("As d150, but only 64 bytes of each page change.", _class(1.5, touch_bytes=SMALL_TOUCH_BYTES)),
        "cycle": (
            "1.8 x the link for 1.5 s, then nothing for 1.5 s.",
            replace(_class(1.8), period_s=3.0, duty=0.5),
        ),
    }


def real() -> tuple[Case, ...]:
    """Guests of page classes, small enough to be moved within 12 s on a machine of two cores under TCG."""
    return tuple(_real(f"real-{name}", about, each) for name, (about, each) in _real_classes().items())


def _real(workload: str, about: str, written: PageClass | None) -> Case:
    cold_bytes = FILLED_BYTES - (written.size_bytes if written else 0)
    classes = (PageClass(name="cold", size_bytes=cold_bytes, content=Content.RANDOM),)
    spec = WorkloadSpec(classes=(written, *classes) if written else classes)
    plan = guest_plan(spec, REAL_RAM_BYTES + EXTRA_BYTES, cpu_share=REAL_CPU_SHARE)
    scenario = Scenario(
        guest=replace(plan, pages=True),
        link=LinkPlan(bandwidth_bytes_per_s=REAL_LINK_BYTES_PER_S, pipe_bytes=round(0.02 * REAL_LINK_BYTES_PER_S)),
        qemu=TCG,
        objectives=Objectives(
            downtime_s=REAL_GOAL_S, greatest_throttle=0.99, may_abort=True, may_pause=True, may_postcopy=True
        ),
        limit_s=REAL_LIMIT_S,
    )
    name = f"{workload}@loop"
    return Case(name=name, family="real", workload=workload, link="loop", scenario=scenario, about=about, real=True)
