"""A machine, its clock, and the courses that several tests drive it along."""

from __future__ import annotations

from dataclasses import dataclass, field

from whimbrel.engine.machine import Event, Happened, Machine, Order, Probe, Sampled, Tune
from whimbrel.engine.policy import Decision, Objectives, Observation, Policy, Reason
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.statistics import Statistics

S = Signal
SECOND = 1_000_000_000


def nothing(_: Observation) -> Decision:
    """The policy that never decides anything."""
    return Decision()


@dataclass
class Recorder:
    """A policy that keeps what it was shown, and decides by the reason that it is asked for."""

    decisions: dict[Reason, Decision] = field(default_factory=dict[Reason, Decision])
    seen: list[Observation] = field(default_factory=list[Observation])

    def __call__(self, observation: Observation) -> Decision:
        self.seen.append(observation)
        return self.decisions.get(observation.reason, Decision())

    @property
    def reasons(self) -> list[Reason]:
        """Why it was asked, in order."""
        return [observation.reason for observation in self.seen]


@dataclass
class Drive:
    """A machine and its clock; everything that came out of it is kept."""

    machine: Machine
    now_s: float = 0.0
    out: list[Order | Tune | Probe] = field(default_factory=list[Order | Tune | Probe])

    def at(self, now_s: float, *events: Event | Signal) -> Drive:
        """Take events, one after the other, at a time in seconds."""
        self.now_s = now_s
        for event in events:
            happened = Happened(event) if isinstance(event, Signal) else event
            self.machine.receive(happened, round(now_s * SECOND))
            self.out += self.machine.orders()
        return self

    def time(self, now_s: float) -> Drive:
        """Tell the time."""
        self.now_s = now_s
        self.machine.receive_time(round(now_s * SECOND))
        self.out += self.machine.orders()
        return self

    def sample(self, now_s: float, *, iteration: int = 1, sent: int = 0, left: int = 0) -> Drive:
        """Take statistics."""
        answer = Statistics(
            at_ns=round(now_s * SECOND),
            iteration=iteration,
            transferred_bytes=sent,
            remaining_bytes=left,
            total_bytes=1000,
            bandwidth_bytes_per_s=100.0,
            throttle=0.25,
        )
        return self.at(now_s, Sampled(answer))

    @property
    def commands(self) -> list[Command]:
        """The commands of the protocol that went out."""
        return [order.command for order in self.out if isinstance(order, Order)]

    @property
    def tunes(self) -> list[Tune]:
        """The knobs that were turned."""
        return [order for order in self.out if isinstance(order, Tune)]

    @property
    def next_s(self) -> float | None:
        """The next deadline in seconds."""
        due_ns = self.machine.next_deadline_ns()
        return None if due_ns is None else due_ns / SECOND


def drive(policy: Policy = nothing, objectives: Objectives | None = None, *, stall_s: int = 30) -> Drive:
    """A machine that has not begun."""
    return Drive(Machine(policy=policy, objectives=objectives or Objectives(), stall_ns=stall_s * SECOND))


def to_precopy(it: Drive) -> Drive:
    """Through stage 1, which takes three seconds; ``migrate`` goes out at 3 s, the connection stands at 4 s."""
    return it.at(0, S.START).at(1, S.INSPECT_DONE).at(2, S.PREPARE_DONE).at(3, S.ARM_DONE).at(4, S.SOURCE_ACTIVE)


def to_handover(it: Drive) -> Drive:
    """Through stages 2 and 3."""
    return to_precopy(it).at(10, S.SOURCE_STOPPED, S.SOURCE_PRE_SWITCHOVER).at(11, S.QUIESCE_DONE, S.CONTINUE_DONE)


def to_the_end(it: Drive) -> Drive:
    """A move that goes well; over at 14 s."""
    to_handover(it).at(12, S.SOURCE_DEVICE, S.DESTINATION_COMPLETED, S.SOURCE_COMPLETED)
    return it.at(13, S.CLAIM_DONE, S.DESTINATION_RUNNING).at(14, S.RELEASE_SOURCE_DONE)
