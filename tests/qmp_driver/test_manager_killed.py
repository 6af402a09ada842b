"""The manager is killed at a named point of a real move, by itself, and `resolve` settles what it left.

All points are gone through by ``python -m benchmarks campaign --points``; here are those that matter most, and a few
that a seed chooses. What is looked at afterwards: the guest runs exactly once and its memory is whole, nothing is left
behind, the log has its end.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.campaign.conduct import Seen, conduct
from benchmarks.campaign.judge import MOVED, STAYED, judge
from benchmarks.campaign.plan import Run
from benchmarks.campaign.points import LEAST_MOMENTS, MUST, RESOLVER_AT, named, numbered, of_successor, plain, sweep

SEED = 20261123
DRAWN = 3
"""So many of each kind, besides those that must be."""


async def settled(run: Run, folder: Path) -> Seen:
    """Do a run, and demand that it ends as it has to."""
    seen = await conduct(run, folder)
    judged = judge(run, seen.evidence)
    assert judged.violations == [], seen.evidence
    assert judged.verdict in (MOVED, STAYED)
    return seen


@pytest.mark.parametrize("moment", MUST)
async def test_killed_where_the_guest_changes_hands(short_folder: Path, moment: str) -> None:
    """Killed exactly there; and somebody else settles it."""
    (run,) = named("move", [moment])
    seen = await settled(run, short_folder)
    assert [hit["at"] for hit in seen.evidence.hits] == [moment]
    assert seen.evidence.died
    assert seen.evidence.resolved == 1


@pytest.mark.parametrize("kind", ["move", "cancelled"])
@pytest.mark.timeout(180)
async def test_killed_anywhere(short_folder: Path, kind: str) -> None:
    """The moments of a move, and of one that is called off, are counted, and a seed chooses some of them."""
    folders = [short_folder / str(number) for number in range(DRAWN + 1)]
    for folder in folders:
        folder.mkdir()
    seen = await conduct(plain(kind), folders[0], moments=True)
    assert judge(plain(kind), seen.evidence).violations == []
    assert len(seen.moments) >= LEAST_MOMENTS[kind]
    if kind == "move":
        assert set(MUST) <= set(numbered(seen.moments))
    # Not every run has as many looks and forecasts, so a later moment may not come; the last ones are in MUST.
    runs = sweep(kind, seen.moments[: LEAST_MOMENTS[kind]])
    for run, folder in zip(random.Random(SEED).sample(runs, DRAWN), folders[1:], strict=True):
        assert (await settled(run, folder)).evidence.died


async def test_the_one_that_takes_over_is_killed_too(short_folder: Path) -> None:
    """A third manager settles what the second one left, from the same log."""
    run = of_successor(RESOLVER_AT[1], ["", "", "", "", "", ""])[-1]
    seen = await settled(run, short_folder)
    assert [hit["did"] for hit in seen.evidence.hits] == ["kill-manager", "die"]
    assert seen.evidence.resolved == 2
