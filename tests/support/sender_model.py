"""A small deterministic model of QEMU's sender and a link with a deep pipe, to try policies on.

What it has: windows of 100 ms with a quota each, the threshold from the last window's bandwidth, the sync when the rest
is below it, a pipe that fills when sending faster than the link and that the device state waits behind, a guest
that writes uniformly over a working set. What it leaves out: page order, zero pages, noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from whimbrel.engine.machine import Happened, Machine, Sampled, Tune
from whimbrel.engine.policy import Objectives, Policy
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Phase
from whimbrel.engine.statistics import Statistics

STEP_NS = 1_000_000
WINDOW_NS = 100_000_000
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A guest and a link."""

    link_bytes_per_s: float
    pipe_bytes: float
    ram_bytes: int
    working_set_bytes: int = 64 * MIB
    dirty_bytes_per_s: float = 0.0
    limit_s: float = 60.0


@dataclass(slots=True)
class Course:
    """How it went."""

    outage_s: float
    total_s: float
    iterations: int
    reasons: list[str]


@dataclass(slots=True)
class _Qemu:
    scene: Scene
    remaining: float
    limit_s: float = 0.3
    bandwidth: int = 0
    sent: float = 0.0
    level: float = 0.0
    dirty: float = 0.0
    iteration: int = 1
    threshold: float = 0.0
    measured: float = 0.0
    window_ns: int = 0
    window_sent: float = 0.0
    stopped: bool = field(default=False)

    def step(self, now_ns: int) -> None:
        """One millisecond."""
        scene, dt = self.scene, STEP_NS / 1e9
        self.level = max(0.0, self.level - scene.link_bytes_per_s * dt)
        if now_ns - self.window_ns >= WINDOW_NS:
            self.measured = self.window_sent * 1e9 / (now_ns - self.window_ns)
            self.threshold = self.measured * self.limit_s
            self.window_ns, self.window_sent = now_ns, 0.0
        quota = self.bandwidth / 10 - self.window_sent if self.bandwidth else float("inf")
        portion = max(0.0, min(self.remaining, quota, scene.pipe_bytes - self.level))
        self.level += portion
        self.sent += portion
        self.window_sent += portion
        self.remaining -= portion
        free = max(0.0, 1 - self.dirty / scene.working_set_bytes)
        self.dirty += scene.dirty_bytes_per_s * free * dt
        if self.remaining < self.threshold or self.remaining <= 0:
            # Pages that wait to be sent and were written again are sent once.
            both = min(1.0, self.remaining / scene.working_set_bytes) if self.iteration > 1 else 0.0
            self.remaining += self.dirty * (1 - both)
            self.dirty = 0.0
            if self.remaining <= self.threshold:
                self.stopped = True
            else:
                self.iteration += 1

    def statistics(self, now_ns: int) -> Statistics:
        """What ``query-migrate`` would say."""
        return Statistics(
            at_ns=now_ns,
            status="active",
            iteration=self.iteration,
            remaining_bytes=round(self.remaining),
            transferred_bytes=round(self.sent),
            total_bytes=self.scene.ram_bytes,
            normal_pages=round(self.sent / 4096),
            bandwidth_bytes_per_s=self.measured,
            qemu_total_s=now_ns / 1e9,
            setup_s=0.0,
        )


def run(scene: Scene, policy: Policy, objectives: Objectives | None = None) -> Course:
    """Let a policy steer the model through the real machine, to the stop of the guest."""
    machine = Machine(policy=policy, objectives=objectives or Objectives())
    qemu = _Qemu(scene, remaining=float(scene.ram_bytes))
    reasons: list[str] = []
    for signal in (Signal.START, Signal.INSPECT_DONE, Signal.PREPARE_DONE, Signal.ARM_DONE):
        machine.receive(Happened(signal), 0)
    machine.receive(Happened(Signal.SOURCE_ACTIVE), 0)
    knobs = machine.progress().knobs
    qemu.limit_s, qemu.bandwidth = knobs.downtime_limit_s, knobs.bandwidth_bytes_per_s
    now_ns = looked_ns = 0
    while not qemu.stopped and now_ns < scene.limit_s * 1e9:
        now_ns += STEP_NS
        before = qemu.iteration
        qemu.step(now_ns)
        every_ns = machine.wake_every_ns or WINDOW_NS
        if qemu.iteration == before and now_ns - looked_ns < min(every_ns, WINDOW_NS):
            continue
        looked_ns = now_ns
        machine.receive(Sampled(qemu.statistics(now_ns)), now_ns)
        machine.receive_time(now_ns)
        for order in machine.orders():
            if isinstance(order, Tune):
                reasons.append(order.steering.decision.because)
                qemu.limit_s = order.steering.knobs.downtime_limit_s
                qemu.bandwidth = order.steering.knobs.bandwidth_bytes_per_s
        if machine.phase is not Phase.PRECOPY:
            break
    outage_s = (qemu.level + qemu.remaining) / scene.link_bytes_per_s
    return Course(outage_s, now_ns / 1e9 + outage_s, qemu.iteration, reasons)
