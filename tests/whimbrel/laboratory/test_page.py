"""A comparison as a page, read by a real browser that has no network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colors
from matplotlib.image import imread
from numpy.typing import NDArray

from tests.support.browser import document, photograph
from tests.whimbrel.laboratory.sample import BOUNDS, comparison
from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.canvas import VERMILION
from whimbrel.laboratory.page import page, save_all, write
from whimbrel.laboratory.ranking import agreement

COMMAND = "whimbrel compare --set <basic> --seeds 2"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write(comparison(), path, bounds=BOUNDS, agreement=agreement(comparison().rows, comparison().rows), command=COMMAND)
    return path


def test_it_needs_nothing_but_itself(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    fetched = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"'#][^\"']*)|url\(([^#)][^)]*)|@import", text)
    # The names of SVG's own vocabulary are no addresses that anything is fetched from, and data is itself.
    known = ("http://www.w3.org/", "data:")
    assert [each for pair in fetched for each in pair if each and not each.startswith(known)] == []


def test_a_browser_reads_it_and_its_script_runs(written: Path, tmp_path: Path) -> None:
    dom = document(written, tmp_path / "profile")
    assert 'data-ready="1"' in dom
    tags = Tags()
    tags.feed(dom)
    assert tags.count["svg"] == 4  # without bounds for its runs it has no regrets
    assert tags.count["table"] == 1 + len(comparison().matrix.cases)
    assert "&lt;basic&gt;" in dom
    assert "Writes &lt;all&gt; day &amp; night." in dom
    for policy in comparison().matrix.policies:
        assert policy in dom
    assert "Kendall's tau between both orders of 4 policies over 3 cases: 1.00" in dom


def test_its_pictures_are_seen(written: Path, tmp_path: Path) -> None:
    """Points, curves and outages have their colours on the screen, not only in the text."""
    photograph(written, tmp_path / "profile", tmp_path / "seen.png", width=1200, height=3000)
    seen: NDArray[np.float32] = np.asarray(imread(tmp_path / "seen.png"))[..., :3]
    assert seen.shape == (3000, 1200, 3)
    ink: NDArray[np.bool_] = np.any(seen < 0.5, axis=2)
    assert np.any(ink, axis=1).mean() > 0.3, "most lines of the page have something on them"
    near = np.abs(seen - np.array(colors.to_rgb(VERMILION))).max(axis=2) < 0.1
    assert near.sum() > 20
    assert not ink[:, -10:].any(), "nothing runs out of the page on the right"


def test_every_picture_is_a_file_too(tmp_path: Path) -> None:
    paths = save_all(comparison(), tmp_path / "new" / "figures", bounds=BOUNDS)
    assert sorted(path.name for path in paths) == sorted(
        f"{name}.{form}" for name in ("fronts", "courses", "survival", "cases") for form in ("png", "svg")
    )
    assert all(path.stat().st_size > 5000 for path in paths)


def test_the_same_comparison_is_the_same_page(written: Path) -> None:
    told = agreement(comparison().rows, comparison().rows)
    again = page(comparison(), bounds=BOUNDS, agreement=told, command=COMMAND)
    assert again == written.read_text(encoding="utf-8")


def test_where_it_can_not_be_written_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="html"):
        write(comparison(), tmp_path / "nowhere" / "page.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="a folder that can be written"):
        save_all(comparison(), tmp_path / "file")


class Tags(HTMLParser):
    """Counts elements."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
