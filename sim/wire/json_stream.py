"""JSON as QEMU's monitor reads it: a stream of values with nothing between them, and words for what is none.

A client need not send line ends, and may spread a message over many writes or put several into one. Strings may
stand in single quotes, keys must not come twice. What can't be read is answered in words, and reading goes on behind
it. The words are those of QEMU 7.2, 10.0 and 11.1, which do not differ here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

DEEPEST: Final = 1024
"""So many open brackets are read (QEMU's limit on nesting)."""

# A string may hold anything but control characters and the two bytes that UTF-8 never uses; a backslash takes
# whatever follows it. Whether its escapes mean something is looked at when the message is whole.
_IN_STRING: Final = rb"(?:[^\\\x00-\x1f\xfe\xff%s]|\\[^\x00-\x1f\xfe\xff])*"
_DOUBLE: Final = _IN_STRING % b'"'
_SINGLE: Final = _IN_STRING % b"'"
_NUMBER: Final = rb"-?(?:0(?![0-9])|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_TOKEN: Final = re.compile(
    rb"(?P<blank>[ \t\r\n]+)"
    rb"|(?P<mark>[{}\[\],:])"
    rb'|(?P<string>"' + _DOUBLE + rb"\"|'" + _SINGLE + rb"')"
    rb"|(?P<number>" + _NUMBER + rb")(?![0-9.eE])"
    rb"|(?P<word>[a-z]+)"
)
_BEGUN: Final = re.compile(
    rb'"' + _DOUBLE + rb"\\?|'" + _SINGLE + rb"\\?"
    rb"|-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:(?<=[0-9])[eE][+-]?[0-9]*)?)?"
)
"""As far as what stands here could still become a token."""
_RECOVERED: Final = re.compile(rb"[\x00-\x1f{}\[\],:\xfe\xff]")
"""After a mistake everything up to one of these is passed over."""

_WORDS: Final[dict[str, object]] = {"true": True, "false": False, "null": None}
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_HEX: Final = re.compile(r"[0-9a-fA-F]{4}")
_DEPTH: Final = {"{": 1, "[": 1, "}": -1, "]": -1}

Token: TypeAlias = tuple[str, str]
"""Its kind (``mark``, ``string``, ``number``, ``word``) and its text."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What was no message, as QEMU's answer describes it."""

    description: str


class _Unreadable(Exception):
    """What follows is no value; its text says why."""


@dataclass(slots=True)
class JsonStream:
    """Takes bytes as they come, and gives the messages that they make up."""

    _left: bytes = b""
    _tokens: list[Token] = field(default_factory=list[Token])
    _open: dict[str, int] = field(default_factory=lambda: {"{": 0, "[": 0})
    _lost: bool = False

    def feed(self, data: bytes) -> list[dict[str, object] | Fault]:
        """Read on.

        Returns:
            Every message that is whole now, and every fault, in order.
        """
        text = self._left + data
        found: list[dict[str, object] | Fault] = []
        at = 0
        while at < len(text):
            if self._lost:
                at = self._recover(text, at)
                continue
            match = _TOKEN.match(text, at)
            if match is not None and (match.end() < len(text) or match.lastgroup in ("blank", "mark", "string")):
                at = match.end()
                found += self._take(match)
                continue
            begun = _BEGUN.match(text, at)
            end = match.end() if match is not None else begun.end() if begun is not None else at
            if end == len(text):
                break  # more of it may be under way
            found.append(self._stray(text[at : end + 1]))
            self._lost = text[end] not in b"\n\r\t"
            at = end + 1
        self._left = text[at:]
        return found

    def _recover(self, text: bytes, at: int) -> int:
        match = _RECOVERED.search(text, at)
        if match is None:
            return len(text)
        self._lost = False
        return match.start()

    def _stray(self, what: bytes) -> Fault:
        self._forget()
        return Fault(f"JSON parse error, stray '{what.decode(errors='replace')}'")

    def _forget(self) -> None:
        self._tokens = []
        self._open = {"{": 0, "[": 0}

    def _take(self, match: re.Match[bytes]) -> list[dict[str, object] | Fault]:
        """Keep a token; with the last of a message, read that."""
        kind = match.lastgroup or ""
        if kind == "blank":
            return []
        text = match[0].decode(errors="surrogateescape")
        self._tokens.append((kind, text))
        if kind == "mark" and text in _DEPTH:
            self._open["{" if text in "{}" else "["] += _DEPTH[text]
        braces, brackets = self._open["{"], self._open["["]
        if braces + brackets > DEEPEST:
            self._forget()
            return [Fault("JSON nesting depth limit exceeded")]
        if (braces > 0 or brackets > 0) and min(braces, brackets) >= 0:
            return []
        tokens = self._tokens
        self._forget()
        return [_message(tokens)]


def _message(tokens: list[Token]) -> dict[str, object] | Fault:
    try:
        value = _Parser(tokens).value()
    except _Unreadable as error:
        return Fault(f"JSON parse error, {error}")
    if not isinstance(value, dict):
        return Fault("QMP input must be a JSON object")
    return value


class _Parser:
    """The tokens of one message, read by descent."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = iter(tokens)

    def value(self) -> dict[str, object] | list[object] | str | int | float | bool | None:
        return self._value(self._next())

    def _next(self) -> Token:
        token = next(self._tokens, None)
        if token is None:
            raise _Unreadable("premature EOI")
        return token

    def _value(self, token: Token) -> dict[str, object] | list[object] | str | int | float | bool | None:
        kind, text = token
        match kind, text:
            case "string", _:
                return _unquoted(text)
            case "number", _:
                return _number(text)
            case "word", _ if text in _WORDS:
                return _WORDS[text]  # type: ignore[return-value]
            case "word", _:
                raise _Unreadable(f"invalid keyword '{text}'")
            case "mark", "{":
                return self._object()
            case "mark", "[":
                return self._array()
            case _:
                raise _Unreadable("expecting value")

    def _object(self) -> dict[str, object]:
        members: dict[str, object] = {}
        token = self._next()
        if token[1] == "}" and token[0] == "mark":
            return members
        while True:
            key = self._value(token)
            if not isinstance(key, str):
                raise _Unreadable("key is not a string in object")
            if self._next() != ("mark", ":"):
                raise _Unreadable("missing : in object pair")
            value = self._value(self._next())
            if key in members:
                raise _Unreadable("duplicate key")
            members[key] = value
            match self._next():
                case "mark", "}":
                    return members
                case "mark", ",":
                    token = self._next()
                case _:
                    raise _Unreadable("expected separator in dict")

    def _array(self) -> list[object]:
        elements: list[object] = []
        token = self._next()
        if token == ("mark", "]"):
            return elements
        while True:
            elements.append(self._value(token))
            match self._next():
                case "mark", "]":
                    return elements
                case "mark", ",":
                    token = self._next()
                case _:
                    raise _Unreadable("expected separator in list")


def _number(text: str) -> int | float:
    """Whole numbers that 64 bits hold; everything else becomes a double."""
    if text.lstrip("-").isdecimal() and -(1 << 63) <= int(text) < 1 << 64:
        return int(text)
    return float(text)


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    if any("\udc80" <= char <= "\udcff" for char in inner):
        raise _Unreadable("invalid UTF-8 sequence in string")
    if "\\" not in inner:
        return inner
    parts: list[str] = []
    at = 0
    while at < len(inner):
        if inner[at] != "\\":
            parts.append(inner[at])
            at += 1
        elif inner[at + 1] == "u":
            char, at = _code_point(inner, at)
            parts.append(char)
        elif inner[at + 1] in _ESCAPES:
            parts.append(_ESCAPES[inner[at + 1]])
            at += 2
        else:
            raise _Unreadable("invalid escape sequence in string")
    return "".join(parts)


def _code_point(inner: str, at: int) -> tuple[str, int]:
    """Read ``\\uXXXX``, or two of them that make up one character; gives it and where it ends."""
    match = _HEX.match(inner, at + 2)
    if match is None:
        raise _Unreadable("invalid hex escape sequence in string")
    number, end = int(match[0], 16), at + 6
    if 0xD800 <= number < 0xDC00 and inner.startswith("\\u", end):
        other = _HEX.match(inner, end + 2)
        if other is not None and 0xDC00 <= int(other[0], 16) < 0xE000:
            return chr(0x10000 + ((number - 0xD800) << 10) + int(other[0], 16) - 0xDC00), end + 6
    if number == 0 or 0xD800 <= number < 0xE000:
        raise _Unreadable(f"{inner[at : at + 6]} is not a valid Unicode character")
    return chr(number), end
