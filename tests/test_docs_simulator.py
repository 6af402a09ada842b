"""The simulator's page says what the code does: every key with its default, every model, files that there are."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import PAGES, rows
from whimbrel.engine.policy import Objectives
from whimbrel.scenario_keys import COSTS, CURVE, GUEST, LINK, OBJECTIVES, QEMU, TOP, WRITER, Key
from whimbrel.sim.qemu.contract import Costs
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario, Writer
from whimbrel.simulating import MODELS
from whimbrel.simulation_records import Run, Simulation, as_dict

ROOT = Path(__file__).resolve().parent.parent
PAGE = PAGES["simulator.md"]

SECTIONS: list[tuple[str, dict[str, Key], Any]] = [
    ("At the top", TOP, Scenario),
    ("`[guest]`", GUEST, GuestPlan),
    ("`[[guest.writer]]`", WRITER, Writer),
    ("`[guest.curve]`", CURVE, None),
    ("`[link]`", LINK, LinkPlan),
    ("`[qemu]`", QEMU, QemuPlan),
    ("`[qemu.costs]`", COSTS, Costs),
    ("`[objectives]`", OBJECTIVES, Objectives),
]


def section(title: str) -> str:
    """What stands below a heading, up to the next one of any kind."""
    (found,) = re.findall(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def default_of(name: str, key: Key, record: Any) -> str:
    """As the page has it: as it would be written, ``needed``, or nothing where there is none."""
    if key.needed or (record is GuestPlan and name == "ram"):
        return "needed"
    if name in ("seed", "dma"):
        return {"seed": "`1`", "dma": "`false`"}[name]
    defaults = {each.name: each.default for each in fields(record)} if is_dataclass(record) else {}
    value = defaults.get(key.field, MISSING)
    return "" if value is MISSING or value is None else "`" + key.kind.write(value).strip('"') + "`"


@pytest.mark.parametrize(("title", "keys", "record"), SECTIONS, ids=[title for title, _, _ in SECTIONS])
def test_every_key_is_there_with_its_unit_its_default_and_its_meaning(
    title: str, keys: dict[str, Key], record: Any
) -> None:
    lines = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("| `")]
    told = {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert told == {name: [key.kind.unit, default_of(name, key, record), key.meaning] for name, key in keys.items()}


def test_every_model_is_there() -> None:
    names = [re.findall(r"`([a-z-]+)`", name)[0] for name in rows(section("Models")) if name.startswith("`")]
    assert names[1:] == list(MODELS)


def test_every_key_of_the_output_is_there() -> None:
    run = Run(seed=1, converged=True, outcome="", total_s=1.0, downtime_s=None, iterations=0, transferred_bytes=0.0)
    told = as_dict(Simulation(scenario=Scenario(guest=GuestPlan(ram_bytes=1)), model="fast", runs=(run,)))
    cells = [name for name in rows(section("What it gives")) if name.startswith("`")]
    named = {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}
    assert named == set(told) | {"plot", "log"}


def test_files_that_are_named_exist() -> None:
    """In examples, as arguments."""
    for name in re.findall(r"docs/examples/[\w.-]+", PAGE):
        assert (ROOT / name).is_file(), name


def test_what_is_left_out_is_a_list() -> None:
    assert len(re.findall(r"^- \*\*", section("What is left out"), re.MULTILINE)) >= 8
