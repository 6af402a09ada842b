"""The destination's end of a migration: it listens, is sent a guest once, and runs it or fails."""

from __future__ import annotations

from typing import cast

from whimbrel.sim.link.contract import Channel
from whimbrel.sim.memory.contract import Memory

from . import stream_words, uris
from .contract import QmpMessage, Version
from .errors import Refusal
from .host import Host
from .line import CONNECTED, Line, Message
from .stream_words import Greeting

PROBE_BYTES = 64
"""A message on the return path."""
EXIT_NS = 2_000_000
"""From ``failed`` to the end of the process: its end-of-file follows within about 2 ms."""
SECOND_NS = 1_000_000_000


class Incoming:
    """What a process is as a destination; single use.

    Attributes:
        status: as ``query-migrate`` has it; ``none``: nothing was begun.
        error: its ``error-desc``.
    """

    def __init__(self, host: Host) -> None:
        """Take the process around it."""
        self._host = host
        self.status = "none"
        self.error: str | None = None
        self._started = False
        """A `listen` went well once: there is no second."""
        self._uri = ""
        self._addresses: list[QmpMessage] = []
        self._exit_on_error = True
        self._line: Line | None = None
        self._greeting: Greeting | None = None
        self._postcopy = False
        self._recovering = False
        """``migrate-recover`` was carried out, and the source has not come yet."""
        self._failed = False
        self._guest_ran = True
        """The guest was running before it was stopped for the switchover: it is meant to run again."""
        self._loading = False
        """The device state has arrived, and is being loaded."""
        self._all_pages = False
        """Post-copy: every page has arrived."""
        self._whole = False
        """All of a pre-copy stream has been read: its end means nothing any more."""

    # ---- commands

    def listen(self, uri: str, target: str | None, *, exit_on_error: bool = True) -> None:
        """``migrate-incoming``, or ``-incoming URI``.

        Args:
            uri: as it was given.
            target: where that leads, for ``fd:`` the address behind the descriptor; ``None``: there is none.
            exit_on_error: the process ends where it fails.

        Raises:
            Refusal: it waits for none, did so already, or can't listen there.
        """
        old = self._host.version is Version.V7_2
        if self._started:
            raise Refusal("The incoming migration has already been started")
        if self._host.run_state != "inmigrate":
            raise Refusal("'-incoming' was not specified on the command line")
        if old:
            # It says so whatever comes of it, whether or not events are wanted, and its own status stays as it was.
            self._host.emit("MIGRATION", {"status": "setup"})
        uris.check_incoming(uri, self._host.version)
        if not old:
            if self.status != "none":
                raise Refusal(f"Illegal migration incoming state: {self.status}")
            self._exit_on_error = exit_on_error
            self._become("setup")
        if target is None:
            raise Refusal(uris.no_descriptor(uri))
        self._open(target)
        if uri.startswith("fd:"):
            self._addresses.clear()
        self._started = True

    def recover(self, uri: str) -> None:
        """``migrate-recover``.

        Raises:
            Refusal: post-copy is not paused here, or it can't listen there.
        """
        if self.status != "postcopy-paused":
            raise Refusal("Migrate recover can only be run when postcopy is paused.")
        if self._host.version is Version.V7_2:
            self._host.emit("MIGRATION", {"status": "setup"})
        uris.check_incoming(uri, self._host.version)
        self._recovering = False
        self._stop_listening()  # where an earlier one had it listen
        self._addresses.clear()
        self._open(uri)
        self._recovering = True

    def fail(self, line: str) -> None:
        """The load fails, for a reason that the model knows nothing of.

        Args:
            line: what standard error says of it. Nothing happens where no guest is on its way, or its devices are
                loaded already and only pages are to come.
        """
        loaded = self._postcopy and not self._loading
        if self._greeting is not None and self.status not in ("completed", "failed") and not loaded:
            self._fail((line, "load of migration failed: Invalid argument"))

    def pause(self) -> bool:
        """``migrate-pause`` on this side; False: it is in no such state."""
        if self.status not in ("postcopy-active", "postcopy-recover"):
            return False
        self._lose_stream()
        return True

    def yank(self) -> None:
        """Break the connection, whatever it waits for."""
        if self._line is not None and self._line.open:
            self._line.reset()
            self._broke("Input/output error")

    def guest_started(self) -> None:
        """The guest runs here, by whatever hand."""
        if self._postcopy and self._line is not None:
            self._line.send({"kind": "runs"}, PROBE_BYTES)

    def guest_stopped(self) -> None:
        """The guest stands still here, by somebody's hand."""
        if self._postcopy and self._line is not None:
            self._line.send({"kind": "halts"}, PROBE_BYTES)

    def hold(self, held: bool) -> None:
        """The process is frozen, or goes on."""
        if self._line is not None:
            self._line.hold(held)

    def leave(self) -> None:
        """The process ends."""
        if self._uri:
            self._host.network.withdraw(self._uri)
        if self._line is not None:
            self._line.reset()

    @property
    def engaged(self) -> bool:
        """Whether ``query-yank`` lists a migration for it."""
        return self._started and self.status not in ("completed", "failed")

    def describe(self) -> QmpMessage:
        """The destination's part of ``query-migrate``."""
        answer: QmpMessage = {}
        if self.status != "none":
            answer["status"] = self.status
        if self._addresses and self.status not in ("completed", "failed"):
            answer["socket-address"] = list(self._addresses)
        if self.error is not None:
            answer["error-desc"] = self.error
        if self.status == "completed" and self._postcopy and self._host.capability("postcopy-blocktime"):
            answer |= self._blocktimes()
        return answer

    # ---- the connection

    def _open(self, uri: str) -> None:
        try:
            address = self._host.network.listen(uri, self._accepted)
        except OSError as error:
            raise Refusal(f"Failed to bind socket: {error.strerror or error}") from error
        self._uri = uri if not uri.endswith(":0") else _same(uri, address)
        self._addresses.append(address)

    def _accepted(self, channel: Channel) -> None:
        """The kernel has accepted; the process sees it once it runs."""

        def hear(message: Message) -> None:
            if message.get("kind") == CONNECTED:
                self._take(line)
            elif line is self._line:
                self._arrived(message)

        def lose(words: str) -> None:
            if line is self._line:
                self._broke(words)

        line = Line(channel, self._host.time, hear, lose)
        line.hold(self._host.frozen)

    def _take(self, line: Line) -> None:
        line.hold(False)
        again = self._recovering
        if self._line is not None and self._line.open and not again:
            return  # one of several channels: what it carries is only bytes
        self._line = line
        if again:
            self._recovering = False
            self._become("postcopy-recover")
        elif self._host.version is not Version.V11_1 and not self._host.capability("multifd"):
            self._become("active")

    def _stop_listening(self) -> None:
        if self._uri and not self._recovering:
            self._host.network.withdraw(self._uri)
            self._uri = ""

    def _arrived(self, message: Message) -> None:
        kind = message.get("kind")
        if kind == "hello":
            self._hello(message)
        elif kind == "state":
            self._guest_ran = bool(message.get("ran", True))
            self._load(postcopy=message.get("of") == "postcopy")
        elif kind == "end":
            self._all_pages_arrived()
        elif kind == "resume":
            self._send({"kind": "resumed"})
            # Whatever was said of it while there was no connection is lost.
            self._send({"kind": "runs" if self._host.run_state == "running" else "halts"})
            self._become("postcopy-active")

    def _send(self, message: Message) -> None:
        if self._line is not None and self._greeting is not None and self._greeting.return_path:
            self._line.send(message, PROBE_BYTES)

    def _hello(self, message: Message) -> None:
        host = self._host
        self._greeting = greeting = stream_words.read_greeting(message)
        mine = int(str(host.settings.parameters["multifd-channels"])) if host.capability("multifd") else 0
        if greeting.channels != mine:
            self._refuse_channels(greeting.channels, mine)
            return
        self._stop_listening()
        self._become("active")
        misfit = stream_words.misfit_at_the_start(
            greeting, host.machine, host.version, postcopy=host.capability("postcopy-ram")
        )
        if misfit is not None:
            self._fail(misfit.stderr, tell=not misfit.early)
            return
        memory = message.get("memory")
        if memory is not None:
            host.memory = cast("Memory", memory)
        if host.capability("switchover-ack"):
            self._send({"kind": "switchover-ack"})

    def _refuse_channels(self, theirs: int, mine: int) -> None:
        version = self._host.version
        if version is Version.V7_2:
            # It says nothing more and never ends: its main loop waits for a channel that does not come.
            self._become("active")
            self._host.say("multifd: received id '2' already setup'")
            assert self._line is not None
            self._line.reset()
            self._host.lock(True)
            return
        if version is Version.V10_0:
            self._become("active")
            words: tuple[str, ...] = (
                "socket_accept_incoming_migration: Extra incoming migration connection; ignoring",
                *stream_words.cut_off(version)[:1],
                "Unexpected end-of-file before all data were read",
            )
        else:
            excess = f"multifd: received channel id {theirs - 1} exceeds channel count {mine}"
            words = (f"failed to receive packet via multifd channel {mine - 1}: {excess}",)
        self._fail(words, tell=False)

    # ---- the end

    def _load(self, *, postcopy: bool) -> None:
        host = self._host
        self._postcopy, self._whole = postcopy, not postcopy
        if postcopy and host.machine.memory_on_disk and host.version is Version.V7_2:
            load_ns = round(host.costs.load_s * SECOND_NS)
            host.time.after(load_ns, lambda: self._fail(stream_words.NO_USERFAULTFD, tell=False))
            return
        if postcopy:
            self._become("postcopy-device" if host.version is Version.V11_1 else "postcopy-active")
        self._loading = True
        host.lock(True)  # the main loop itself loads
        host.time.after(round(host.costs.load_s * SECOND_NS), self._loaded)

    def _loaded(self) -> None:
        host = self._host
        self._loading = False
        if self._failed or self._greeting is None:
            return
        host.lock(False)
        misfit = stream_words.misfit_of_devices(self._greeting, host.machine, host.version)
        if misfit is not None:
            self._fail(misfit.stderr)
        elif self._postcopy:
            self._begin_postcopy()
        else:
            self._start()
            self._become("completed")
            self._send({"kind": "loaded", "ok": True})

    def _begin_postcopy(self) -> None:
        self._send({"kind": "package-loaded"})
        if self.status != "postcopy-paused":  # it may have lost the stream while it loaded
            self._become("postcopy-active")
        self._start()
        if self._all_pages:
            self._complete_postcopy()

    def _start(self) -> None:
        """The guest has arrived: it runs, or stands paused where it must not start by itself."""
        host = self._host
        if host.autostart and self._guest_ran:
            try:
                host.disks.activate()
            except Refusal as refusal:
                host.say(refusal.description)
                host.run_state = "paused"
                return
            host.start_guest()
            return
        if host.version is Version.V7_2 and not host.capability("late-block-activate"):
            try:
                host.disks.activate()
            except Refusal as refusal:
                host.say(refusal.description)
        host.run_state = "paused"

    def _all_pages_arrived(self) -> None:
        self._all_pages = True
        if not self._loading:
            self._complete_postcopy()

    def _complete_postcopy(self) -> None:
        if self.status != "postcopy-active":
            return
        self._become("completed")
        self._send({"kind": "loaded", "ok": True})

    def _broke(self, words: str) -> None:
        if self.status in ("completed", "failed") or self._whole or self._all_pages:
            return
        if self.status == "postcopy-recover" or (self._postcopy and self.status == "postcopy-active"):
            self._lose_stream()
        elif self._greeting is None:
            self._fail(stream_words.stray(self._host.version), tell=False)
        else:
            self._fail(stream_words.cut_off(self._host.version), tell=False)

    def _lose_stream(self) -> None:
        if self._line is not None:
            self._line.reset()
        for line in stream_words.cut_off(self._host.version)[:1]:
            self._host.say(line)
        self._host.say("Detected IO failure for postcopy. Migration paused.")
        self._recovering = False
        self._become("postcopy-paused")

    def _fail(self, lines: tuple[str, ...], *, tell: bool = True) -> None:
        host = self._host
        self._failed = True
        self._become("failed")
        if tell:
            self._send({"kind": "loaded", "ok": False})
        self._stop_listening()
        if self._line is not None:
            self._line.close()
        if self._exit_on_error:
            for line in lines:
                host.say(line)
            host.lock(True)  # it is ending, and answers nothing any more
            host.time.after(EXIT_NS, lambda: host.exit(1))
            return
        *before, last = lines
        for line in before or [last]:
            host.say(line)
        self.error = last

    def _become(self, status: str) -> None:
        if self.status == status:
            return
        self.status = status
        if self._host.capability("events"):
            self._host.emit("MIGRATION", {"status": status})

    def _blocktimes(self) -> QmpMessage:
        """How long vCPUs stood still for a page, milliseconds: not counted by the model, so none."""
        times: QmpMessage = {"postcopy-blocktime": 0, "postcopy-vcpu-blocktime": [0] * self._host.machine.cpus}
        if self._host.version is Version.V11_1:
            times |= {
                "postcopy-latency": 0,
                "postcopy-latency-dist": [0],
                "postcopy-vcpu-latency": [0] * self._host.machine.cpus,
                "postcopy-non-vcpu-latency": 0,
            }
        return times


def _same(uri: str, address: QmpMessage) -> str:
    """The uri with the port that was chosen."""
    return f"{uri.rpartition(':')[0]}:{address.get('port', 0)}"
