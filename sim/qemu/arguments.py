"""The arguments of commands, checked as QEMU's generated code does: in the order of the schema, surplus ones last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import errors
from .contract import Version

ALL = (Version.V7_2, Version.V10_0, Version.V11_1)
LATER = (Version.V10_0, Version.V11_1)
OLD = (Version.V7_2,)

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "number": (int, float),
}
_UNSIGNED = {"uint8_t": 1 << 8, "uint32_t": 1 << 32, "uint64": 1 << 64}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command, or one member of an object in it.

    Attributes:
        name: as on the wire.
        kind: ``string``, ``boolean``, ``integer``, ``number``, ``object``, ``array``, ``any``, ``uint8_t``,
            ``uint32_t``, ``uint64``, ``StrOrNull`` or ``enum``.
        required: whether it has to be there.
        values: of an enumeration.
        versions: the QEMUs that know it.
        members: of the objects in an array, for the self-description.
    """

    name: str
    kind: str = "string"
    required: bool = True
    values: tuple[str, ...] = ()
    versions: tuple[Version, ...] = ALL
    members: tuple[Argument, ...] = ()


def check(arguments: Mapping[str, object], known: tuple[Argument, ...], version: Version, path: str = "") -> None:
    """See whether a command would be understood.

    Args:
        arguments: what came with it.
        known: what it takes.
        version: whose words.
        path: of the object within the arguments (``capabilities[0].``).

    Raises:
        Refusal: as QEMU words it.
    """
    understood = 0
    for each in known:
        if version not in each.versions:
            continue
        if each.name in arguments:
            check_value(path + each.name, arguments[each.name], each)
            understood += 1
        elif each.required:
            raise errors.missing(path + each.name)
    if understood < len(arguments):
        names = {each.name for each in known if version in each.versions}
        raise errors.unexpected(path + next(name for name in arguments if name not in names))


def check_value(name: str, value: object, known: Argument) -> None:
    """See whether one value is of its kind.

    Raises:
        Refusal: as QEMU words it.
    """
    kind = known.kind
    if kind == "any":
        return
    if kind == "enum":
        if not isinstance(value, str):
            raise errors.wrong_type(name, "string")
        if value not in known.values:
            raise errors.wrong_value(name, value)
    elif kind in _UNSIGNED:
        # A negative number is taken for the large one that has the same bits, except where it must fit into less.
        whole = isinstance(value, int) and not isinstance(value, bool)
        low = -(1 << 63) if kind == "uint64" else 0
        if not whole or not low <= int(str(value)) < _UNSIGNED[kind]:
            raise errors.Refusal(f"Parameter '{name}' expects {kind}")
    elif kind == "integer":
        if not isinstance(value, int) or isinstance(value, bool):
            raise errors.wrong_type(name, "integer")
    elif kind == "StrOrNull":
        if value is not None and not isinstance(value, str):
            raise errors.wrong_type(name, "StrOrNull")
    elif not isinstance(value, _JSON_TYPES[kind]) or (kind == "number" and isinstance(value, bool)):
        raise errors.wrong_type(name, kind)
