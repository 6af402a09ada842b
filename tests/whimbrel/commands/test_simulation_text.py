"""Simulated migrations as text: everything is there, long tables are cut in the middle, text of users is no markup."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

from rich.console import Console

from whimbrel.commands.simulation_text import simulation_head, simulation_text
from whimbrel.scenario_writing import Plan
from whimbrel.sim.scenario import GuestPlan, Scenario, Writer
from whimbrel.simulation_records import Decided, Row, Run, Simulation

MIB = 1 << 20
ODD = "[red]not markup[/red] :warning: [/]"
SCENARIO = Scenario(guest=GuestPlan(ram_bytes=64 * MIB, writers=(Writer(name=ODD, size_bytes=MIB),)), policy="fixed")


def row(number: int) -> Row:
    """An iteration of a second."""
    return Row(
        number=number,
        start_s=number - 1.0,
        duration_s=1.0,
        to_send_bytes=64 * MIB / number,
        sent_bytes=64 * MIB / number,
        dirtied_bytes=1234.0,
        bandwidth_bytes_per_s=64.0 * MIB,
        throttle=0.2,
        downtime_limit_s=0.3,
    )


RUN = Run(
    seed=3,
    converged=True,
    outcome="completed",
    total_s=3.5,
    downtime_s=0.125,
    iterations=3,
    transferred_bytes=96.0 * MIB,
    throttle=0.2,
    downtime={"stop_s": 0.001, "drain_s": 0.002, "last_ram_s": 0.1, "device_state_s": 0.02, "load_s": 0.002},
    each_iteration=(row(1), row(2), replace(row(3), stopped=True)),
    decisions=(
        Decided(
            at_s=1.5,
            iteration=2,
            asked="iteration",
            because=ODD,
            changes={
                "downtime_limit_s": 0.3,
                "bandwidth_bytes_per_s": 0,
                "throttle_initial": 0.2,
                "capabilities": ["multifd", "xbzrle"],
            },
            clamped=("limit: 5 is outside 0.001 to 0.3",),
        ),
    ),
    drawn={"destination_start_s": 0.0934, "faults": ["outage at 1 s"]},
    remaining=((0.0, 64.0 * MIB), (3.5, 0.0)),
)


def drawn(*runs: Run, notes: tuple[str, ...] = (), width: int = 80) -> str:
    """As text."""
    simulation = Simulation(scenario=SCENARIO, model="stepwise", runs=runs, notes=notes)
    console = Console(file=io.StringIO(), width=width)
    console.print(simulation_head(Plan(scenario=SCENARIO, seed=3), "stepwise", runs[0].drawn))
    console.print(simulation_text(simulation, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_everything_is_told() -> None:
    """What was simulated, how it ended, the course, the iterations, the decisions with reasons, the downtime."""
    text = drawn(replace(RUN, notes=("its own note",)), notes=("a note",))
    flat = " ".join(text.split())
    for wanted in (
        *("seed 3, model stepwise: ", 'policy = "fixed"', 'ram = "64MiB"', ODD),
        "COMPLETED in 3.5s, 3 iterations, 96MiB sent, downtime 125ms, throttled by up to 20%",
        *("drawn: destination start 93.4ms", "drawn: outage at 1 s"),
        *("Remaining bytes over time", "┴ iterations begin", "█"),
        *("1 1s 64MiB 64MiB 1.21KiB 64MiB/s 20% 300ms", "3 1s 21.3MiB 21.3MiB 1.21KiB 64MiB/s 20% stopped"),
        *(f"1.500 s {ODD}", "downtime limit 300ms, bandwidth unlimited, throttle initial 0.2, multifd and xbzrle"),
        *("not allowed: limit: 5 is outside", "Downtime: 125ms", "stop the source 1ms", "a note its own note"),
    ):
        assert wanted in flat, wanted


def test_long_tables_are_cut_in_the_middle() -> None:
    decision = RUN.decisions[0]
    many = replace(
        RUN,
        each_iteration=tuple(row(number) for number in range(1, 101)),
        decisions=tuple(replace(decision, at_s=float(number), because=f"r{number}.") for number in range(100)),
    )
    text = drawn(many)
    assert "r0." in text
    assert "r99." in text
    assert "r50." not in text
    assert "… 84 more" in text
    assert len(text.splitlines()) < 110


def test_what_did_not_converge() -> None:
    gone: dict[str, Any] = {"converged": False, "downtime_s": None, "downtime": {}, "outcome": "gave-up"}
    text = drawn(replace(RUN, reason="it dirties too fast", total_s=math.inf, **gone))
    assert "GAVE-UP\n" in text
    assert "GAVE-UP after 1m" in drawn(replace(RUN, total_s=60.0, **gone))
    assert "it dirties too fast" in text
    assert "Downtime" not in text


def test_a_model_that_knows_little_leaves_cells_empty() -> None:
    bare = Row(number=1, start_s=0.0, duration_s=1.0, to_send_bytes=5.0, sent_bytes=5.0)
    text = drawn(replace(RUN, each_iteration=(bare,), decisions=(), downtime={}, throttle=0.0))
    assert "1  " in text
    assert "Decisions" not in text


def test_a_summary_where_there_are_many() -> None:
    text = drawn(RUN, replace(RUN, seed=4, total_s=4.5), replace(RUN, seed=5, converged=False))
    flat = " ".join(text.split())
    assert "2 of 3 runs moved the guest" in flat
    assert "total 3.5s 4s 4.5s" in flat
