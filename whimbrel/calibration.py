"""What earlier migrations teach: what one of this kind costs between these hosts, and how good predictions have been.

All of it comes out of the logs' first and last lines. The more a migration is like the one ahead, the more it counts:
one of the same kind of guest between the same hosts as a whole, one of another guest between them as a half, one of
other hosts as a quarter, and all those that are less alike together as no more than `LESS_ALIKE_WORTH`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from whimbrel.engine.aftermath import actual
from whimbrel.engine.belief import MODEL, MODEL_DOWNTIME, Kind, Typical
from whimbrel.engine.estimate import HIGH, NORMAL, Estimate, Range
from whimbrel.engine.pooling import Seen, pooled
from whimbrel.engine.prediction import PLAN, Compared
from whimbrel.engine.report import CompletedReport
from whimbrel.history import Ended, ended
from whimbrel.qmp_driver.adoption import Host

MOST_LOGS = 1000
"""The newest so many of a folder are looked at."""
MOST_ALIKE = 50
"""And of those that are alike the newest so many count: hosts and networks change."""
WEIGHTS = (1.0, 0.5, 0.25)
LESS_ALIKE_WORTH = 4.0
MEAN_WORTH = 1.0
"""A host's own bias is about as large as what migrations scatter by: so the default counts as one migration."""
SPREAD_WORTH = 4.0
COST_SPREAD = {"fixed_s": 0.25, "preparation_s": 0.25, "bandwidth_bytes_per_s": 0.05, "pipe_bytes": 0.3}
"""How far one migration's figure is thought to be from the next one's, before there are several."""
TELLS_FIXED = 0.5
"""The fixed cost is what is left of an outage when the last RAM and the pipe, which are estimates, are taken off: one
in which they are more than a half tells little of it."""
FIGURES = {"time": "total", "bytes": "transferred", "downtime": "downtime"}
"""The parts of the model, and the figures that show how far each is off."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Between which hosts, by name or by address; empty: not known.

    Attributes:
        source: the host of the source.
        destination: of the destination.
        stream: the address at which the destination listened: another one is another link.
    """

    source: str
    destination: str
    stream: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A migration that moved its guest."""

    started_wall_s: float
    hosts: Hosts
    kind: Kind
    report: CompletedReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good the predictions of one figure have been.

    Attributes:
        figure: ``total``, ``downtime``, ``transferred`` or a component.
        basis: what they were made from (`Prediction.basis`).
        count: of how many.
        median_error: half of them were off by no more than this part of what was predicted.
        bias: half of them took more than predicted by this part, half less; negative: they took less.
        held: in how many the actual figure lay within the range, which is to hold in nine of ten.
    """

    figure: str
    basis: str
    count: int
    median_error: float
    bias: float
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """All that the migrations of one kind of guest between two hosts teach."""

    hosts: Hosts
    kind: Kind
    migrations: int
    typical: Typical
    quality: tuple[Quality, ...]


def typical(folder: Path, kind: Kind, destination_host: str | None = None, *, source_host: str | None = None) -> Typical:
    """What history says of a migration that is ahead. Blocks: a second for a thousand logs.

    Args:
        folder: with the logs; one that is not there holds none.
        kind: of guest.
        destination_host: as the logs name it; ``None``: this host.
        source_host: as the logs name it; ``None``: this host.

    Raises:
        BadInput: the folder can't be read.
    """
    here = Host.here().name
    hosts = Hosts(source_host or here, destination_host or here)
    return learn(pasts(folder), hosts, kind)


def calibrations(folder: Path) -> tuple[Calibration, ...]:
    """What each kind of guest between each two hosts teaches, those with the newest migrations first.

    Raises:
        BadInput: the folder can't be read.
    """
    found = pasts(folder)
    groups: dict[tuple[Hosts, Kind], list[Past]] = {}
    for past in found:
        groups.setdefault((past.hosts, _rounded(past.kind)), []).append(past)
    return tuple(
        Calibration(
            hosts=hosts,
            kind=members[0].kind,
            migrations=len(members),
            typical=learn(found, hosts, members[0].kind),
            quality=qualities([member.report for member in members]),
        )
        for (hosts, _), members in groups.items()
    )


def pasts(folder: Path, most: int = MOST_LOGS) -> list[Past]:
    """The migrations of a folder that moved their guests, the newest first.

    Those whose log does not say which hosts and what kind of guest (from before logs did) are left out.
    """
    return [past for each in ended(folder, most) if (past := _past(each)) is not None]


def _past(each: Ended) -> Past | None:
    facts, report = each.report.facts, each.report
    source, destination = facts.get("source", {}), facts.get("destination", {})
    if not report.moved or not isinstance(source, dict) or "vcpus" not in source or "host" not in destination:
        return None
    try:
        kind = Kind(
            machine=str(source["machine"]),
            ram_bytes=int(source["ram_bytes"]),
            vcpus=int(source["vcpus"]),
            accelerator=str(source["accelerator"]),
            version=tuple(int(part) for part in source["version"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    stream = str(each.header.get("options", {}).get("host", ""))
    hosts = Hosts(str(source.get("host", "")), str(destination["host"]), stream)
    return Past(started_wall_s=each.started_wall_s, hosts=hosts, kind=kind, report=report)


# ---- what they teach


def learn(found: Sequence[Past], hosts: Hosts, kind: Kind) -> Typical:
    """What these migrations, the newest first, say of one between these hosts of a guest of this kind."""
    weighed = _weighed(found, hosts, kind)
    here = [(past, weight) for past, weight in weighed if weight > WEIGHTS[2]]
    costs = {name: _cost(name, weighed if name == "fixed_s" else here) for name in COST_SPREAD}
    parts = [(past, weight) for past, weight in weighed if _fixed_s(past.report) is not None]
    return Typical(
        fixed_s=costs["fixed_s"],
        preparation_s=costs["preparation_s"],
        bandwidth_bytes_per_s=costs["bandwidth_bytes_per_s"],
        pipe_bytes=costs["pipe_bytes"],
        device_state_part=_device_state_part(parts),
        model_time=_model("time", MODEL, weighed),
        model_bytes=_model("bytes", MODEL, weighed),
        model_downtime=_model("downtime", MODEL_DOWNTIME, weighed),
    )


Weighed = list[tuple[Past, float]]


def _weighed(found: Sequence[Past], hosts: Hosts, kind: Kind) -> Weighed:
    """Those that are alike enough to count, each with how much."""
    tiers: tuple[list[Past], ...] = tuple([] for _ in WEIGHTS)
    for past in found:
        if past.kind.accelerator == kind.accelerator:
            tiers[_tier(past, hosts, kind)].append(past)
    weighed: Weighed = []
    for place, (tier, weight) in enumerate(zip(tiers, WEIGHTS, strict=True)):
        kept = tier[:MOST_ALIKE]
        shared = min(1.0, LESS_ALIKE_WORTH / (weight * len(kept))) if place and kept else 1.0
        weighed += [(past, weight * shared) for past in kept]
    return weighed
