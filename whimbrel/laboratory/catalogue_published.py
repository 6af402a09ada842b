"""Published evaluation settings, scaled: the guests of the papers and threads on which policies were shown to be good.

Where a source gives rates and sets they are kept without their dimensions (`whimbrel.laboratory.catalogue_scale`).
Where it only names a program, the guest is one that shows what the source says of it (a hot set, a burst, a phase), and
``about`` says "shaped after". No figure of a source is claimed to come out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from whimbrel.sim.scenario import Pattern

from .catalogue_scale import MIB, Part, Size, Workload

MEDIUM: Final = Size()
SMALL: Final = Size(filled_bytes=56 * MIB, zero_bytes=8 * MIB)
"""For guests whose lambda is large: three million page writes go further."""
LONG: Final = replace(MEDIUM, round_s=6.0)
"""For policies whose patience is counted in tens of seconds."""


def _cold_war() -> dict[str, Workload]:
    """Xen's and VMware's guests, and other papers' before QEMU's."""
    clark = "Clark et al., NSDI 2005"
    return {
        "web": Workload(
            about=f"Static web server: nearly all of RAM goes once; shaped after {clark}.",
            parts=(Part(name="cache", part=0.1, rate=0.15, cpu=0.05, pattern=Pattern.ZIPF),),
        ),
        "specweb": Workload(
            about=f"SPECweb99: 1.2 x RAM, 2 % of it in the last iteration; shaped after {clark}.",
            parts=(
                Part(name="hot", part=0.03, rate=0.6, cpu=0.1),
                Part(name="warm", part=0.25, rate=0.12, cpu=0.05),
            ),
        ),
        "quake": Workload(
            about=f"Quake 3 server: a small set, written often, and players who notice 60 ms; shaped after {clark}.",
            parts=(Part(name="frame", part=0.02, rate=0.9, cpu=0.3), Part(name="level", part=0.3, rate=0.05, cpu=0.02)),
            size=SMALL,
        ),
        "mmuncher": Workload(
            about=f"MMuncher: 256 of 512 MB written all the time, the worst case of {clark}.",
            parts=(Part(name="muncher", part=0.5, rate=8.0, cpu=1.0, pattern=Pattern.SWEEP),),
            size=SMALL,
        ),
        "build": Workload(
            about="Kernel build: bursts of compilers over a file cache; shaped after Nelson et al., ATC 2005, and "
            "Hines and Gopalan, VEE 2009.",
            parts=(
                Part(name="cc", part=0.12, rate=1.4, cpu=0.6, period=0.5, duty=0.6),
                Part(name="cache", part=0.5, rate=0.1, cpu=0.05, pattern=Pattern.SWEEP),
            ),
        ),
        "lmbench": Workload(
            about="Memory benchmark that changes a few words of each page; shaped after Svärd et al., VEE 2011.",
            parts=(Part(name="array", part=0.5, rate=4.0, cpu=1.0, pattern=Pattern.SWEEP, delta_bytes=120),),
        ),
        "video": Workload(
            about="Streaming video: buffers round and round, for which 8 s of freeze were reported; shaped after "
            "Svärd et al., VEE 2011.",
            parts=(Part(name="frames", part=0.3, rate=1.1, cpu=0.5, pattern=Pattern.SWEEP, delta_bytes=1500),),
        ),
        "sap": Workload(
            about="ERP: many pages, few words of each; shaped after Svärd et al., VEE 2011.",
            parts=(Part(name="tables", part=0.7, rate=1.3, cpu=0.5, pattern=Pattern.ZIPF, delta_bytes=600),),
        ),
        "nas": Workload(
            about="HPC kernel: iterations over its arrays; shaped after Ibrahim et al., SC 2011.",
            parts=(
                Part(name="arrays", part=0.6, rate=1.2, cpu=0.95, pattern=Pattern.SWEEP, period=0.4, duty=0.8),
                Part(name="halo", part=0.02, rate=0.3, cpu=0.05),
            ),
        ),
        "mvm": Workload(
            about="Two rates: a hot set of 4.8 % of RAM in an eighth of a round, and 1.8 % of the link elsewhere "
            "(BtrPlace's mVM model, 2 GB at 1 Gbit/s).",
            parts=(
                Part(name="hot", part=0.048, rate=0.43, cpu=0.05),
                Part(name="cold", part=0.9, rate=0.018, cpu=0.01),
            ),
        ),
        "mvm2": Workload(
            about="The same at 500 Mbit/s.",
            parts=(
                Part(name="hot", part=0.048, rate=0.86, cpu=0.05),
                Part(name="cold", part=0.9, rate=0.036, cpu=0.01),
            ),
        ),
    }


def _cloud() -> dict[str, Workload]:
    """KVM's guests."""
    hyman = "4 vCPUs, 4 GiB, 1 Gbit/s; dirty-limit against auto-converge, H. Huang, qemu-devel, 2021 to 2023"
    refined = "10 vCPUs, 28 GiB, 1.53 Gbit/s; refined detection, H. Huang, qemu-devel, 2024"
    cut = "lambda cut to 16"
    return {
        "kubevirt65": Workload(
            about="A paced writer at 0.65 of the link (VEP 291, 2026: 8 GiB at 1 Gbit/s, 650 Mbit/s).",
            parts=(Part(name="writer", part=0.25, rate=0.65, cpu=0.03, pattern=Pattern.POISSON),),
            size=LONG,
        ),
        "kubevirt90": Workload(
            about="A paced writer at 0.9 of the link (VEP 291, 2026: finishes only with tuning).",
            parts=(Part(name="writer", part=0.25, rate=0.9, cpu=0.04, pattern=Pattern.SWEEP),),
            size=LONG,
        ),
        "redis": Workload(
            about="Redis under load: random keys of most of its memory, more than the link takes; shaped after the "
            "guest that VEP 248 (2026) was written for.",
            parts=(Part(name="keys", part=0.7, rate=1.6, cpu=0.5, pattern=Pattern.ZIPF, skew=0.7),),
        ),
        "hyman1024s10000": Workload(
            about=f"1024 MB on 4 CPUs, 10 ms of sleep for each MB: {hyman}.",
            parts=_four(0.25, 3.3, 0.025),
            size=SMALL,
            vcpus=4,
        ),
        "hyman1024s500": Workload(
            about=f"1024 MB on 4 CPUs, 0.5 ms of sleep for each MB ({cut}): {hyman}.",
            parts=_four(0.25, 16.0, 0.35),
            size=SMALL,
            vcpus=4,
        ),
        "hyman1024s0": Workload(
            about=f"1024 MB on 4 CPUs without sleep ({cut}): {hyman}.",
            parts=_four(0.25, 16.0, 1.0),
            size=SMALL,
            vcpus=4,
        ),
        "hyman2048s0": Workload(
            about=f"2048 MB on 4 CPUs without sleep ({cut}): {hyman}.",
            parts=_four(0.5, 16.0, 1.0),
            size=SMALL,
            vcpus=4,
        ),
        "hyman128s10000": Workload(
            about=f"128 MB on 4 CPUs, 10 ms of sleep for each MB: {hyman}.",
            parts=_four(0.031, 3.3, 0.025),
            size=SMALL,
            vcpus=4,
        ),
        "refined400": Workload(
            about=f"400 MB/s on each CPU ({cut} in proportion: 5.3): {refined}.",
            parts=_spread(10, 0.9, 5.3, 0.33),
            size=SMALL,
            vcpus=10,
        ),
        "refined1200": Workload(
            about=f"1200 MB/s on each CPU ({cut}): {refined}.",
            parts=_spread(10, 0.9, 16.0, 1.0),
            size=SMALL,
            vcpus=10,
        ),
        "java": Workload(
            about="Java: a nursery filled in bursts, an old generation that is touched; shaped after C. Vinod's "
            "guest of 256 GB and 20 vCPUs, qemu-devel, 2013, where nothing converged without auto-converge.",
            parts=(
                Part(name="nursery", part=0.35, rate=2.5, cpu=0.9, pattern=Pattern.SWEEP, period=0.6, duty=0.35),
                Part(name="old", part=0.6, rate=0.1, cpu=0.1, pattern=Pattern.ZIPF),
            ),
        ),
        "ycsb-a": Workload(
            about="YCSB A: half of the requests write; Zipf 0.99 over 70 % of RAM (Cooper et al., SoCC 2010).",
            parts=(Part(name="records", part=0.7, rate=1.8, cpu=0.5, pattern=Pattern.ZIPF),),
        ),
        "ycsb-b": Workload(
            about="YCSB B: one request in twenty writes; Zipf 0.99 over 70 % of RAM (Cooper et al., SoCC 2010).",
            parts=(Part(name="records", part=0.7, rate=0.3, cpu=0.1, pattern=Pattern.ZIPF),),
        ),
        "web70": Workload(
            about="Random pages of half of its RAM at 0.7 of the link: converges, if nothing happens.",
            parts=(Part(name="set", part=0.5, rate=0.7, cpu=0.1),),
        ),
        "web45": Workload(
            about="Random pages of half of its RAM at 0.45 of what its share of the link carries.",
            parts=(Part(name="set", part=0.5, rate=0.45, cpu=0.1),),
        ),
    }


def _structure() -> dict[str, Workload]:
    """What rates alone do not say: phases, several vCPUs, devices."""
    alma = "a load with a period of three rounds; ALMA waits for its low phase (Baruchi et al., 2015)"
    busy = Part(name="busy", part=0.5, rate=1.8, cpu=0.4, period=3.0, duty=0.5)
    return {
        "cycle-high": Workload(about=f"Begins as it rises: {alma}.", parts=(busy,)),
        "cycle-low": Workload(about=f"Begins as it falls: {alma}.", parts=(replace(busy, shift=1.5),)),
        "phases": Workload(
            about="Two phases by turns, each with a set of its own, both above what pre-copy can do (SimPoint-like).",
            parts=(
                Part(name="one", part=0.4, rate=1.3, cpu=0.3, period=1.4, duty=0.5),
                Part(name="two", part=0.15, rate=2.0, cpu=0.6, period=1.4, duty=0.5, shift=0.7, pattern=Pattern.SWEEP),
            ),
        ),
        "burst": Workload(
            about="Writes nothing, but for a tenth of each round six times what the link takes: a collector.",
            parts=(Part(name="heap", part=0.4, rate=6.0, cpu=1.0, period=1.0, duty=0.1, shift=0.4),),
        ),
        "skew": Workload(
            about="One vCPU of four writes, three compute: what a throttle of all of them costs (UnixBench beside a "
            "writer, H. Huang, qemu-devel, 2022).",
            parts=(
                Part(name="writer", part=0.4, rate=1.6, cpu=0.8),
                *(Part(name=f"compute{n}", part=0.0005, rate=1.6, cpu=1.0, vcpu=n) for n in (1, 2, 3)),
            ),
            vcpus=4,
        ),
        "dma": Workload(
            about="A device writes a third of what the link takes, a vCPU the rest and more: a throttle slows one.",
            parts=(
                Part(name="ring", part=0.1, rate=0.35, pattern=Pattern.SWEEP, vcpu=None),
                Part(name="set", part=0.4, rate=1.2, cpu=0.3),
            ),
        ),
        "dma-heavy": Workload(
            about="A device alone writes more than the link takes, over a third of RAM: no throttle helps.",
            parts=(Part(name="ring", part=0.33, rate=1.3, pattern=Pattern.SWEEP, vcpu=None),),
        ),
    }


MEMCACHED_PAGES: Final = 8_392_704
MEMCACHED_SAMPLED: Final = 16_392
MEMCACHED_ZERO: Final = 10_060
# fmt: off
MEMCACHED_MS: Final = (
    125, 250, 375, 500, 750, 1000, 1500, 2000, 3000, 4001, 6000, 8000, 10000, 15000, 20000, 25000, 30000, 35000, 40000,
    45000, 50000, 60000,
)
MEMCACHED_DIRTY: Final = (
    33, 78, 119, 151, 217, 236, 293, 336, 425, 505, 620, 756, 898, 1204, 1457, 1723, 1934, 2141, 2328, 2522, 2675, 2958,
)
# fmt: on
"""A guest of 32 GiB with memcached under YCSB: samples found dirty in windows of so many milliseconds."""
GIBIT_BYTES_PER_S: Final = (1 << 30) / 8


def memcached(gibit_per_s: float) -> Workload:
    """The measured curve of that guest against a link of so many Gbit/s (of 2^30 bit).

    Windows are taken as parts of a round, pages as parts of what is not zero; 3 s are a round here. So the shape is
    that of the original at this bandwidth: 2 Gbit/s has a plateau of 7.8 % of a round, and a floor of 1.9 % below which
    no sender gets.
    """
    filled = MEMCACHED_SAMPLED - MEMCACHED_ZERO
    round_s = filled / MEMCACHED_SAMPLED * MEMCACHED_PAGES * 4096 / (gibit_per_s * GIBIT_BYTES_PER_S)
    points = zip(MEMCACHED_MS, MEMCACHED_DIRTY, strict=True)
    curve = ((0.0, 0.0), *((ms / 1000 / round_s, dirty / filled) for ms, dirty in points))
    return Workload(
        about=f"memcached under YCSB, measured by 22 windows, at {gibit_per_s:g} Gbit/s (A. Gudkov, qemu-devel, 2023).",
        curve=tuple((round(window, 6), round(part, 6)) for window, part in curve[1:]),
        size=Size(filled_bytes=96 * MIB, zero_bytes=152 * MIB),
    )


def workloads() -> dict[str, Workload]:
    """All of them by name."""
    rates = {"memcached1": 1.0, "memcached2": 2.0, "memcached25": 2.5, "memcached5": 5.0}
    measured = {name: memcached(rate) for name, rate in rates.items()}
    return _cold_war() | _cloud() | _structure() | measured


def _four(part: float, rate: float, cpu: float) -> tuple[Part, ...]:
    return _spread(4, part, rate, cpu)


def _spread(vcpus: int, part: float, rate: float, cpu: float) -> tuple[Part, ...]:
    return tuple(
        Part(name=f"cpu{n}", part=part / vcpus, rate=rate / vcpus, cpu=cpu, pattern=Pattern.SWEEP, vcpu=n)
        for n in range(vcpus)
    )
