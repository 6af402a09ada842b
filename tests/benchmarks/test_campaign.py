"""The fault campaign: its plan, its verdicts, its results file, and a sample of it on real QEMUs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.campaign.command import Campaign, main
from benchmarks.campaign.conduct import conduct
from benchmarks.campaign.judge import ENDED, MOVED, NOT_BEGUN, STAYED, VIOLATION, Evidence, judge
from benchmarks.campaign.plan import FAULTS, MOMENTS, PHASES, Run, faults, moments_of, pairs, sample, wait_s
from benchmarks.campaign.points import KINDS, MUST, named, numbered, of_successor, plain, sweep
from benchmarks.campaign.store import Result, Store, summary
from benchmarks.campaign.table import as_html, as_text, cell
from tests.support.mortal_manager import Act

SAMPLE_SEED = 11
SAMPLE_RUNS = 16


# ---- the plan


def test_a_plan_follows_from_its_seed_and_covers_every_fault_in_every_phase() -> None:
    runs = faults(7, 4)
    assert runs == faults(7, 4) != faults(8, 4)
    assert len(runs) == len({run.key for run in runs}) == len(PHASES) * len(FAULTS) * 4 >= 200
    assert {(run.phase, run.fault) for run in runs} == {(phase, fault) for phase in PHASES for fault in FAULTS}
    assert all(run.acts[0].at in moments_of(run.phase, run.fault) for run in runs)


def test_the_moments_of_a_phase_are_dealt_out_before_one_comes_again() -> None:
    for phase in PHASES:
        of_cell = [run.moment for run in faults(3, len(MOMENTS[phase])) if (run.phase, run.fault) == (phase, "cancel")]
        assert sorted(of_cell) == sorted(MOMENTS[phase])


def test_nothing_is_done_to_what_is_not_there_yet() -> None:
    """Before the destination is known it can't be hit, and before it listens there is no stream."""
    assert "spawned" in moments_of("preparing", "kill-manager")
    assert "spawned" not in moments_of("preparing", "kill-destination")
    assert "after command arm" not in moments_of("preparing", "black-hole")


def test_a_stopped_process_stays_so_for_longer_than_the_wait_that_is_under_way() -> None:
    stops = [run for run in faults(1, 8) if run.fault.startswith("stop-")]
    assert {run.stopped_s > wait_s(run.phase) for run in stops if run.stopped_s} == {True}
    assert 0.0 in {run.stopped_s for run in stops}, "and sometimes until the manager has ended"


@pytest.mark.parametrize("seed", [1, SAMPLE_SEED])
def test_a_sample_has_every_fault_and_every_phase(seed: int) -> None:
    runs = sample(seed, SAMPLE_RUNS)
    assert len(runs) == SAMPLE_RUNS
    assert {run.fault for run in runs} == set(FAULTS)
    assert {run.phase for run in runs} == set(PHASES)


def test_of_two_faults_the_first_comes_first() -> None:
    """In the order of the phases, but for the manager, which can do nothing any more once it is dead."""
    runs = pairs(3, 200)
    assert runs == pairs(3, 200)
    phase_of = {moment: number for number, phase in enumerate(PHASES) for moment in MOMENTS[phase]}
    for run in runs:
        first, second = run.acts
        assert first.what != second.what
        assert phase_of[first.at] <= phase_of[second.at] or second.what == "kill-manager"
    assert len({run.acts for run in runs}) > 150


def test_the_points_of_a_move_are_numbered_and_named() -> None:
    assert numbered(["a", "b", "a", "a"]) == ["a", "b", "a#2", "a#3"]
    assert [run.die_at for run in sweep("move", ["a", "b", "a"])] == [1, 2, 3]
    assert [run.moment for run in sweep("move", ["a", "b"])] == ["#1", "#2"]
    (run,) = named("cancelled", ["spawned"])
    assert run.acts == (*KINDS["cancelled"], Act(at="spawned", what="kill-manager"))
    assert [run.successor_dies_at for run in of_successor("spawned", ["a", "b"])] == [1, 2]
    assert plain("move").acts == ()
    assert len(set(MUST)) == 12


# ---- the verdict

MOVE = Run(key="k", phase="precopy", fault="cancel", acts=(Act(at="after command migrate", what="cancel"),))


def evidence(**other: Any) -> Evidence:
    """What is seen of a move that went well, and what is different."""
    well = Evidence(
        hits=[{"did": "cancel", "at": "after command migrate", "sockets": 1}],
        first=("completed", "destination", "running"),
        final=("completed", "destination", "running"),
        running=["destination"],
        verified=True,
        destination_beats=9,
    )
    return msgspec.structs.replace(well, **other)


STAYED_AT_HOME: dict[str, Any] = {
    "final": ("failed", "source", "running"),
    "running": ["source"],
    "destination_beats": 0,
}
LOST: dict[str, Any] = {"final": ("failed", "source", "lost"), "running": [], "verified": False, "destination_beats": 0}


def hit(phase: str, fault: str) -> Run:
    """A run with a fault in a phase."""
    return Run(key="k", phase=phase, fault=fault, acts=(Act(at="x", what=fault),))


def struck(fault: str) -> list[dict[str, Any]]:
    """What a manager says that it did."""
    return [{"did": fault, "at": "x", "sockets": 1}]


KILLED_SOURCE, KILLED_DESTINATION = struck("kill-source"), struck("kill-destination")


@pytest.mark.parametrize(
    ("run", "seen", "verdict"),
    [
        (MOVE, evidence(), MOVED),
        (MOVE, evidence(**STAYED_AT_HOME), STAYED),
        (MOVE, evidence(**{**STAYED_AT_HOME, "final": NOT_BEGUN}), STAYED),
        (hit("precopy", "kill-source"), evidence(**LOST, hits=KILLED_SOURCE), ENDED),
        (
            hit("handover", "kill-manager-then-source"),
            evidence(hits=KILLED_SOURCE, resolved=2, in_vain=1, fenced=1),
            MOVED,
        ),
        (hit("activating", "kill-destination"), evidence(**LOST, hits=KILLED_DESTINATION, cont_announced=True), ENDED),
        (hit("releasing", "kill-destination"), evidence(running=[], verified=False, hits=KILLED_DESTINATION), ENDED),
    ],
)
def test_what_may_be(run: Run, seen: Evidence, verdict: str) -> None:
    judged = judge(run, seen)
    assert (judged.verdict, judged.violations) == (verdict, [])


@pytest.mark.parametrize(
    ("run", "seen", "words"),
    [
        (MOVE, evidence(running=["source", "destination"]), "runs on both sides"),
        (MOVE, evidence(running=["source"]), "said to run on the destination; it runs on: source"),
        (MOVE, evidence(running=[]), "it runs on: neither"),
        (MOVE, evidence(verified=False), "has not verified"),
        (MOVE, evidence(heartbeats="beats of the source came after one of the destination"), "came after"),
        (MOVE, evidence(**{**STAYED_AT_HOME, "destination_beats": 1}), "beat on the destination"),
        (MOVE, evidence(final=("failed", "limbo", "held"), running=[]), "not settled: failed/limbo/held"),
        (MOVE, evidence(final=("failed", "source", "paused"), running=[]), "nobody wanted that"),
        (MOVE, evidence(final=None), "nobody says who owns"),
        (MOVE, evidence(left=["run/x"]), "left behind: run/x"),
        (MOVE, evidence(settings=["max-bandwidth"]), "not put back: max-bandwidth"),
        (MOVE, evidence(log="it has no end"), "log: it has no end"),
        (MOVE, evidence(trouble="the manager did not end"), "did not end"),
        (MOVE, evidence(hits=[]), "the moment never came"),
        (MOVE, evidence(resolved=2, in_vain=1), "though both QEMUs live: 1 times in vain"),
        (MOVE, evidence(**LOST), "nobody killed the process that held it"),
        (
            hit("activating", "kill-source"),
            evidence(**LOST, hits=KILLED_SOURCE, cont_announced=True),
            "held it no longer",
        ),
        (
            hit("handover", "kill-source"),
            evidence(**LOST, hits=KILLED_SOURCE, destination_had_all=True),
            "had everything",
        ),
        (hit("handover", "kill-destination"), evidence(**LOST, hits=KILLED_DESTINATION), "never told to run it"),
        (hit("precopy", "kill-source"), evidence(**{**LOST, "running": ["source"]}), "runs on the source"),
        (
            hit("releasing", "kill-destination"),
            evidence(running=[], verified=False, hits=KILLED_DESTINATION, destination_end_heard=True),
            "it runs on: neither",
        ),
    ],
)
def test_what_may_not_be(run: Run, seen: Evidence, words: str) -> None:
    judged = judge(run, seen)
    assert judged.verdict == VIOLATION
    assert words in "; ".join(judged.violations)


# ---- the results


def result(key: str, seen: Evidence, run: Run = MOVE) -> Result:
    """One that was judged."""
    judged = judge(run, seen)
    named_run = msgspec.structs.replace(run, key=key)
    return Result(seed=1, run=named_run, verdict=judged.verdict, violations=judged.violations, evidence=seen)


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    """Unless it would be done otherwise now, or with another seed."""
    store = Store(tmp_path / "new" / "results")
    first = result("a", evidence())
    store.add(first)
    store.add(result("b", evidence(running=[])))
    store.add(result("b", evidence()))
    again = Store(store.path)
    run_a, run_b = (msgspec.structs.replace(MOVE, key=key) for key in "ab")
    assert again.of(1, [run_a]) == [first]
    assert [each.bad for each in again.of(1, [run_a, run_b])] == [False, False], "the later one counts"
    assert again.of(2, [run_a]) == []
    assert again.of(1, [msgspec.structs.replace(run_a, own_stream=False)]) == []


def test_a_summary_counts() -> None:
    seen = [
        result("a", evidence(total_s=1.0)),
        result("b", evidence(total_s=3.0, died=True, resolved=1, resolving_s=0.5)),
        result("c", evidence(total_s=2.0, running=[])),
    ]
    said = summary(seen)
    assert (said["runs"], said["struck"], said["violations"]) == (3, 3, 1)
    assert said["verdicts"] == {VIOLATION: 1, MOVED: 2}
    assert (said["settled_s_median"], said["settled_s_greatest"]) == (2.0, 3.0)
    assert (said["managers_killed"], said["settled_by_resolve"], said["resolve_s_greatest"]) == (1, 1, 0.5)
    assert summary([])["settled_s_median"] is None


def test_the_table_tells_what_came_of_each_fault_in_each_phase() -> None:
    vain = evidence(hits=[{"did": "cut-stream", "at": "x", "sockets": 0}])
    good = [result("a", evidence(resolved=1)), result("b", evidence(**STAYED_AT_HOME)), result("c", vain)]
    assert cell(good) == "M2 S1 r1 n1"
    text = as_text([*good, result("d", evidence(running=[]))])
    assert "| fault | precopy |" in text
    assert "| cancel | M2 S1 !1 r1 n1 |" in text
    assert "VIOLATION d at after command migrate: it is said to run on the destination" in text
    page = as_html([result("<d>", evidence(running=[], why="<b>"))], {"seed": 1})
    assert "#e8a0a0" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


# ---- on real QEMUs


@pytest.mark.timeout(240)
async def test_a_sample_of_the_campaign(short_folder: Path) -> None:
    """Every kind of fault at least once, two at a time, and not one promise broken."""
    told: list[tuple[int, int]] = []
    store = Store(short_folder / "results")
    campaign = Campaign(SAMPLE_SEED, store, 2, lambda done, of: told.append((done, of)))
    results = await campaign.do(sample(SAMPLE_SEED, SAMPLE_RUNS))
    assert [(each.run.key, each.violations) for each in results if each.bad] == []
    assert len(results) == SAMPLE_RUNS
    assert {each.run.fault for each in results} == set(FAULTS)
    assert sum(each.struck for each in results) >= SAMPLE_RUNS - 3
    assert told[0] == (0, SAMPLE_RUNS)
    assert told[-1] == (SAMPLE_RUNS, SAMPLE_RUNS)


async def test_every_moment_of_the_plan_comes_in_a_plain_move(short_folder: Path) -> None:
    """Else a run would hit nothing: the words of the plan follow those of the log."""
    seen = await conduct(plain("move"), short_folder, moments=True)
    assert judge(plain("move"), seen.evidence).violations == []
    wanted = {moment for phase in PHASES for moment in MOMENTS[phase]}
    assert wanted - {*numbered(seen.moments)} == set()


def test_the_command_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run is done, written, shown; called again, it is only shown; a violation makes the exit code 1."""
    results, page, target = tmp_path / "r", tmp_path / "p.html", tmp_path / "j"
    words = ["--seed", "5", "--each", "1", "--only", "^precopy/cancel/", "--workers", "1", "--results", str(results)]
    assert main([*words, "--html", str(page), "--json", str(target)]) == 0
    assert "| cancel | S1 |" in capsys.readouterr().out
    written = json.loads(target.read_text())
    assert written["about"]["runs"] == len(written["results"]) == 1
    assert "<table>" in page.read_text()
    before = results.read_bytes()
    assert main(words) == 0
    assert results.read_bytes() == before
    bad = msgspec.json.decode(before, type=Result)
    results.write_bytes(msgspec.json.encode(msgspec.structs.replace(bad, verdict=VIOLATION, violations=["x"])) + b"\n")
    assert main(words) == 1
    assert "VIOLATION precopy/cancel/0" in capsys.readouterr().out


@pytest.mark.timeout(180)
def test_the_points_are_gone_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a move, of one that is called off, and of the work of a manager that took over; here the first of each."""
    assert main(["--points", "--every", "1000", "--results", str(tmp_path / "r")]) == 0
    said = capsys.readouterr().out
    assert "| fault | move | cancelled | after signal source-active | after command continue |" in said
    assert '"runs": 5,' in said


def test_asynchronous_runs_are_ended_with_the_loop(short_folder: Path) -> None:
    """Called off in the middle, a run leaves no process behind (the fixture of every test looks)."""

    async def begin() -> None:
        task = asyncio.create_task(conduct(plain("move"), short_folder))
        while not (short_folder / "log").exists():
            await asyncio.sleep(0.005)  # there is no event for a file of another process
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(begin())
    assert (short_folder / "log").exists()
