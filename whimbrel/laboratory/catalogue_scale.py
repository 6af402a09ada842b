"""How the laboratory's cases are scaled, and the small words that they are written in.

The rule. A setting has V bytes to be sent once over a link of B bytes per second, writers with rates r and sets of W
bytes, and phases of P seconds. Kept is what has no dimension: ``r / B`` (lambda), ``W / V``, ``P B / V``, the part of
RAM that is zero, and how much of its vCPU a writer needs. V becomes 64 to 224 MiB and ``V / B``, a *round*, 3 s unless
the case says otherwise; a run is censored after ten rounds, at most a minute.

Not scaled is what QEMU does by the clock: its windows of 100 ms, its throttle's slices of 10 ms, one step of the
throttle a second, a sync every 5 s (from 9.2 on). That is why a round is not shorter, and why the goal stays at 300 ms,
a tenth of a round, as it is a thirteenth of one in the baselines that were measured at 1 Gbit/s. A lambda is cut where
a guest would write more than three million pages before it is called off; it is told where that was done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from whimbrel.engine.policy import Objectives
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, QemuPlan, Scenario, Writer

from .records import Case

MIB: Final = 1 << 20
ROUND_S: Final = 3.0
LIMIT_ROUNDS: Final = 10.0
"""Auto-converge needs 7.4 rounds for a guest that writes 1.5 times the link, and is the slowest that gets there."""
GREATEST_LIMIT_S: Final = 60.0
MOST_WRITES: Final = 3_000_000
"""Page writes that a guest may do, unhindered, before its run is called off: what a realised trace must hold."""
GOAL_S: Final = 0.3
PIPE_S: Final = 0.02
"""Seconds of link that lie in socket buffers and queues: measured at 1 Gbit/s."""

KVM: Final = QemuPlan(source=Version.V10_0, destination=Version.V10_0, kvm=True)
"""What such guests run on, and what can limit the dirty rate of a vCPU."""
TCG: Final = QemuPlan()
"""What the machines that we measure on can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A writer in terms that have no dimension.

    Attributes:
        name: of the writer.
        part: its set, as a part of all that is to be sent.
        rate: its page writes, as a multiple of the link (lambda).
        cpu: how much of its vCPU it needs at that rate, 0 to 1.
        period, shift: in rounds.
        pattern, skew, share, hot, duty, delta_bytes, ratio, vcpu: as in `whimbrel.sim.scenario.Writer`, where `hot` is
            ``part`` and `ratio` is ``compressed_ratio``.
    """

    name: str
    part: float
    rate: float = 0.0
    cpu: float = 0.0
    pattern: Pattern = Pattern.UNIFORM
    skew: float = 0.99
    share: float = 0.95
    hot: float = 0.2
    period: float = 0.0
    duty: float = 1.0
    shift: float = 0.0
    delta_bytes: int = PAGE_BYTES
    ratio: float = 1.0
    vcpu: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a guest is, and how long its RAM takes.

    Attributes:
        filled_bytes: what is not zero, in whole pages.
        zero_bytes: the rest.
        round_s: how long the link takes for what is not zero.
        limit_s: when a run is called off; 0.0: after ten rounds, at most a minute.
    """

    filled_bytes: int = 112 * MIB
    zero_bytes: int = 16 * MIB
    round_s: float = ROUND_S
    limit_s: float = 0.0

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """The link's."""
        return float(round(self.filled_bytes / self.round_s))

    @property
    def censored_s(self) -> float:
        """When a run is called off."""
        return self.limit_s or min(LIMIT_ROUNDS * self.round_s, GREATEST_LIMIT_S)

    def writer(self, part: Part) -> Writer:
        """A writer of this guest."""
        return Writer(
            name=part.name,
            size_bytes=max(1, round(part.part * self.filled_bytes / PAGE_BYTES)) * PAGE_BYTES,
            rate_bytes_per_s=float(round(part.rate * self.bandwidth_bytes_per_s)),
            pattern=part.pattern,
            skew=part.skew,
            share=part.share,
            part=part.hot,
            period_s=round(part.period * self.round_s, 6),
            duty=part.duty,
            shift_s=round(part.shift * self.round_s, 6),
            delta_bytes=part.delta_bytes,
            compressed_ratio=part.ratio,
            vcpu=part.vcpu,
            cpu_share=part.cpu,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A guest without a link.

    Attributes:
        about: what it is, and its source.
        parts: who writes; what is over is filled once.
        size: how large it is; the link's speed follows from it.
        qemu: what it runs on.
        vcpus: how many it has.
        curve: instead of parts: (window as a part of a round, distinct bytes dirtied in it as a part of what is to be
            sent).
    """

    about: str
    parts: tuple[Part, ...] = ()
    size: Size = Size()
    qemu: QemuPlan = KVM
    vcpus: int = 1
    curve: tuple[tuple[float, float], ...] = ()

    def guest(self) -> GuestPlan:
        """It, page by page."""
        size = self.size
        curve = tuple((window * size.round_s, part * size.filled_bytes) for window, part in self.curve)
        return GuestPlan(
            ram_bytes=size.filled_bytes + size.zero_bytes,
            zero_bytes=size.zero_bytes,
            writers=tuple(size.writer(part) for part in self.parts),
            curve=curve,
            vcpus=self.vcpus,
            pages=True,
        )


# ---- links: what they are like besides their speed


def steady(size: Size, *, pipe_s: float = PIPE_S) -> LinkPlan:
    """Nothing happens."""
    speed = size.bandwidth_bytes_per_s
    return LinkPlan(bandwidth_bytes_per_s=speed, pipe_bytes=round(pipe_s * speed))


def noisy(size: Size) -> LinkPlan:
    """A quarter of its speed as noise that lasts about a second: others' traffic, as VEP 248 smooths it away."""
    plain = steady(size)
    return LinkPlan(
        bandwidth_bytes_per_s=plain.bandwidth_bytes_per_s, pipe_bytes=plain.pipe_bytes, noise=0.25, noise_memory=0.9
    )


def fading(size: Size) -> LinkPlan:
    """Half of its speed from 0.7 rounds on, all of it again from 3 rounds on."""
    plain = steady(size)
    speed = plain.bandwidth_bytes_per_s
    steps = ((round(0.7 * size.round_s, 3), speed / 2), (3 * size.round_s, speed))
    return LinkPlan(bandwidth_bytes_per_s=speed, pipe_bytes=plain.pipe_bytes, steps=steps)


def outage(size: Size) -> LinkPlan:
    """Nothing moves for half a round, 1.2 rounds after the start: early in the second iteration of a slow policy."""
    plain = steady(size)
    outages = ((round(1.2 * size.round_s, 3), round(0.5 * size.round_s, 3)),)
    return LinkPlan(bandwidth_bytes_per_s=plain.bandwidth_bytes_per_s, pipe_bytes=plain.pipe_bytes, outages=outages)


def shared(size: Size) -> LinkPlan:
    """Another migration has its share of it all the time; it is so fast that a round still takes as long."""
    plain = steady(size)
    return LinkPlan(bandwidth_bytes_per_s=2 * plain.bandwidth_bytes_per_s, pipe_bytes=plain.pipe_bytes, rivals=1)


LINKS: Final[dict[str, Callable[[Size], LinkPlan]]] = {
    "noisy": noisy,
    "fading": fading,
    "outage": outage,
    "shared": shared,
}
"""Besides steady ones, which have the name of the speed that they were scaled from."""


# ---- what the user wants


def goal(size: Size, word: str = "") -> Objectives:
    """What the user wants.

    Everything is allowed unless the case says otherwise, so that each policy can show what it can do; what it took from
    the guest for that stands in the results.

    Args:
        size: of the guest.
        word: ``""``: 300 ms, no hurry, all allowed. ``tight``: 60 ms. ``soon``: within 2.5 rounds. ``precopy``: no
            post-copy, no pause (whose link may be lost). ``gentle``: no throttle either. ``pause``: a pause, but
            neither throttle nor post-copy.

    Raises:
        ValueError: there is no such word.
    """
    plain = Objectives(downtime_s=GOAL_S, greatest_throttle=0.99, may_abort=True, may_pause=True, may_postcopy=True)
    match word:
        case "":
            return plain
        case "tight":
            return replace(plain, downtime_s=GOAL_S / 5)
        case "soon":
            return replace(plain, deadline_s=round(2.5 * size.round_s, 3))
        case "precopy":
            return replace(plain, may_pause=False, may_postcopy=False)
        case "gentle":
            return replace(plain, may_pause=False, may_postcopy=False, greatest_throttle=0.0)
        case "pause":
            return replace(plain, may_postcopy=False, greatest_throttle=0.0)
        case _:
            raise ValueError(f"no goal has the word {word!r}")


def make(name: str, family: str, workload: Workload, *, about: str = "", pipe_s: float = PIPE_S) -> Case:
    """The case of a name ``workload@link`` or ``workload@link-goal``.

    Args:
        name: its link is one of `LINKS`, or any other word for a steady one.
        family: where it comes from.
        workload: the guest.
        about: a further sentence, on this link or goal.
        pipe_s: seconds of a steady link that lie in its pipe.
    """
    first, _, link = name.partition("@")
    kind, _, word = link.partition("-")
    plan = LINKS[kind](workload.size) if kind in LINKS else steady(workload.size, pipe_s=pipe_s)
    scenario = Scenario(
        guest=workload.guest(),
        link=plan,
        qemu=workload.qemu,
        objectives=goal(workload.size, word),
        limit_s=workload.size.censored_s,
    )
    told = f"{workload.about} {about}".rstrip()
    return Case(name=name, family=family, workload=first, link=link, scenario=scenario, about=told)
