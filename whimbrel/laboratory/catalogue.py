"""The cases of the laboratory, by name and in sets.

A case is ``workload@link``; the link's name ends in a word for the goal where that is not the usual one
(`whimbrel.laboratory.catalogue_scale.goal`). The rule by which settings were scaled stands there, too.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from whimbrel.engine.errors import BadInput
from whimbrel.guest.spec import BODY_BYTES, FRAME_BYTES, PAGE_BYTES, Content, PageClass, WorkloadSpec
from whimbrel.guest.spec import Pattern as ClassPattern
from whimbrel.guest_plan import RUN_BYTES, writer_of
from whimbrel.sim.scenario import Pattern, Writer

from .catalogue_adversarial import kept
from .catalogue_basic import EXTRA_BYTES, basic, real
from .catalogue_guestperf import guestperf
from .catalogue_published import workloads
from .catalogue_scale import make
from .records import Case

__all__ = ["SETS", "case", "cases", "machine_ram_bytes", "named", "workload_of"]

PUBLISHED: Final = (
    "web@100m",
    "specweb@1g",
    "specweb@1g-gentle",
    "quake@1g-tight",
    "mmuncher@1g",
    "build@1g",
    "lmbench@1g",
    "video@1g",
    "sap@1g",
    "nas@1g",
    "mvm@1g",
    "mvm2@500m",
    "mvm@1g-tight",
    "kubevirt65@1g",
    "kubevirt65@1g-gentle",
    "kubevirt90@1g",
    "redis@1g",
    "hyman1024s10000@1g",
    "hyman1024s500@1g",
    "hyman1024s0@1g",
    "hyman2048s0@1g",
    "hyman128s10000@1g",
    "refined400@1.5g",
    "refined1200@1.5g",
    "java@20g",
    "java@20g-precopy",
    "ycsb-a@1g",
    "ycsb-a@1g-soon",
    "ycsb-a@noisy",
    "ycsb-b@1g",
    "web70@noisy",
    "web70@fading",
    "web70@outage",
    "web45@shared",
    "cycle-high@1g",
    "cycle-low@1g",
    "cycle-high@1g-precopy",
    "phases@1g",
    "burst@1g",
    "skew@1g",
    "dma@1g",
    "dma-heavy@1g",
    "memcached1@1g",
    "memcached2@2g",
    "memcached2@2g-gentle",
    "memcached25@2.5g",
    "memcached5@5g",
)
LEAGUE: Final = (
    "idle@1g",
    "idle@200m",
    "d50@1g-tight",
    "d50@200m",
    "d90@1g",
    "d90@1g-soon",
    "hot@1g",
    "hot2@1g",
    "d150@1g",
    "d150@1g-precopy",
    "d150s@1g",
    "stress@1g",
    "stress@10g",
    "stress@100g",
    "paced50@1g",
    "paced150@1g",
    "web@100m",
    "specweb@1g",
    "quake@1g-tight",
    "mmuncher@1g",
    "build@1g",
    "video@1g",
    "sap@1g",
    "mvm2@500m",
    "kubevirt65@1g",
    "kubevirt90@1g",
    "redis@1g",
    "hyman1024s10000@1g",
    "hyman128s10000@1g",
    "refined400@1.5g",
    "java@20g",
    "ycsb-a@1g-soon",
    "ycsb-a@noisy",
    "web70@fading",
    "web70@outage",
    "web45@shared",
    "cycle-high@1g-precopy",
    "phases@1g",
    "burst@1g",
    "skew@1g",
    "dma@1g",
    "dma-heavy@1g",
    "memcached1@1g",
    "memcached2@2g",
    "memcached2@2g-gentle",
)
"""Each kind once, the easy ones too: most of what is migrated is idle."""


@cache
def _by_name() -> Mapping[str, Case]:
    known = workloads()
    published = tuple(make(name, "published", known[name.partition("@")[0]]) for name in PUBLISHED)
    found = tuple(each.case for each in kept())
    every = (*basic(), *guestperf(), *published, *found, *real())
    return MappingProxyType({each.name: each for each in every})


def cases() -> tuple[Case, ...]:
    """All cases, family by family."""
    return tuple(_by_name().values())


SETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "all": "all cases",
        "league": "those of the league table: each kind once",
        "basic": "the workloads of the measured baselines, at 1 Gbit/s and 200 Mbit/s",
        "guestperf": "QEMU's own benchmark, and what it lacks",
        "published": "evaluation settings of papers and threads",
        "adversarial": "found by search: what each policy does badly",
        "real": "what the workload guest can be on a real QEMU within seconds",
    }
)
"""The sets by name, with a line on each."""


def named(name: str) -> tuple[Case, ...]:
    """The cases of a set, or the one of a case's name.

    Args:
        name: one of `SETS`, or of a case.

    Raises:
        BadInput: there is no such set and no such case; names what is near.
    """
    if name not in SETS:
        return (case(name),)
    if name == "all":
        return cases()
    if name == "league":
        return tuple(case(each) for each in LEAGUE)
    return tuple(each for each in cases() if each.family == name)


def case(name: str) -> Case:
    """The case of a name.

    Raises:
        BadInput: there is none; names those that are near.
    """
    known = _by_name()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    near += [each for each in known if each.startswith(f"{name.partition('@')[0]}@") and each not in near][:4]
    sets = f"a set ({', '.join(SETS)}) or a case"
    raise BadInput("case", name, f"{sets}, such as {', '.join(near or list(known)[:3])}")


# ---- back to the workload guest


def workload_of(case: Case) -> WorkloadSpec:
    """What the workload guest is asked to do to be the guest of a case.

    The pages that it writes besides its classes are left out: it has them by itself.

    Raises:
        BadInput: no such guest can be it: a device writes, several vCPUs, a curve, at random times; says which.
    """
    guest = case.scenario.guest
    if guest.curve or guest.trace is not None or guest.vcpus > 1:
        raise BadInput("case", case.name, "one whose guest has one vCPU and writers")
    writers = [each for each in guest.writers if not each.name.startswith("(")]
    return WorkloadSpec(classes=tuple(_class_of(each, case.name) for each in writers))


def machine_ram_bytes(case: Case) -> int:
    """What QEMU is given with ``-m`` for it, bytes: all RAM blocks of the case without ROMs and tables."""
    return case.scenario.guest.ram_bytes - EXTRA_BYTES


def _class_of(writer: Writer, name: str) -> PageClass:
    if writer.vcpu is None or writer.pattern is Pattern.POISSON:
        raise BadInput("case", name, f"one whose writers ({writer.name}) are vCPUs that write evenly")
    touch = BODY_BYTES
    if writer.delta_bytes < PAGE_BYTES:
        touch = max(0, writer.delta_bytes - FRAME_BYTES - 2 * RUN_BYTES) // 16 * 16
    made = PageClass(
        name=writer.name,
        size_bytes=writer.size_bytes,
        rate_bytes_per_s=writer.rate_bytes_per_s,
        pattern=ClassPattern(writer.pattern.value),
        content=Content.ZERO if writer.zero else Content.RANDOM,
        touch_bytes=touch,
        skew=writer.skew,
        share=writer.share,
        part=writer.part,
        period_s=writer.period_s,
        duty=writer.duty,
        shift_s=writer.shift_s,
    )
    if writer_of(made, writer.cpu_share).compressed_ratio != writer.compressed_ratio:
        raise BadInput("case", name, f"one whose writers ({writer.name}) have random contents")
    return made
