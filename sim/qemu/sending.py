"""What a source says of itself while it sends, and the ends that this can come to."""

from __future__ import annotations

from . import figures, stream_words
from .contract import MigrationThread, QmpMessage, Version
from .errors import Refusal
from .host import Host
from .line import Line

SECOND_NS = 1_000_000_000

FINISH_NS = 200_000
"""From ``completed`` to the run state ``postmigrate`` (and on 7.2 to the figures): both were seen to come later."""
RESUME_NS = 250_000
"""From a failure, or the thread's seeing that it was cancelled, to the guest's running again."""
HEARD_NS = 500_000
"""From a write that fails to the source's having read what is left on the return path."""

IDLE = frozenset({"none", "completed", "failed", "cancelled"})

BROKEN_PIPE = "Unable to write to socket: Broken pipe"
CHANNEL_ERROR = "Channel error: Input/output error"


class Sending:
    """The state of a migration at its source, and the thread's listener.

    Attributes:
        status: as ``query-migrate`` has it; ``none``: nothing was begun.
        error: its ``error-desc``.
        thread: the sender, once it is connected.
    """

    def __init__(self, host: Host) -> None:
        """Take the process around it."""
        self._host = host
        self._yankable = False
        self.status = "none"
        self._clear()

    def _clear(self) -> None:
        self.error: str | None = None
        self.thread: MigrationThread | None = None
        self._line: Line | None = None
        self._urgent: Line | None = None
        self._uri = ""
        self._resuming = False
        self._began_ns = self._host.time.now_ns
        self._setup_ns: int | None = None
        self._stopped_ns: int | None = None
        self._downtime_ns: int | None = None
        self._total_ns: int | None = None
        self._kept: QmpMessage | None = None
        """The thread's figures as they were when it ended."""
        self._state_before = ""
        """The run state before the switchover; empty: the guest has not been stopped by us."""
        self._sent = False
        self._postcopy = False
        self._told_to_pause = False
        self._socket_words = BROKEN_PIPE
        self._doomed = False
        """It failed while it was being set up, which shows after that."""

    @property
    def running(self) -> bool:
        """Whether QEMU would say that a migration is in progress."""
        return self.status not in IDLE

    @property
    def engaged(self) -> bool:
        """Whether ``query-yank`` lists a migration for it."""
        return self._yankable

    @property
    def in_postcopy(self) -> bool:
        """Whether it has gone over to post-copy."""
        return self._postcopy

    @property
    def _old(self) -> bool:
        return self._host.version is Version.V7_2

    @property
    def _newest(self) -> bool:
        return self._host.version is Version.V11_1

    @property
    def _return_path(self) -> bool:
        return self._host.capability("return-path") or self._host.capability("postcopy-ram")

    def describe(self) -> QmpMessage:
        """The source's part of ``query-migrate``."""
        if self.status == "none":
            return {}
        kept, thread = self._kept, self.thread
        now_ns = self._host.time.now_ns
        total_ns = now_ns - self._began_ns if self.status != "completed" else 0  # 7.2 fills it in a little later
        since = figures.Since(
            total_ns=self._total_ns if self._total_ns is not None else total_ns,
            setup_ns=self._setup_ns,
            downtime_ns=self._downtime_ns,
        )
        live = kept if kept is not None else thread.figures() if thread is not None else None
        return figures.answer(self._host, self.status, self.error, since, live)

    # ---- what the thread says

    def passed(self, number: int) -> None:
        """See `ThreadListener`."""
        if self._host.capability("events"):
            self._host.emit("MIGRATION_PASS", {"pass": number})

    def stops_guest(self) -> None:
        """See `ThreadListener`."""
        self._state_before = self._host.run_state
        self._stopped_ns = self._host.time.now_ns
        self._host.stop_guest("finish-migrate")

    def reached(self, status: str) -> None:
        """See `ThreadListener`."""
        if status == "failed":
            # What the destination had to say was under way before its end of the connection was closed.
            self._host.time.after(HEARD_NS, lambda: self._fail(self._socket_words))
            return
        if self.status in IDLE or self.status == "cancelling":
            return
        if status == "postcopy-paused" and self.status == "postcopy-device":
            # The destination's vCPUs have not run yet: the guest is still the source's.
            self._fail(self._socket_words)
            return
        if status == "active" and self._setup_ns is None:
            self._setup_ns = self._host.time.now_ns - self._began_ns
        elif status == "postcopy-paused":
            self._paused()
        self._become(status)

    def _paused(self) -> None:
        self._shut_line()
        self._resuming = False
        if not self._old:
            self.error = "Postcopy migration is paused by the user" if self._told_to_pause else CHANNEL_ERROR
        self._host.lock(False)
        self._host.say("Detected IO failure for postcopy. Migration paused.")

    def holds_lock(self, held: bool) -> None:
        """See `ThreadListener`."""
        self._host.lock(held)

    def sends_state(self, size_bytes: int, kind: str) -> None:
        """See `ThreadListener`."""
        self._postcopy = kind == "postcopy"
        self._host.disks.inactivate()
        if self._postcopy and self._stopped_ns is not None:
            self._downtime_ns = self._host.time.now_ns - self._stopped_ns
        if self._line is not None:
            ran = self._state_before == "running"
            self._line.send({"kind": "state", "of": kind, "ran": ran}, size_bytes)

    def all_sent(self) -> None:
        """See `ThreadListener`."""
        self._sent = True
        if self._postcopy:
            if self._line is not None:
                self._line.send({"kind": "end"}, stream_words.HELLO_BYTES)
        elif not self._return_path:
            self._complete()

    # ---- the ends

    def _complete(self) -> None:
        if self.status in IDLE or self.status == "cancelling":
            return
        if not self._old:
            self._settle_figures()
        self._become("completed")
        self._host.time.after(FINISH_NS, self._completed)

    def _completed(self) -> None:
        self._settle_figures()
        self._host.lock(False)
        if self._host.run_state == "finish-migrate":
            self._host.run_state = "postmigrate"
        self._close_line()

    def _settle_figures(self) -> None:
        if self._total_ns is not None:
            return
        now_ns = self._host.time.now_ns
        self._total_ns = now_ns - self._began_ns
        if self._stopped_ns is not None and not self._postcopy:
            self._downtime_ns = now_ns - self._stopped_ns
        self._end_thread()

    def _fail(self, words: str | None) -> None:
        if self.status == "setup":
            self._fail_in_setup(words)
            return
        if self.status in IDLE or self.status in ("cancelling", "failing"):
            return
        self.error = words
        if words is not None and self.status == "active":
            section = 2 if self._old else 1
            self._host.say(f"failed to save SaveStateEntry with id(name): {section}(ram): -5")
        if words is not None:
            self._host.say(words)
        self._end_thread()
        self._host.lock(False)
        self._become("failing" if self._newest else "failed")
        if self._host.capability("multifd") and self._host.capability("events"):
            # Its channels' threads say it, too.
            self._host.emit("MIGRATION", {"status": self.status})
        self._host.time.after(RESUME_NS, self._failed)

    def _fail_in_setup(self, words: str | None) -> None:
        """QEMU sees it at its next write, when it has just become active."""
        if self._doomed:
            return
        self._doomed = True
        self._end_thread()

        def becomes_active() -> None:
            if self.status == "setup":
                if not self._newest:
                    self.passed(1)
                self.reached("active")
                self._fail(words)

        until_ns = self._began_ns + round(self._host.costs.setup_s * SECOND_NS)
        self._host.time.at(until_ns, becomes_active)

    def _failed(self) -> None:
        self._restore()
        self._close_line()
        if self._newest:
            self._become("failed")

    def _cancelled(self, before: str) -> None:
        if self.status != "cancelling":
            return
        if self._postcopy or before == "postcopy-active":
            self._host.run_state = "postmigrate"
        else:
            self._restore()
        if not self._old and (self._return_path or before in ("pre-switchover", "device")):
            interrupted = self._newest and not self._return_path
            self.error = "Switchover is interrupted" if interrupted else CHANNEL_ERROR
            self._host.say(self.error)
        self._close_line()
        self._become("cancelled")

    def _restore(self) -> None:
        """Let the guest be what it was before the switchover."""
        host, before = self._host, self._state_before
        self._state_before = ""
        if not before or host.run_state != "finish-migrate":
            return
        if before == "running":
            try:
                host.disks.activate()
            except Refusal as refusal:
                host.say(refusal.description)
                host.run_state = "paused"
                return
            host.start_guest()
        else:
            host.run_state = "postmigrate" if self._old else before

    # ---- helpers

    def _keep_figures(self) -> None:
        if self.thread is not None:
            self._kept = self.thread.figures()
            self.thread.end()

    def _end_thread(self) -> None:
        if self.thread is not None:
            self.thread.end()

    def _shut_line(self) -> None:
        """Shut the connection down: what the kernel has of it still arrives, and then its end (tcp(7))."""
        for line in (self._line, self._urgent):
            if line is not None:
                line.close()
        self._urgent = None

    def _close_line(self) -> None:
        self._yankable = False
        self._shut_line()

    def _become(self, status: str) -> None:
        if self.status == status:
            return
        self.status = status
        if self._host.capability("events"):
            self._host.emit("MIGRATION", {"status": status})

    def _lose_stream(self) -> None:
        if self.thread is not None:
            self.thread.pause_postcopy()
        self.reached("postcopy-paused")
