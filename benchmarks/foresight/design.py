"""Which migrations are predicted and then made: seeded designs, one to learn from, one to be judged by, and one between
them to try things out with, so that nothing is ever mended after a look at those that are judged.

Each factor's levels are dealt out like cards: every level comes as often as every other, and which ones meet is chance.
So nothing is chosen by what a model is good at, and half of a run is as mixed as the whole. Nobody looks at a case
before it is drawn: verdicts may hang by a hair, and some will.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from benchmarks.guests import MIB
from whimbrel.engine.policy import Objectives
from whimbrel.guest.spec import PAGE_BYTES, PageClass, WorkloadSpec
from whimbrel.laboratory.real import GOODPUT
from whimbrel.laboratory.stage import Guest

JUDGED: Final = "judged"
LEARNT: Final = "learnt"
TRIED: Final = "tried"
SEEDS: Final = {LEARNT: 14, TRIED: 24, JUDGED: 60}
"""Any numbers that differ."""
COUNTS: Final = {LEARNT: 18, TRIED: 24, JUDGED: 60}
QUICK: Final = {LEARNT: 3, TRIED: 3, JUDGED: 6}

LINKS_MBIT: Final = (200, 500, 1000)
FIRST_PASS_S: Final = (2.0, 3.5)
"""How long sending what is not zero once takes, about."""
RAM_MIB: Final = (128, 384)
RATIOS: Final = (0.1, 2.0)
"""Page writes over the link's goodput."""
WRITTEN: Final = (0.15, 0.7)
"""What part of the filled memory is ever written."""
ALLOWED_S: Final = (0.1, 0.2, 0.3, 0.5)
PASSES_ALLOWED: Final = 5.0
LEAST_DEADLINE_S: Final = 8.0
PATTERNS: Final = ("uniform", "sweep", "hotspot", "zipf", "two classes")
POLICIES: Final = ("fixed", "auto_converge", "least_downtime", "throttle_to_fit", "hybrid_after", "predictive")
GREATEST_THROTTLE: Final = 0.99
"""The guest waits more than it computes: less than this hardly slows it."""
Level = TypeVar("Level")
_FREE_BYTES: Final = 8 * MIB
"""Not filled: the guest's own pages, and zeros."""


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One migration.

    Attributes:
        name: for people and for file names.
        stage: `LEARNT`, `TRIED` or `JUDGED`.
        pattern: of `PATTERNS`.
        ratio: bytes of page writes per second over the link's nominal goodput.
        link_mbit: rate of the link, every frame counted.
        classes: the guest's, as text.
        ram_bytes: its memory, no multiple of 256 KiB.
        seed: of the guest's choices.
        policy: as it is written on the command line.
        objectives: what is asked for; it is called off at the deadline.
    """

    name: str
    stage: str
    pattern: str
    ratio: float
    link_mbit: int
    classes: tuple[str, ...]
    ram_bytes: int
    seed: int
    policy: str
    objectives: Objectives

    @property
    def guest(self) -> Guest:
        """What runs."""
        classes = tuple(PageClass.parse(text) for text in self.classes)
        return Guest(self.name, WorkloadSpec(classes=classes, seed=self.seed), self.ram_bytes)

    @property
    def deadline_s(self) -> float:
        """It is called off so long after ``migrate``."""
        assert self.objectives.deadline_s is not None
        return self.objectives.deadline_s

    @property
    def policy_name(self) -> str:
        """Without its parameters; the last one of a composition, which is there for it."""
        return self.policy.rpartition(", ")[2].partition(":")[0]


def goodput_bytes_per_s(link_mbit: int) -> float:
    """What one stream gets of a link, about."""
    return link_mbit * 1e6 / 8 * GOODPUT


def cases(stage: str, *, quick: bool = False) -> tuple[Case, ...]:
    """A design, in the order in which it is run.

    Args:
        stage: `LEARNT`, `TRIED` or `JUDGED`.
        quick: the first few of them, to try it out.
    """
    count = COUNTS[stage]
    draw = random.Random(f"foresight {stage} {SEEDS[stage]}")
    patterns, links = _dealt(draw, PATTERNS, count), _dealt(draw, LINKS_MBIT, count)
    allowed = _dealt(draw, ALLOWED_S, count)
    policies = _dealt(draw, POLICIES, count)
    # One out of each of so many equal parts, evenly by their square root: half of them are below three quarters.
    low, high = (math.sqrt(end) for end in RATIOS)
    ratios = [(low + (high - low) * (place + draw.random()) / count) ** 2 for place in range(count)]
    draw.shuffle(ratios)
    rows = zip(patterns, ratios, links, allowed, policies, strict=True)
    design = tuple(_case(draw, f"{stage}-{number:02}", stage, *row) for number, row in enumerate(rows, start=1))
    return design[: QUICK[stage]] if quick else design


def _case(
    draw: random.Random,
    name: str,
    stage: str,
    pattern: str,
    ratio: float,
    link_mbit: int,
    allowed_s: float,
    policy: str,
) -> Case:
    goodput = goodput_bytes_per_s(link_mbit)
    least, most = (mib * MIB for mib in RAM_MIB)
    filled = _pages(min(max(goodput * draw.uniform(*FIRST_PASS_S), least / 2), most - _FREE_BYTES))
    ram_bytes = min(max(_pages(filled * draw.uniform(1.05, 1.6)), filled + _FREE_BYTES, least), most)
    ratio = round(ratio, 3)
    writers = list(_writers(draw, pattern, ratio * goodput, _pages(filled * draw.uniform(*WRITTEN))))
    cold = PageClass(name="cold", size_bytes=filled - sum(each.size_bytes for each in writers))
    deadline_s = max(LEAST_DEADLINE_S, round(PASSES_ALLOWED * filled / goodput, 1))
    return Case(
        name=name,
        stage=stage,
        pattern=pattern,
        ratio=ratio,
        link_mbit=link_mbit,
        classes=tuple(str(each) for each in (*writers, cold)),
        # Whole MiB and 64 KiB: no multiple of 256 KiB (see `whimbrel.guest.boot.DEFAULT_RAM_BYTES`).
        ram_bytes=(ram_bytes // MIB * MIB) - (64 << 10),
        seed=draw.randrange(1, 1 << 31),
        policy=_policy(draw, policy, allowed_s),
        objectives=Objectives(
            downtime_s=allowed_s,
            deadline_s=deadline_s,
            greatest_throttle=GREATEST_THROTTLE
            if policy in ("auto_converge", "throttle_to_fit", "predictive")
            else 0.0,
            may_postcopy=policy == "hybrid_after",
        ),
    )


def _writers(draw: random.Random, pattern: str, rate: float, written: int) -> Iterator[PageClass]:
    """The classes that write: one, or two that share the rate and the memory."""
    if pattern != "two classes":
        yield _writer(draw, "writer", pattern, rate, written)
        return
    first, second = draw.sample(PATTERNS[:-1], 2)
    share, part = draw.uniform(0.3, 0.7), _pages(written * draw.uniform(0.2, 0.8))
    yield _writer(draw, "first", first, rate * share, part)
    yield _writer(draw, "second", second, rate * (1 - share), written - part)


def _writer(draw: random.Random, name: str, pattern: str, rate: float, size: int) -> PageClass:
    more = {
        "uniform": "",
        "sweep": "",
        "hotspot": f",share={draw.uniform(0.7, 0.95):.2f},part={draw.uniform(0.05, 0.3):.2f}",
        "zipf": f",skew={draw.uniform(0.5, 1.1):.2f}",
    }[pattern]
    return PageClass.parse(f"{name}:size={size},rate={_pages(rate)}B/s,pattern={pattern}{more}")


def _policy(draw: random.Random, name: str, allowed_s: float) -> str:
    """With its parameters. Who holds a limit gives QEMU half of what is allowed: QEMU's own test leaves out the pipe,
    the device state and the load, and so an outage is as often longer than its limit as shorter."""
    limit = f"downtime_limit={allowed_s * 500:g}ms"
    if name in ("fixed", "auto_converge"):
        return f"{name}:{limit}"
    if name == "hybrid_after":
        return f"first(fixed:{limit}, {name}:iterations={draw.randint(1, 3)})"
    return name


def _dealt(draw: random.Random, levels: Sequence[Level], count: int) -> list[Level]:
    """So many of them, each as often as every other, or once more, in an order of chance."""
    cards = [levels[place % len(levels)] for place in range(count)]
    draw.shuffle(cards)
    return cards


def _pages(size_bytes: float) -> int:
    """Whole pages, at least one."""
    return max(1, round(size_bytes / PAGE_BYTES)) * PAGE_BYTES
