"""What reports look like: within the width, nothing left out, and other people's text shown as it is."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from whimbrel import render
from whimbrel.engine.estimate import Range
from whimbrel.engine.foresight import Basis, Outlook, Verdict
from whimbrel.engine.policy import Knobs, Objectives
from whimbrel.engine.report import CompletedReport, OngoingReport, StageTime
from whimbrel.engine.statistics import Iteration
from whimbrel.engine.timeline import Downtime
from whimbrel.history import Entry, Standing
from whimbrel.qmp_driver.findings import inform, refuse, warn

ODD = "[red]not markup[/red] :warning: [/]"
"""Text of a user, or of QEMU, that rich would read as its own."""

WIDTHS = (60, 80, 120)


def drawn(what: RenderableType, width: int = 80) -> str:
    """A renderable as plain text, by a console that would interpret markup if it were let to."""
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def iterations(count: int) -> tuple[Iteration, ...]:
    """So many, each of a second."""
    return tuple(
        Iteration(
            number=number,
            started_ns=number * 10**9,
            ended_ns=(number + 1) * 10**9,
            remaining_at_start_bytes=1 << 40,
            remaining_at_end_bytes=0,
            sent_bytes=123456789012,
            dirtied_bytes=98765432,
        )
        for number in range(1, count + 1)
    )


STAGES = (
    StageTime(stage=1, name="prepare the destination", seconds=0.1),
    StageTime(stage=2, name="transfer", seconds=9),
)
DOWNTIME = Downtime(
    total_s=0.021, stop_s=0.001, drain_s=0.002, last_ram_s=0.003, device_state_s=0.004, load_s=0.005, resume_s=0.006
)
FACTS = {"qemu_source": f"7.2.22 ({ODD})", "qemu_destination": "10.0", "destination_qmp": f"/run/{'x' * 90}/q"}

REPORTS = {
    "completed": CompletedReport(
        outcome="completed",
        owner="destination",
        guest="running",
        why="moved",
        total_s=9.1,
        stages=STAGES,
        downtime=DOWNTIME,
        iterations=iterations(40),
        ram_transferred_bytes=123,
        ram_total_bytes=456,
        facts=FACTS,
        notes=(ODD, "a note that is longer than any line " * 5),
    ),
    "failed": CompletedReport(
        outcome="failed",
        owner="source",
        guest="running",
        why=f"QEMU said: {ODD}",
        total_s=0.0,
        stages=STAGES,
        facts=FACTS,
    ),
    "held": CompletedReport(outcome="failed", owner="limbo", guest="held", why="out of reach " * 20, total_s=3.0),
    "not looked at": CompletedReport(
        outcome="cancelled", owner="source", guest="unconfirmed", why="called off", total_s=0.001
    ),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", REPORTS)
def test_every_report_fits(kind: str, width: int) -> None:
    """No line is wider than the terminal, whatever is in the report."""
    finished = REPORTS[kind]
    lines = drawn(render.report(finished), width).splitlines()
    assert lines[0].startswith(finished.outcome.upper())
    assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("completed", "the guest is running, and it belongs to the destination"),
        ("held", "the guest stands paused until somebody decides, and whose it is could not be settled"),
        ("not looked at", "whether the guest runs was not seen, and it belongs to the source"),
    ],
)
def test_the_first_line_says_who_has_the_guest(kind: str, words: str) -> None:
    assert words in drawn(render.report(REPORTS[kind]), 200).splitlines()[0]


def test_text_of_others_is_no_markup() -> None:
    wide = 200
    assert ODD in drawn(render.report(REPORTS["failed"]), wide)
    assert drawn(render.report(REPORTS["completed"]), wide).count(ODD) == 2
    assert ODD in drawn(render.findings([refuse(ODD, "x")]), wide)
    assert drawn(render.findings([warn("code", ODD, ODD)]), wide).count(ODD) == 2
    assert ODD in drawn(render.guest_view({"memory_verified": False, "memory_detail": ODD}), wide)
    assert drawn(render.policies({ODD: (ODD, {"key": ODD})}), wide).count(ODD) == 3
    assert drawn(render.pairs({ODD: ODD}), wide).count(ODD) == 2
    glance = OngoingReport(phase=ODD, stage=None, stage_name="", owner="source", elapsed_s=1.0)
    assert ODD in drawn(render.progress_line(glance), wide)
    assert ODD in drawn(render.progress(glance), wide)


def test_a_long_table_keeps_its_ends() -> None:
    """Of 40 iterations the first three and the last ones are shown."""
    table = drawn(render.report(REPORTS["completed"]))
    numbers = [
        line.split()[0] for line in table.partition("dirty rate")[2].partition("\n\n")[0].splitlines() if line.strip()
    ]
    assert numbers == ["1", "2", "3", "…", *(str(number) for number in range(32, 41))]


def test_the_downtime_is_itemised_where_there_was_one() -> None:
    assert "Downtime by both QEMUs' events: 21ms" in drawn(render.report(REPORTS["completed"]))
    assert "Downtime" not in drawn(render.report(REPORTS["failed"]))


def test_a_destination_that_is_gone_has_no_monitor() -> None:
    """After a demonstration, and wherever the guest did not go there."""
    assert "destination QMP" in drawn(render.report(REPORTS["completed"]))
    assert "destination QMP" not in drawn(render.report(REPORTS["completed"], destination_stays=False))
    assert "destination QMP" not in drawn(render.report(REPORTS["failed"]))


def test_findings_come_gravest_first() -> None:
    found = [inform("c", "said"), warn("b", "mind"), refuse("a", "no", "do this")]
    codes = [line.split()[1] for line in drawn(render.findings(found)).splitlines() if "→" not in line]
    assert codes == ["a", "b", "c"]
    assert drawn(render.findings([])) == "nothing speaks against it\n"


def test_past_migrations_take_a_few_lines_each() -> None:
    """What a reader has to do stands on a line of its own; what went well needs no reason."""
    moved = Entry(
        log="/l/1",
        standing=Standing.ENDED,
        started_wall_s=0.0,
        source=ODD,
        policy="fixed",
        outcome="completed",
        owner="destination",
        guest="running",
        downtime_s=0.02,
        total_s=9.1,
        why="moved",
    )
    left = replace(
        moved, log="/l/2", standing=Standing.LEFT, outcome="", phase="precopy", guest="", downtime_s=None, total_s=None
    )
    left = replace(left, owner="source", why="its manager died", advice="whimbrel resolve /l/2")
    damaged = Entry(log="/l/3", standing=Standing.DAMAGED, started_wall_s=0.0, why="line 2 is damaged")
    lines = [line.rstrip() for line in drawn(render.history([moved, left, damaged]), 100).splitlines()]
    assert [line[21:] if line.startswith("19") else line for line in lines] == [
        "completed  owner: destination, running  downtime 20ms  total 9.1s",
        f"    from {ODD}, by fixed, log /l/1",
        "left in precopy  owner: source",
        f"    from {ODD}, by fixed, log /l/2",
        "    its manager died",
        "    → whimbrel resolve /l/2",
        "damaged",
        "    log /l/3",
        "    line 2 is damaged",
    ]
    assert drawn(render.history([])) == "no migrations yet\n"


def test_the_guest_says_whether_its_memory_is_whole() -> None:
    for verified, word in ((True, "verified"), (False, "DAMAGED"), (None, "not checked")):
        assert word in drawn(render.guest_view({"memory_verified": verified}))
    seen = drawn(
        render.guest_view({"downtime_guest_s": 0.02, "stalls_s": 0.1, "largest_gap_s": 0.05, "memory_verified": True})
    )
    assert [each in seen for each in ("20ms", "100ms", "50ms")] == [True] * 3


GLANCES = st.builds(
    OngoingReport,
    phase=st.sampled_from(["precopy", "cancelling", "resolving"]),
    stage=st.sampled_from([None, 2]),
    stage_name=st.sampled_from(["transfer", "continue on the destination"]),
    owner=st.just("source"),
    elapsed_s=st.floats(0, 1e6),
    iteration=st.integers(0, 10**6),
    remaining_bytes=st.integers(0, 1 << 50),
    transferred_bytes=st.integers(0, 1 << 50),
    total_bytes=st.integers(0, 1 << 50),
    bandwidth_bytes_per_s=st.floats(0, 1e12),
    dirty_bytes_per_s=st.floats(0, 1e12),
    throttle=st.floats(0, 1),
    knobs=st.builds(Knobs, downtime_limit_s=st.floats(0, 2000), bandwidth_bytes_per_s=st.integers(0, 1 << 40)),
    because=st.text(st.characters(exclude_categories=["C", "Z", "M"])),
    since_migrate_s=st.floats(0, 1e6),
    outlook=st.none()
    | st.builds(
        Outlook,
        at_s=st.floats(0, 1e6),
        iteration=st.integers(0, 10**6),
        ends_s=st.tuples(*[st.floats(0, math.inf)] * 3).map(lambda ends: Range(*sorted(ends))),
        downtime_s=st.just(Range(0.1, 0.2, 0.3)),
        transferred_bytes=st.just(Range(1.0, 2.0, 3.0)),
        meets=st.floats(0, 1),
        basis=st.sampled_from(Basis),
    ),
)


@given(GLANCES, st.sampled_from(WIDTHS))
def test_progress_on_a_terminal_takes_four_lines_at_most(glance: OngoingReport, width: int) -> None:
    """Each cut to the width: a line that wraps would make the display jump."""
    lines = drawn(render.progress(glance), width).splitlines()
    assert len(lines) <= 4
    assert max(cell_len(line) for line in lines) <= width


@given(GLANCES)
def test_progress_in_a_log_is_one_line(glance: OngoingReport) -> None:
    assert "\n" not in render.progress_line(glance).plain


def test_backing_out_names_no_cause() -> None:
    """A failure backs out, too: "cancelling" would tell a user that somebody called it off."""
    glance = OngoingReport(phase="cancelling", stage=None, stage_name="", owner="source", elapsed_s=2.0)
    assert render.progress_line(glance).plain == "backing out, 2.0 s"


def ahead(low: float, middle: float, high: float, basis: Basis = Basis.ITERATIONS, **more: object) -> OngoingReport:
    """A glance at 10 s after ``migrate`` with a forecast of 93 %."""
    outlook = Outlook(
        at_s=10.0, iteration=3, ends_s=Range(low, middle, high), downtime_s=Range(0.1, 0.2, 0.3),
        transferred_bytes=Range(1.0, 2.0, 3.0), meets=0.93, basis=basis,
    )  # fmt: skip
    return OngoingReport(
        phase="precopy", stage=2, stage_name="transfer", owner="source", elapsed_s=11.0, since_migrate_s=10.0,
        total_bytes=1 << 30, outlook=outlook, **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("glance", "said"),
    [
        (ahead(13, 14, 16), "ends in 4s (3s to 6s), 93% likely within 300ms"),
        (ahead(14, 14, 14), "ends in 4s, 93% likely within 300ms"),
        (ahead(9, 9, 9), "ends in 0s, 93% likely within 300ms"),
        (ahead(13, 14, math.inf), "ends in 4s (3s, or never), 93% likely within 300ms"),
        (
            ahead(13, math.inf, math.inf),
            "ends in 3s at the earliest, more likely never, 93% likely within 300ms",
        ),
        (ahead(math.inf, math.inf, math.inf), "no end in sight, 93% likely within 300ms"),
        (
            ahead(13, 14, 16, objectives=Objectives(downtime_s=0.1, deadline_s=120.0)),
            "ends in 4s (3s to 6s), 93% likely within 100ms and 2m",
        ),
        (ahead(13, 14, 16, Basis.LINK), "ends in 3s at the earliest"),
        (ahead(math.inf, math.inf, math.inf, Basis.LINK), "no end in sight"),
        (ahead(13, 14, 16, Basis.POSTCOPY), "all of the memory is there in 4s"),
        (replace(ahead(13, 14, 16), since_migrate_s=0.0), ""),
        (replace(ahead(13, 14, 16), outlook=None), ""),
    ],
)
def test_the_live_forecast_is_said_in_one_sentence(glance: OngoingReport, said: str) -> None:
    assert render.outlook_words(glance) == said
    assert said in render.progress_line(glance).plain
    assert said in drawn(render.progress(glance), 200)


def test_a_verdict_stands_out() -> None:
    verdict = Verdict(
        iteration=3, confidence=0.97, left_bytes=1.0, bandwidth_bytes_per_s=1.0, outage_s=1.0, least_throttle=None,
        sentence="none can",
    )  # fmt: skip
    plain = ahead(13, 14, 16)
    assert plain.outlook is not None
    loud = replace(plain, outlook=replace(plain.outlook, verdict=verdict))
    assert styles_of(plain) != styles_of(loud)
    assert render.verdict("none can").plain == "! none can"


def styles_of(glance: OngoingReport) -> set[str]:
    """Of all that is shown, without what is cut."""
    buffer = Console(width=200, force_terminal=True, color_system="truecolor")
    return {str(segment.style) for segment in buffer.render(render.progress(glance)) if "ends in" in segment.text}
