"""The process: a model of QEMU, its sockets, its threads, its standard error and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from whimbrel.sim.clock import MILLISECOND_NS, Clock
from whimbrel.sim.guests import plan as guests
from whimbrel.sim.memory.build import memory_of
from whimbrel.sim.memory.contract import Memory
from whimbrel.sim.qemu import machine
from whimbrel.sim.qemu.contract import Monitor
from whimbrel.sim.qemu.monitor import Client
from whimbrel.sim.qemu.process import Qemu

from .configuration import BadConfiguration, Configuration, read_configuration
from .monitor_server import Closed, Deliver, MonitorServer
from .network import SocketNetwork
from .pace import Pace

NAME: Final = "qemu-system-x86_64"
"""What it calls itself in its messages."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Those that let a QEMU end in order."""
_LAST_WORDS_NS: Final = MILLISECOND_NS
"""What the model still says after its end is said by then, virtual time."""
_PARTING_S: Final = 2.0
"""So long the connection of a process that has ended still carries what was in it."""


class Program:
    """One simulated QEMU, on the running loop."""

    def __init__(
        self, arguments: Sequence[str], configuration: Configuration, memory: Memory, cpu_threads: Sequence[int]
    ) -> None:
        """Set it up; nothing is served before `run`.

        Args:
            arguments: QEMU's, without the program's name.
            configuration: what is simulated.
            memory: the guest's.
            cpu_threads: ids of this process's threads that stand for the guest's CPUs.
        """
        plan = configuration
        self._pace = Pace(Clock(), plan.speed)
        self._network = SocketNetwork(self._pace, plan.link, plan.seed)
        self._qemu = Qemu(
            self._pace.clock,
            plan.version,
            self._network,
            [NAME, *arguments],
            memory,
            plan.costs,
            plan.seed,
            os.getpid(),
            self._pace.epoch_s,
            kvm=plan.kvm,
            cpu_threads=cpu_threads,
        )
        self._monitors: list[MonitorServer] = []
        self._said = 0
        self._crashed = False
        self._ended = asyncio.Event()
        self._pace.on_turn = self._after_turn
        self._pace.on_stop = self._on_stop

    def listen(self, paths: Sequence[str]) -> None:
        """Open the monitors' sockets, in order.

        Raises:
            OSError: one can't be opened; its ``filename`` is the path.
        """
        for index, path in enumerate(paths):
            try:
                self._monitors.append(MonitorServer(self, self._pace, path, index))
            except OSError as error:
                raise OSError(error.errno or 0, error.strerror or str(error), path) from error

    async def run(self) -> int:
        """Serve until it ends.

        Returns:
            Its exit code; negative for a signal.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._crash)
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        for monitor in self._monitors:
            monitor.serve()
        self._pace.happen(lambda: None)
        await self._ended.wait()
        code = -signal.SIGABRT if self._crashed else self._qemu.exit_code or 0
        for monitor in self._monitors:
            monitor.close(remove=code == 0)
        if not self._crashed:
            await self._network.part(_PARTING_S)
        self._pace.close()
        self._network.close()
        return code

    # ---- for the monitors' servers

    def open(self, deliver: Deliver, closed: Closed, index: int) -> Monitor | None:
        """See `monitor_server.Backend`."""
        return self._qemu.connect(deliver, closed, index)

    def give(self, monitor: Monitor, name: str, descriptor: int) -> None:
        """See `monitor_server.Backend`. It stays open until it is used, or the process ends."""
        assert isinstance(monitor, Client)  # as `open` gave it
        monitor.hand_over(name, f"fd:{descriptor}")

    # ---- inside

    def _signalled(self) -> None:
        self._pace.happen(lambda: self._qemu.signal(signal.SIGTERM))

    def _crash(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A mistake of the model's: it dies, as a QEMU does of a failed assertion, and nobody takes it for alive."""
        loop.default_exception_handler(context)
        error = context.get("exception")
        if isinstance(error, BaseException):
            traceback.print_exception(error)
        self._crashed = True
        self._ended.set()

    def _on_stop(self, stopped: bool) -> None:
        if stopped:
            self._qemu.freeze()
        else:
            self._qemu.thaw()

    def _after_turn(self) -> None:
        lines = self._qemu.stderr[self._said :]
        self._said += len(lines)
        for line in lines:
            print(line, file=sys.stderr, flush=True)
        if not self._qemu.alive and not self._ended.is_set():
            self._ended.set()
            self._pace.skip(_LAST_WORDS_NS)


def memory_for(configuration: Configuration, described: machine.Machine) -> Memory:
    """The guest's memory: as planned, and as large as the machine that the command line describes.

    Raises:
        BadConfiguration: such a guest there can't be.
    """
    ram_bytes = configuration.guest.ram_bytes or sum(used for _, used, _ in described.ram_blocks)
    vcpus = max(configuration.guest.vcpus, described.cpus)
    plan = replace(configuration.guest, ram_bytes=ram_bytes, vcpus=vcpus)
    wrong = guests.findings(plan)
    if wrong:
        raise BadConfiguration(wrong)
    return memory_of(plan, seed=configuration.seed, kvm=configuration.kvm)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be a QEMU; does not return.

    It exits as QEMU does: 0 after ``quit``, 1 after a failure, by the signal that would have killed it.
    """
    code = run(arguments, environment)
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Serve until it ends; what it can't start with is said on the standard error.

    Args:
        arguments: QEMU's, without the program's name.
        environment: may hold ``WHIMBREL_SIM``.

    Returns:
        The exit code; negative for a signal.
    """
    try:
        if reason := _unlike(arguments):
            raise BadConfiguration([reason])
        plan = read_configuration(arguments, environment)
        described = machine.read(list(arguments), plan.version)
        return _serve(arguments, plan, described, memory_for(plan, described))
    except BadConfiguration as error:
        findings = error.findings
    except OSError as error:
        words = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        findings = (f"-qmp: Failed to bind socket to {words}",)
    for finding in findings:
        print(f"{NAME}: {finding}", file=sys.stderr)
    return 1


def _serve(arguments: Sequence[str], configuration: Configuration, described: machine.Machine, memory: Memory) -> int:
    with asyncio.Runner() as runner:
        threads = _start_cpus(described.cpus)

        async def serve() -> int:
            program = Program(arguments, configuration, memory, threads)
            program.listen(described.monitors)
            return await program.run()

        return runner.run(serve())


def _unlike(arguments: Sequence[str]) -> str:
    """Why a process with this command line would not be what its caller expects; empty: it would."""
    if "-daemonize" in arguments or "--daemonize" in arguments:
        return "-daemonize: a simulated QEMU stays in the foreground"
    for option, value in pairwise(arguments):
        if option.lstrip("-") == "qmp" and not value.startswith(("unix:", "tcp:", "chardev:")):
            return f"-qmp {value}: a simulated QEMU has no such monitor, only unix: and tcp:"
    return ""


def _start_cpus(count: int) -> list[int]:
    """Start threads that do nothing: whoever asks whether a process is the QEMU looks for its CPUs' threads."""
    threads = [threading.Thread(target=threading.Event().wait, name=f"CPU {number}/SIM", daemon=True)
               for number in range(count)]  # fmt: skip
    for each in threads:
        each.start()
    return [each.native_id or 0 for each in threads]
