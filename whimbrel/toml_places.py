"""On which line of a TOML file each value stands. The standard library's reader does not tell.

The text is walked once more after `tomllib` has accepted it, so only its structure has to be followed: keys, tables,
arrays, strings and comments (TOML 1.0).
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Path", "Places", "places", "written"]

Path = tuple[str | int, ...]
"""Keys, and the numbers of an array's elements (from 0), from the top of the file down."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRINGS: Final = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL),
    re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
"""Those over several lines first: they begin as an empty one of a single line would."""
_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_SPACE: Final = re.compile(r"[ \t]*")
_PLAIN: Final = re.compile(r"[^\s,\]}#]+(?: [0-9][^\s,\]}#]*)?")
"""A number, a truth value, or a date, which may have one blank inside."""


@dataclass(slots=True)
class Places:
    """The lines, from 1."""

    lines: dict[Path, int] = field(default_factory=dict[Path, int])

    def line(self, path: Path) -> int:
        """Where this stands, or else what it would stand in; 1 for what the file does not have at all."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return 1


def places(text: str) -> Places:
    """The lines of all tables, keys and array elements of a text that `tomllib` can read."""
    walk = _Walk(text.replace("\r\n", "\n"))
    walk.document()
    return walk.found


def written(path: Path) -> str:
    """A path as people write it: ``guest.writer[2].rate``, elements counted from 1."""
    words = [f"[{part + 1}]" if isinstance(part, int) else f".{_quoted(part)}" for part in path]
    return "".join(words).removeprefix(".")


def _quoted(key: str) -> str:
    return key if _BARE.fullmatch(key) else repr(key)


class _Walk:
    """The walk through one text."""

    def __init__(self, text: str) -> None:
        """At the beginning of this text."""
        self.text = text
        self.at = 0
        self.found = Places()
        self._counted = (0, 1)
        self._arrays: dict[Path, int] = {}
        """How many elements an array of tables has so far."""

    def document(self) -> None:
        """All of it."""
        table: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            table = self._header() if self._peek() == "[" else self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Path:
        line, double = self._line(), self.text.startswith("[[", self.at)
        self.at += 2 if double else 1
        keys = self._keys()
        self.at += 2 if double else 1
        table: Path = ()
        for key in keys[:-1]:
            table = self._last_of((*table, key))
        table = (*table, keys[-1])
        if double:
            self.found.lines.setdefault(table, line)
            number = self._arrays.get(table, 0)
            self._arrays[table] = number + 1
            table = (*table, number)
        self.found.lines[table] = line
        return table

    def _last_of(self, table: Path) -> Path:
        """``[a.b]`` below ``[[a]]`` means the last element of ``a``."""
        return (*table, self._arrays[table] - 1) if table in self._arrays else table

    def _pair(self, table: Path) -> Path:
        """One ``key = value``; gives back the table that it stands in, unchanged."""
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.found.lines.setdefault(path, line)
        self._skip(_SPACE)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)
        return table

    def _keys(self) -> list[str]:
        """A dotted key."""
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            keys.append(self._key())
            self._skip(_SPACE)
            if self._peek() != ".":
                return keys
            self.at += 1

    def _key(self) -> str:
        quoted = self._string()
        if quoted is not None:
            return str(tomllib.loads(f"x = {quoted}")["x"])
        return self._take(_BARE)

    def _value(self, path: Path) -> None:
        match self._peek():
            case "[":
                self._elements(path)
            case "{":
                self._inline(path)
            case _:
                if self._string() is None:
                    self._take(_PLAIN)

    def _elements(self, path: Path) -> None:
        self.at += 1
        number = 0
        while True:
            self._skip(_BLANK)
            if self._peek() == "]":
                break
            if self._peek() == ",":
                self.at += 1
                continue
            self.found.lines[(*path, number)] = self._line()
            self._value((*path, number))
            number += 1
        self.at += 1

    def _inline(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_BLANK)
            if self._peek() == "}":
                break
            if self._peek() == ",":
                self.at += 1
                continue
            self._pair(path)
        self.at += 1

    # ---- letters

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _line(self) -> int:
        """The line of the present place; counted on from where it was asked last."""
        before, line = self._counted
        line += self.text.count("\n", before, self.at)
        self._counted = (self.at, line)
        return line

    def _string(self) -> str | None:
        """The string, with its quotes, that begins here; ``None``: none does."""
        for form in _STRINGS:
            if match := form.match(self.text, self.at):
                self.at = match.end()
                return match[0]
        return None

    def _skip(self, form: re.Pattern[str]) -> None:
        if match := form.match(self.text, self.at):
            self.at = match.end()

    def _take(self, form: re.Pattern[str]) -> str:
        match = form.match(self.text, self.at)
        if match is None:  # the reader has accepted the text, so this is a fault of ours, not the user's
            raise AssertionError(f"line {self._line()}: {self.text[self.at : self.at + 20]!r} was not expected here")
        self.at = match.end()
        return match[0]
