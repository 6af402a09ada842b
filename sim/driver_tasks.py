"""Procedures in virtual time: generators that yield what they wait for, and nobody that really waits.

A procedure is a generator (`Work`): it yields a `Promise` and goes on with its value, or with its error raised at
that point. `Loop` is where the procedures of one manager run, as an event loop is for a real one: what is to happen
at one time happens in the order in which it was asked for, and nothing happens in the middle of something else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

from .clock import SECOND_NS, Clock, Timer
from .qemu.own_time import OwnTime

T = TypeVar("T")
Work = Generator["Promise[Any]", Any, T]
"""A procedure that ends with a `T`."""


class CutShort(Exception):
    """What was waited for was called off."""


class Promise(Generic[T]):
    """Something that comes: once, as a value or an error."""

    __slots__ = ("_error", "_value", "_waiting", "done")

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.done = False
        self._value: T | None = None
        self._error: Exception | None = None
        self._waiting: list[Callable[[], None]] = []

    def keep(self, value: T) -> None:
        """It came; nothing happens if it had already."""
        if not self.done:
            self._value = value
            self._tell()

    def fail(self, error: Exception) -> None:
        """It will not come, and why."""
        if not self.done:
            self._error = error
            self._tell()

    def then(self, call: Callable[[], None]) -> None:
        """Be told when it is there; at once if it is."""
        if self.done:
            call()
        else:
            self._waiting.append(call)

    @property
    def error(self) -> Exception | None:
        """Why it did not come."""
        return self._error

    def result(self) -> T:
        """What came.

        Raises:
            Exception: whatever it failed with.
        """
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def _tell(self) -> None:
        self.done = True
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


class Task(Promise[T]):
    """A procedure that is under way; a promise of what it ends with."""

    __slots__ = ("_loop", "_work", "cut")

    def __init__(self, loop: Loop, work: Work[T]) -> None:
        """Made by `Loop.start`."""
        super().__init__()
        self._loop = loop
        self._work = work
        self.cut = False
        """It was cut short."""

    def step(self, awaited: Promise[Any] | None = None) -> None:
        """Go on with what came."""
        if self.done or self.cut:
            return
        try:
            if awaited is None:
                waits_for = next(self._work)
            elif awaited.error is not None:
                waits_for = self._work.throw(awaited.error)
            else:
                waits_for = self._work.send(awaited.result())
        except StopIteration as end:
            self.keep(end.value)
        except CutShort as error:
            self.fail(error)
        except Exception as error:
            if not self._waiting:
                raise  # nobody takes it: a defect of ours
            self.fail(error)
        else:
            waits_for.then(partial(self._loop.soon, partial(self.step, waits_for)))

    def cancel(self) -> None:
        """Cut it short: what it was at is left as it is, its ``finally`` clauses run."""
        if not self.done:
            self.cut = True
            self._work.close()
            self.fail(CutShort())


class Loop:
    """Where one manager's procedures run, in its process's own time."""

    def __init__(self, world: Clock) -> None:
        """Begin a manager's process.

        Attributes:
            world: the world's time.
            time: the process's own, frozen and ended with it.
        """
        self.world = world
        self.time = OwnTime(world)
        self._ready: deque[Callable[[], None]] = deque()
        self._running = False
        self._ended = False

    def end(self) -> None:
        """The process ends: nothing happens in it any more."""
        self._ended = True
        self._ready.clear()
        self.time.end()

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the world began."""
        return self.world.now_ns

    def run(self, call: Callable[[], None]) -> None:
        """Have something happen from outside, and then everything that follows from it at once."""
        if self._ended:
            return
        self._ready.append(call)
        if self._running:
            return
        self._running = True
        ready = self._ready
        try:
            while ready:
                ready.popleft()()
        finally:
            self._running = False

    soon = run
    """Have something happen now, after what is happening."""

    def after(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """Have something happen later."""
        return self.time.at(self.world.now_ns + delay_ns, partial(self.run, call))

    def at(self, when_ns: int, call: Callable[[], None]) -> Timer:
        """Have something happen at a time."""
        return self.time.at(when_ns, partial(self.run, call))

    def start(self, work: Work[T]) -> Task[T]:
        """Begin a procedure; its first step comes after what is happening now."""
        task = Task(self, work)
        self.soon(task.step)
        return task

    # ---- what procedures wait for

    def sleep(self, delay_s: float) -> Promise[None]:
        """A time from now."""
        promise: Promise[None] = Promise()
        self.after(round(delay_s * SECOND_NS), partial(promise.keep, None))
        return promise

    def when_done(self, promise: Promise[Any]) -> Promise[None]:
        """When something has come, or failed: it is not asked which."""
        there: Promise[None] = Promise()
        promise.then(lambda: there.keep(None))
        return there

    def first(self, promise: Promise[Any], within_s: float) -> Promise[bool]:
        """Whether something comes within a time; what it came to is asked of itself."""
        either: Promise[bool] = Promise()
        timer = self.after(round(within_s * SECOND_NS), partial(either.keep, False))

        def came() -> None:
            timer.cancel()
            either.keep(True)

        promise.then(came)
        return either

    def within(self, work: Work[T], within_s: float) -> Work[T]:
        """A procedure that is cut short after a time.

        Raises:
            TimeoutError: it was.
        """
        task = self.start(work)
        either = self.first(task, within_s)
        try:
            if not (yield either):
                raise TimeoutError
            return task.result()
        finally:
            either.done = True  # nobody waits for it any more
            task.cancel()

    def settled(self, *works: Work[Any]) -> Work[list[Task[Any]]]:
        """Several at once, each to its end, whatever that is."""
        tasks = [self.start(work) for work in works]
        ends = [self.when_done(task) for task in tasks]
        try:
            yield from ends
        except GeneratorExit:
            for task, end in zip(tasks, ends, strict=True):
                end.done = True  # nobody waits for it any more
                task.cancel()
            raise
        return tasks

    def together(self, *works: Work[Any]) -> Work[list[Any]]:
        """Several at once; the first error is raised when it comes, as `asyncio.gather` does, and the rest goes on.

        Returns:
            What each ended with, in their order.
        """
        tasks = [self.start(work) for work in works]
        every: Promise[None] = Promise()

        def one_ended(task: Task[Any]) -> None:
            if task.error is not None:
                every.fail(task.error)
            elif all(each.done for each in tasks):
                every.keep(None)

        try:
            for task in tasks:
                task.then(partial(one_ended, task))
            yield every
        except GeneratorExit:
            every.done = True  # nobody waits for it any more
            for task in tasks:
                task.cancel()
            raise
        return [task.result() for task in tasks]
