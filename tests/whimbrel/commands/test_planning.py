"""The command that plans, and the commands that plan before they move."""

from __future__ import annotations

import io
import signal
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.command_line import SMALL_DEMO, hear_log, here, running, whimbrel
from tests.support.guests import World
from tests.support.planned import PLAIN
from whimbrel.cli import BAD_INPUT, CANCELLED, NOT_BEGUN, OK
from whimbrel.commands.planning import Choosing, choosing, followed
from whimbrel.planning import Link

EASY = ("--downtime", "500ms", "--deadline", "30s", "--link", "1Gbit/s", "--measure", "300ms")
"""What any policy can meet for the test guest."""
HOPELESS = ("--downtime", "100ms", "--deadline", "500ms", "--link", "1MiB/s", "--measure", "300ms")
"""Its RAM alone takes longer than that."""


# ---- plan


async def test_a_plan_as_text_and_as_a_picture(world: World, tmp_path: Path) -> None:
    source = await world.boot()
    picture = tmp_path / "plan.svg"
    ran = await whimbrel("plan", source.qmp, *EASY, "--policy", "fixed", "--picture", picture)
    assert ran.code == OK, ran.err
    lines = ran.out.splitlines()
    assert any(line.startswith("measuring what the guest dirties") for line in lines)
    assert "RECOMMENDED" in lines
    assert "Ways to move it" in [line.strip() for line in lines]
    assert "  1 fixed" in lines
    assert lines[-1] == f"picture: {picture}"
    assert picture.read_text().startswith("<?xml")
    await world.check_beats("source")


async def test_a_plan_as_one_object(world: World) -> None:
    """Where nothing can meet the objectives, the exit code says so; what goes on is told on standard error."""
    source = await world.boot()
    ran = await whimbrel("plan", source.qmp, *HOPELESS, "--policy", "fixed", "--json")
    assert ran.code == NOT_BEGUN
    assert ran.object["recommended"] is None
    assert ran.object["sentence"].startswith("nothing is likely to meet the objectives")
    (candidate,) = ran.object["candidates"]
    assert (candidate["policy"], candidate["meets"]) == ("fixed", 0.0)
    assert ran.object["guest"]["accelerator"] == "tcg"
    assert ran.object["picture"] == ""
    assert "measuring what the guest dirties" in ran.err


PLAN = ("plan", "/nowhere/qmp.sock")
MOVE = ("migrate", "/nowhere/qmp.sock")
BAD = [
    ((*PLAN, "--downtime", "2s", "--deadline", "1s"), "deadline", "1 s"),
    ((*PLAN, "--policy", "nosuch"), "policy", "nosuch"),
    ((*PLAN, "--link", "fast"), "link", "fast"),
    ((*PLAN, "--measure", "a while"), "measure", "a while"),
    ((*PLAN, "--measure", "0s"), "measure", "0 s"),
    ((*PLAN, "--probe", "/run/sink.sock"), "probe", "/run/sink.sock"),
    ((*PLAN, "--probe", "other:7777", "--no-probe"), "probe", "other:7777"),
    ((*PLAN, "--picture", "plan.gif"), "picture", "plan.gif"),
    ((*PLAN, "--logs", "/nowhere"), "logs", "/nowhere"),
    ((*MOVE, "--downtime", "2s", "--deadline", "1s"), "deadline", "1 s"),
    ((*MOVE, "--link", "1Gbit/s"), "link", "1Gbit/s"),
    ((*MOVE, "--downtime", "1s", "--policy", "fixed", "--best-effort"), "best-effort", "True"),
    ((*MOVE, "--no-probe"), "no-probe", "True"),
    ((*MOVE, "--deadline", "1m", "--policy", "fixed", "--measure", "1s"), "measure", "1s"),
    (("demo", "--probe", "other:7777"), "probe", "other:7777"),
]


@pytest.mark.parametrize(("arguments", "field", "given"), BAD, ids=lambda value: " ".join(value) or "-")
def test_bad_input_is_named(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], field: str, given: str
) -> None:
    """One sentence: the field, what was given, what is allowed; also for what is heeded by plans only, without one."""
    ran = here(capsys, *arguments)
    assert ran.code == BAD_INPUT
    assert ran.sentence.startswith(f"{field}: ")
    assert given in ran.sentence
    assert "allowed: " in ran.sentence


async def test_ctrl_c_while_it_is_measured_begins_nothing(world: World) -> None:
    source = await world.boot()
    before = source.settings()
    words = ("migrate", source.qmp, "--downtime", "300ms", "--link", "1Gbit/s", "--measure", "30s")
    async with running(*words) as command:
        await command.until_it_says("measuring what the guest dirties")
        command.process.send_signal(signal.SIGINT)
        assert await command.end() == CANCELLED
    assert "stopped before anything was begun" in command.seen
    assert "prepare the destination" not in command.seen
    assert source.settings() == before
    await world.check_beats("source")


@pytest.mark.parametrize("terminal", [True, False])
def test_how_far_it_is_is_shown(terminal: bool) -> None:
    """On a terminal as a line that is gone at the end, else as a line for each step, which stays."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    with followed(console) as (tell, assessed):
        tell("measuring it")
        assessed(PLAIN, 1)
    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue()
    assert "measuring it" in written
    assert written.endswith("measuring it\n") is not terminal
    assert ("━" in written) is terminal


def test_without_a_terminal_each_of_many_is_a_line() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    with followed(console) as (_, assessed):
        assessed(PLAIN, 20)
        assessed(PLAIN, 20)
    assert isinstance(console.file, io.StringIO)
    policy = PLAIN.candidate.policy
    assert console.file.getvalue() == f"1 of 20: {policy}\n2 of 20: {policy}\n"


# ---- objectives in, policy out


@pytest.mark.parametrize(
    ("policy", "stated", "plans"), [(None, True, True), (None, False, False), ("fixed", True, False)]
)
def test_a_plan_chooses_where_objectives_were_stated_and_no_policy(
    policy: str | None, stated: bool, plans: bool
) -> None:
    found = choosing(policy, stated, link=None, probe=None, no_probe=False, measure=None, best_effort=False)
    assert (found is not None) is plans


def test_how_it_is_planned_is_read_from_what_was_typed() -> None:
    found = choosing(None, True, link="1Gbit/s", probe="other:7", no_probe=False, measure="2s", best_effort=True)
    link = Link(bytes_per_s=125e6, probe=("other", 7))
    assert found == Choosing(link=link, span_s=2.0, best_effort=True)


def planned_line(text: str) -> str:
    """What was chosen."""
    (line,) = [line for line in text.splitlines() if line.startswith("planned: ")]
    return line


async def test_a_migration_with_objectives_is_planned_first_and_meets_them(world: World, tmp_path: Path) -> None:
    """The choice and its prediction are told in a line before it begins; the report has both sides."""
    log = tmp_path / "log"
    source = await world.boot()
    ran = await whimbrel("migrate", source.qmp, *EASY, "--log", log, "--json")
    assert ran.code == OK, ran.err
    lines = hear_log(world, log)
    assert "likely to meet what is wanted" in planned_line(ran.err)
    assert lines[0]["policy"] in planned_line(ran.err)
    assert lines[0]["policy"].startswith("predictive:")
    report = ran.object
    assert report["outcome"] == "completed"
    assert report["total_s"] < 30.0
    assert report["prediction"]["policy"] == lines[0]["policy"]
    await world.check_beats("destination")


async def test_where_nothing_can_meet_the_objectives_only_the_best_effort_moves_it(
    world: World, tmp_path: Path
) -> None:
    """The reason with its numbers; the guest is as it was, and there is no log of a migration.

    What the link carries was said wrongly here, so that the guest is moved in no time once it is.
    """
    source = await world.boot()
    before = source.settings()
    log = tmp_path / "log"
    words = ("migrate", source.qmp, *HOPELESS, "--log", log)
    refused = await whimbrel(*words, "--json")
    assert refused.code == NOT_BEGUN
    assert refused.object["error"]["kind"] == "Infeasible"
    assert "nothing is likely to meet the objectives: sending the " in refused.sentence
    assert not log.exists()
    assert source.settings() == before
    moved = await whimbrel(*words, "--best-effort")
    hear_log(world, log)
    assert moved.code == OK, moved.err
    assert "nothing will do: nothing is likely to meet the objectives" in moved.out
    assert "0% likely to meet what is wanted" in planned_line(moved.out)
    await world.check_beats("destination")


async def test_what_a_preflight_would_refuse_is_not_measured(world: World) -> None:
    source = await world.boot(ram_bytes=24 << 20, listen=False)
    ran = await whimbrel("migrate", source.qmp, *EASY)
    assert ran.code == NOT_BEGUN
    assert "loses guest writes" in ran.sentence
    assert "measuring" not in ran.out


async def test_a_demonstration_with_objectives_is_planned_first() -> None:
    words = ("--downtime", "500ms", "--measure", "300ms", "--no-probe")
    ran = await whimbrel(*SMALL_DEMO, *words, "--json")
    assert ran.code == OK, ran.err
    assert ran.object["memory_verified"] is True
    assert "likely to meet what is wanted" in planned_line(ran.err)
    assert ran.object["prediction"]["basis"] == "plan"
