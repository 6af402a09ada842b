"""What goes into the machine, and what it orders: plain values (`whimbrel.engine.machine`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .pilot import Steering
from .policy import Abilities, Measurement
from .resolve import DestinationClass, SourceClass
from .signals import Command, Signal
from .statistics import Statistics
from .timeline import Mark


@dataclass(frozen=True, slots=True)
class Order:
    """A command of the protocol, for the driver."""

    command: Command
    setup: Steering | None = None
    """With `Command.ARM`: capabilities and first parameters."""


@dataclass(frozen=True, slots=True)
class Tune:
    """Knobs to set on the source; of no consequence for the protocol."""

    steering: Steering


@dataclass(frozen=True, slots=True)
class Probe:
    """Before the start: measure what the guest dirties in these windows, wait, and say `Measured`."""

    steering: Steering
    """The decision that asks for it."""
    windows_s: tuple[float, ...]
    wait_s: float


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What a policy that only watches would have done; for the log."""

    name: str
    steering: Steering


@dataclass(frozen=True, slots=True)
class Happened:
    """A signal, with the words that came along."""

    signal: Signal
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sampled:
    """An answer of ``query-migrate`` on the source."""

    statistics: Statistics


@dataclass(frozen=True, slots=True)
class Marked:
    """A moment of the outage, wall-clock seconds."""

    mark: Mark
    wall_s: float


@dataclass(frozen=True, slots=True)
class Learnt:
    """Things for the report, and what the pair can do."""

    facts: Mapping[str, Any]
    abilities: Abilities | None = None
    paused_before: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """What an inspection of both sides found."""

    source: SourceClass
    destination: DestinationClass


@dataclass(frozen=True, slots=True)
class Measured:
    """The answer to `Probe`: what was measured, if anything; the policy is asked again."""

    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision out of a log; only ever recalled, for a live policy is asked."""

    asked: str
    because: str
    changes: Mapping[str, Any]
    clamped: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    """Before the start: those that the policy asked for."""


Event = Happened | Sampled | Marked | Learnt | Inspected | Measured
