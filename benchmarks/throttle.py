"""A throttle that is computed against one that is climbed to: `ThrottleToFit` and QEMU's auto-converge.

The guest rewrites half more than the link takes, so that without a throttle it is never moved within the goal. What
each way costs is its time and the guest's own count of the writes that it had to give up, as seconds of its work. Both
sides are moved by whimbrel, so that nothing but the policy differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import uvloop

import whimbrel
from whimbrel.engine.policies.auto_converge import AutoConverge
from whimbrel.engine.policies.throttle_to_fit import ThrottleToFit
from whimbrel.engine.policy import Objectives, Policy
from whimbrel.laboratory.link import can_link, paced_link
from whimbrel.laboratory.load import Stopwatch, until_quiet
from whimbrel.laboratory.place import Place
from whimbrel.laboratory.relay import paced_relay
from whimbrel.laboratory.stage import Guest, Move, stage

from . import ours
from .bars import Bar, Result, Row
from .figures import median, ratio
from .guests import writer
from .pairs import BUSY_CORES, GREATEST_REPEATS, Manner, Pairs, holding

LINK = "1gbit"
LINK_BYTES_PER_S = 1e9 / 8
SHARE = 1.5
"""Of the link, that the guest rewrites."""
GOAL = Objectives(downtime_s=0.3, greatest_throttle=0.99)
LADDER = "auto_converge"
POLICIES: Mapping[str, Callable[[], Policy]] = {
    LADDER: AutoConverge,
    "from outside": ThrottleToFit,
    "by QEMU": lambda: ThrottleToFit(outside=False),
}
"""Who steers, a fresh one for each move. Where nobody can slow the source from outside, both of ours go by QEMU."""
GREATEST_TIME = 1 / 3.5
GREATEST_LOSS = 1.1
GREATEST_OUTAGE_S = GOAL.downtime_s


@dataclass(slots=True)
class Rounds:
    """What was measured: of each policy the moves, in the order of the rounds."""

    moves: dict[str, list[Move]] = field(default_factory=lambda: {name: [] for name in POLICIES})
    repeated: int = 0

    def pairs(self, name: str) -> Pairs:
        """One of ours, and the ladder beside it."""
        return Pairs(bare=self.moves[LADDER], ours=self.moves[name], repeated=self.repeated)


def measure(manner: Manner) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it.

    Returns:
        One result, and the moves of each of ours beside those of auto-converge.
    """
    why_not = can_link()
    if why_not:
        manner.say(f"!!! NO PACED LINK HERE ({why_not}): a relay in this process paces instead.")
    with paced_relay(LINK_BYTES_PER_S) if why_not else paced_link(LINK) as place:
        goodput = place.goodput_bytes_per_s()
        manner.say(f"one TCP stream gets {goodput / 2**20:.1f} MiB/s")
        guest = writer(SHARE, goodput)
        with place.at_source():
            rounds = uvloop.run(run_rounds(place, guest, manner))
    link = "relay" if why_not else "tbf between two network namespaces"
    note = f"{guest.name} of the link ({link}, {goodput / 2**20:.1f} MiB/s); a goal of {GOAL.downtime_s * 1e3:.0f} ms"
    return [judge(rounds, note)], {name: rounds.pairs(name) for name in POLICIES if name != LADDER}


def judge(rounds: Rounds, note: str) -> Result:
    """The figures, and what is asked of them."""
    bars: list[Bar] = []
    rows: list[Row] = []
    for name, moves in rounds.moves.items():
        rows.append(Row(f"{name}: time", median([move.total_s for move in moves]), "s"))
        rows.append(Row(f"{name}: guest-seconds lost", median([move.lost_s for move in moves]), "s"))
        rows.append(Row(f"{name}: outage", median([move.gap_s for move in moves]).scaled(1e3), "ms"))
        if name == LADDER:
            continue
        pairs = rounds.pairs(name)
        times, losses = pairs.values(lambda move: move.total_s), pairs.values(lambda move: move.lost_s)
        asked = f"time at most {GREATEST_TIME:.3f} of auto-converge's (3.5 times as quick)"
        bars.append(Bar(f"throttle to fit, {name}", asked, ratio(*times), GREATEST_TIME, "x"))
        asked = f"guest-seconds lost at most {GREATEST_LOSS:g} of auto-converge's"
        bars.append(Bar(f"throttle to fit, {name}", asked, ratio(*losses), GREATEST_LOSS, "x"))
        rows.append(Row(f"{name}: times as quick as auto-converge", ratio(times[1], times[0]), "x"))
    return Result("A computed throttle against a ladder", tuple(bars), tuple(rows), (note,))


async def run_rounds(place: Place, guest: Guest, manner: Manner) -> Rounds:
    """Move the guest every way in turn, so many times; who comes first goes round.

    Raises:
        WhimbrelError: a move failed or lost memory.
    """
    done = Rounds()
    names = list(POLICIES)
    for run in range(manner.runs):
        chances = GREATEST_REPEATS if manner.patience_s > 0 else 0
        order = names[run % len(names) :] + names[: run % len(names)]
        while True:
            with holding(manner.lock):
                await until_quiet(manner.patience_s)
                moves = {name: await _moved(place, guest, name) for name in order}
            others = max(move.others_cores for move in moves.values())
            again = others > BUSY_CORES and chances > 0
            told = "; ".join(
                f"{name} {move.total_s:.2f} s, {move.lost_s:.2f} lost, {move.gap_s * 1e3:.0f} ms"
                for name, move in moves.items()
            )
            manner.say(f"  {run + 1}/{manner.runs}: {told} (others: {others:.2f} cores{'; again' if again else ''})")
            if not again:
                break
            chances -= 1
            done.repeated += 1
        for name, move in moves.items():
            done.moves[name].append(move)
    return done


async def _moved(place: Place, guest: Guest, name: str) -> Move:
    options = whimbrel.Options(objectives=GOAL, policy=POLICIES[name](), policy_name=name)
    async with stage(place, guest) as standing:
        watch = Stopwatch.start(standing.pids)
        return await standing.judge(name, await ours.move(standing, options=options), watch)
