"""The comparison as a picture."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.foresight import picture
from benchmarks.foresight.compare import compare
from tests.support.foresight import CALLED_OFF, pair

PAIRS = [pair(number, meets=number / 10, total_s=3.0 + number / 5) for number in range(1, 11)]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_it_is_drawn_in_the_form_that_its_name_says(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"all.{ending}"
    picture.draw(compare([*PAIRS, pair(11, meets=0.0, moves=0.0, **CALLED_OFF)]), path)
    assert path.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml"}[ending])


def test_a_range_without_an_end_is_drawn_without_one(tmp_path: Path) -> None:
    endless = pair(1)
    endless.said.foretold.spans["total_s"] = type(endless.said.foretold.spans["total_s"])(3.0, 4.0, None)
    assert endless.said.foretold.ranges["total_s"].high == math.inf
    picture.draw(compare([endless]), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000


def test_where_nothing_moved_there_are_only_probabilities(tmp_path: Path) -> None:
    picture.draw(compare([pair(1, meets=0.0, moves=0.0, **CALLED_OFF)]), tmp_path / "none.png")
    assert (tmp_path / "none.png").exists()


def test_bands_hold_every_migration_once() -> None:
    found = picture.bands(compare(PAIRS))
    assert sum(len(said) for _low, _high, said, _came in found) == len(PAIRS)
    assert all(low <= min(said) and max(said) <= high for low, high, said, _came in found)
