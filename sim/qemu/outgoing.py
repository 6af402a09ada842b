"""The source's end of a migration: the commands that it is given, and its connection."""

from __future__ import annotations

from whimbrel.sim import seeds
from whimbrel.sim.clock import MILLISECOND_NS
from whimbrel.sim.link.contract import Channel

from . import errors, stream_words, uris
from .contract import Version
from .errors import Refusal
from .host import Host, MakeThread
from .line import CONNECTED, Line, Message
from .sending import BROKEN_PIPE, CHANNEL_ERROR, RESUME_NS, Sending

WAKE_NS = 200_000
"""From ``migrate-continue`` to the thread's going on."""
NOTICE_NS = 4 * MILLISECOND_NS
"""How long 7.2 takes to see that it was cancelled, where no limit has it sleep."""
NOTICE_OLD_NS = (3 * MILLISECOND_NS, 40 * MILLISECOND_NS)
"""Where it sleeps: measured under limits of 1 and 30 MiB/s."""
NOTICE_NEW_NS = (MILLISECOND_NS, 100 * MILLISECOND_NS)
"""Later QEMUs sleep out their window first."""

POSTCOPY = frozenset({"postcopy-active", "postcopy-paused", "postcopy-recover-setup", "postcopy-recover"})
"""Where 10.0 and later refuse to cancel."""


class Outgoing(Sending):
    """What a process is as a source; any number of times, one after the other."""

    def __init__(self, host: Host, make_thread: MakeThread, *, kvm: bool) -> None:
        """Take the process around it, and what makes its sender.

        Args:
            host: the process.
            make_thread: makes the sender of each migration.
            kvm: the dirty log is KVM's.
        """
        super().__init__(host)
        self._make_thread = make_thread
        self._kvm = kvm
        self._chance = seeds.stream(host.seed, "when a cancel is noticed")

    # ---- commands

    def start(self, uri: str, target: str | None, *, resume: bool) -> None:
        """``migrate``.

        Args:
            uri: as it was given.
            target: where that leads (for ``fd:`` the address behind the descriptor; ``None``: there is none).
            resume: go on with a post-copy that lost its link.

        Raises:
            Refusal: one of QEMU's reasons not to.
        """
        if not self._old:
            uris.check_outgoing(uri, self._host.version)
        self._prepare(resume=resume)
        if self._old:
            try:
                uris.check_outgoing(uri, self._host.version)
            except Refusal:
                self._become("failed")
                raise
        if not resume:
            if self._yankable:
                raise Refusal("duplicate yank instance")
            self._yankable = True
        if target is None:
            words = uris.no_descriptor(uri)
            self._give_up(words)
            raise Refusal(words)
        self._uri = target
        self._host.network.connect(
            target,
            lambda channel: self._connected(channel),
            lambda words: self._unconnected(uris.connect_failure(target, words)),
        )

    def _prepare(self, *, resume: bool) -> None:
        host = self._host
        if resume:
            if self.status != "postcopy-paused":
                raise Refusal("Cannot resume if there is no paused migration")
            self._resuming = True
            self.error = None
            if not self._old:
                self._become("postcopy-recover-setup")
            return
        if self.running:
            raise errors.in_progress()
        if host.run_state == "inmigrate":
            raise Refusal("Guest is waiting for an incoming migration")
        if host.run_state == "postmigrate":
            raise Refusal("Can't migrate the vm that was paused due to previous migration")
        if host.blockers:
            raise Refusal(host.blockers[0])
        self._clear()
        self._become("setup")

    def go_on(self, state: str) -> None:
        """``migrate-continue``.

        Raises:
            Refusal: it is not in that state.
        """
        if self.status != state:
            raise Refusal(f"Migration not in expected state: {self.status}")
        # QEMU 11's thread has to get the big lock back first, and a command right behind this one is sooner.
        self._host.time.after(WAKE_NS if self._newest else 0, self._proceed)

    def _proceed(self) -> None:
        if self.thread is not None and self.status == "pre-switchover":
            self.thread.proceed()

    def start_postcopy(self) -> None:
        """``migrate-start-postcopy``.

        Raises:
            Refusal: the capability was not set, or nothing runs.
        """
        if not self._host.capability("postcopy-ram"):
            raise Refusal("Enable postcopy with migrate_set_capability before the start of migration")
        if self.status == "none":
            raise Refusal("Postcopy must be started after migration has been started")
        if self.thread is not None and self.running:
            self.thread.start_postcopy()

    def pause(self) -> bool:
        """``migrate-pause`` on this side; False: it is in no such state."""
        if self.status != "postcopy-active" and (self._old or self.status != "postcopy-recover"):
            return False
        self._told_to_pause = True
        self._shut_line()
        if self.thread is not None and self.status == "postcopy-active" and not self._sent:
            self.thread.broken("Postcopy migration is paused by the user")
        else:
            self._lose_stream()
        return True

    def yank(self) -> None:
        """Break the connection, whatever it waits for; one that is still being made is not reached."""
        if self._line is not None and self._line.open:
            self._shut_line()
            self._broke("Broken pipe")

    def cancel(self) -> None:
        """``migrate_cancel``.

        Raises:
            Refusal: it is in post-copy, and this QEMU knows better.
        """
        if self.status in POSTCOPY and not self._old:
            raise Refusal("Postcopy migration in progress, cannot cancel.")
        if not self.running or self.status in ("cancelling", "failing"):
            return
        before = self.status
        if self._old and self._return_path and before == "active" and self._stalled():
            # The return path is shut first, the write that hung on the same socket fails, and that is seen first.
            self._shut_line()
            self._fail(BROKEN_PIPE)
            return
        self._become("cancelling")
        if self._line is None:
            if self._host.version is Version.V10_0:
                self._become("cancelled")
            return  # 7.2 and 11.1 wait for the connection to be made, or not
        if before == "postcopy-paused":
            return  # its thread waits for a recovery that can't come any more
        self._keep_figures()
        self._shut_line()
        self._host.lock(False)
        self._host.time.after(self._notice_ns(), lambda: self._cancelled(before))

    def _notice_ns(self) -> int:
        """How long the thread takes to see that it was cancelled."""
        if self._state_before:
            return RESUME_NS  # it waits for nothing but this, or for the other end
        if not self._old:
            return self._chance.randint(*NOTICE_NEW_NS)
        limited = self._host.settings.parameters["max-bandwidth"] != 0
        return self._chance.randint(*NOTICE_OLD_NS) if limited else NOTICE_NS

    def settings_changed(self) -> None:
        """A parameter was set."""
        if self.thread is not None and self.running:
            self.thread.settings_changed()

    def hold(self, held: bool) -> None:
        """The process is frozen, or goes on."""
        for line in (self._line, self._urgent):
            if line is not None:
                line.hold(held)

    def leave(self) -> None:
        """The process ends."""
        if self.thread is not None and self.running:
            self.thread.end()
        self._shut_line()

    # ---- the connection

    def _connected(self, channel: Channel) -> None:
        def hear(message: Message) -> None:
            if message.get("kind") == CONNECTED:
                self._take(line)
            elif line is self._line:
                self._arrived(message)

        def lose(words: str) -> None:
            if line is self._line:
                self._broke(words)

        line = Line(channel, self._host.time, hear, lose)

    def _unconnected(self, words: str) -> None:
        self._host.time.after(0, lambda: self._give_up(words))

    def _take(self, line: Line) -> None:
        if self.status == "cancelling":
            line.reset()
            self._end_of_connect(None)
        elif self.status == "setup" or (self._resuming and self.status in POSTCOPY):
            self._line = line
            if self._host.capability("postcopy-preempt") and not self._uri.startswith("fd:"):
                self._host.network.connect(self._uri, self._second_connected, lambda words: self._begin())
            else:
                self._begin()
        else:
            line.reset()
            self._yankable = False

    def _second_connected(self, channel: Channel) -> None:
        self._urgent = Line(channel, self._host.time, lambda message: None, lambda words: None)
        self._begin()

    def _give_up(self, words: str) -> None:
        if not self._newest:
            self._host.say(words)
        if self.status == "cancelling":
            self._end_of_connect(words if self._newest else None)
        elif self._resuming:
            self._resuming = False
            if not self._old:
                self.error = words
                self._become("postcopy-paused")
        elif self.status == "setup":
            self.error = words
            self._yankable = False
            if self._newest:
                self._become("failing")
            self._become("failed")
        else:
            self._yankable = False

    def _end_of_connect(self, words: str | None) -> None:
        self.error = words
        self._yankable = False
        self._become("cancelled")

    def _begin(self) -> None:
        host, line = self._host, self._line
        if line is None or not line.open:
            self._fail(self._socket_words)
            return
        urgent = self._urgent.stream if self._urgent is not None else None
        if self._resuming:
            self._become("postcopy-recover")
            line.send({"kind": "resume"}, stream_words.HELLO_BYTES)
            return
        if host.memory is None:
            raise ValueError("this QEMU was made without a memory: there is nothing that it could send")
        greeting = stream_words.Greeting(
            machine=host.machine.type,
            blocks=stream_words.blocks(host.machine),
            sections=stream_words.sections(host.machine),
            postcopy=host.capability("postcopy-ram"),
            return_path=self._return_path,
            channels=int(str(host.settings.parameters["multifd-channels"])) if host.capability("multifd") else 0,
        )
        line.send({**greeting.as_message(), "memory": host.memory}, stream_words.HELLO_BYTES)
        self.thread = self._make_thread(
            host.time, host.version, host.memory, line.stream, host.settings, host.costs, self, self._kvm,
            urgent=urgent, running=lambda: host.run_state == "running",
        )  # fmt: skip
        self.thread.start()

    def _arrived(self, message: Message) -> None:
        kind = message.get("kind")
        if kind == "loaded":
            self._heard_the_end(bool(message.get("ok")))
        elif kind == "package-loaded" and self.status == "postcopy-device":
            self._become("postcopy-active")
        elif kind == "switchover-ack" and self.thread is not None:
            self.thread.acknowledge()
        elif kind == "runs" and self.thread is not None:
            self.thread.guest_runs()
        elif kind == "halts" and self.thread is not None:
            self.thread.guest_halts()
        elif kind == "resumed" and self.thread is not None and self._line is not None:
            self._resuming = self._told_to_pause = False
            self._become("postcopy-active")
            self.thread.resume_postcopy(self._line.stream, self._urgent.stream if self._urgent is not None else None)

    def _heard_the_end(self, well: bool) -> None:
        if well:
            self._complete()
        elif self._postcopy and self.status == "postcopy-active":
            self._lose_stream()  # the guest is not its own any more: it can only wait for a new stream
        elif not self._old:
            self._fail("Sibling indicated error 1")
        else:
            self._fail(None if self._sent else "Unable to write to socket: Bad file descriptor")

    def _broke(self, words: str) -> None:
        if not self.running or self.status == "cancelling":
            return
        words = "Broken pipe" if words == "end of file" else words
        if self.status == "postcopy-recover":
            self._resuming = False
            self._lose_stream()
        elif self._sent and self._postcopy:
            self._lose_stream()
        elif self._sent:
            self._fail(None if self._old else CHANNEL_ERROR)
        elif self.thread is not None:
            # Later QEMUs have it from the return path first, where there is one.
            from_back = self._return_path and not self._old
            self._socket_words = CHANNEL_ERROR if from_back else f"Unable to write to socket: {words}"
            if self.status == "setup":
                self._fail(self._socket_words)
            else:
                self.thread.broken(words)

    def _stalled(self) -> bool:
        """Whether the thread hangs in a write: nothing drains, and the pipe is full."""
        if self._line is None:
            return False
        now_ns = self._host.time.now_ns
        stream = self._line.stream
        return stream.rate_bytes_per_s(now_ns) == 0.0 and stream.room_bytes(now_ns, now_ns + 1, 1e9) < 4096
