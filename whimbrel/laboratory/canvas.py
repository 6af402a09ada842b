"""What the laboratory's pictures have in common: matplotlib, loaded only where one is drawn, colours, and files.

The colours are those that the colour-blind can tell apart (Okabe and Ito, 2008). The same figures give the same file.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

from whimbrel.engine.errors import BadInput

Axes: TypeAlias = Any
Figure: TypeAlias = Any
"""Of matplotlib, whose own types leave too much open to be checked strictly."""

__all__ = ["FORMS", "Axes", "Figure", "canvas", "check_file", "drawing", "matplotlib", "png_of", "save", "svg_of"]

BLUE, ORANGE, GREEN, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
LIGHT_GREY, GREY, DARK_GREY = "#dddddd", "#888888", "#555555"
FORMS: Final = (".png", ".svg")
POINTS_PER_INCH: Final = 150
WIDTH: Final = 10.0
"""Of every picture, inches: as wide as a page's text, with letters of nine points."""
STYLE: Final[dict[str, Any]] = {
    "svg.hashsalt": "whimbrel",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
_IDS = re.compile(r'(?<=id=")[^"]+(?=")|(?<=url\(#)[^)]+(?=\))|(?<=href="#)[^"]+(?=")')


def matplotlib(part: str = "") -> ModuleType:
    """The library, or a part of it.

    Raises:
        BadInput: it is not installed.
    """
    try:
        return importlib.import_module(f"matplotlib.{part}" if part else "matplotlib")
    except ImportError:
        allowed = "pictures only where matplotlib is: pip install 'whimbrel[report]'"
        raise BadInput("figures", "asked for", allowed) from None


@contextlib.contextmanager
def drawing() -> Generator[None, None, None]:
    """The style of all pictures; to be drawn and written in."""
    with matplotlib().rc_context(STYLE):
        yield


def canvas(rows: int, columns: int, *, height: float, **how: Any) -> tuple[Figure, list[Axes]]:
    """A picture with so many panels, row by row.

    Args:
        rows, columns: of panels.
        height: of the picture, inches.
        how: as ``Figure.subplots`` takes it.
    """
    figure: Figure = matplotlib("figure").Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **how)
    return figure, list(panels.flat)


def svg_of(figure: Figure, name: str) -> str:
    """A picture as an element of a page.

    Args:
        figure: it.
        name: unlike that of any other picture on the page: names inside begin with it.
    """
    sink = io.StringIO()
    figure.savefig(sink, format="svg", metadata={"Date": None})
    text = sink.getvalue()
    return _IDS.sub(lambda found: f"{name}-{found[0]}", text[text.index("<svg") :])


def png_of(figure: Figure) -> bytes:
    """A picture as a file's content."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=POINTS_PER_INCH, metadata={"Software": None})
    return sink.getvalue()


def check_file(path: Path, field: str) -> None:
    """See, before anything is worked out, that a picture of this name can be made.

    Args:
        path: of the picture.
        field: the name of the option, for the error.

    Raises:
        BadInput: it is neither a PNG nor an SVG by its name, its folder is not there, or matplotlib is missing.
    """
    if path.suffix.lower() not in FORMS:
        raise BadInput(field, str(path), f"a file whose name ends in {' or '.join(FORMS)}")
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise BadInput(field, str(path), "a file in a folder that exists")
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        allowed = "a picture only where matplotlib is: pip install 'whimbrel[report]'"
        raise BadInput(field, str(path), allowed) from None


def save(figure: Figure, path: Path, field: str = "figures") -> None:
    """Write a picture.

    Args:
        figure: it.
        path: where to.
        field: the name of the option, for the error.

    Raises:
        BadInput: it is neither a PNG nor an SVG by its name, or can't be written.
    """
    if path.suffix.lower() not in FORMS:
        raise BadInput(field, str(path), f"a file whose name ends in {' or '.join(FORMS)}")
    try:
        if path.suffix.lower() == ".png":
            path.write_bytes(png_of(figure))
        else:
            sink = io.StringIO()
            figure.savefig(sink, format="svg", metadata={"Date": None})
            path.write_text(sink.getvalue(), encoding="utf-8")
    except OSError as error:
        raise BadInput(field, str(path), f"a file that can be written ({error.strerror})") from None
