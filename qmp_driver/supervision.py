"""A policy is somebody's code: it is asked in a thread of its own, and not waited for longer than a limit.

A policy that loops for ever would otherwise stop the manager in the middle of a migration. What is not answered in time
is told as a `TimeoutError`, upon which the engine goes on under the last good settings and does not ask it again
(`whimbrel.engine.pilot`). The thread is told to end; one that does not is left behind and ends with the process.

Not even this helps against code that keeps the interpreter's lock for ever, as one endless call into C may.
"""

from __future__ import annotations

import copy
import ctypes
import threading
from queue import Empty, SimpleQueue
from typing import Any

from whimbrel.engine.policy import Decision, Observation, Policy, Reason

ANSWER_WITHIN_S = 1.0
"""A policy is asked up to 50 times a second: one that takes a second is not steering any more."""
FIRST_ANSWER_WITHIN_S = 10.0
"""Before the start nothing is under way; whoever loads a model does it here."""


class _Stopped(BaseException):
    """Raised in the thread of a policy that did not answer; not an `Exception`, lest the policy take it for its own."""


class Supervised:
    """A policy that is asked in a thread of its own.

    Deep copies ask a copy of the policy in another thread.
    """

    def __init__(
        self, policy: Policy, *, within_s: float = ANSWER_WITHIN_S, first_within_s: float = FIRST_ANSWER_WITHIN_S
    ) -> None:
        """Supervise it.

        Args:
            policy: that is asked.
            within_s: how long an answer may take, seconds.
            first_within_s: and an answer at `Reason.SETUP`.
        """
        self._policy = policy
        self._within_s = within_s
        self._first_within_s = first_within_s
        self._thread: threading.Thread | None = None
        self._questions: SimpleQueue[Observation | None] = SimpleQueue()
        self._answers: SimpleQueue[Decision | BaseException] = SimpleQueue()
        self._late = False

    def __call__(self, seen: Observation) -> Decision:
        """Ask it.

        Raises:
            TimeoutError: it did not answer in time, now or before.
            BaseException: whatever it raised.
        """
        within_s = self._first_within_s if seen.reason is Reason.SETUP else self._within_s
        if self._late:
            raise TimeoutError(f"it has not answered a question from before within {within_s:g} s")
        if self._thread is None:
            self._thread = threading.Thread(
                target=_answer, args=(self._policy, self._questions, self._answers), daemon=True, name="policy"
            )
            self._thread.start()
        self._questions.put(seen)
        try:
            answer = self._answers.get(timeout=within_s)
        except Empty:
            self._late = True
            self._questions.put(None)  # should the answer come just now, it waits for nothing more
            _stop(self._thread)
            raise TimeoutError(f"no answer within {within_s:g} s") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def __deepcopy__(self, memo: dict[int, Any]) -> Supervised:
        policy = copy.deepcopy(self._policy, memo)
        return Supervised(policy, within_s=self._within_s, first_within_s=self._first_within_s)

    def __repr__(self) -> str:
        return f"Supervised({self._policy!r})"

    def close(self) -> None:
        """Let the thread end; it may be asked again, in another one."""
        if self._thread is not None and not self._late:
            self._questions.put(None)
            self._thread = None

    def __del__(self) -> None:
        self.close()


def _answer(
    policy: Policy, questions: SimpleQueue[Observation | None], answers: SimpleQueue[Decision | BaseException]
) -> None:
    try:
        while (seen := questions.get()) is not None:
            try:
                answers.put(policy(seen))
            except (Exception, SystemExit) as error:  # it is raised again where it was asked
                answers.put(error)
    except _Stopped:
        pass  # nobody waits for it any more


def _stop(thread: threading.Thread) -> None:
    """Have `_Stopped` raised in a thread, when it next runs Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stopped))
