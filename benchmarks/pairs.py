"""Runs moves in pairs: bare, ours, bare, ours ... on the same guest and the same link."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from whimbrel.laboratory.load import Stopwatch, until_quiet
from whimbrel.laboratory.place import Place
from whimbrel.laboratory.stage import Guest, Move, stage

from . import bare, ours

BUSY_CORES = 0.5
"""A pair during which others used more than this is done again: it says more about them."""
GREATEST_REPEATS = 3
"""Of one pair; the last is taken as it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How runs are made."""

    runs: int
    patience_s: float = 0.0
    """How long to wait for a quiet machine before each pair, seconds."""
    lock: Path | None = None
    """Held during each pair: others that measure may hold it too."""
    say: Callable[[str], None] = print


@dataclass(slots=True)
class Pairs:
    """What was measured; `bare[i]` and `ours[i]` are one pair."""

    bare: list[Move] = field(default_factory=list[Move])
    ours: list[Move] = field(default_factory=list[Move])
    repeated: int = 0
    """Pairs that were thrown away because others used the machine."""

    def values(self, of: Callable[[Move], float]) -> tuple[list[float], list[float]]:
        """A figure of each of ours, and of each of the bare ones."""
        return [of(move) for move in self.ours], [of(move) for move in self.bare]


def run_pairs(place: Place, guest: Guest, manner: Manner, *, ready: bool = False) -> Pairs:
    """Move the guest so many times each way; which half of a pair comes first alternates.

    It runs an event loop of its own, on the source's host.

    Args:
        place: where.
        guest: whom.
        manner: how often, and how.
        ready: the destination process is up before the time begins to count.

    Raises:
        WhimbrelError: a move failed or lost memory. Nothing is left out in silence.
    """
    with place.at_source():
        return uvloop.run(_run_pairs(place, guest, manner, ready))


async def _run_pairs(place: Place, guest: Guest, manner: Manner, ready: bool) -> Pairs:
    done = Pairs()
    for run in range(manner.runs):
        chances = GREATEST_REPEATS if manner.patience_s > 0 else 0
        while True:
            with holding(manner.lock):
                await until_quiet(manner.patience_s)
                pair = await _pair(place, guest, ready, ours_first=bool(run % 2))
            others = max(move.others_cores for move in pair.values())
            again = others > BUSY_CORES and chances > 0
            manner.say(
                f"  {guest.name} {run + 1}/{manner.runs}: "
                + ", ".join(f"{by} {move.gap_s * 1e3:.1f} ms in {move.total_s:.3f} s" for by, move in pair.items())
                + f" (others: {others:.2f} cores{'; again' if again else ''})"
            )
            if not again:
                break
            chances -= 1
            done.repeated += 1
        done.bare.append(pair["bare"])
        done.ours.append(pair["whimbrel"])
    return done


async def _pair(place: Place, guest: Guest, ready: bool, *, ours_first: bool) -> dict[str, Move]:
    movers = {"bare": bare.move, "whimbrel": ours.move}
    order = sorted(movers, reverse=ours_first)
    pair: dict[str, Move] = {}
    for by in order:
        async with stage(place, guest) as standing:
            watch = Stopwatch.start(standing.pids)
            moved = await movers[by](standing, ready=ready)
            pair[by] = await standing.judge(by, moved, watch)
    return dict(sorted(pair.items()))


@contextlib.contextmanager
def holding(lock: Path | None) -> Generator[None, None, None]:
    """Hold a lock on this file, if one is given, so long."""
    if lock is None:
        yield
        return
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
