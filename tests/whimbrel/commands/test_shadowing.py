"""What other policies would have done, on the command line; and a policy that goes wrong on a real QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import hear_log, here, whimbrel
from tests.support.guests import World
from whimbrel.cli import BAD_INPUT, CANCELLED, OK
from whimbrel.engine.policies import Fixed
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario, Writer
from whimbrel.sim.world import simulate

WRITES = Writer(name="busy", size_bytes=16 << 20, rate_bytes_per_s=4e6)
BUSY = Scenario(
    guest=GuestPlan(ram_bytes=64 << 20, writers=(WRITES,)),
    link=LinkPlan(bandwidth_bytes_per_s=20e6, pipe_bytes=0),
)
WRONG = """
from whimbrel import Decision, Observation

def raises(seen: Observation) -> Decision:
    raise KeyError("thing")

def nonsense(seen: Observation) -> Decision:
    return Decision(downtime_limit_s=-1)

def loops(seen: Observation) -> Decision:
    while seen.reason.value != "setup":
        pass
    return Decision(wake_after_s=0.05)
"""


INSISTS = """
from whimbrel import Decision, Observation

def insists(seen: Observation) -> Decision:
    if seen.reason.value == "setup":
        return Decision(bandwidth_bytes_per_s=8 << 20, wake_after_s=0.2, because="begin")
    return Decision(switch_over=True, because="now")
"""


async def test_other_policies_are_shown_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(simulate(BUSY, 1, Fixed(downtime_limit_s=0.02)).log))
    said = await whimbrel("shadow", log, "--policy", "fixed:downtime_limit=300ms", "--json")
    steered, other = said.object["shadows"]
    assert (steered["steered"], other["steered"]) == (True, False)
    assert other["policy"] == "fixed:downtime_limit=300ms"
    assert 0 < other["ends_at_s"] < steered["ends_at_s"]
    assert (other["ends_by"], steered["ends_by"]) == ("fits", "switchover")
    assert other["outage_s"] > 0.05
    text = await whimbrel("shadow", log, "--policy", "least_downtime", "--policy", "fixed:downtime_limit=1ms")
    assert text.code == OK
    assert "aim at 20 ms" in text.out
    assert "not while it watched" in text.out


def test_what_is_only_repeated_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a value has people's units."""
    log, mine = tmp_path / "log", tmp_path / "mine.py"
    log.write_bytes(bytes(simulate(BUSY, 1, Fixed(downtime_limit_s=0.02)).log))
    mine.write_text(INSISTS)
    said = here(capsys, "shadow", log, "--policy", f"{mine}:insists")
    (line,) = [line for line in said.out.splitlines() if "now" in line and "again" in line]
    assert "switch over: now (again " in line
    assert "bandwidth 8MiB/s: begin" in said.out
    assert "switch_over" not in said.out


def test_a_file_that_is_not_there_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = here(capsys, "shadow", tmp_path / "nothing")
    assert said.code == BAD_INPUT
    assert said.sentence.count("allowed:") == 1


async def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"n":1,"t_ns":0,"wall_s":0,"kind":"note","text":"so"}\n')
    said = await whimbrel("shadow", tmp_path / "log")
    assert said.code == BAD_INPUT
    assert "allowed: a log of a migration" in said.sentence


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("raises", "raised KeyError('thing')"),
        ("nonsense", "it answered downtime_limit_s=-1, where 0 or more is possible"),
        ("loops", "no answer within 1 s"),
    ],
)
async def test_a_policy_that_goes_wrong_is_named_and_the_guest_moves(
    name: str, fault: str, world: World, tmp_path: Path
) -> None:
    """On a real QEMU, with the same one watching."""
    (tmp_path / "mine.py").write_text(WRONG)
    policy, log = f"{tmp_path / 'mine.py'}:{name}", tmp_path / "log"
    source = await world.boot()
    options = ("--policy", policy, "--shadow", policy, "--log", log, "--bandwidth", "4MiB/s", "--json")
    said = await whimbrel("migrate", source.qmp, *options)
    hear_log(world, log)
    assert said.code == OK
    note = next(each for each in said.object["notes"] if "failed when it was asked" in each)
    assert note.startswith(f"the policy {policy} failed when it was asked (")
    assert f": {fault}; the last good settings stay" in note
    watched = (await whimbrel("shadow", log, "--json")).object["shadows"][1]
    assert fault.replace("within 1 s", "within 0.2 s") in watched["wishes"][0]["fault"]
    await world.check_beats("destination")


async def test_a_policy_that_cannot_be_imported_begins_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nothing_of_that_name\n")
    said = await whimbrel("migrate", tmp_path / "qmp", "--policy", f"{tmp_path / 'mine.py'}:any")
    assert said.code == BAD_INPUT
    assert "nothing_of_that_name" in said.sentence


async def test_whoever_asks_for_it_has_a_faulty_policy_end_the_migration(world: World, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WRONG)
    source = await world.boot()
    log = tmp_path / "log"
    policy = f"{tmp_path / 'mine.py'}:raises"
    said = await whimbrel("migrate", source.qmp, "--policy", policy, "--abort-on-fault", "--log", log)
    hear_log(world, log)
    assert said.code not in (OK, CANCELLED)
    assert "raised KeyError('thing')" in said.sentence
    await world.check_beats("source")
