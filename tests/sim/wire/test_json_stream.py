"""The reading of JSON, against what the real monitor was seen to answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.sim.wire.json_stream import DEEPEST, Fault, JsonStream

PARSE = "JSON parse error, "


def said(data: bytes) -> list[object]:
    """What becomes of these bytes: messages, and the words for what is none."""
    return [each.description if isinstance(each, Fault) else each for each in JsonStream().feed(data)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"foo\n", ["invalid keyword 'foo'"]),
        (b'{"a" 1}', ["missing : in object pair"]),
        (b'{"execute":"query-status",}', ["expecting value"]),
        (b"}\n", ["expecting value"]),
        (b"]", ["expecting value"]),
        (b"{]", ["expecting value"]),
        (b'{"execute":"x"\xff', ["stray '\ufffd'"]),
        (b"\xff", ["stray '\ufffd'"]),
        (b"[[[[\xff", ["stray '\ufffd'"]),
        (b'{"a":nul\xff', ["stray '\ufffd'"]),
        (b'{"a":"\x01"}', ["stray '\"\x01'", "expecting value"]),
        (b'{"a":01}\n', ["stray '01'", "expecting value"]),
        (b'{"a":-}\n', ["stray '-}'"]),
        (b'{"a":tru}', ["invalid keyword 'tru'"]),
        (b'{"a":"\\q"}', ["invalid escape sequence in string"]),
        (b'{"a":"\\u12"}', ["invalid hex escape sequence in string"]),
        (b'{"a":"\\ud800"}', ["\\ud800 is not a valid Unicode character"]),
        (b'{"a":"\xc3("}', ["invalid UTF-8 sequence in string"]),
        (b'{"execute":"x","id":%d}', ["stray '%'", "expecting value"]),
        (b'{"execute":"x" "id":1}', ["expected separator in dict"]),
        (b'{"a":[1 2]}', ["expected separator in list"]),
        (b"{1:2}", ["key is not a string in object"]),
        (b'{"execute":"a","execute":"b"}', ["duplicate key"]),
    ],
)
def test_what_is_no_json_is_answered_in_qemus_words(data: bytes, words: list[str]) -> None:
    """Each of these was sent to QEMU 7.2, and it said this."""
    assert said(data) == [PARSE + each for each in words]


@pytest.mark.parametrize("data", [b"[1]", b"1\n", b'"x"', b"null ", b"[{}]"])
def test_a_value_that_is_no_object_is_no_message(data: bytes) -> None:
    """It is JSON all the same, so the words are other ones."""
    assert said(data) == ["QMP input must be a JSON object"]


def test_reading_goes_on_behind_a_fault() -> None:
    """The next message is whole."""
    assert said(b'@\n{"execute":"stop"}') == [PARSE + "stray '@'", {"execute": "stop"}]
    assert said(b'{"execute":"stop"\xff{"execute":"cont"}') == [PARSE + "stray '\ufffd'", {"execute": "cont"}]


def test_messages_need_nothing_between_them() -> None:
    """No line end, no blank."""
    assert said(b'{"execute":"a"}{"execute":"b"}\r\n {"execute":"c"}') == [
        {"execute": "a"},
        {"execute": "b"},
        {"execute": "c"},
    ]


def test_single_quotes_and_every_kind_of_value() -> None:
    """What a message may hold."""
    text = rb"""{'a': "it's", "b": 'say "x"', "c": [1, -2.5, 1e3, true, false, null], "d": {}, "e": "\u00e9\n\'"}"""
    assert said(text) == [
        {"a": "it's", "b": 'say "x"', "c": [1, -2.5, 1000.0, True, False, None], "d": {}, "e": "é\n'"}
    ]


def test_numbers_beyond_64_bits_are_doubles() -> None:
    """The largest that fits stays whole."""
    assert said(b'{"a":18446744073709551615,"b":99999999999999999999}') == [{"a": (1 << 64) - 1, "b": 1e20}]


def test_nesting_has_a_limit() -> None:
    """One bracket more is a fault, and not an endless wait."""
    assert said(b"[" * DEEPEST) == []
    assert said(b"[" * (DEEPEST + 1)) == ["JSON nesting depth limit exceeded"]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc é", max_size=3), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=3), min_size=1, max_size=3)


@settings(max_examples=50)
@given(MESSAGES, st.booleans(), st.data())
def test_whatever_way_it_is_cut_the_same_is_read(
    messages: list[dict[str, object]], ascii_only: bool, data: st.DataObject
) -> None:
    """Bytes come as the kernel likes, in the middle of a character, too."""
    text = b"".join(json.dumps(each, ensure_ascii=ascii_only).encode() for each in messages)
    stream = JsonStream()
    found: list[object] = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        found += stream.feed(text[:size])
        text = text[size:]
    assert found == messages
