"""Capabilities and parameters: what this pair of QEMUs is told, and why something was left out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    source: Mapping[str, bool], destination: Mapping[str, bool], parameters: Mapping[str, object]
) -> Abilities:
    """What both ends have."""
    return Abilities(capabilities=frozenset(source) & frozenset(destination), parameters=frozenset(parameters))


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


def parameters_of(knobs: Knobs, known: Mapping[str, object]) -> dict[str, object]:
    """All knobs in QEMU's names and units; bandwidth and downtime always, the throttle where it is used."""
    wanted: dict[str, object] = {
        "downtime-limit": max(1, round(knobs.downtime_limit_s * 1000)),
        "max-bandwidth": knobs.bandwidth_bytes_per_s,
    }
    throttle = {
        "cpu-throttle-initial": knobs.throttle_initial,
        "cpu-throttle-increment": knobs.throttle_increment,
        "max-cpu-throttle": knobs.throttle_ceiling,
    }
    wanted |= {name: max(1, round(share * 100)) for name, share in throttle.items() if share is not None}
    return {name: value for name, value in wanted.items() if not known or name in known}


def changed_parameters(steering: Steering) -> dict[str, object]:
    """The knobs that a decision changes, in QEMU's names and units."""
    everything = parameters_of(steering.knobs, {})
    names = {
        "downtime_limit_s": "downtime-limit",
        "bandwidth_bytes_per_s": "max-bandwidth",
        "throttle_initial": "cpu-throttle-initial",
        "throttle_increment": "cpu-throttle-increment",
        "throttle_ceiling": "max-cpu-throttle",
    }
    return {names[field]: everything[names[field]] for field in steering.changes}


RESTORED = ("downtime-limit", "max-bandwidth", "cpu-throttle-initial", "cpu-throttle-increment", "max-cpu-throttle")
"""Put back on a source that stays: somebody else set them, for their own reasons."""


def to_put_back(before: Mapping[str, object]) -> dict[str, object]:
    """The parameters as they were."""
    return {name: before[name] for name in RESTORED if name in before}
