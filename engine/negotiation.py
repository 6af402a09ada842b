"""Capabilities and parameters: what this pair of QEMUs is told, and why something was left out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import PreparationFailed
from .pilot import Steering
from .policy import Abilities, Knobs

REQUIRED = ("events", "return-path", "pause-before-switchover", "late-block-activate")
"""Always on, at both ends: without them the ownership of the guest can't be kept.

Without ``return-path`` the source says completed before the destination has loaded anything; without
``pause-before-switchover`` there is no moment at which to take the token; without ``late-block-activate``
QEMU 7.2 takes the disks' locks while the guest's owner is still open.
"""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What is set, on both ends alike, and what was dropped."""

    capabilities: dict[str, bool]
    dropped: tuple[str, ...]


def abilities(
    source: Mapping[str, bool],
    destination: Mapping[str, bool],
    parameters: Mapping[str, object],
    *,
    outside_throttle: bool = False,
    measuring: bool = False,
) -> Abilities:
    """What both ends have, and what can be done with the source besides."""
    return Abilities(
        capabilities=frozenset(source) & frozenset(destination),
        parameters=frozenset(parameters),
        outside_throttle=outside_throttle,
        measuring=measuring,
    )


def negotiate(source: Mapping[str, bool], destination: Mapping[str, bool], wanted: Mapping[str, bool]) -> Negotiated:
    """Every capability that either end has, set true or false explicitly.

    Capabilities survive in the process from an earlier attempt or from whoever used it before, so nothing
    is left to what it happens to be.

    Raises:
        PreparationFailed: an end lacks what is required.
    """
    for side, has in (("source", source), ("destination", destination)):
        missing = [name for name in REQUIRED if name not in has]
        if missing:
            raise PreparationFailed(f"its QEMU has no migration capability {', '.join(missing)}", side=side)
    on: set[str] = set(REQUIRED)
    dropped: list[str] = []
    for name, state in wanted.items():
        lacking = [side for side, has in (("source", source), ("destination", destination)) if name not in has]
        if not state:
            continue
        if lacking:
            verb = "has" if len(lacking) == 1 else "have"
            dropped.append(f"{name} dropped: the {' and the '.join(lacking)} {verb} none")
        else:
            on.add(name)
    return Negotiated({name: name in on for name in sorted(set(source) | set(destination))}, tuple(dropped))


def for_side(negotiated: Negotiated, has: Mapping[str, bool]) -> dict[str, bool]:
    """What has to be set on one end: what it knows, and has otherwise.

    What it was found to have already is as explicit, and QEMU reads each name in 0.2 ms.
    """
    return {name: state for name, state in negotiated.capabilities.items() if name in has and has[name] != state}


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A knob's name and unit in QEMU."""

    name: str
    value: Callable[[Any], object]
    both_ends: bool = False
    """Whether the destination has to be told, too."""


def _percent(share: float) -> int:
    return max(1, round(share * 100))


def _as_it_is(value: object) -> object:
    return value


PARAMETERS: Mapping[str, _Parameter] = {
    "downtime_limit_s": _Parameter("downtime-limit", lambda seconds: max(1, round(seconds * 1000))),
    "bandwidth_bytes_per_s": _Parameter("max-bandwidth", _as_it_is),
    "throttle_initial": _Parameter("cpu-throttle-initial", _percent),
    "throttle_increment": _Parameter("cpu-throttle-increment", _percent),
    "throttle_ceiling": _Parameter("max-cpu-throttle", _percent),
    "throttle_trigger": _Parameter("throttle-trigger-threshold", _percent),
    "throttle_tailslow": _Parameter("cpu-throttle-tailslow", _as_it_is),
    "dirty_limit_bytes_per_s": _Parameter("vcpu-dirty-limit", lambda rate: max(1, rate >> 20)),
    "xbzrle_cache_bytes": _Parameter("xbzrle-cache-size", _as_it_is),
    "multifd_channels": _Parameter("multifd-channels", _as_it_is, both_ends=True),
}
"""Every knob that is a parameter of QEMU, by the name of its field in `Knobs`."""


def parameters_of(knobs: Knobs, known: Mapping[str, object], *, destination: bool = False) -> dict[str, object]:
    """All knobs that are set, in QEMU's names and units; bandwidth and downtime always are.

    Args:
        knobs: as they stand.
        known: the parameters that this QEMU has; empty: all are believed to be there.
        destination: only those that the destination has to be told.
    """
    wanted = {
        each.name: each.value(value)
        for field, each in PARAMETERS.items()
        if (value := getattr(knobs, field)) is not None and (each.both_ends or not destination)
    }
    return {name: value for name, value in wanted.items() if not known or name in known}


def changed_parameters(steering: Steering) -> dict[str, object]:
    """The knobs that a decision changes and that are parameters of QEMU, in its names and units."""
    everything = parameters_of(steering.knobs, {})
    names = (PARAMETERS[field].name for field in steering.changes if field in PARAMETERS)
    return {name: everything[name] for name in names}


RESTORED = tuple(each.name for each in PARAMETERS.values())
"""Put back on a source that stays: somebody else set them, for their own reasons."""


def to_put_back(before: Mapping[str, object]) -> dict[str, object]:
    """The parameters as they were."""
    return {name: before[name] for name in RESTORED if name in before}
