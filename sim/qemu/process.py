"""One QEMU process: its life, its run state, its monitors and the two ends of a migration in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS, Clock
from whimbrel.sim.link.contract import Network
from whimbrel.sim.memory.contract import Memory

from . import capabilities, commands, machine, parameters
from .contract import Costs, QmpMessage, Settings, Version
from .dirty_rate import DirtyRate
from .disks import Disks
from .errors import Refusal
from .host import MakeThread
from .images import Images
from .incoming import Incoming
from .monitor import Client, Port
from .outgoing import Outgoing
from .own_time import OwnTime
from .thread import Thread

COMMAND_NS = 30_000
"""What a command in band takes the main loop."""

VERSION_NUMBERS = {
    Version.V7_2: (7, 2, 22, "Debian 1:7.2+dfsg-7+deb12u18"),
    Version.V10_0: (10, 0, 2, "Debian 1:10.0.2+ds-2+deb13u1~bpo12+1"),
    Version.V11_1: (11, 1, 3, "Debian 1:11.1.3+ds-1"),
}
SIGKILL, SIGTERM = 9, 15


class Qemu:
    """One QEMU process, in virtual time; see `whimbrel.sim.qemu.contract.QemuProcess`.

    Attributes:
        machine: what its command line describes.
        settings: capabilities and parameters as they stand.
        run_state: as ``query-status`` has it.
        objects: ids and kinds of the objects that were made by command.
        slowed: the share of their time that its host takes from its vCPUs' threads.
    """

    def __init__(
        self,
        clock: Clock,
        version: Version,
        network: Network,
        arguments: Sequence[str],
        memory: Memory | None,
        costs: Costs,
        seed: int,
        pid: int,
        epoch_s: float,
        *,
        make_thread: MakeThread = Thread,
        kvm: bool = False,
        cpu_threads: Sequence[int] = (),
        images: Images | None = None,
    ) -> None:
        """Start it. A process that can't start has ended at once, with code 1 and a reason in `stderr`.

        Args:
            clock: the world's.
            version: which QEMU it is.
            network: where it listens and connects.
            arguments: its command line, with or without the program's name.
            memory: the guest's; ``None`` for a destination, which gets the source's with the stream, or for a
                process that never migrates.
            costs: what things cost in time.
            seed: of what is left to chance in it.
            pid: its process id.
            epoch_s: the wall clock at the time 0 of the world, seconds.
            make_thread: what makes the sender of a migration.
            kvm: the dirty log is KVM's.
            cpu_threads: thread ids of its vCPUs; those that are missing follow on the pid.
            images: the locks on image files of the host that it runs on; ``None``: of a host of its own.
        """
        self.clock = clock
        self.time = OwnTime(clock)
        self.version = version
        self.network = network
        self.costs = costs
        self.seed = seed
        self.pid = pid
        self.memory = memory
        self.machine = machine.read(arguments, version)
        self.settings = Settings(dict.fromkeys(capabilities.names(version), False), parameters.defaults(version))
        self.run_state = "inmigrate" if self.machine.incoming is not None else "prelaunch"
        self.autostart = not self.machine.stopped
        self.objects = dict(self.machine.objects)
        self.cpu_threads = [*cpu_threads, *range(pid + 1 + len(cpu_threads), pid + 1 + self.machine.cpus)]
        self._epoch_ns = round(epoch_s * SECOND_NS)
        self._ports = [Port(path) for path in self.machine.monitors]
        self._commands = commands.table(version)
        self._locked = False
        self._busy = False
        self._free_ns = 0
        self._turn = 0
        self._stderr: list[str] = []
        self._exit_code: int | None = None
        self.slowed = 0.0
        self._vcpu_s: tuple[float, ...] = (0.0,) * self.machine.cpus
        """How long its vCPUs had run when they last stopped."""
        self._on_exit: list[Callable[[], None]] = []
        self.disks = Disks(self.machine, Images() if images is None else images, pid, version)
        self.outgoing = Outgoing(self, make_thread, kvm=kvm)
        self.incoming = Incoming(self)
        self.dirty_rate = DirtyRate(self, self.kill)
        self._boot()

    def _boot(self) -> None:
        if not self.machine.known:
            which = "" if self.version is Version.V7_2 else f': "{self.machine.type}"'
            self.say(f"unsupported machine type{which}")
            self._stderr.append("Use -machine help to list supported machines")
            self.exit(1)
            return
        if machine.deprecated(self.machine.type, self.version):
            age = "machines more than 3 years old are subject to deletion after 6 years"
            self.say(f"warning: Machine type '{self.machine.type}' is deprecated: {age}")
        incoming = self.machine.incoming
        if incoming is None:
            try:
                self.disks.activate()
            except Refusal:
                first, *others = (self.disks.lock_line or "").splitlines()
                self.say(first)
                self._stderr += others
                self.exit(1)
                return
            if self.autostart:
                self.start_guest()
        elif incoming != "defer":
            try:
                self.incoming.listen(incoming, incoming)
            except Refusal as refusal:
                self.say(f"-incoming {incoming}: {refusal.description}")
                self.exit(1)

    # ---- what others see

    @property
    def alive(self) -> bool:
        """See `QemuProcess`."""
        return self._exit_code is None

    @property
    def exit_code(self) -> int | None:
        """See `QemuProcess`."""
        return self._exit_code

    @property
    def stderr(self) -> list[str]:
        """See `QemuProcess`."""
        return list(self._stderr)

    @property
    def monitors(self) -> list[str]:
        """Where its QMP monitors are, in the order of `connect`'s numbers."""
        return [port.path for port in self._ports]

    @property
    def version_numbers(self) -> tuple[int, int, int, str]:
        """Major, minor, micro, and what the distribution calls it."""
        return VERSION_NUMBERS[self.version]

    def version_info(self) -> QmpMessage:
        """As ``query-version`` and the greeting have it."""
        major, minor, micro, package = self.version_numbers
        return {"qemu": {"micro": micro, "minor": minor, "major": major}, "package": package}

    def is_connected(self, monitor: int) -> bool:
        """Whether somebody is connected to a monitor."""
        return self._ports[monitor].client is not None

    @property
    def guest_runs(self) -> bool:
        """Whether vCPUs run in it now."""
        return self.alive and not self.time.frozen and self.run_state == "running"

    @property
    def migration_status(self) -> str:
        """The status of the latest migration in either role, as it truly is; ``none`` before the first."""
        return self.outgoing.status if self.outgoing.status != "none" else self.incoming.status

    @property
    def blockers(self) -> list[str]:
        """Why this guest can't be migrated, in QEMU's words."""
        return self.disks.blockers

    @property
    def frozen(self) -> bool:
        """Whether it is stopped (SIGSTOP)."""
        return self.time.frozen

    def connect(
        self, deliver: Callable[[QmpMessage], None], closed: Callable[[], None], monitor: int = 0
    ) -> Client | None:
        """See `QemuProcess`."""
        if not self.alive:
            return None
        port = self._ports[monitor]
        if port.client is not None:
            return None
        client = Client(self.clock, self.time, self, deliver, closed, self._left)
        port.client = client
        self.time.after(0, lambda: client.put({"QMP": {"version": self.version_info(), "capabilities": ["oob"]}}))
        return client

    def kill(self, signal: int = SIGKILL) -> None:
        """See `QemuProcess`; with another number it dies of that signal."""
        self.exit(-signal)

    def signal(self, number: int) -> None:
        """Send it a signal: SIGTERM lets it end by itself, any other kills it."""
        if number == SIGTERM:
            self.time.after(0, lambda: self.quit("host-signal"))
        else:
            self.kill(number)

    @property
    def vcpu_s(self) -> tuple[float, ...]:
        """How long each of its vCPUs' threads has run, seconds, as its host's scheduler counts it."""
        if self.memory is not None and self.guest_runs:
            return self.memory.vcpu_s(self.clock.now_ns)
        return self._vcpu_s

    def slow_from_outside(self, share: float) -> None:
        """Its host gives its vCPUs' threads no more than the rest of their time, at once; 0: all of it."""
        self.slowed = share
        if self.memory is not None and self.run_state == "running" and self.alive:
            self.memory.throttle_from_outside(self.clock.now_ns, share)

    def fail_incoming(self, line: str) -> None:
        """Have the guest that is on its way here fail to load, with this line on standard error."""
        if self.alive:
            self.time.after(0, lambda: self.incoming.fail(line))

    def freeze(self) -> None:
        """See `QemuProcess`."""
        if not self.alive or self.time.frozen:
            return
        self._vcpu_s = self.vcpu_s
        if self.run_state == "running" and self.memory is not None:
            self.memory.halt(self.clock.now_ns)
        self.time.freeze()
        self.incoming.hold(True)
        self.outgoing.hold(True)

    def thaw(self) -> None:
        """See `QemuProcess`."""
        if not self.alive or not self.time.frozen:
            return
        self.time.thaw()
        if self.run_state == "running" and self.memory is not None:
            self.memory.run(self.clock.now_ns)
        self.incoming.hold(False)
        self.outgoing.hold(False)

    def on_exit(self, call: Callable[[], None]) -> None:
        """Be told, once, when it has ended."""
        self._on_exit.append(call)

    # ---- its own doing; see `whimbrel.sim.qemu.host.Host`

    def capability(self, name: str) -> bool:
        """See `Host`."""
        return self.settings.capabilities.get(name, False)

    def emit(self, event: str, data: Mapping[str, object] | None = None) -> None:
        """See `Host`."""
        seconds, rest_ns = divmod(self._epoch_ns + self.clock.now_ns, SECOND_NS)
        stamp = {"seconds": seconds, "microseconds": rest_ns // 1000}
        for port in self._ports:
            if port.client is not None and port.client.negotiated:
                message: QmpMessage = {"timestamp": dict(stamp), "event": event}
                if data is not None:
                    message["data"] = dict(data)
                port.client.put(message)

    def start_guest(self) -> None:
        """See `Host`."""
        if self.run_state == "running":
            return
        self.run_state = "running"
        if self.memory is not None:
            self.memory.run(self.clock.now_ns)
            self.memory.throttle_from_outside(self.clock.now_ns, self.slowed)
        self.emit("RESUME")
        self.incoming.guest_started()

    def stop_guest(self, state: str) -> None:
        """See `Host`."""
        ran = self.run_state == "running"
        self._vcpu_s = self.vcpu_s
        self.run_state = state
        if ran:
            if self.memory is not None:
                self.memory.halt(self.clock.now_ns)
            self.emit("STOP")
            self.incoming.guest_stopped()

    def lock(self, held: bool) -> None:
        """See `Host`."""
        self._locked = held
        if not held:
            self._pump()

    def say(self, line: str) -> None:
        """See `Host`."""
        self._stderr.append(f"qemu-system-x86_64: {line}")

    def say_plainly(self, lines: str) -> None:
        """Write lines that do not name the program."""
        self._stderr += lines.splitlines()

    def quit(self, reason: str) -> None:
        """End by itself: a migration that is under way is called off, without waiting for its end.

        Args:
            reason: as SHUTDOWN has it (``host-qmp-quit``, ``host-signal``).
        """
        self.emit("SHUTDOWN", {"guest": False, "reason": reason})
        if self.outgoing.running and self.outgoing.status != "cancelling" and self.capability("events"):
            self.emit("MIGRATION", {"status": "cancelling"})
        self.time.after(MILLISECOND_NS, lambda: self.exit(0))

    def exit(self, code: int) -> None:
        """See `Host`."""
        if not self.alive:
            return
        if self.run_state == "running" and not self.time.frozen and self.memory is not None:
            self.memory.halt(self.clock.now_ns)
        self._exit_code = code
        self.outgoing.leave()
        self.incoming.leave()
        self.disks.inactivate()
        self.time.end()
        for port in self._ports:
            if port.client is not None:
                port.client.put(None)
        for call in self._on_exit:
            self.clock.after(0, call)

    # ---- commands

    def request(self, client: Client, message: QmpMessage, *, oob: bool) -> None:
        """A command has arrived; see `whimbrel.sim.qemu.monitor.Executing`."""
        if oob:
            self._carry_out(client, message, oob=True)
            return
        for port in self._ports:
            if port.client is client:
                port.pending.append(message)
                self._pump()
                return

    def _see_to(self, message: QmpMessage) -> None:
        """See to the next command, which is this one, once the main loop has done with the one before."""
        takes_ns = max(0, self._free_ns - self.clock.now_ns)
        if message.get("execute") == "cont":
            takes_ns += round(self.costs.resume_s * SECOND_NS)
        if takes_ns:
            self._busy = True
            self.time.after(takes_ns, self._next_command)
        else:
            self._next_command()

    def _pump(self) -> None:
        """Let the main loop see to the next command, if it is free."""
        if self._locked or self._busy:
            return
        for step in range(len(self._ports)):
            port = self._ports[(self._turn + step) % len(self._ports)]
            if port.pending:
                self._see_to(port.pending[0])
                return

    def _next_command(self) -> None:
        self._busy = False
        if self._locked:
            return
        for step in range(len(self._ports)):
            port = self._ports[(self._turn + step) % len(self._ports)]
            if port.pending and port.client is not None:
                # One monitor after the other, as QEMU's dispatcher goes round.
                self._turn = (self._turn + step + 1) % len(self._ports)
                self._free_ns = self.clock.now_ns + COMMAND_NS
                self._carry_out(port.client, port.pending.popleft(), oob=False)
                break
        self._pump()

    def _carry_out(self, client: Client, message: QmpMessage, *, oob: bool) -> None:
        try:
            name, arguments = client.understand(message)
            result = commands.carry_out(self._commands, self, client, name, arguments, oob=oob)
        except Refusal as refusal:
            client.refuse(message, refusal)
            return
        if self.alive:
            client.answer(message, result)

    def _left(self, client: Client) -> None:
        for port in self._ports:
            if port.client is client:
                port.client = None
                port.pending = deque()
