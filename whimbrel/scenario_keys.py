"""The keys of a scenario file, section by section: the field behind each, and how its value is read and written."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, cast

from whimbrel.engine.errors import BadInput
from whimbrel.scenario_rules import exact_size, without_unit
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import Pattern
from whimbrel.units import parse_duration, parse_fraction, parse_rate, parse_size

__all__ = ["COSTS", "CURVE", "GUEST", "LINK", "OBJECTIVES", "OUTAGE", "QEMU", "STEP", "TOP", "WRITER", "Key", "Kind"]


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is read and written.

    Attributes:
        unit: of the value, as the documentation names it.
        read: takes what TOML has; raises `BadInput`.
        write: gives TOML that `read` takes for the same value.
    """

    unit: str
    read: Callable[[Any], Any]
    write: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section.

    Attributes:
        field: of the record.
        kind: of its value.
        meaning: one line for the documentation.
        needed: it has no default.
        read_only: another key writes the same field.
    """

    field: str
    kind: Kind
    meaning: str
    needed: bool = False
    read_only: bool = False


# ---- reading


def _quantity(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Text with a unit; a bare number is in the unit that the parser takes for none."""

    def read(value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        try:
            if isinstance(value, str):
                return parse(value)
            if not number or not 0 <= value < math.inf:
                parse("-")  # which refuses it, in its own words
        except BadInput as error:
            negative = value.lstrip().startswith("-") if isinstance(value, str) else number and value < 0
            allowed = error.allowed + (", not a negative one" if negative else "")
            raise BadInput(error.field, value, allowed) from None
        return value

    return read


def _size(value: Any) -> int:
    size: float = _quantity(parse_size)(value)
    if size != int(size):
        raise BadInput("size", value, "a size in whole bytes such as 4096, 64MiB or 2GB")
    return int(size)


def _expected_size(value: Any) -> float:
    """A mean: it need not be whole."""
    return float(_quantity(parse_size)(value))


def _rate(value: Any) -> float:
    return float(_quantity(parse_rate)(value))


def _part(value: Any) -> float:
    part = float(_quantity(parse_fraction)(value))
    if part > 1:
        raise BadInput("part", value, "a part such as 25% or 0.25, at most the whole")
    return part


def _writes(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise BadInput("writes", value, "page writes per second such as 5000")
    return float(value * PAGE_BYTES)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadInput("number", value, "a whole number, 0 or more, without quotes")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInput("number", value, "a number, without quotes")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise BadInput("text", value, "a text in quotes, not empty")
    return value


def _yes_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadInput("switch", value, "true or false, without quotes")
    return value


def _kvm(value: Any) -> bool:
    if value not in ("tcg", "kvm"):
        raise BadInput("accelerator", value, '"tcg" or "kvm"')
    return bool(value == "kvm")


def _of(words: type[StrEnum]) -> Kind:
    def read(value: Any) -> StrEnum:
        if not isinstance(value, str) or value not in list(words):
            raise BadInput("word", value, ", ".join(f'"{each}"' for each in words))
        return words(value)

    return Kind("one of " + ", ".join(f"`{each}`" for each in words), read, _write_text)


def _list_of(kind: Kind) -> Kind:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise BadInput("list", value, "a list in brackets")
        elements = cast("list[object]", value)
        return tuple(kind.read(each) for each in elements)

    return Kind(f"list: {kind.unit}", read, lambda values: f"[{', '.join(map(kind.write, values))}]")


# ---- writing


def _write_text(value: str) -> str:
    """A basic string; TOML has JSON's escapes, and wants DEL escaped, too."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _write_size(value: float) -> str:
    if isinstance(value, int) or value.is_integer():
        return f'"{exact_size(int(value))}"'
    return repr(value)


def _exactly(value: float, units: tuple[tuple[str, float], ...], parse: Callable[[str], float]) -> str:
    """In the first unit in which it is a short number that is read back the same; else as the bare number."""
    if value == 0:
        return f'"0{units[-1][0]}"'
    for unit, factor in units:
        short = f"{value / factor:.6g}"
        if "e" not in short and value / factor >= 1 and parse(short + unit) == value:
            return f'"{short}{unit}"'
    return repr(value)


_RATES: Final = (
    *(("Gbit/s", 1.25e8), ("Mbit/s", 1.25e5), ("GiB/s", 2.0**30), ("MiB/s", 2.0**20)),
    *(("MB/s", 1e6), ("KiB/s", 2.0**10), ("kB/s", 1e3), ("B/s", 1.0)),
)
_BYTE_RATES: Final = (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3), ("B/s", 1.0))
_TIMES: Final = (("h", 3600.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def _write_rate(value: float) -> str:
    return _exactly(float(value), _RATES, parse_rate)


def _write_byte_rate(value: float) -> str:
    return _exactly(float(value), _BYTE_RATES, parse_rate)


def _write_time(value: float) -> str:
    return _exactly(float(value), _TIMES, parse_duration) if value else '"0s"'


def _write_part(value: float) -> str:
    return _exactly(value, (("%", 0.01),), parse_fraction)


SIZE: Final = Kind("size", _size, _write_size)
EXPECTED_SIZE: Final = Kind("size", _expected_size, _write_size)
RATE: Final = Kind("rate", _rate, _write_rate)
BYTE_RATE: Final = Kind("rate", _rate, _write_byte_rate)
WHOLE_RATE: Final = Kind("rate", lambda value: round(_rate(value)), _write_rate)
TIME: Final = Kind("time", lambda value: float(_quantity(parse_duration)(value)), _write_time)
PART: Final = Kind("part", _part, _write_part)
WRITES: Final = Kind("page writes per second", _writes, repr)
WHOLE: Final = Kind("whole number", _whole, repr)
NUMBER: Final = Kind("number", _number, repr)
TEXT: Final = Kind("text", _text, _write_text)
SWITCH: Final = Kind("`true` or `false`", _yes_no, lambda value: str(value).lower())
ACCELERATOR: Final = Kind("`tcg` or `kvm`", _kvm, lambda value: '"kvm"' if value else '"tcg"')

# ---- the sections


def _told(record: type) -> dict[str, str]:
    """What a record's docstring says of its attributes."""
    _, _, attributes = (inspect.getdoc(record) or "").partition("Attributes:\n")
    pairs = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).rstrip(".").replace("``", "`") for name, text in pairs}


def _kind_of(name: str) -> Kind:
    """By the unit in its name."""
    return BYTE_RATE if name.endswith("_bytes_per_s") else SIZE if name.endswith("_bytes") else TIME


TOP: Final[dict[str, Key]] = {
    "seed": Key("seed", WHOLE, "where the dice begin"),
    "policy": Key(
        "policy", TEXT, "as on the command line: `NAME`, `NAME:key=value,…` or `FILE.py:NAME`; beside the file"
    ),
    "migrations": Key("migrations", WHOLE, "so many at the same time over the one link, alike but for their seeds"),
    "limit": Key("limit_s", TIME, "it is called off after so long"),
    "postcopy": Key("postcopy_at_s", TIME, "so long after `migrate` post-copy is chosen, and asked for to begin with"),
    "faults": Key("faults", SWITCH, "whether faults are drawn from the seed"),
}
GUEST: Final[dict[str, Key]] = {
    "ram": Key("ram_bytes", SIZE, "all RAM blocks, video memory and ROMs too: the `total` of `query-migrate`"),
    "zero": Key("zero_bytes", SIZE, "pages at the upper end that are zero and never written"),
    "vcpus": Key("vcpus", WHOLE, "vCPUs"),
    "pages": Key("pages", SWITCH, "page by page (needs the extra `sim`) instead of by expectation"),
    "trace": Key("trace", TEXT, "a file of recorded writes, instead of writers or a curve"),
}
WRITER: Final[dict[str, Key]] = {
    "name": Key("name", TEXT, "of the writer", needed=True),
    "size": Key(
        "size_bytes", SIZE, "its range of pages; ranges lie one behind the other from the lowest up", needed=True
    ),
    "rate": Key("rate_bytes_per_s", RATE, "4096 times the page writes per second while it is on"),
    "writes": Key("writes", WRITES, "the same as a number of page writes; instead of `rate`", read_only=True),
    "pattern": Key("pattern", _of(Pattern), "which page of its range a write goes to"),
    "skew": Key("skew", NUMBER, "Zipf's exponent; with `zipf`"),
    "share": Key("share", PART, "part of the writes that goes to the hot pages; with `hotspot`"),
    "part": Key("part", PART, "part of the pages that is hot; with `hotspot`"),
    "period": Key("period_s", TIME, "length of a phase cycle; 0: always on"),
    "duty": Key("duty", PART, "part of each period, from its beginning, in which it writes"),
    "shift": Key("shift_s", TIME, "how far into its first period it begins"),
    "zero": Key("zero", SWITCH, "its pages are zero until they are written for the first time"),
    "delta": Key("delta_bytes", SIZE, "what XBZRLE makes of a page that was rewritten; 4096: more than the page"),
    "ratio": Key("compressed_ratio", PART, "size of a page after compression"),
    "vcpu": Key("vcpu", WHOLE, "which vCPU writes"),
    "dma": Key("dma", SWITCH, "a device writes, which no throttle slows; instead of `vcpu`", read_only=True),
    "cpu_share": Key("cpu_share", PART, "how much of its vCPU's time it needs at its full rate"),
}
CURVE: Final[dict[str, Key]] = {
    "windows": Key("windows", _list_of(TIME), "lengths of the windows, rising"),
    "dirty": Key("dirty", _list_of(EXPECTED_SIZE), "distinct bytes dirtied in each"),
    "file": Key(
        "file", TEXT, "instead of both: a JSON file as for `--curve`; `ram` and `zero` then default to its own"
    ),
}
LINK: Final[dict[str, Key]] = {
    "bandwidth": Key("bandwidth_bytes_per_s", RATE, "goodput: what a migration gets of it"),
    "latency": Key("latency_s", TIME, "one way"),
    "pipe": Key("pipe_bytes", SIZE, "socket buffers and queue, that a sender fills ahead of the link"),
    "noise": Key("noise", PART, "standard deviation of the bandwidth, as a part of it"),
    "noise_every": Key("noise_every_s", TIME, "how often it changes"),
    "noise_memory": Key("noise_memory", PART, "correlation of one step of the noise with the next"),
    "rivals": Key("rivals", WHOLE, "other migrations that share it all the time"),
}
STEP: Final[dict[str, Key]] = {
    "at": Key("at", TIME, "after `migrate`", needed=True),
    "bandwidth": Key("bandwidth", RATE, "what the link carries from then on", needed=True),
}
OUTAGE: Final[dict[str, Key]] = {
    "at": Key("at", TIME, "after `migrate`", needed=True),
    "for": Key("for", TIME, "how long nothing moves; nobody is told", needed=True),
}
QEMU: Final[dict[str, Key]] = {
    "source": Key("source", _of(Version), "version of the source"),
    "destination": Key("destination", _of(Version), "version of the destination"),
    "accelerator": Key("kvm", ACCELERATOR, "whose dirty log it is: cleared at the sync, or chunk by chunk"),
    "local": Key("local", SWITCH, "the source is on the manager's host, which sees its vCPUs' time and can take of it"),
    "capabilities": Key("capabilities", _list_of(TEXT), "asked for besides what the policy asks, by QEMU's names"),
}
COSTS: Final[dict[str, Key]] = {
    key: Key(name, _kind_of(name), _told(Costs)[name])
    for name, key in ((each.name, without_unit(each.name)) for each in fields(Costs))
}
"""As the record has them: its fields without their units, told in its own words."""
OBJECTIVES: Final[dict[str, Key]] = {
    "downtime": Key("downtime_s", TIME, "the greatest downtime allowed"),
    "deadline": Key("deadline_s", TIME, "when it should be over"),
    "bandwidth": Key("bandwidth_bytes_per_s", WHOLE_RATE, "the most that may be sent"),
    "throttle": Key("greatest_throttle", PART, "the most of the guest's CPU time that may be taken"),
    "may_abort": Key("may_abort", SWITCH, "whether the policy may give up"),
    "may_pause": Key("may_pause", SWITCH, "whether it may let the guest stand still for as long as the rest takes"),
    "may_postcopy": Key("may_postcopy", SWITCH, "whether it may go over to post-copy"),
    "abort_on_fault": Key("abort_on_fault", SWITCH, "whether a policy that fails ends the migration"),
}
