"""Pictures as files and as parts of a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.canvas import Figure, canvas, drawing, png_of, save, svg_of


def line() -> Figure:
    figure, (axes,) = canvas(1, 1, height=2.0)
    axes.plot([0, 1], [0, 1], label="so")
    axes.legend()
    return figure


def test_the_same_figures_give_the_same_file(tmp_path: Path) -> None:
    with drawing():
        for form in (".png", ".svg"):
            for name in ("one", "two"):
                save(line(), tmp_path / f"{name}{form}")
            assert (tmp_path / f"one{form}").read_bytes() == (tmp_path / f"two{form}").read_bytes()
        assert png_of(line()).startswith(b"\x89PNG")


def test_several_pictures_on_a_page_do_not_share_names() -> None:
    """Names inside an SVG hold for the whole page that it stands in: clip paths of another picture would cut it."""
    with drawing():
        one, two = svg_of(line(), "one"), svg_of(line(), "two")
    names = [set(re.findall(r'id="([^"]+)"', text)) for text in (one, two)]
    assert names[0]
    assert not names[0] & names[1]
    for text, known in zip((one, two), names, strict=True):
        used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text))
        assert {a or b for a, b in used} <= known
    assert one.startswith("<svg")


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    with drawing(), pytest.raises(BadInput, match=r"ends in \.png or \.svg"):
        save(line(), tmp_path / "one.gif")
    with drawing(), pytest.raises(BadInput, match="can be written"):
        save(line(), tmp_path / "nowhere" / "one.png")
