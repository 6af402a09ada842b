"""Migration parameters: which there are, their defaults and ranges, and how each version words a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from . import errors
from .arguments import ALL, LATER, OLD, Argument, check
from .contract import Version

_NEWEST = (Version.V11_1,)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Attributes:
        name: as on the wire.
        default: what it is at first.
        kind: see `Argument`.
        low: the least that is accepted, or ``None``.
        high: the most.
        words: how the range is worded; ``{low}`` and ``{high}`` are filled in.
        values: of an enumeration.
        versions: the QEMUs that have it.
    """

    name: str
    default: object
    kind: str = "uint64"
    low: int | None = None
    high: int | None = None
    words: str = "expects a value between {low} and {high}"
    values: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ALL


_INTEGER = "expects an integer in the range of {low} to {high}"
_DOWNTIME = "expects an integer in the range of 0 to (2000 * 1000) ms"
_COMPRESSION = ("none", "zlib", "zstd")

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("announce-initial", 50, low=0, high=100_000),
    Parameter("announce-max", 550, low=0, high=100_000),
    Parameter("announce-rounds", 5, low=0, high=1_000),
    Parameter("announce-step", 100, low=1, high=10_000),
    Parameter("compress-level", 1, "uint8_t", 0, 9, versions=OLD),
    Parameter("compress-threads", 8, "uint8_t", 1, 255, versions=OLD),
    Parameter("compress-wait-thread", True, "boolean", versions=OLD),
    Parameter("decompress-threads", 2, "uint8_t", 1, 255, versions=OLD),
    Parameter("throttle-trigger-threshold", 50, "uint8_t", 1, 100, _INTEGER),
    Parameter("cpu-throttle-initial", 20, "uint8_t", 1, 99, _INTEGER),
    Parameter("cpu-throttle-increment", 10, "uint8_t", 1, 99, _INTEGER),
    Parameter("cpu-throttle-tailslow", False, "boolean"),
    Parameter("tls-creds", "", "StrOrNull"),
    Parameter("tls-hostname", "", "StrOrNull"),
    Parameter("tls-authz", "", "StrOrNull"),
    Parameter("max-bandwidth", 134_217_728, low=0, high=(1 << 64) - 1),
    Parameter("avail-switchover-bandwidth", 0, low=0, high=(1 << 64) - 1, versions=LATER),
    Parameter("downtime-limit", 300, low=0, high=2_000_000, words=_DOWNTIME),
    Parameter("x-checkpoint-delay", 20_000, "uint32_t"),
    Parameter("block-incremental", False, "boolean", versions=OLD),
    Parameter("multifd-channels", 2, "uint8_t", 1, 255),
    Parameter("xbzrle-cache-size", 67_108_864, words="expects a power of two no less than the target page size"),
    Parameter("max-postcopy-bandwidth", 0, low=0, high=(1 << 64) - 1),
    Parameter("max-cpu-throttle", 99, "uint8_t", words="expects an integer in the range of {low} to 99"),
    Parameter("multifd-compression", "none", "enum", values=_COMPRESSION),
    Parameter("multifd-zlib-level", 1, "uint8_t", 0, 9),
    Parameter("multifd-zstd-level", 1, "uint8_t", 0, 20),
    Parameter("multifd-qatzip-level", 1, "uint8_t", 1, 9, versions=LATER),
    Parameter("block-bitmap-mapping", None, "array"),
    Parameter("x-vcpu-dirty-limit-period", 1000, low=1, high=1000, versions=LATER),
    Parameter("vcpu-dirty-limit", 1, low=1, words="must be greater than 1 MB/s", versions=LATER),
    Parameter("mode", "normal", "enum", values=("normal", "cpr-reboot", "cpr-transfer"), versions=(Version.V10_0,)),
    Parameter("mode", "normal", "enum", values=("normal", "cpr-reboot", "cpr-transfer", "cpr-exec"), versions=_NEWEST),
    Parameter("zero-page-detection", "multifd", "enum", values=("none", "legacy", "multifd"), versions=LATER),
    Parameter("direct-io", False, "boolean", versions=LATER),
    Parameter("cpr-exec-command", (), "array", versions=_NEWEST),
    Parameter("x-rdma-chunk-size", 1_048_576, versions=_NEWEST),
)

_UNCHECKED_7_2 = ("multifd-zlib-level", "multifd-zstd-level")
"""7.2 looks at these two only after it has lost sight of their being given."""


@cache
def of(version: Version) -> tuple[Parameter, ...]:
    """Those that a QEMU has."""
    return tuple(each for each in PARAMETERS if version in each.versions)


@cache
def arguments(version: Version) -> tuple[Argument, ...]:
    """Those of ``migrate-set-parameters``."""
    return tuple(Argument(each.name, each.kind, required=False, values=each.values) for each in of(version))


def defaults(version: Version) -> dict[str, object]:
    """All that ``query-migrate-parameters`` lists of a fresh process."""
    return {each.name: [] if each.kind == "array" else each.default for each in of(version) if each.default is not None}


def changed(before: Mapping[str, object], given: Mapping[str, object], version: Version) -> dict[str, object]:
    """The parameters as they would be: all changes or none.

    Args:
        before: as they stand.
        given: the arguments of ``migrate-set-parameters``.
        version: whose ranges and words.

    Raises:
        Refusal: one is unknown, of another type, or out of its range.
    """
    check(given, arguments(version), version)
    after = {**before, **{name: _stored(name, value) for name, value in given.items()}}
    for each in of(version):
        if each.name in given and not _fits(each, after, version):
            raise errors.Refusal(_refusal(each, version))
    return after


def _stored(name: str, value: object) -> object:
    if value is None and name.startswith("tls-"):
        return ""
    # A negative number is the large one with the same bits.
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        return value + (1 << 64)
    return value


def _fits(parameter: Parameter, after: Mapping[str, object], version: Version) -> bool:
    value = after[parameter.name]
    if not isinstance(value, int) or isinstance(value, bool):
        return True
    if parameter.name == "max-cpu-throttle":
        return int(str(after["cpu-throttle-initial"])) <= value <= 99
    if parameter.name == "xbzrle-cache-size":
        return value >= 4096 and value & (value - 1) == 0
    if version is Version.V7_2 and parameter.name in _UNCHECKED_7_2:
        return True
    low_enough = parameter.high is None or value <= parameter.high
    return low_enough and (parameter.low is None or value >= parameter.low)


def _refusal(parameter: Parameter, version: Version) -> str:
    dashes = version is Version.V11_1
    words, low, high = parameter.words, parameter.low, parameter.high
    if parameter.name in ("announce-step",):
        low = 0  # QEMU's sentence says so, and refuses 0 all the same
    if parameter.name == "max-cpu-throttle":
        words = words.replace("{low}", "cpu-throttle-initial" if dashes else "cpu_throttle_initial")
    name = parameter.name if dashes else parameter.name.replace("-", "_")
    begin = "Option " + name if dashes and parameter.name != "vcpu-dirty-limit" else f"Parameter '{name}'"
    return f"{begin} {words.format(low=low, high=high)}"
