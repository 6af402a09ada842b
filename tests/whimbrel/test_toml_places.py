"""The lines of a TOML file's values: every value has one, and it is the right one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.toml_places import Path, places, written

TEXT = '''\
# a comment with [brackets] = "and quotes
seed = 1
"odd key".'more' = { a = 1, b = [1,
  2] }

[guest]   # note
ram = """
[not.a.table]
x = 1"""
when = 1979-05-27 07:32:00Z

[[guest.writer]]
name = 'hot # not a comment'

[[guest.writer]]
[guest.writer.extra]
rate = "]"
[link]
steps = [
  # first
  { at = "1s" },

  { at = "2s", bandwidth = "1" },
]
empty = [] # nothing
quotes = """two: "" three: \\""" and five"""""
last = """"quoted\\
  text"""
after = 1
'''
LINES: list[tuple[Path, int]] = [
    (("seed",), 2),
    (("odd key", "more", "b", 0), 3),
    (("odd key", "more", "b", 1), 4),
    (("guest",), 6),
    (("guest", "ram"), 7),
    (("guest", "when"), 10),
    (("guest", "writer"), 12),
    (("guest", "writer", 0, "name"), 13),
    (("guest", "writer", 1), 15),
    (("guest", "writer", 1, "extra"), 16),
    (("guest", "writer", 1, "extra", "rate"), 17),
    (("link", "steps"), 19),
    (("link", "steps", 0, "at"), 21),
    (("link", "steps", 1, "bandwidth"), 23),
    (("link", "empty"), 25),
    (("link", "quotes"), 26),
    (("link", "last"), 27),
    (("link", "after"), 29),
]


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Every path of a value."""
    parts: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        parts = list(cast("dict[str | int, Any]", value).items())
    elif isinstance(value, list):
        elements = cast("list[object]", value)
        parts = list(enumerate(elements))
    for key, part in parts:
        yield (*at, key)
        yield from paths(part, (*at, key))


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(("path", "line"), LINES, ids=[written(path) for path, _ in LINES])
def test_the_line_of(path: Path, line: int, ends: str) -> None:
    assert places(TEXT.replace("\n", ends)).lines[path] == line


def test_every_value_has_a_line() -> None:
    found = places(TEXT).lines
    assert [path for path in paths(tomllib.loads(TEXT)) if path not in found] == []


def test_what_is_not_there_is_looked_for_in_what_it_would_stand_in() -> None:
    found = places(TEXT)
    assert found.line(("guest", "writer", 1, "name")) == 15
    assert found.line(("guest", "nothing", "below")) == 6
    assert found.line(("nowhere",)) == found.line(()) == 1


def test_a_path_as_people_write_it() -> None:
    """Elements are counted from 1; a key that needs quotes has them."""
    assert written(("guest", "writer", 1, "rate")) == "guest.writer[2].rate"
    assert written(("odd key", 0)) == "'odd key'[1]"


KEYS = st.sampled_from(["a", "b-2", '"c d"', "'e.f'", '"g\\"h"'])
SCALARS = st.sampled_from(["1", "true", "-1.5e3", "'x#y'", '"[z]"', "'''\nl\n'''", '"""\n"q"\n"""', "2000-01-01"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: "[\n" + ", # }\n".join(values) + "\n]")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs.items()) + "}"
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.lists(st.dictionaries(KEYS, VALUES, max_size=2), max_size=3))
def test_any_file_that_can_be_read_can_be_walked(pairs: dict[str, str], tables: list[dict[str, str]]) -> None:
    """Every value is found, on the line on which it was written."""
    lines: list[str] = []
    begun: dict[Path, int] = {}
    for number, each in [(None, pairs), *enumerate(tables)]:
        if number is not None:
            lines += ["", "[[ t ]]"]
        for key, value in each.items():
            plain = next(iter(tomllib.loads(f"{key} = 1")))
            begun[(plain,) if number is None else ("t", number, plain)] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    found = places(text)
    assert all(found.lines[path] == line for path, line in begun.items())
    assert set(paths(tomllib.loads(text))) <= set(found.lines)
