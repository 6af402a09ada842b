"""The picture in the documentation is the one that the tables give."""

from __future__ import annotations

from pathlib import Path

from whimbrel.engine import diagram

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == diagram.page(), "run: python -m whimbrel.engine.diagram > docs/protocol.md"


def test_every_phase_is_in_the_picture() -> None:
    picture = diagram.mermaid()
    for phase in diagram.Phase:
        assert phase.value in picture
