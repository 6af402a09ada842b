"""One migration in the world: both QEMUs, the ways to their monitors, the managers one after the other, a witness."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from whimbrel.engine.signals import Command
from whimbrel.engine.states import Side as SideName
from whimbrel.engine.statistics import Statistics

from .checkers import Witness
from .clock import SECOND_NS, Clock, Timer
from .driver import Driver, Settings
from .driver_line import Trouble, Wire
from .driver_log import EPOCH_S, Log
from .driver_tasks import Loop
from .link.contract import Network
from .memory.build import memory_of
from .qemu.contract import Version
from .qemu.process import Qemu
from .scenario import Scenario
from .seeds import number, stream

SOURCE_PID, DESTINATION_PID = 1000, 2000
MACHINE = "pc-q35-7.2"
"""All three versions have it."""
KVM = "kvm,dirty-ring-size=4096"
"""With a ring, without which no QEMU accepts ``dirty-limit``; of the size that KVM's documentation uses."""
MONITOR_LATENCY_NS = 50_000
REACTION_NS = 400_000
"""From an event's arrival to the manager's next word: 0.4 to 1.2 ms were measured on real migrations."""
LEAST_START_S, GREATEST_START_S = 0.05, 0.12
"""A QEMU greets so long after it was started."""


class Watched:
    """A process that a manager watches; whoever has an eye on the manager sees what it does to it."""

    def __init__(self, qemu: Qemu, before_kill: Callable[[], None]) -> None:
        """Take the process."""
        self._qemu = qemu
        self._before_kill = before_kill

    @property
    def pid(self) -> int:
        """Its number."""
        return self._qemu.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._qemu.alive

    @property
    def exit_code(self) -> int | None:
        """As its parent sees it."""
        return self._qemu.exit_code

    @property
    def stderr(self) -> list[str]:
        """Lines that it wrote."""
        return self._qemu.stderr

    def on_exit(self, call: Callable[[], None]) -> None:
        """Be told when it has ended."""
        self._qemu.on_exit(call)

    def kill(self) -> None:
        """SIGKILL, by a manager."""
        self._before_kill()
        self._qemu.kill()


class Pair:
    """Both QEMUs of one migration (`whimbrel.sim.driver_procedures.Place`).

    Attributes:
        watched: whether the processes are of the manager's host.
        log: of the migration, whoever wrote it.
        driver: the present manager; ``None`` while there is none.
        ended: whether a manager has seen it to its end.
        ended_ns: when one last did.
        work: what the guest has done from ``migrate`` until all of it was at the destination, or to the end, as a part
            of what it would have done; ``None``: it has not come to that.
        began_ns: when the first manager began.
        migrate_ns: when ``migrate`` was ordered; ``None``: it was not.
        on_order: told of each command of a manager, before it is carried out.
        on_command: told of each command that goes out over a monitor; says what befalls it.
    """

    def __init__(
        self,
        clock: Clock,
        network: Network,
        scenario: Scenario,
        seed: int,
        settings: Settings,
        *,
        watched: bool = True,
        judged: bool = True,
    ) -> None:
        """Start the source, and its guest.

        Args:
            clock: the world's.
            network: the world's.
            scenario: what is simulated.
            seed: of what is left to chance in this migration.
            settings: what its managers are told.
            watched: see the class.
            judged: whether somebody has an eye on what managers say, and may trouble it.
        """
        self._clock = clock
        self._network = network
        self._scenario = scenario
        self._seed = seed
        self._settings = settings
        self.watched = watched
        self._judged = judged
        self.log = Log()
        self.driver: Driver | None = None
        self.ended = False
        self.ended_ns: int | None = None
        self.work: float | None = None
        self.began_ns = clock.now_ns
        self.migrate_ns: int | None = None
        self.on_order: Callable[[Command], None] = lambda _: None
        self.on_command: Callable[[SideName, str], Trouble | None] = lambda _, __: None
        random = stream(seed, "monitors")
        self._random = random
        self.start_s = random.uniform(LEAST_START_S, GREATEST_START_S)
        plan = scenario.qemu
        self.memory = memory_of(scenario.guest, seed=number(seed, "memory"), kvm=plan.kvm)
        self.source_qemu = self._start(plan.source, SideName.SOURCE)
        self.destination_qemu: Qemu | None = None
        self.witness = Witness(lambda: clock.now_ns, self.source_qemu, on_whole=self._take_work)
        self.source = Watched(self.source_qemu, lambda: None)
        self.source_wire = self._wire(self.source_qemu, SideName.SOURCE)
        self._lease: Timer | None = None
        self.destination: Watched | None = None
        self.destination_wire: Wire | None = None

    # ---- managers

    def begin(self, make: type[Driver] = Driver) -> Driver:
        """A manager begins the migration."""
        driver = self._manager(make)
        driver.begin()
        return driver

    def take_over(self, make: type[Driver] = Driver) -> Driver:
        """A new manager takes it over from the log."""
        driver = self._manager(make)
        driver.take_over(self.began_ns, list(self.log.records()))
        return driver

    def _manager(self, make: type[Driver]) -> Driver:
        badge = f"whimbrel-migration-{number(self._seed, 'badge'):016x}"
        driver = make(Loop(self._clock), self, self._settings, self.log, badge=badge)
        driver.on_order = self._ordered
        self.driver, self.ended, self.ended_ns = driver, False, None
        driver.ended.then(self._has_ended)
        return driver

    def _has_ended(self) -> None:
        self.ended, self.ended_ns = True, self._clock.now_ns
        if self.witness.whole_ns is None:
            self._take_work()

    def _take_work(self) -> None:
        self.work = self.memory.done_work(self._clock.now_ns)

    def _ordered(self, command: Command) -> None:
        if command is Command.MIGRATE and self.migrate_ns is None:
            self.migrate_ns = self._clock.now_ns
            self.memory.count_work(self.migrate_ns)
        self.on_order(command)

    def source_figures(self) -> Statistics | None:
        """The last that a manager saw of the source's figures."""
        return self.driver.machine.ledger.last if self.driver is not None else None

    # ---- the source's vCPUs, where it is on the manager's host

    @property
    def local(self) -> bool:
        """See `Place`."""
        return self.watched and self._scenario.qemu.local

    @property
    def ram_bytes(self) -> int:
        """See `Place`."""
        return self._scenario.guest.ram_bytes

    @property
    def vcpu_s(self) -> tuple[float, ...]:
        """See `Place`."""
        return self.source_qemu.vcpu_s if self.local else ()

    def slow_source(self, share: float, lease_s: float) -> bool:
        """See `Place`."""
        held = self._lease is not None
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None
        self.source_qemu.slow_from_outside(share)
        if share:
            self._lease = self._clock.after(round(lease_s * SECOND_NS), self._lease_is_over)
        return held

    def _lease_is_over(self) -> None:
        self._lease = None
        self.source_qemu.slow_from_outside(0.0)

    # ---- QEMUs

    def start_destination(self) -> None:
        """See `Place`. A manager after the first one starts none."""
        qemu = self._start(self._scenario.qemu.destination, SideName.DESTINATION)
        self.destination_qemu = qemu
        self.destination = Watched(qemu, self.witness.destination_is_killed)
        self.destination_wire = self._wire(qemu, SideName.DESTINATION)
        self.witness.destination = qemu

    def _start(self, version: Version, side: SideName) -> Qemu:
        plan = self._scenario.qemu
        at_source = side is SideName.SOURCE
        return Qemu(
            self._clock,
            version,
            self._network,
            self._arguments(side),
            self.memory if at_source else None,
            plan.costs,
            number(self._seed, side.value),
            SOURCE_PID if at_source else DESTINATION_PID,
            EPOCH_S,
            kvm=plan.kvm,
        )

    def _arguments(self, side: SideName) -> list[str]:
        guest, plan = self._scenario.guest, self._scenario.qemu
        words = ["qemu-system-x86_64", "-accel", KVM if plan.kvm else "tcg", "-machine", MACHINE]
        words += ["-m", f"{guest.ram_bytes >> 10}K", "-smp", str(guest.vcpus), "-display", "none", "-nodefaults"]
        for name in ("qmp", "human"):
            words += ["-qmp", f"unix:/simulated/{side.value}.{name}.sock,server=on,wait=off"]
        if side is SideName.DESTINATION:
            words += ["-incoming", "defer"]
            words += ["-S"] if self.watched else []  # others forget it: it is told to stop
        return words

    def _wire(self, qemu: Qemu, side: SideName) -> Wire:
        wire = Wire(qemu, self._random, MONITOR_LATENCY_NS, REACTION_NS)
        if self._judged:
            wire.trouble = partial(self._commanded, side)
        return wire

    def _commanded(self, side: SideName, command: str) -> Trouble | None:
        self.witness.commanded(side, command)
        return self.on_command(side, command)
