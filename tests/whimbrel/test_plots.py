"""Pictures: what is in them, that the same run gives the same file, and what is said where one can't be made."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from whimbrel.engine.errors import BadInput
from whimbrel.plots import check_picture, draw, save
from whimbrel.sim.scenario import GuestPlan, Scenario
from whimbrel.simulation_records import Decided, Row, Run, Simulation

GIB, MIB = float(1 << 30), float(1 << 20)
SIZES = (GIB, 100 * MIB, 20 * MIB, 8 * MIB)


def decided(number: int) -> Decided:
    """The decision of this number."""
    return Decided(
        at_s=float(number),
        iteration=number,
        asked="iteration",
        because=f"reason {number}",
        changes={"downtime_limit_s": 0.1 * number},
    )


def simulation(**changes: Any) -> Simulation:
    """Four iterations of five seconds each, throttled in the last two."""
    rows = tuple(
        Row(
            number=number,
            start_s=5.0 * (number - 1),
            duration_s=5.0,
            to_send_bytes=size,
            sent_bytes=size,
            bandwidth_bytes_per_s=50 * MIB,
            throttle=0.2 if number > 2 else 0.0,
            downtime_limit_s=0.1,
        )
        for number, size in enumerate(SIZES, 1)
    )
    run = Run(
        seed=7,
        converged=True,
        outcome="completed",
        total_s=20.2,
        downtime_s=0.2,
        iterations=4,
        transferred_bytes=sum(SIZES),
        throttle=0.2,
        each_iteration=rows,
        decisions=(decided(1), decided(2)),
        remaining=tuple(point for row in rows for point in ((row.start_s, row.to_send_bytes), (row.start_s + 5, 0.0))),
        sending=((0.0, 50 * MIB), (20.0, 50 * MIB)),
        threshold=((0.1, 5 * MIB), (3.0, 15 * MIB), (20.0, 15 * MIB)),
    )
    return Simulation(
        scenario=Scenario(guest=GuestPlan(ram_bytes=1 << 30)), model="fast", runs=(replace(run, **changes),)
    )


def words(figure: Any) -> list[str]:
    """All that is written in a picture."""
    texts = [text.get_text() for axes in figure.axes for text in [*axes.texts, axes.xaxis.label, axes.yaxis.label]]
    return [*texts, figure.get_suptitle(), figure.get_supxlabel()]


def test_everything_is_labelled() -> None:
    """Axes with their units, iterations by number, decisions by number with their reasons, the downtime, the title."""
    written = words(draw(simulation()))
    for wanted in (
        *("remaining (log scale)", "sent (MiB/s)", "throttle (%)", "time since migrate (s)"),
        *("iteration", "1", "2", "3", "4", "switchover below this", "downtime\n200ms"),
        "least_downtime, fast, seed 7: completed in 20.2s, 4 iterations, downtime 200ms",
        "1 · 1 s · reason 1\n2 · 2 s · reason 2",
    ):
        assert wanted in written


def test_the_threshold_is_a_line_of_steps() -> None:
    """As it stood at each time; its label is where it stood longest; without one there is neither."""
    (line,) = [line for line in draw(simulation()).axes[0].lines if line.get_drawstyle() == "steps-post"]
    assert [float(each) for each in line.get_xdata()] == [0.1, 3.0, 20.0]
    assert [float(each) / MIB for each in line.get_ydata()] == [5, 15, 15]
    (label,) = [text for text in draw(simulation()).axes[0].texts if text.get_text() == "switchover below this"]
    assert label.xy == (3.0, 15 * MIB)
    bare = draw(simulation(threshold=())).axes[0]
    assert not [line for line in bare.lines if line.get_drawstyle() == "steps-post"]
    assert "switchover below this" not in [text.get_text() for text in bare.texts]


def test_a_throttle_has_a_panel_only_where_there_is_one() -> None:
    assert len(draw(simulation()).axes) == 3
    rows = tuple(replace(row, throttle=0.0) for row in simulation().first.each_iteration)
    assert len(draw(simulation(each_iteration=rows)).axes) == 2


def test_many_decisions_are_thinned_and_counted() -> None:
    listed = words(draw(simulation(decisions=tuple(decided(number) for number in range(20)))))[-1].split("\n")
    assert (listed[0], listed[6]) == ("1 · 0 s · reason 0", "7 · 19 s · reason 19")
    assert listed[7:] == ["and 13 more decisions between them"]


def test_what_did_not_converge_says_so() -> None:
    written = words(draw(simulation(converged=False, outcome="cancelled", downtime_s=None)))
    assert "least_downtime, fast, seed 7: cancelled after 20.2s" in written
    assert not [each for each in written if each.startswith("downtime")]


def test_a_course_of_one_size_has_a_plain_axis() -> None:
    """And a run of which nothing is known can be drawn, too."""
    alike = tuple(
        replace(row, to_send_bytes=GIB, bandwidth_bytes_per_s=None) for row in simulation().first.each_iteration
    )
    assert "remaining" in words(
        draw(simulation(each_iteration=alike, threshold=(), remaining=((0.0, GIB), (1.0, GIB / 2))))
    )
    empty = draw(simulation(each_iteration=(), remaining=(), sending=(), decisions=(), downtime_s=None))
    assert "remaining" in words(empty)


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_the_same_run_gives_the_same_file(tmp_path: Path, name: str) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(simulation(), tmp_path / folder / name)
    one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
    assert one == two
    if name.endswith("svg"):
        text = "".join(ElementTree.fromstring(one).itertext())
        assert "switchover below this" in text
    else:
        assert one.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["picture", "a.gif", "nowhere/a.png"])
def test_a_name_that_will_not_do_is_refused_before_anything_is_simulated(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"^plot: "):
        check_picture(tmp_path / name)


def test_a_file_that_cannot_be_written_is_told() -> None:
    with pytest.raises(BadInput, match=r"^plot: .*can be written"):
        save(simulation(), Path("/proc/a.png"))


def test_without_matplotlib_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    """In an interpreter that has none."""
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from whimbrel.cli import main\n"
        f"main(['simulate', '--class', 'a:size=1MiB', '--bandwidth', '1Gbit/s', '--plot', {str(tmp_path / 'a.png')!r}])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert "pip install 'whimbrel[report]'" in line
