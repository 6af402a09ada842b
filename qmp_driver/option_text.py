"""The text of a QEMU option's value, taken apart and put together again.

QEMU writes structured values in two ways, and this module makes one of them:

    driver=qcow2,file.driver=file,file.filename=/a,,b      keys and values; a comma in a value is doubled
    {"driver": "qcow2", "file": {"driver": "file", "filename": "/a,b"}}                            JSON

Both become ``Settings``: dotted keys and plain text values, in the order in which they stand. A change
rewrites the items that it concerns and leaves every other character as the user wrote it.

The rules are those of QEMU's ``util/qemu-option.c`` (``get_opt_name_value``): an item without ``=`` that
comes first belongs to the option's implied key, a later one is a flag (``server`` means ``server=on``,
``nowait`` means ``wait=off``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

_ON = frozenset({"on", "yes", "true", "y"})
# One item: anything up to a comma that is not doubled.
_ITEM = re.compile(r"(?:[^,]|,,)*")


class UnreadableOption(ValueError):
    """The value is not of a form that QEMU documents; the message says what is wrong, as a clause."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One item: ``key`` (dotted where nested), ``value`` (doubled commas undone), ``text`` (as it was written)."""

    key: str
    value: str
    text: str


@dataclass(frozen=True, slots=True)
class Settings:
    """An option's value as a list of settings.

    Attributes:
        items: in the order in which they stand.
        document: the JSON object that the items came from, or ``None`` for the key-value form.
        text: the value as QEMU takes it. It is the very text that was parsed until something is changed.
    """

    items: tuple[Setting, ...]
    document: Mapping[str, Any] | None
    text: str

    @classmethod
    def parse(cls, text: str, *, implied: str | None = None) -> Settings:
        """Take a value apart.

        Args:
            text: the value of the option.
            implied: the key to which a first item without ``=`` belongs (``driver`` for ``-device``).

        Raises:
            UnreadableOption: broken JSON. The key-value form can always be read.
        """
        if text.startswith("{"):
            try:
                document = json.loads(text)
            except ValueError as error:
                raise UnreadableOption(f"its JSON cannot be read ({error})") from error
            return cls(tuple(_flatten("", document)), document, text)
        return cls(tuple(_split(text, implied)), None, text)

    def get(self, *keys: str) -> str | None:
        """The value of the last setting under any of ``keys`` (spellings of one key), or ``None``."""
        return next((item.value for item in reversed(self.items) if item.key in keys), None)

    def is_on(self, *keys: str) -> bool:
        """Whether a switch is on, under any of its spellings; one that is missing is off."""
        return (self.get(*keys) or "").lower() in _ON

    def matching(self, *names: str) -> tuple[Setting, ...]:
        """The settings whose key, or whose last dotted part of the key, is one of ``names``."""
        return tuple(item for item in self.items if item.key.rpartition(".")[2] in names)

    def with_value(self, key: str, value: str) -> Settings:
        """A copy in which ``key`` has this value: where it stands, or at the end."""
        if self.document is not None:
            return _from_document(_put(self.document, _path(self.document, key), value))
        new = Setting(key, value, f"{key}={double_commas(value)}")
        positions = [index for index, item in enumerate(self.items) if item.key == key]
        if not positions:
            return self._with_items((*self.items, new))
        # All but the last are shadowed for QEMU; leaving one would leave the old value in sight.
        kept = [new if index == positions[-1] else item for index, item in enumerate(self.items)]
        return self._with_items(item for index, item in enumerate(kept) if index not in positions[:-1])

    def with_bare(self, key: str, value: str) -> Settings:
        """As ``with_value``, but the first item keeps its short form, without ``key=``, if it had it."""
        changed = self.with_value(key, value)
        if self.document is None and self.items and self.items[0].key == key and not self._is_spelt_out(0):
            first = replace(changed.items[0], text=double_commas(value))
            return changed._with_items((first, *changed.items[1:]))
        return changed

    def without(self, *keys: str) -> Settings:
        """A copy without these keys."""
        if self.document is not None:
            return _from_document({key: value for key, value in self.document.items() if key not in keys})
        return self._with_items(item for item in self.items if item.key not in keys)

    def _is_spelt_out(self, index: int) -> bool:
        item = self.items[index]
        return item.text.startswith(f"{item.key}=")

    def _with_items(self, items: Iterable[Setting]) -> Settings:
        chosen = tuple(items)
        return replace(self, items=chosen, text=",".join(item.text for item in chosen))


def double_commas(value: str) -> str:
    """Write a value so that QEMU reads its commas as part of it."""
    return value.replace(",", ",,")


def _split(text: str, implied: str | None) -> Iterable[Setting]:
    position = 0
    while position < len(text):
        match = _ITEM.match(text, position)
        item = match.group() if match else ""
        first = position == 0
        position += len(item) + 1
        if not item:
            continue
        key, equals, value = item.partition("=")
        # A comma before the first "=" means that this "=" is part of a value that has doubled commas.
        if equals and "," not in key:
            yield Setting(key, value.replace(",,", ","), item)
        elif first and implied is not None:
            yield Setting(implied, item.replace(",,", ","), item)
        elif item.startswith("no"):
            yield Setting(item[2:], "off", item)
        else:
            yield Setting(item, "on", item)


def _flatten(prefix: str, value: object) -> Iterable[Setting]:
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            yield from _flatten(f"{prefix}.{key}" if prefix else key, inner)
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _flatten(f"{prefix}.{index}", inner)
    else:
        text = _plain(value)
        yield Setting(prefix, text, text)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)


def _path(document: Mapping[str, Any], key: str) -> list[str]:
    """Where a dotted key leads; a member whose own name has a dot in it comes first."""
    return [key] if key in document else key.split(".")


def _put(node: object, path: list[str], value: str) -> Any:
    """A copy of a JSON value in which the text at this path is replaced."""
    if not path:
        # A switch stays a switch: QEMU's JSON does not take "off" for false.
        return value == "on" if isinstance(node, bool) else value
    here, *rest = path
    if isinstance(node, list):
        elements = list(cast("list[object]", node))
        elements[int(here)] = _put(elements[int(here)], rest, value)
        return elements
    members = dict(cast("Mapping[str, object]", node or {}))
    members[here] = _put(members.get(here), rest, value)
    return members


def _from_document(document: Mapping[str, Any]) -> Settings:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return Settings(tuple(_flatten("", document)), document, text)
