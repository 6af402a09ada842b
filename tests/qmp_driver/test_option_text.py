"""The text of an option's value: taken apart as QEMU does it, changed only where it is told to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.qmp_driver.option_text import Settings, UnreadableOption, double_commas

KEYS = st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True).filter(lambda key: not key.startswith("no"))
VALUES = st.text(alphabet="ab/,=:. é", max_size=12)


def pairs(settings: Settings) -> list[tuple[str, str]]:
    return [(item.key, item.value) for item in settings.items]


@pytest.mark.parametrize(
    ("text", "implied", "expected"),
    [
        ("file=/a,,b,if=none", None, [("file", "/a,b"), ("if", "none")]),
        ("q35,accel=tcg", "type", [("type", "q35"), ("accel", "tcg")]),
        ("type=q35", "type", [("type", "q35")]),
        ("/a,,b,server", "path", [("path", "/a,b"), ("server", "on")]),
        ("/s,server,nowait", "path", [("path", "/s"), ("server", "on"), ("wait", "off")]),
        ("/a,,b=c", "path", [("path", "/a,b=c")]),
        ("a=b=c", None, [("a", "b=c")]),
        ("a=", None, [("a", "")]),
        ("id=x,,", None, [("id", "x,")]),
        ("", "type", []),
    ],
)
def test_key_value_form(text: str, implied: str | None, expected: list[tuple[str, str]]) -> None:
    """Implied keys, flags, doubled commas and equals signs are read as ``get_opt_name_value`` reads them."""
    assert pairs(Settings.parse(text, implied=implied)) == expected


def test_json_becomes_dotted_keys() -> None:
    """JSON and dotted keys give the same settings, so that one rule does for both."""
    leaf = {"driver": "file", "filename": "/a,b"}
    document = {"driver": "qcow2", "read-only": True, "file": leaf, "l": [{"str": "x"}]}
    settings = Settings.parse(json.dumps(document))
    assert pairs(settings) == [
        ("driver", "qcow2"),
        ("read-only", "on"),
        ("file.driver", "file"),
        ("file.filename", "/a,b"),
        ("l.0.str", "x"),
    ]
    assert settings.is_on("read-only")
    assert [item.key for item in settings.matching("filename")] == ["file.filename"]


def test_broken_json_is_said_to_be() -> None:
    """QEMU's single-quoted dialect and torn JSON are not guessed at."""
    with pytest.raises(UnreadableOption, match="JSON"):
        Settings.parse("{'driver': 'file'}")


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=6))
def test_reading_undoes_writing(wanted: list[tuple[str, str]]) -> None:
    """Whatever is written with doubled commas is read back, and the text stays as it was."""
    text = ",".join(f"{key}={double_commas(value)}" for key, value in wanted)
    settings = Settings.parse(text)
    assert pairs(settings) == wanted
    assert settings.text == text


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=6), KEYS, VALUES)
def test_a_change_concerns_its_key_alone(items: list[tuple[str, str]], key: str, value: str) -> None:
    """After a change the key has the new value once, also when read anew, and no other item has moved."""
    text = ",".join(f"{each}={double_commas(old)}" for each, old in items)
    changed = Settings.parse(text).with_value(key, value)
    again = Settings.parse(changed.text)
    assert pairs(again) == pairs(changed)
    assert [found for each, found in pairs(again) if each == key] == [value]
    assert [pair for pair in pairs(again) if pair[0] != key] == [pair for pair in items if pair[0] != key]


@pytest.mark.parametrize(("text", "expected"), [("q35,a=b", "new,a=b"), ("type=q35,a=b", "type=new,a=b")])
def test_a_short_form_stays_short(text: str, expected: str) -> None:
    """The first item keeps the spelling that the user chose."""
    assert Settings.parse(text, implied="type").with_bare("type", "new").text == expected


def test_json_changes_in_place() -> None:
    """A nested member, one in a list, and a switch are replaced as what they are."""
    settings = Settings.parse('{"a":{"b":"x"},"l":[{"f":"y"}],"s":true,"dot.ted":"z"}')
    changed = settings.with_value("a.b", "1").with_value("l.0.f", "2").with_value("s", "off").with_value("dot.ted", "3")
    assert json.loads(changed.text) == {"a": {"b": "1"}, "l": [{"f": "2"}], "s": False, "dot.ted": "3"}
    assert json.loads(changed.without("a").with_value("c.d", "4").text)["c"] == {"d": "4"}
