"""The picture in the documentation is the one that the tables give."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from whimbrel.engine import diagram
from whimbrel.engine.states import Phase
from whimbrel.engine.tables import TABLE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == diagram.page(), "run: python -m whimbrel.engine.diagram > docs/protocol.md"


def test_every_phase_is_in_the_picture() -> None:
    picture = diagram.mermaid()
    for phase in Phase:
        assert phase.value in picture


def test_run_as_a_program_it_prints_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the head of the page tells a reader to do gives the page."""
    # Else runpy warns of a module that is imported already.
    monkeypatch.delitem(sys.modules, diagram.__name__)
    runpy.run_module(diagram.__name__, run_name="__main__")
    assert capsys.readouterr().out == diagram.page()


def test_every_entry_that_leads_somewhere_has_its_lines() -> None:
    lines = diagram.entries().splitlines()[2:]
    wanted = sum(len(rules) for rules in TABLE.values() if not all(rule.is_ignored for rule in rules))
    assert len(lines) == wanted
    assert all(line.count("|") == 8 for line in lines)


def test_every_wait_is_on_the_page() -> None:
    assert "| handover | 60 s |" in diagram.waits()
    assert "| completed" not in diagram.waits()
