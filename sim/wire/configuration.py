"""What is simulated on the wire: a small file, or the same text inline.

QEMU's command line says what the machine is; what it can't say (what the guest does to its memory, what the link is
like, how fast time runs) comes from the environment variable ``WHIMBREL_SIM``, or from an argument that QEMU knows as
well, so that whoever copies a command line copies it too::

    -fw_cfg name=opt/whimbrel.sim,file=PATH          or   string={"speed": 10}   (commas doubled, as QEMU wants it)

Either holds a path (of a JSON file, or of a TOML file if its name ends in ``.toml``) or a JSON object. All members
are optional, in the words and units of `whimbrel.sim.scenario`::

    {"version": "7.2", "speed": 1.0, "seed": 1, "kvm": false,
     "guest": {"writers": [{"name": "hot", "size_bytes": 8388608, "rate_bytes_per_s": 4000000.0}], "zero_bytes": 0},
     "link":  {"bandwidth_bytes_per_s": 125000000.0, "latency_s": 0.0001, "pipe_bytes": 2500000},
     "costs": {"device_state_bytes": 40000}}

``guest.ram_bytes`` is what the command line's machine comes to, unless it is given.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast, get_args, get_type_hints

import msgspec

from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan

VARIABLE: Final = "WHIMBREL_SIM"
FW_CFG_NAME: Final = "opt/whimbrel.sim"
FASTEST: Final = 1000.0


class BadConfiguration(Exception):
    """What was given can't be used; one line for each finding."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("\n".join(findings))
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What one process simulates."""

    version: Version = Version.V7_2
    speed: float = 1.0
    """Virtual seconds per second of the wall clock, 1 up to `FASTEST`; less than 1 is slow motion."""
    seed: int = 1
    kvm: bool = False
    """See `whimbrel.sim.scenario.QemuPlan.kvm`."""
    guest: GuestPlan = field(default_factory=lambda: GuestPlan(ram_bytes=0))
    """``ram_bytes`` 0: what the machine comes to."""
    link: LinkPlan = field(default_factory=LinkPlan)
    costs: Costs = field(default_factory=Costs)


def read_configuration(arguments: Sequence[str], environment: Mapping[str, str]) -> Configuration:
    """Find what is to be simulated; the command line comes before the environment.

    Args:
        arguments: QEMU's, without the program.
        environment: of the process.

    Raises:
        BadConfiguration: everything that is wrong with it, at once.
    """
    given = _on_command_line(arguments) or environment.get(VARIABLE, "")
    where = FW_CFG_NAME if _on_command_line(arguments) else VARIABLE
    if not given.strip():
        return Configuration()
    return parse_configuration(_load(given, where), where)


def parse_configuration(data: object, where: str) -> Configuration:
    """Make the record of decoded JSON or TOML.

    Args:
        data: an object.
        where: what to call it.

    Raises:
        BadConfiguration: as above.
    """
    findings: list[str] = []
    found = _fit(Configuration, _with_ram(data), where, findings)
    speed: float | None = found.speed if isinstance(found, Configuration) else None  # None: it was no number
    if speed is not None and not 0 < speed <= FASTEST:
        findings.append(f"{where}.speed: {speed:g} is not above 0 and up to {FASTEST:g}")
    if findings:
        raise BadConfiguration(findings)
    return cast("Configuration", found)


def _on_command_line(arguments: Sequence[str]) -> str:
    """The value of our own ``-fw_cfg``, or nothing."""
    for option, value in pairwise(arguments):
        if option not in ("-fw_cfg", "--fw_cfg"):
            continue
        # A comma within a value is doubled.
        parts = [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
        settings: dict[str, str] = {}
        for part in parts:
            key, _, settings[key] = part.partition("=")
        if settings.get("name") == FW_CFG_NAME or parts[0] == FW_CFG_NAME:
            return settings.get("string") or settings.get("file", "")
    return ""


def _with_ram(data: object) -> object:
    """The guest's RAM need not be said here: the command line does."""
    if not isinstance(data, dict):
        return data
    given = cast("dict[str, object]", data)
    guest = given.get("guest", {})
    if not isinstance(guest, dict):
        return given
    return {**given, "guest": {"ram_bytes": 0, **cast("dict[str, object]", guest)}}


def _load(given: str, where: str) -> object:
    text, name = given, where
    toml = False
    if not given.lstrip().startswith("{"):
        name, toml = given, given.endswith(".toml")
        try:
            text = Path(given).read_text()
        except OSError as error:
            raise BadConfiguration([f"{where}: {given}: {error.strerror}"]) from error
    try:
        return tomllib.loads(text) if toml else json.loads(text)
    except ValueError as error:
        raise BadConfiguration([f"{name}: {error}"]) from error


def _fit(kind: Any, value: object, where: str, findings: list[str]) -> Any:
    """Fit a decoded value into a type; what does not fit becomes a finding, and ``None``."""
    if is_dataclass(kind):
        return _record(kind, value, where, findings)
    element = get_args(kind)[0] if get_args(kind) else None
    if is_dataclass(element) and isinstance(value, list):
        many = enumerate(cast("list[object]", value))
        return tuple(_record(element, each, f"{where}[{number}]", findings) for number, each in many)
    try:
        fitted = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        findings.append(f"{where}: {error}")
        return None
    if isinstance(fitted, (int, float)) and not fitted >= 0:
        findings.append(f"{where}: {fitted} is negative")
    return fitted


def _record(kind: Any, value: object, where: str, findings: list[str]) -> Any:
    if not isinstance(value, dict):
        findings.append(f"{where}: an object is expected")
        return None
    given = cast("dict[str, object]", value)
    hints = get_type_hints(kind)
    known = {each.name: each for each in fields(kind)}
    needed = {name for name, each in known.items() if each.default is MISSING and each.default_factory is MISSING}
    findings += [f"{where}.{name}: it is missing" for name in known if name in needed - given.keys()]
    findings += [f"{where}.{name}: nothing is known by this name" for name in given if name not in known]
    members = {name: _fit(hints[name], given[name], f"{where}.{name}", findings) for name in given if name in known}
    return kind(**members) if needed <= given.keys() else None
