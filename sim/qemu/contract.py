"""The model's seams: between the migration thread and its process, and between the process and its users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from whimbrel.engine.costs import Costs as Costs
from whimbrel.sim.link.contract import Stream

QmpMessage = dict[str, object]
"""A JSON object as it goes over a monitor, either way."""


class Version(StrEnum):
    """The QEMUs that are modelled."""

    V7_2 = "7.2"
    V10_0 = "10.0"
    V11_1 = "11.1"


@dataclass(slots=True)
class Settings:
    """Capabilities and parameters as they stand, under QEMU's names and in QEMU's units; read anew at every use."""

    capabilities: dict[str, bool] = field(default_factory=dict[str, bool])
    parameters: dict[str, object] = field(default_factory=dict[str, object])


class ThreadListener(Protocol):
    """What the migration thread does to the process around it. All of these return at once."""

    def passed(self, number: int) -> None:
        """A dirty-bitmap sync: ``MIGRATION_PASS`` with this number (the version decides whether it is told)."""
        ...

    def stops_guest(self) -> None:
        """It stops the guest for the switchover: STOP, run state ``finish-migrate``."""
        ...

    def reached(self, status: str) -> None:
        """It is at ``active``, ``pre-switchover``, ``device``, ``postcopy-active``, ``postcopy-paused``, ... ."""
        ...

    def holds_lock(self, held: bool) -> None:
        """QEMU's big lock is taken for long (the completion), or let go: in-band commands wait meanwhile."""
        ...

    def sends_state(self, size_bytes: int, kind: str) -> None:
        """Everything before it is in the stream; the device state follows (``kind``: ``precopy`` or ``postcopy``)."""
        ...

    def all_sent(self) -> None:
        """Nothing is left to send (in post-copy: every page has been sent)."""
        ...


class MigrationThread(Protocol):
    """The sender. Made for one migration; the process around it keeps the statuses that others decide."""

    def start(self) -> None:
        """The stream is connected: setup, then iterations."""
        ...

    def figures(self) -> QmpMessage:
        """The ``ram``, ``expected-downtime``, ``cpu-throttle-percentage``, ``xbzrle-cache``, ... of ``query-migrate``,
        as stale as QEMU's are."""
        ...

    def proceed(self) -> None:
        """``migrate-continue``."""
        ...

    def start_postcopy(self) -> None:
        """``migrate-start-postcopy``: looked at at the next iteration of the loop."""
        ...

    def pause_postcopy(self) -> None:
        """The stream broke in post-copy, or ``migrate-pause``."""
        ...

    def resume_postcopy(self, stream: Stream | None = None, urgent: Stream | None = None) -> None:
        """A new stream is there, and the destination has said what it lacks."""
        ...

    def broken(self, reason: str) -> None:
        """The stream broke. It is noticed where QEMU would: the listener's ``reached`` tells ``failed`` or
        ``postcopy-paused``."""
        ...

    def guest_runs(self) -> None:
        """Post-copy: the guest's vCPUs run at the destination."""
        ...

    def guest_halts(self) -> None:
        """Post-copy: they were stopped there."""
        ...

    def acknowledge(self) -> None:
        """The destination says that it is ready for the switchover (``switchover-ack``)."""
        ...

    def end(self) -> None:
        """It is over, however: logging ends, the throttle is taken off."""
        ...

    def settings_changed(self) -> None:
        """A parameter was set."""
        ...


class Monitor(Protocol):
    """A client's end of one QMP connection to a QEMU."""

    def send(self, message: QmpMessage) -> None:
        """Hand over one message as the client wrote it (``execute`` or ``exec-oob``, ``arguments``, ``id``)."""
        ...

    def close(self) -> None:
        """The client goes."""
        ...


class QemuProcess(Protocol):
    """One QEMU process."""

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        ...

    @property
    def exit_code(self) -> int | None:
        """As a shell's parent sees it: negative for a signal; ``None`` while it lives."""
        ...

    @property
    def stderr(self) -> list[str]:
        """Lines that it wrote."""
        ...

    def connect(
        self, deliver: Callable[[QmpMessage], None], closed: Callable[[], None], monitor: int = 0
    ) -> Monitor | None:
        """Open one of its monitors.

        Args:
            deliver: takes the greeting, answers and events, in order.
            closed: told when the process ends, after everything that it said.
            monitor: which of its ``-qmp`` sockets.

        Returns:
            ``None``: somebody else is connected to it (no greeting will come), or the process has ended.
        """
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...

    def freeze(self) -> None:
        """SIGSTOP: nothing happens in it, and nobody is told."""
        ...

    def thaw(self) -> None:
        """SIGCONT."""
        ...
