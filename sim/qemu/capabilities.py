"""Migration capabilities: which there are, and which combinations are refused, in QEMU's order and words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from . import errors
from .arguments import Argument, check
from .contract import Version
from .values import as_list, as_object

_OLD_ONLY = ("compress", "block")
_SINCE_10 = ("switchover-ack", "dirty-limit", "mapped-ram")
_ORDER = (
    "xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "compress", "events", "postcopy-ram", "x-colo",
    "release-ram", "block", "return-path", "pause-before-switchover", "multifd", "dirty-bitmaps",
    "postcopy-blocktime", "late-block-activate", "x-ignore-shared", "validate-uuid", "background-snapshot",
    "zero-copy-send", "postcopy-preempt", "switchover-ack", "dirty-limit", "mapped-ram",
)  # fmt: skip


@cache
def names(version: Version) -> tuple[str, ...]:
    """All that this QEMU has, in the order of its own list; every one is off at first."""
    absent: tuple[str, ...] = _OLD_ONLY
    if version is Version.V7_2:
        absent = _SINCE_10
    elif version is Version.V11_1:
        absent = (*_OLD_ONLY, "zero-blocks")
    return tuple(name for name in _ORDER if name not in absent)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rules look at besides the capabilities.

    Attributes:
        version: whose rules.
        kvm_dirty_ring: whether KVM runs with a dirty ring.
        plain_stream: neither TLS nor a compression for multifd is set.
        incoming: it waits for a guest.
        memory_on_disk: a memory backend is a file on an ordinary file system.
    """

    version: Version
    kvm_dirty_ring: bool = False
    plain_stream: bool = True
    incoming: bool = False
    memory_on_disk: bool = False


_Rule = Callable[[Mapping[str, bool], Mapping[str, bool], Surroundings], str | None]


def _colo(after: Mapping[str, bool], before: Mapping[str, bool], around: Surroundings) -> str | None:
    if after.get("x-colo") and around.version is Version.V7_2:
        return None
    if after.get("x-colo") and not after.get("return-path"):
        return "Capability 'x-colo' requires capability 'return-path'"
    return None


def _postcopy(after: Mapping[str, bool], before: Mapping[str, bool], around: Surroundings) -> str | None:
    if not after.get("postcopy-ram"):
        return None
    if around.incoming and not before.get("postcopy-ram") and around.memory_on_disk:
        if around.version is Version.V7_2:
            return None  # it looks at the kernel only, and dies at the switchover
        return "Postcopy is not supported: Host backend files need to be TMPFS or HUGETLBFS only"
    if after.get("x-ignore-shared"):
        return "Postcopy is not compatible with ignore-shared"
    if after.get("multifd") and around.version is Version.V10_0:
        return "Postcopy is not yet compatible with multifd"
    return None


def _zero_copy(after: Mapping[str, bool], before: Mapping[str, bool], around: Surroundings) -> str | None:
    fits = after.get("multifd") and not after.get("xbzrle") and not after.get("compress") and around.plain_stream
    if after.get("zero-copy-send") and not fits:
        return "Zero copy only available for non-compressed non-TLS multifd migration"
    return None


def _preempt(after: Mapping[str, bool], before: Mapping[str, bool], around: Surroundings) -> str | None:
    if after.get("postcopy-preempt") and not after.get("postcopy-ram"):
        return "Postcopy preempt requires postcopy-ram"
    return None


def _switchover_ack(after: Mapping[str, bool], before: Mapping[str, bool], around: Surroundings) -> str | None:
    if after.get("switchover-ack") and not after.get("return-path"):
        return "Capability 'switchover-ack' requires capability 'return-path'"
    return None


def _dirty_limit(after: Mapping[str, bool], before: Mapping[str, bool], around: Surroundings) -> str | None:
    if not after.get("dirty-limit"):
        return None
    if after.get("auto-converge"):
        return "dirty-limit conflicts with auto-converge either of then available currently"
    if not around.kvm_dirty_ring:
        return "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set"
    return None


def _mapped_ram(after: Mapping[str, bool], before: Mapping[str, bool], around: Surroundings) -> str | None:
    if not after.get("mapped-ram"):
        return None
    if after.get("xbzrle"):
        return "Mapped-ram migration is incompatible with xbzrle"
    if after.get("postcopy-ram"):
        return "Mapped-ram migration is incompatible with postcopy"
    return None


_RULES: tuple[_Rule, ...] = (
    _colo,
    _postcopy,
    _zero_copy,
    _preempt,
    _switchover_ack,
    _dirty_limit,
    _mapped_ram,
)

_MEMBERS = (Argument("capability", "string"), Argument("state", "boolean"))


def wanted(given: object, version: Version) -> dict[str, bool]:
    """Read the list of ``migrate-set-capabilities``.

    Raises:
        Refusal: it is no such list, or names one that this QEMU does not have.
    """
    rows = as_list(given)
    if rows is None:
        raise errors.wrong_type("capabilities", "array")
    known = names(version)
    found: dict[str, bool] = {}
    for index, row in enumerate(rows):
        each = as_object(row)
        if each is None:
            raise errors.wrong_type(f"capabilities[{index}]", "object")
        if isinstance(each.get("capability"), str) and each["capability"] not in known:
            raise errors.wrong_value("capability", each["capability"])
        check(each, _MEMBERS, version, f"capabilities[{index}].")
        found[str(each["capability"])] = bool(each["state"])
    return found


def combine(before: Mapping[str, bool], changes: Mapping[str, bool], around: Surroundings) -> dict[str, bool]:
    """The capabilities as they would be: all changes or none.

    Raises:
        Refusal: they don't go together.
    """
    after = {**before, **changes}
    for rule in _RULES:
        words = rule(after, before, around)
        if words is not None:
            raise errors.Refusal(words)
    return after
