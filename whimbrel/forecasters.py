"""Processes that forecast, so that a plan takes half as long on two cores, and the event loop is never held up.

They are started before they are needed: an interpreter and its imports take longer than all the forecasts of a
shortlist. Each is a plain Python process that is spoken to over its standard streams in msgpack, a frame each way per
candidate. Nothing of the caller's own program is imported there (`multiprocessing` would run its main module once
more), and a policy goes over as the text that names it.

They end with the pool, which kills them, and with the process that it belongs to, however that ends: their standard
input is closed then.
ctrl-C is not for them: each has a session of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Final, Self

import msgspec

from whimbrel.engine.belief import Belief
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.plan import Candidate, Predicted
from whimbrel.engine.planning import assess
from whimbrel.engine.policy import Abilities, Objectives
from whimbrel.policies import resolve

__all__ = ["Forecasters", "Question"]

LENGTH: Final = struct.Struct(">I")
"""Of a frame, before it."""
PROGRAM: Final = "from whimbrel.forecasters import main; main()"
CLOSES_WITHIN_S: Final = 2.0
"""What a killed process had open is closed at once, unless somebody's policy left a child of its own."""
ANSWERS_WITHIN_S: Final = 120.0
"""One candidate takes seconds: somebody's policy that has not answered by then never will."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a candidate is likely to come to: all that `whimbrel.engine.planning.assess` wants to know.

    Attributes:
        budget_s: fewer draws where they would take longer than this; ``None``: all of them, however long.
    """

    belief: Belief
    objectives: Objectives
    abilities: Abilities
    candidate: Candidate
    draws: int
    budget_s: float | None = None

    def answer(self) -> Predicted:
        """Forecast; seconds of one core.

        Raises:
            BadInput: there is no such policy.
        """
        return assess(
            self.belief,
            self.objectives,
            self.abilities,
            self.candidate,
            lambda: resolve(self.candidate.policy),
            self.draws,
            clock=time.perf_counter,
            budget_s=self.budget_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    predicted: Predicted | None = None
    error: str = ""


class Forecasters:
    """A pool of processes that answer questions. An asynchronous context manager: they end with its block."""

    def __init__(
        self,
        jobs: int,
        *,
        python: str = "",
        answers_within_s: float = ANSWERS_WITHIN_S,
    ) -> None:
        """
        Args:
            jobs: how many processes, 1 or more.
            python: the interpreter; empty: the one that runs this.
            answers_within_s: how long an answer may take before it is given up.
        """
        self._jobs = jobs
        self._python = python or sys.executable
        self._answers_within_s = answers_within_s
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        """Start them; they import what they need while the caller goes on.

        Raises:
            OSError: they can't be started.
        """
        try:
            for _ in range(self._jobs):
                self._processes.append(await _start(self._python))
        except BaseException:  # also where we are called off meanwhile: those that were started must not stay
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them, whatever they do."""
        await self._end()

    async def ask(
        self, questions: Sequence[Question], answered: Callable[[Predicted], None] = lambda _: None
    ) -> tuple[Predicted, ...]:
        """Have all questions answered.

        Args:
            questions: each goes to the first process that is free.
            answered: told of each answer as it comes.

        Returns:
            The answers, in the order of the questions.

        Raises:
            WhimbrelError: a forecast broke or came to no end, or its process was ended.

        If cancelled: no more questions are asked, and the pool is of no more use.
        """
        waiting = list(enumerate(questions))[::-1]
        answers: dict[int, Predicted] = {}

        async def work(process: asyncio.subprocess.Process) -> None:
            while waiting:
                place, question = waiting.pop()
                answers[place] = await _exchange(process, question, self._answers_within_s)
                answered(answers[place])

        try:
            async with asyncio.TaskGroup() as group:
                for process in self._processes:
                    group.create_task(work(process))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the others were given up because of it
        return tuple(answers[place] for place in range(len(questions)))

    async def _end(self) -> None:
        ends = [asyncio.create_task(_end(process)) for process in self._processes]
        self._processes.clear()
        if ends:
            await asyncio.wait(ends)


def _import_path() -> str:
    """The very modules that we run are to be found there, from wherever the caller's program has them."""
    return os.pathsep.join(os.path.abspath(each) for each in sys.path)


async def _start(python: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        python,
        *("-P", "-c", PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": _import_path()},
        start_new_session=True,
    )


async def _exchange(process: asyncio.subprocess.Process, question: Question, within_s: float) -> Predicted:
    assert process.stdin is not None
    assert process.stdout is not None
    frame = msgspec.msgpack.encode(question)
    name = question.candidate.policy
    try:
        async with asyncio.timeout(within_s):
            process.stdin.write(LENGTH.pack(len(frame)) + frame)
            await process.stdin.drain()
            (size,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
            answer = msgspec.msgpack.decode(await process.stdout.readexactly(size), type=_Answer)
    except TimeoutError:
        raise WhimbrelError(f"{name} was not forecast within {within_s:g} s", advice="does it always answer?") from None
    except (asyncio.IncompleteReadError, ConnectionError):
        raise WhimbrelError(f"the process that forecast {name} was ended", advice="is there memory enough?") from None
    if answer.predicted is None:
        raise WhimbrelError(f"{name} can't be forecast: {answer.error}")
    return answer.predicted


async def _end(process: asyncio.subprocess.Process) -> None:
    """End one, whatever it is at: it holds nothing that would be lost."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        process.kill()
    await process.wait()
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSES_WITHIN_S):
            await process.stdout.read()  # until it is closed: a loop that ends before that says so, and so do we


# ---- the process


def main() -> None:
    """Answer questions until standard input ends, and end at once then, even in the midst of an answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions: queue.SimpleQueue[Question] = queue.SimpleQueue()
    with open(0, "rb", closefd=False) as source, os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what somebody's policy prints is no answer
        threading.Thread(target=_listen, args=(source, questions), daemon=True).start()
        while True:
            frame = msgspec.msgpack.encode(_answer(questions.get()))
            answers.write(LENGTH.pack(len(frame)) + frame)
            answers.flush()


def _listen(source: BinaryIO, questions: queue.SimpleQueue[Question]) -> None:
    try:
        while head := source.read(LENGTH.size):
            questions.put(msgspec.msgpack.decode(source.read(*LENGTH.unpack(head)), type=Question))
    finally:  # cut off in the midst of a frame, too
        os._exit(0)


def _answer(question: Question) -> _Answer:
    try:
        return _Answer(predicted=question.answer())
    except Exception as error:  # somebody's policy may fail in any way
        return _Answer(error=str(error) or repr(error))
