"""The processes that forecast: their answers, what breaks them, and that they always end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.guests import PATIENCE_S, lives, until
from tests.support.planned import BELIEF, OBJECTIVES
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.plan import Candidate, Predicted, Strategy
from whimbrel.engine.policy import Abilities
from whimbrel.forecasters import Forecasters, Question
from whimbrel.live import run

ROOT = Path(__file__).resolve().parents[2]
POLICY = """
import os, sys, time
from pathlib import Path
from whimbrel.engine.policy import Decision, Observation
HERE = Path(__file__).parent / "pid"

def chatty(seen: Observation) -> Decision:
    print("to be taken for an answer")
    return Decision()

def dies(seen: Observation) -> Decision:
    os._exit(9)

def hangs(seen: Observation) -> Decision:
    HERE.with_suffix(".new").write_text(str(os.getpid()))
    HERE.with_suffix(".new").rename(HERE)
    while True:
        pass
"""


def question(policy: str, draws: int = 3) -> Question:
    """What a policy comes to, in few draws."""
    return Question(
        belief=BELIEF,
        objectives=OBJECTIVES,
        abilities=Abilities(),
        candidate=Candidate(policy=policy, strategy=Strategy.PLAIN),
        draws=draws,
    )


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """A file with policies that do what no policy should."""
    path = tmp_path / "p.py"
    path.write_text(POLICY)
    return path


async def hanging(forecasters: Forecasters, policies: Path) -> tuple[asyncio.Task[tuple[Predicted, ...]], int]:
    """A forecast that never ends, and the process that is at it."""
    task = asyncio.create_task(forecasters.ask([question(f"{policies}:hangs")]))
    pid = policies.with_name("pid")
    await until(pid.exists, "the forecast has begun")
    return task, int(pid.read_text())


async def given_up(task: asyncio.Task[tuple[Predicted, ...]]) -> None:
    """Cancel a question."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_answers_come_in_the_order_of_the_questions_and_are_those_of_this_process() -> None:
    """More of them than processes; each is told of as it comes."""
    asked = [question("fixed", 40), question("least_downtime"), question("fixed:downtime_limit=10ms")]
    heard: list[Predicted] = []
    async with Forecasters(2) as forecasters:
        answers = await forecasters.ask(asked, heard.append)
        again = await forecasters.ask(asked[:1])
    assert answers == tuple(each.answer() for each in asked)
    assert again == answers[:1]
    assert sorted(each.candidate.policy for each in heard) == sorted(each.candidate.policy for each in asked)


def test_a_budget_leaves_fewer_draws() -> None:
    """None of it is left at once, so that only the least number is made."""
    assert replace(question("fixed", 100), budget_s=0.0).answer().draws == 40


async def test_a_policy_that_prints_or_cannot_be_had_disturbs_nobody(
    policies: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it prints is no answer; that there is none is told; and the process goes on."""
    async with Forecasters(1) as forecasters:
        (answer,) = await forecasters.ask([question(f"{policies}:chatty")])
        with pytest.raises(WhimbrelError, match="nosuch can't be forecast: policy: 'nosuch' is not allowed"):
            await forecasters.ask([question("nosuch")])
        assert len(await forecasters.ask([question("fixed")])) == 1
    assert answer.draws == 3
    assert "to be taken for an answer" in capfd.readouterr().err


async def test_a_process_that_is_ended_under_way_is_told(policies: Path) -> None:
    async with Forecasters(1) as forecasters:
        with pytest.raises(WhimbrelError, match=r"the process that forecast .*dies was ended"):
            await forecasters.ask([question(f"{policies}:dies")])


async def test_a_policy_that_never_answers_is_not_waited_for_for_ever(policies: Path) -> None:
    async with Forecasters(1, answers_within_s=0.2) as forecasters:
        with pytest.raises(WhimbrelError, match=r"p.py:hangs was not forecast within 0.2 s"):
            await forecasters.ask([question(f"{policies}:hangs")])


async def test_a_question_that_is_given_up_holds_nobody_up(policies: Path) -> None:
    """Its process ends with the block, though it is in the midst of an answer."""
    async with asyncio.timeout(PATIENCE_S), Forecasters(1) as forecasters:
        task, pid = await hanging(forecasters, policies)
        await given_up(task)
    assert not lives(pid)


async def test_one_that_somebody_stopped_ends_too(policies: Path) -> None:
    async with Forecasters(1) as forecasters:
        task, pid = await hanging(forecasters, policies)
        os.kill(pid, signal.SIGSTOP)
        await given_up(task)
    assert not lives(pid)


@pytest.mark.parametrize("last_words", ["exec sleep 600", "exec true"])
def test_one_that_has_not_begun_or_has_ended_leaves_the_loop_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, last_words: str
) -> None:
    """Where a bad input is found at once, say, before the interpreter has got as far as to read anything."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; {last_words}\n")
    python.chmod(0o755)
    pid = tmp_path / "pid"

    async def work() -> None:
        async with Forecasters(1, python=str(python)):
            await until(pid.exists, "it was started")
            if last_words == "exec true":
                await until(lambda: not lives(int(pid.read_text())), "it ends")

    run(work())
    gc.collect()
    assert not lives(int(pid.read_text()))
    assert caplog.record_tuples == []


async def test_they_end_with_the_process_that_they_belong_to(policies: Path) -> None:
    """It is killed while they are at work, and has no time to say so."""
    program = (
        "import asyncio\n"
        "from pathlib import Path\n"
        "from tests.whimbrel.test_forecasters import hanging\n"
        "from whimbrel.forecasters import Forecasters\n"
        "async def main():\n"
        "    async with Forecasters(1) as forecasters:\n"
        f"        task, _ = await hanging(forecasters, Path({str(policies)!r}))\n"
        "        await task\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    try:
        pid = policies.with_name("pid")
        await until(pid.exists, "the forecast has begun")
        forecaster = int(pid.read_text())
        assert lives(forecaster)
    finally:
        owner.kill()
        await owner.wait()
    await until(lambda: not lives(forecaster), "the forecaster ends", timeout_s=PATIENCE_S)


async def test_a_process_that_cannot_be_started_is_told() -> None:
    with pytest.raises(OSError, match="/nowhere/python"):
        async with Forecasters(2, python="/nowhere/python"):
            raise AssertionError("it was started")
