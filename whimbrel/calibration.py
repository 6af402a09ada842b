"""What earlier migrations teach: what one of this kind costs between these hosts, and how good predictions have been.

All of it comes out of the logs' first and last lines. The more a migration is like the one ahead, the more it counts:
one of the same kind of guest between the same hosts as a whole; one of another guest between them as a half; one of
other hosts as a quarter, and that of the model's error only. However many there are of the latter two, they are worth
no more than a few (`MOST_WORTH`) together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import msgspec

from whimbrel.engine.aftermath import actual
from whimbrel.engine.belief import MODEL, MODEL_DOWNTIME, Kind, Typical, outage_error
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
MOST_WORTH = (50.0, 10.0, 4.0)
MEAN_WORTH = 1.0
"""A host's own bias is about as large as what migrations scatter by: so the default counts as one migration."""
SPREAD_WORTH = 4.0
COST_SPREAD = {"fixed_s": 0.25, "preparation_s": 0.25, "bandwidth_bytes_per_s": 0.05, "pipe_bytes": 0.5}
"""How far one migration's figure is thought to be from the next one's, before there are several."""
TELLS_REST = 0.5
"""Where the end of the last RAM was not seen, what came after it is known as badly as the last RAM is estimated: if
that was more than a half of both, not at all."""
EMPTY_PIPE = 0.25
"""After the last RAM come what lay in the pipe and the device state, in one measured span. The pipe is full at one
switchover and all but empty at the next; so the lower quartile of these spans is taken for the device state alone, and
what is beyond it in each for the pipe."""
LEAST_PIPE_BYTES = 65536.0
"""A socket holds no less, however empty."""
MOST_OFF = 3.0
"""Where it came to more than three times what was predicted, or to less than a third, something else went wrong."""
WHOLLY_OPEN = 1.0
"""The spread of a range from nothing to no end: give or take a factor of e."""
FIGURES = {"time": "total", "bytes": "transferred", "downtime": "downtime"}
"""The parts of the model, and the figures that show how far each is off."""
LEAST_SCATTER = {"time": 0.0, "bytes": 0.0, "downtime": 0.15}
"""What no prediction can know, as a spread: at which moment the rest first fits is chance. One migration made six times
over had outages of 22 to 56 ms (benchmarks/README.md, Fidelity), a spread of a third."""


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


def typical(
    folder: Path, kind: Kind, destination_host: str | None = None, *, source_host: str | None = None
) -> Typical:
    """What history says of a migration that is ahead. Blocks: a second for a thousand logs.

    Args:
        folder: with the logs; one that is not there holds none.
        kind: of guest.
        destination_host: as the logs name it, empty where it is not known; ``None``: this host.
        source_host: the same of the source.

    Raises:
        BadInput: the folder can't be read.
    """
    here = Host.here().name
    hosts = Hosts(*(here if host is None else host for host in (source_host, destination_host)))
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
    if not each.report.moved:
        return None
    try:
        source = msgspec.convert(each.report.facts.get("source"), _SourceTold)
        destination = msgspec.convert(each.report.facts.get("destination"), _Told)
        options = msgspec.convert(each.header.get("options"), _Told)
    except msgspec.ValidationError:
        return None
    kind = Kind(
        machine=source.machine,
        ram_bytes=source.ram_bytes,
        vcpus=source.vcpus,
        accelerator=source.accelerator,
        version=source.version,
    )
    hosts = Hosts(source.host, destination.host, options.host)
    return Past(started_wall_s=each.started_wall_s, hosts=hosts, kind=kind, report=each.report)


class _Told(msgspec.Struct, frozen=True):
    host: str


class _SourceTold(_Told, frozen=True):
    """As `whimbrel.qmp_driver.kinds.summary` writes it."""

    machine: str
    ram_bytes: int
    vcpus: int
    accelerator: str
    version: tuple[int, int, int]


# ---- what they teach


def learn(found: Sequence[Past], hosts: Hosts, kind: Kind) -> Typical:
    """What these migrations, the newest first, say of one between these hosts of a guest of this kind."""
    weighed = _weighed(found, hosts, kind)
    here = [each for each in weighed if _same_hosts(each.past.hosts, hosts)]
    device_state_s = _device_state_s(here)
    fixed = _cost("fixed_s", lambda report: _fixed_s(report, device_state_s), here)
    return Typical(
        fixed_s=fixed,
        preparation_s=_cost("preparation_s", _preparation_s, here),
        bandwidth_bytes_per_s=_cost("bandwidth_bytes_per_s", _bandwidth_bytes_per_s, here),
        pipe_bytes=_cost("pipe_bytes", lambda report: _pipe_bytes(report, device_state_s), here),
        device_state_part=_device_state_part(fixed, device_state_s),
        model_time=_model("time", MODEL, weighed),
        model_bytes=_model("bytes", MODEL, weighed),
        model_downtime=_model("downtime", MODEL_DOWNTIME, weighed),
    )


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A migration, and how much it counts, above 0 and up to 1."""

    past: Past
    weight: float


def _weighed(found: Sequence[Past], hosts: Hosts, kind: Kind) -> list[_Weighed]:
    """Those that are alike enough to count."""
    tiers: tuple[list[Past], ...] = tuple([] for _ in WEIGHTS)
    for past in found:
        if past.kind.accelerator == kind.accelerator:
            alike = _rounded(past.kind) == _rounded(kind)
            tiers[(0 if alike else 1) if _same_hosts(past.hosts, hosts) else 2].append(past)
    weighed: list[_Weighed] = []
    for tier, weight, most in zip(tiers, WEIGHTS, MOST_WORTH, strict=True):
        kept = tier[:MOST_ALIKE]
        weighed += [_Weighed(past, min(weight, most / len(kept))) for past in kept]
    return weighed


def _same_hosts(these: Hosts, those: Hosts) -> bool:
    """The address of the stream counts only where it is known of both."""
    if (these.source, these.destination) != (those.source, those.destination):
        return False
    return not (these.stream and those.stream) or these.stream == those.stream


def _rounded(kind: Kind) -> Kind:
    """With the RAM as a power of two: guests of about the same size are of one kind."""
    return replace(kind, ram_bytes=1 << max(0, round(math.log2(max(1, kind.ram_bytes)))))


def _cost(name: str, figure: Callable[[CompletedReport], float | None], weighed: Iterable[_Weighed]) -> Estimate | None:
    told = [(value, each.weight) for each in weighed if (value := figure(each.past.report)) is not None and value > 0]
    if not told:
        return None
    # Nothing is thought of it without them: the prior is where they are, and worth nothing but for its spread.
    prior = Estimate(told[0][0], COST_SPREAD[name])
    seen = [Seen(value, weight) for value, weight in told]
    return pooled(seen, prior, mean_worth=0.0, spread_worth=SPREAD_WORTH, source=_source(len(seen)))


def _source(count: int) -> str:
    return f"from {count} migration{'s' if count > 1 else ''}"


def _rest_s(report: CompletedReport) -> float | None:
    """From the last RAM's end until the destination had loaded everything; ``None``: it can't be told."""
    outage = report.downtime
    if outage is None or report.postcopy:
        return None
    span_s = outage.last_ram_s + outage.device_state_s
    return outage.device_state_s if outage.measured or outage.last_ram_s <= TELLS_REST * span_s else None


def _device_state_s(weighed: Iterable[_Weighed]) -> float:
    """The lower quartile, by weight, of what came after the last RAM; 0.0: nothing is known of it."""
    told = sorted((rest_s, each.weight) for each in weighed if (rest_s := _rest_s(each.past.report)) is not None)
    wanted, passed = EMPTY_PIPE * sum(weight for _, weight in told), 0.0
    for rest_s, weight in told:
        passed += weight
        if passed >= wanted:
            return rest_s
    return 0.0


def _fixed_s(report: CompletedReport, device_state_s: float) -> float | None:
    """What the switchover takes but for the last RAM and the pipe; ``None``: nothing is known of it."""
    if report.downtime is None or report.postcopy or not device_state_s:
        return None
    rest_s = _rest_s(report)
    return actual(report)["fixed"] + (device_state_s if rest_s is None else min(rest_s, device_state_s))


def _preparation_s(report: CompletedReport) -> float | None:
    return actual(report).get("preparation")


def _bandwidth_bytes_per_s(report: CompletedReport) -> float | None:
    return None if report.link is None or report.link.capped else report.link.bandwidth_bytes_per_s


def _pipe_bytes(report: CompletedReport, device_state_s: float) -> float | None:
    """How deep the pipe was at the switchover; ``None``: it can't be told. (Under a cap it is empty.)"""
    rest_s, bandwidth = _rest_s(report), _bandwidth_bytes_per_s(report)
    if rest_s is None or bandwidth is None:
        return None
    return max(LEAST_PIPE_BYTES, (rest_s - device_state_s) * bandwidth)


def _device_state_part(fixed: Estimate | None, device_state_s: float) -> float | None:
    return min(1.0, device_state_s / fixed.value) if fixed is not None else None


def _model(part: str, default: Estimate, weighed: Iterable[_Weighed]) -> Estimate | None:
    seen = [told for each in weighed if (told := _told_of_model(part, default, each)) is not None]
    if not seen:
        return None
    found = pooled(seen, default, mean_worth=MEAN_WORTH, spread_worth=SPREAD_WORTH, source=_source(len(seen)))
    return replace(found, spread=max(found.spread, LEAST_SCATTER[part]))


def _told_of_model(part: str, default: Estimate, each: _Weighed) -> Seen | None:
    """By how much the model was off, what it was thought to be off by taken out again; ``None``: there was no plan."""
    prediction = each.past.report.prediction
    if prediction is None or prediction.basis != PLAN:
        return None
    figure = next((told for told in each.past.report.compared if told.name == FIGURES[part]), None)
    if figure is None or figure.off is None or figure.actual <= 0:
        return None
    thought = prediction.model.get(part, default)
    # A long outage is off by a smaller part of itself: it counts as a short one would, which the estimate is of.
    scale = outage_error(figure.predicted.middle) if part == "downtime" else 1.0
    beyond = (_spread_of(figure.predicted) / scale) ** 2 - thought.spread**2
    # As logarithms: an outage of minutes would count as a number that no float can hold.
    most = math.log(MOST_OFF)
    off = math.exp(min(max(math.log1p(figure.off) / scale, -most), most))
    return Seen(off * thought.value, each.weight, math.sqrt(max(0.0, beyond)))


def _spread_of(given: Range) -> float:
    """The standard deviation of the logarithm that a range stands for; its middle is above 0 and has an end."""
    halves = [math.log(given.middle / given.low)] if given.low > 0 else []
    halves += [math.log(given.high / given.middle)] if given.high < math.inf else []
    return sum(halves) / len(halves) / NORMAL.inv_cdf(HIGH) if halves else WHOLLY_OPEN


# ---- how good the predictions have been


def qualities(reports: Iterable[CompletedReport]) -> tuple[Quality, ...]:
    """How good they have been, by what they were made from and figure by figure."""
    told: dict[tuple[str, str], list[Compared]] = {}
    for report in reports:
        for each in report.compared:
            if report.prediction is not None and each.off is not None:
                told.setdefault((report.prediction.basis, each.name), []).append(each)
    return tuple(_quality(basis, figure, compared) for (basis, figure), compared in told.items())


def _quality(basis: str, figure: str, compared: Sequence[Compared]) -> Quality:
    offs = [each.off for each in compared if each.off is not None]
    return Quality(
        figure=figure,
        basis=basis,
        count=len(offs),
        median_error=median(map(abs, offs)),
        bias=median(offs),
        held=sum(each.within for each in compared),
    )
