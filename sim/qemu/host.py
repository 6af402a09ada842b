"""What the two ends of a migration need of the process around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from whimbrel.sim.link.contract import Network, Stream
from whimbrel.sim.memory.contract import Memory

from .contract import Costs, MigrationThread, Settings, ThreadListener, Version
from .disks import Disks
from .machine import Machine
from .own_time import Time


class MakeThread(Protocol):
    """What makes the sender of a migration; see `whimbrel.sim.qemu.thread.Thread`."""

    def __call__(
        self,
        clock: Time,
        version: Version,
        memory: Memory,
        stream: Stream,
        settings: Settings,
        costs: Costs,
        listener: ThreadListener,
        kvm: bool = False,
        *,
        urgent: Stream | None = None,
        back: Stream | None = None,
        running: Callable[[], bool] | None = None,
    ) -> MigrationThread:
        """Make it."""
        ...


class Host(Protocol):
    """The process, as the ends of a migration in it see it."""

    memory: Memory | None
    """The guest's; ``None`` in a destination that has not been sent it yet."""
    run_state: str
    """As ``query-status`` has it."""

    @property
    def version(self) -> Version:
        """Which QEMU it is."""
        ...

    @property
    def time(self) -> Time:
        """Its own: it stands still while the process is frozen."""
        ...

    @property
    def network(self) -> Network:
        """Where it listens and connects."""
        ...

    @property
    def machine(self) -> Machine:
        """What its command line describes."""
        ...

    @property
    def settings(self) -> Settings:
        """Capabilities and parameters as they stand."""
        ...

    @property
    def costs(self) -> Costs:
        """What things cost in time."""
        ...

    @property
    def disks(self) -> Disks:
        """Its block nodes."""
        ...

    @property
    def autostart(self) -> bool:
        """Whether the guest starts by itself once it has arrived."""
        ...

    @property
    def blockers(self) -> list[str]:
        """Why this guest can't be migrated."""
        ...

    @property
    def frozen(self) -> bool:
        """Whether the process is stopped (SIGSTOP)."""
        ...

    @property
    def seed(self) -> int:
        """Of what is left to chance in it."""
        ...

    def capability(self, name: str) -> bool:
        """Whether a migration capability is on."""
        ...

    def emit(self, event: str, data: Mapping[str, object] | None = None) -> None:
        """Send an event to every monitor."""
        ...

    def start_guest(self) -> None:
        """The vCPUs run: RESUME."""
        ...

    def stop_guest(self, state: str) -> None:
        """The vCPUs stand still, in this run state: STOP, where they ran."""
        ...

    def lock(self, held: bool) -> None:
        """The big lock is taken for long, or let go."""
        ...

    def say(self, line: str) -> None:
        """Write a line to standard error, with the program's name before it."""
        ...

    def exit(self, code: int) -> None:
        """End the process."""
        ...
