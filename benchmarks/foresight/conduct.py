"""Runs a design, or what is missing of it: measure, predict, put that on record, migrate, put down what came.

The link, the sink at its other end and the destination are as a user would have them; the prediction is made by
`whimbrel.planning.plan`, for the policy of the case alone. Nothing is chosen after the fact: a case is done again only
where others used the machine meanwhile, or it was called off, and all attempts stay on record.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

import whimbrel
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.prediction import of_predicted
from whimbrel.laboratory.link import Link, paced_link
from whimbrel.laboratory.load import until_quiet
from whimbrel.laboratory.stage import Stage, stage
from whimbrel.planning import Link as Known
from whimbrel.planning import plan
from whimbrel.policies import resolve

from .design import LEARNT, Case
from .moving import move, stamp
from .records import Came, Said, Store, foretold_of, model_digest
from .words import asked, foretold, told

BUSY_CORES: Final = 0.5
"""A migration during which others used more than this is done again."""
GREATEST_REPEATS: Final = 2
PATIENCE_S: Final = 20.0
SPAN_S: Final = 4.0
"""For so long a guest is measured."""
BOOTS: Final = 3
LOGS: Final = "logs"
Say = Callable[[str], None]
Make = Callable[[Store, Case], Came]


@dataclass(slots=True)
class Bench:
    """The links, each made once, with a sink at its far end. A context manager that takes them down."""

    _places: dict[int, tuple[Link, tuple[str, int]]] = field(default_factory=dict[int, tuple[Link, tuple[str, int]]])
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def place(self, link_mbit: int) -> tuple[Link, tuple[str, int]]:
        """A link of this rate, and where its sink listens.

        Raises:
            WhimbrelError: it can't be had.
        """
        if link_mbit not in self._places:
            link = self._stack.enter_context(paced_link(f"{link_mbit}mbit"))
            self._places[link_mbit] = link, self._stack.enter_context(sink(link.destination_prefix, link.host))
        return self._places[link_mbit]


@contextlib.contextmanager
def sink(prefix: Sequence[str], host: str) -> Generator[tuple[str, int], None, None]:
    """A ``whimbrel sink``, ended with the context.

    Args:
        prefix: words before its command line.
        host: where it listens.

    Raises:
        WhimbrelError: it does not come up.
    """
    argv = [*prefix, sys.executable, "-m", "whimbrel", "sink", "--host", host, "--port", "0"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(rf"{re.escape(host)}:(\d+)", said)
        if found is None:
            raise WhimbrelError(f"no sink at {host}: {said.strip() or 'it said nothing'}")
        yield host, int(found[1])
    finally:
        process.terminate()
        process.communicate()


def missing(store: Store, wanted: Sequence[Case], repeats: int = GREATEST_REPEATS) -> list[Case]:
    """Those that have to be done, or done again: so often at most, while others disturb them."""

    def settled(attempts: Sequence[Came]) -> bool:
        return len(attempts) > repeats or any(came.others_cores <= BUSY_CORES for came in attempts)

    return [case for case in wanted if not settled(store.came(case.name))]


def run(folder: Path, wanted: Sequence[Case], make: Make, *, repeats: int = GREATEST_REPEATS, say: Say = print) -> None:
    """Do what is missing of a design.

    Args:
        folder: where the records are.
        wanted: the cases.
        make: predicts a case and makes it, putting both on record.
        repeats: how often a case that others disturbed is done again.
        say: told of every migration.

    Raises:
        WhimbrelError: a migration failed otherwise than by being called off.
    """
    store, began_s = Store(folder), time.monotonic()
    first = len(missing(store, wanted, repeats))
    while left := missing(store, wanted, repeats):
        case, done = left[0], first - len(left)
        eta = f", {(time.monotonic() - began_s) / done * len(left) / 60:.0f} min to go" if done else ""
        say(f"{time.strftime('%H:%M:%S')} [{len(wanted) - len(left) + 1}/{len(wanted)}{eta}] {asked(case)}")
        came = make(store, case)
        say(f"    came: {told(came)}")


def make_on(bench: Bench, *, patience_s: float = PATIENCE_S, say: Say = print) -> Make:
    """Predicts a case and makes it, on a bench.

    Args:
        bench: has the links.
        patience_s: how long to wait for a quiet machine.
        say: told what was predicted.
    """

    def make(store: Store, case: Case) -> Came:
        link, sink_at = bench.place(case.link_mbit)
        with link.at_source():
            return uvloop.run(_once(store, case, link, sink_at, patience_s, say))

    return make


async def _once(store: Store, case: Case, link: Link, sink_at: tuple[str, int], patience_s: float, say: Say) -> Came:
    await until_quiet(patience_s)
    attempt = store.attempts(case.name) + 1
    learnt_from = store.folder / LOGS / LEARNT
    async with _booted(link, case, say) as standing:
        began_s = time.perf_counter()
        planned = await plan(
            str(standing.source_qmp),
            objectives=case.objectives,
            link=Known(probe=sink_at),
            span_s=SPAN_S,
            logs=learnt_from,
            policies=[case.policy],
        )
        (predicted,) = planned.plan.predicted
        said = Said(
            case=case,
            attempt=attempt,
            written=stamp(time.time()),
            model=model_digest(),
            learnt_from=sum(1 for _ in learnt_from.glob("*.jsonl")),
            belief=planned.plan.belief,
            abilities=planned.survey.abilities,
            foretold=foretold_of(predicted, planned.thought_s),
            survey_s=time.perf_counter() - began_s - planned.thought_s,
        )
        store.predict(said)
        say(f"    said: {foretold(said.foretold)}")
        options = whimbrel.Options(
            policy=resolve(case.policy),
            policy_name=case.policy,
            prediction=of_predicted(predicted, planned.plan.belief),
            log_path=_new_log(store.folder, case, attempt),
        )
        came = await move(standing, case, options, attempt=attempt, said=store.digest(case.name, attempt))
    store.record(came)
    return came


@contextlib.asynccontextmanager
async def _booted(link: Link, case: Case, say: Say) -> AsyncGenerator[Stage, None]:
    """A running guest; one that does not come up is started again, for nothing has been predicted of it yet."""
    async with contextlib.AsyncExitStack() as stack:
        for boot in range(1, BOOTS):
            try:
                standing = await stack.enter_async_context(stage(link, case.guest))
            except WhimbrelError as error:
                say(f"    boot {boot} of {BOOTS}: {error}")
            else:
                break
        else:
            standing = await stack.enter_async_context(stage(link, case.guest))
        yield standing


def _new_log(folder: Path, case: Case, attempt: int) -> Path:
    path = folder / LOGS / case.stage / f"{case.name}-{attempt}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # of an attempt that was called off before its prediction was on record
    return path
