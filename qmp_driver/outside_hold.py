"""A throttle from outside of QEMU: how it is put on threads and taken off, and the watchdog that holds it.

Two ways, both kept by the kernel, so that nothing has to run for them:

- **A control group per thread**, below the one that the thread is in, whose bandwidth is limited: ``cpu.cfs_quota_us``
  of version 1 (Linux, ``Documentation/scheduler/sched-bwc.rst``), ``cpu.max`` of version 2 (``cgroup-v2.rst``, in
  threaded mode). Limits that its owner has set above it stay in force.
- **The deadline scheduler**, sched(7): a thread of ``SCHED_DEADLINE`` gets its runtime in each period and no more.

The kernel looks whether a running thread has used its share up at its timer tick (4 ms at 250 Hz) and has it pay the
rest back: shares hold on average, but a busy thread is off its processor for longer than a period. Measured on 6.18 at
250 Hz, for a share of 85 %: 24 ms by control group, 16 to 28 ms by deadline.

This file is also the watchdog, run by its path in an isolated interpreter; it imports nothing of ours. Manager and
watchdog hold the two ends of a pair of sockets. The manager says what share to take, and renews its lease; the
watchdog takes it off again when the line ends, when the lease is not renewed in time, when told, or on SIGTERM. It has
a session of its own, so that what is sent to the manager's group or terminal does not reach it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LINE = "outside"
"""The kind of the log's line that names what is slowed, and how."""
PERIOD_US = 10_000
"""Over which a share is taken, as QEMU's own throttle does (``CPU_THROTTLE_TIMESLICE_NS``, softmmu/cpu-throttle.c).
A thread of TCG may hold QEMU's big lock while it is off its processor: so not longer."""
LEAST_QUOTA_US = 1000
"""``min_cfs_quota_period``, kernel/sched/core.c: where the share leaves less, the period grows."""
LINE_FD = 3
"""Where the watchdog finds its end of the line."""
LEASE_S = 4.0
MOST_DESCRIPTORS = 1 << 20
TRIES = 20
TRY_EVERY_S = 0.05
"""A group can't be removed in the instant in which its last thread dies."""

OTHER, BATCH, IDLE, DEADLINE = 0, 3, 5, 6
"""``sched.h``. The first three are the ones that a control group's bandwidth limits."""
RESET_ON_FORK = 1
"""``SCHED_FLAG_RESET_ON_FORK``: without it a deadline thread can start no other."""
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``, version 0: size, policy, flags, nice, priority, runtime, deadline, period."""
_CALLS = {
    "x86_64": (314, 315),
    "aarch64": (274, 275),
    "riscv64": (274, 275),
    "ppc64le": (355, 356),
    "s390x": (345, 346),
}
"""Numbers of ``sched_setattr`` and ``sched_getattr``; the C library has no names for them."""


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread, and no later one with the same number.

    Attributes:
        pid: its process.
        tid: its id.
        start_ticks: when it started, as in ``/proc/PID/task/TID/stat``.
        home: the folder of the control group that it is in; empty: another way is used.
        group: the folder of its own group.
        before: policy, flags, nice and priority, as they are without us; empty: another way is used.
    """

    pid: int
    tid: int
    start_ticks: int
    home: str = ""
    group: str = ""
    before: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """All that there is to know to put a throttle on, and to take it off, whoever does it.

    Attributes:
        means: ``cgroup-v1``, ``cgroup-v2`` or ``deadline``.
        threads: each is slowed by itself.
        enabled: groups of version 2 in which the controller is switched on for this, and off again.
    """

    means: str
    threads: tuple[Thread, ...]
    enabled: tuple[str, ...] = ()

    def as_written(self) -> dict[str, Any]:
        """As it stands in a log, and goes to the watchdog."""
        return asdict(self)

    @classmethod
    def of(cls, written: Any) -> Hold:
        """Read what `as_written` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        threads = tuple(
            Thread(each["pid"], each["tid"], each["start_ticks"], each["home"], each["group"], tuple(each["before"]))
            for each in written["threads"]
        )
        if written["means"] not in ("cgroup-v1", "cgroup-v2", "deadline"):
            raise ValueError(f"unknown means {written['means']!r}")
        return cls(written["means"], threads, tuple(written["enabled"]))


def quota_of(share: float) -> tuple[int, int]:
    """How long a thread may run in a period, and how long that is, microseconds.

    Args:
        share: what is taken, 0 to 0.99.
    """
    quota_us = round((1 - share) * PERIOD_US)
    if quota_us >= LEAST_QUOTA_US:
        return quota_us, PERIOD_US
    return LEAST_QUOTA_US, round(LEAST_QUOTA_US / (1 - share))


def is_there(thread: Thread) -> bool:
    """Whether exactly this thread lives."""
    return start_of(thread.pid, thread.tid) == thread.start_ticks


def start_of(pid: int, tid: int) -> int | None:
    """When a thread started, in clock ticks since boot; ``None``: it is gone."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", "rb") as file:
            raw = file.read()
    except OSError:
        return None
    # The second field is its name in parentheses, which may itself hold blanks and parentheses.
    return int(raw[raw.rindex(b")") + 2 :].split()[19])


def put_on(hold: Hold, share: float) -> None:
    """Take this share of each thread's time, instead of what is taken now; threads that have ended are passed over.

    To move a thread into its group takes the kernel 8 ms on an idle host and 200 ms on a busy one, for every processor
    has to notice; to change the group's limit takes microseconds. So a share of 0 moves it, and limits nothing yet.

    Args:
        hold: the threads, and the way.
        share: 0 to 0.99.

    Raises:
        OSError: the kernel refuses; some threads may be slowed.
    """
    for thread in hold.threads:
        if not is_there(thread):
            continue
        if hold.means != "deadline":
            _make_group(hold, thread)
            _limit(hold.means, thread.group, share)
            if thread.tid not in _inside(hold.means, thread.group):
                _move(hold.means, thread.group, thread.tid)
        elif share:
            # Here no quota is too short, so the period need not grow.
            runtime_us = round((1 - share) * PERIOD_US)
            _set_attributes(thread.tid, (DEADLINE, RESET_ON_FORK, 0, 0), runtime_us * 1000, PERIOD_US * 1000)
        else:
            _take_off(hold.means, thread)


def take_off(hold: Hold) -> list[str]:
    """Undo `put_on`, whoever did it and however far it came. What is not there any more needs no undoing.

    Returns:
        What could not be undone, a clause each; empty: nothing is left.
    """
    left: list[str] = []
    for thread in hold.threads:
        try:
            _take_off(hold.means, thread)
        except OSError as error:
            what = thread.group or f"thread {thread.tid}"
            left.append(f"{what} is still slowed ({error.strerror})")
    for group in hold.enabled:
        try:
            with os.scandir(group) as entries:
                others = any(entry.is_dir() for entry in entries)
            if not others:  # they may be of another migration, of another QEMU in this group
                _write(f"{group}/cgroup.subtree_control", "-cpu")
        except FileNotFoundError:
            pass  # with the QEMU its group went, too
        except OSError as error:
            left.append(f"{group} still hands the controller on ({error.strerror})")
    return left


# ---- control groups


def _file_of_threads(means: str) -> str:
    return "tasks" if means == "cgroup-v1" else "cgroup.threads"


def _make_group(hold: Hold, thread: Thread) -> None:
    try:
        os.mkdir(thread.group, 0o755)
    except FileExistsError:
        return
    if hold.means == "cgroup-v2":
        _write(f"{thread.group}/cgroup.type", "threaded")
        if thread.home in hold.enabled:
            _write(f"{thread.home}/cgroup.subtree_control", "+cpu")


def _limit(means: str, group: str, share: float) -> None:
    quota_us, period_us = quota_of(share)
    if means == "cgroup-v2":
        _write(f"{group}/cpu.max", f"{quota_us} {period_us}" if share else "max")
        return
    try:
        _write(f"{group}/cpu.cfs_quota_us", "-1")  # the old quota need not fit the new period
        if not share:
            return
        _write(f"{group}/cpu.cfs_period_us", str(period_us))
        _write(f"{group}/cpu.cfs_quota_us", str(quota_us))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # The group above it gets less than that already: there is nothing more to take.


def _move(means: str, group: str, tid: int) -> None:
    try:
        _write(f"{group}/{_file_of_threads(means)}", str(tid))
    except ProcessLookupError:
        pass  # it has just ended


def _take_off(means: str, thread: Thread) -> None:
    if means == "deadline":
        if is_there(thread) and attributes_of(thread.tid)[0] == DEADLINE:
            _set_attributes(thread.tid, thread.before)
        return
    for attempt in range(TRIES):
        try:
            for tid in _inside(means, thread.group):  # not only ours: what it started meanwhile is there, too
                _move(means, thread.home, tid)
            os.rmdir(thread.group)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or attempt == TRIES - 1:
                raise
            time.sleep(TRY_EVERY_S)
        else:
            return


def _inside(means: str, group: str) -> list[int]:
    try:
        with open(f"{group}/{_file_of_threads(means)}", encoding="ascii") as file:
            return [int(tid) for tid in file.read().split()]
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []  # of version 2, and never got as far as to be threaded


def _write(path: str, text: str) -> None:
    # Unbuffered and whole: what the kernel says to it belongs to this text.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


# ---- the deadline scheduler


def has_calls() -> bool:
    """Whether the numbers of the kernel's calls are known for this processor."""
    return platform.machine() in _CALLS


def attributes_of(tid: int) -> tuple[int, int, int, int]:
    """A thread's policy, flags, nice and priority.

    Raises:
        OSError: there is no such thread.
    """
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    _call(1, tid, buffer, _ATTRIBUTES.size, 0)
    _, policy, flags, nice, priority, *_ = _ATTRIBUTES.unpack(buffer.raw)
    return policy, flags & RESET_ON_FORK, nice, priority


def _set_attributes(tid: int, attributes: Sequence[int], runtime_ns: int = 0, period_ns: int = 0) -> None:
    policy, flags, nice, priority = attributes
    raw = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, nice, priority, runtime_ns, period_ns, period_ns)
    try:
        _call(0, tid, ctypes.create_string_buffer(raw, len(raw)), 0)
    except ProcessLookupError:
        pass  # it has just ended


def _call(which: int, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_CALLS[platform.machine()][which], *arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# ---- the watchdog


class Watchdog:
    """Holds a throttle for as long as its lease lasts."""

    def __init__(self, line: socket.socket, hold: Hold, lease_s: float, manager: int = -1) -> None:
        """
        Args:
            line: to the manager.
            hold: what it may be told to put on.
            lease_s: how long the manager may be silent while the throttle is on, seconds.
            manager: a pidfd of it; -1: there is none, and the line says it alone.
        """
        self._manager = manager
        self._line = line
        self._hold = hold
        self._lease_s = lease_s
        self._on = False
        self._until_s = 0.0

    def run(self) -> int:
        """Do as the manager says until the line ends; 0: nothing is left of it."""
        for words in self._words():
            if words is None:
                self._off()
                self._say("lapsed")
            elif words[0] == "end":
                break
            elif words[0] == "stay":
                self._say("done")
            elif words[0] == "off":
                self._say("; ".join(["failed", *left]) if (left := self._off()) else "done")
            else:
                self._take(float(words[1]))
        left = self._off()
        for attempt in range(TRIES):
            if not left:
                break
            time.sleep(TRY_EVERY_S * (attempt + 1))
            left = take_off(self._hold)
        return 1 if left else 0

    def _take(self, share: float) -> None:
        self._on = True
        try:
            put_on(self._hold, share)
        except OSError as error:
            self._off()
            self._say(f"failed {error.strerror}")
        else:
            self._say("done")

    def _off(self) -> list[str]:
        if not self._on:
            return []
        self._on = False
        return take_off(self._hold)

    def _words(self) -> Iterator[list[str] | None]:
        """What the manager says, word by word; ``None``: its lease has run out. Ends with the line."""
        rest = b""
        poller = select.poll()
        poller.register(self._line, select.POLLIN)
        if self._manager >= 0:
            poller.register(self._manager, select.POLLIN)
        self._until_s = time.monotonic() + self._lease_s
        while True:
            left_s = self._until_s - time.monotonic()
            ready = dict(poller.poll(max(0.0, left_s) * 1000 if self._on else None))
            if not ready:
                yield None
                continue
            if self._line.fileno() not in ready:
                return  # the manager is dead, though a child of its has a copy of its end
            try:
                data = self._line.recv(4096)
            except ConnectionError:
                return
            if not data:
                return
            self._until_s = time.monotonic() + self._lease_s
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode().split()

    def _say(self, text: str) -> None:
        try:
            self._line.sendall(text.encode() + b"\n")
        except OSError:
            pass  # nobody is there any more, which the next look shows


def _stop(number: int, frame: object) -> None:
    raise SystemExit(0)


def _watch(pid: int) -> int:
    """A pidfd of the manager; -1: the kernel has none, or it is dead, which the line says, too."""
    try:
        found = os.pidfd_open(pid)
    except OSError:
        return -1
    if os.getppid() == pid:
        return found
    os.close(found)  # it died before, and the number may be somebody else's by now
    return -1


def main(words: list[str]) -> int:
    """Hold the throttle.

    Args:
        words: the manager's pid, the lease in seconds, and the hold as JSON.

    Returns:
        0: nothing is left of it; 1: something could not be undone.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    os.chdir("/")
    os.closerange(LINE_FD + 1, MOST_DESCRIPTORS)  # a pipe that we hold open for the manager never comes to its end
    hold = Hold.of(json.loads(words[2]))
    with socket.socket(fileno=LINE_FD) as line:
        line.setblocking(True)
        try:
            return Watchdog(line, hold, float(words[1]), _watch(int(words[0]))).run()
        finally:
            take_off(hold)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
