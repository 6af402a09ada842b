"""What the pages say is what the code does: nobody finds out at night that the operator's page is old."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

import whimbrel
from whimbrel.cli import app, exit_code
from whimbrel.commands.codes import OK, UNSETTLED
from whimbrel.engine.protocol import DEFAULT_WAITS
from whimbrel.engine.report import CompletedReport
from whimbrel.engine.states import ENDS, Guest, Phase
from whimbrel.guardian import PAUSES_S
from whimbrel.qmp_driver.options import Options

ROOT = Path(__file__).resolve().parent.parent
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
OPERATIONS = PAGES["operations.md"]


def section(title: str) -> str:
    """What stands below a heading of the operator's page."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    return str(found)


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables in a text, by their first cell."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines}


def test_every_time_limit_is_there_with_its_value() -> None:
    """As a table of seconds; and those that the other texts rely on."""
    told = {re.sub(r" \(.*", "", name).strip("`"): cells[0] for name, cells in rows(section("Time limits")).items()}
    for wait in fields(DEFAULT_WAITS):
        assert told.pop(wait.name.removesuffix("_ns")) == f"{getattr(DEFAULT_WAITS, wait.name) / 1e9:g} s"
    assert told.pop("nothing is sent") == f"{Options().stall_s:g} s"
    assert told.pop("a lost monitor") == f"{Options().reconnect_s:g} s"
    assert list(told) == ["what"]


def test_everything_that_can_become_of_the_guest_is_explained() -> None:
    table = rows(section("What the report says"))
    for guest in Guest:
        assert len(table[f"`{guest.value}`"]) == 2


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    """All of them, and 5 is what it says."""
    codes = [name for name in rows(section("What the report says")) if name.isdigit()]
    assert codes == [str(code) for code in range(OK, UNSETTLED + 1)]
    held = CompletedReport(outcome="failed", owner="limbo", guest="held", why="", total_s=1.0)
    assert exit_code(held) == UNSETTLED


def test_a_cancel_is_explained_for_every_phase() -> None:
    """Once for each."""
    told = [name for cell in rows(section("Calling it off")) for name in re.findall(r"`([a-z]+)`", cell)]
    assert sorted(told) == sorted(phase.value for phase in Phase if phase not in ENDS)


def test_the_guardians_pauses_are_told() -> None:
    words = [f"{pause_s:g} s" for pause_s in PAUSES_S]
    assert ", ".join(words[:-1]) + " and " + words[-1] in section("The guardian")


@pytest.mark.parametrize("name", PAGES)
def test_commands_that_are_named_exist(name: str) -> None:
    """``whimbrel WORD`` in code, on every page."""
    known = {str(each.name or getattr(each.callback, "__name__", "")) for each in app.registered_commands}
    code = re.findall(r"`[^`]+`|```[a-z]*\n.*?```", PAGES[name], re.DOTALL)
    named = {word for text in code for word in re.findall(r"(?:^|[`\n])whimbrel ([a-z]+)", text)}
    assert named <= known


@pytest.mark.parametrize("name", PAGES)
def test_names_of_the_library_exist(name: str) -> None:
    """``whimbrel.NAME``, on every page."""
    named = set(re.findall(r"\bwhimbrel\.([A-Z]\w+|migrate|resolve|preflight)\b", PAGES[name]))
    assert named <= set(whimbrel.__all__)


@pytest.mark.parametrize("name", PAGES)
def test_examples_can_be_read_by_python(name: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", PAGES[name], re.MULTILINE | re.DOTALL):
        compile(block, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """Files that there are, and headings that they have."""
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[name]):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (folder / path) if path else folder / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link
