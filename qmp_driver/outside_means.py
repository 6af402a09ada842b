"""Whether the source's vCPUs can be slowed from outside of QEMU on this host, by what means, and why not otherwise.

It is tried: one of the threads is slowed by nothing to speak of, and set back, before it is offered. What the two ways
are stands in `outside_hold`. A control group is preferred, for it changes no priority and goes together with pinned
CPUs; where that can't be had, the deadline scheduler.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whimbrel.engine.errors import WhimbrelError

from . import outside_hold
from .outside_hold import BATCH, IDLE, OTHER, Hold, Thread
from .vcpus import VcpuThread

TRIAL_SHARE = 0.1
PROC = Path("/proc")
THREADED = frozenset({"cpu", "cpuset", "perf_event", "pids"})
"""The controllers of version 2 that work in threaded mode, ``cgroup-v2.rst``: others forbid it in their group."""
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


class NoMeans(WhimbrelError):
    """It can't be done here; the message says why, as a clause."""


class StillSlowed(NoMeans):
    """It was tried, and can't be undone; the message says what is left."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy of control groups.

    Attributes:
        version: 1 or 2.
        mounted_at: the folder where it can be seen.
        root: which of its groups that is, as ``/proc/PID/cgroup`` names groups.
    """

    version: int
    mounted_at: str
    root: str

    def folder_of(self, group: str) -> str:
        """Where a group can be seen.

        Raises:
            NoMeans: it lies outside of what is mounted here.
        """
        inside = group == self.root or group.startswith(self.root.rstrip("/") + "/")
        if not inside or "/../" in group + "/":
            raise NoMeans("their control group can't be seen from here")
        below = group.removeprefix(self.root).strip("/")
        return os.path.join(self.mounted_at, below) if below else self.mounted_at


async def find(threads: Sequence[VcpuThread], announce: Callable[[Hold], None]) -> Hold:
    """Find a way to slow these threads, and try it; the loop is not blocked.

    If cancelled: what is being tried is undone before this returns.

    Args:
        threads: those of the source's vCPUs, as this host numbers them.
        announce: told what is about to be tried, so that it can be undone by whoever comes after us.

    Raises:
        NoMeans: there is none.
        StillSlowed: what was tried can't be undone.
        Exception: whatever ``announce`` raises; nothing was tried then.
    """
    if not threads:
        raise NoMeans("the source's vCPU threads can't be seen from here")
    because: list[str] = []
    for way in (by_group, by_deadline):
        try:
            hold = way(threads)
            announce(hold)
            await _in_thread(try_out, hold)
        except StillSlowed:
            raise
        except NoMeans as error:
            because.append(error.message)
        except OSError as error:  # a thread that has just ended, a folder that we may not look into
            because.append(str(error))
        else:
            return hold
    raise NoMeans("; ".join(because))


async def _in_thread(work: Callable[[Hold], None], hold: Hold) -> None:
    """Do it in another thread, to its end: on a busy host the kernel takes 200 ms to move a thread."""
    doing = asyncio.ensure_future(asyncio.to_thread(work, hold))
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            try:
                await asyncio.wait((doing,))
            except asyncio.CancelledError:
                pass  # once more: it takes a moment only
        raise


def try_out(hold: Hold) -> None:
    """Slow the first thread by `TRIAL_SHARE` for an instant, and set it back.

    Raises:
        NoMeans: the kernel refuses.
        StillSlowed: it could not be set back.
    """
    one = replace(hold, threads=hold.threads[:1])
    refused = ""
    try:
        outside_hold.put_on(one, TRIAL_SHARE)
    except OSError as error:
        refused = f"{hold.means}: {error.strerror}"
    if left := outside_hold.take_off(one):
        raise StillSlowed("; ".join(left))
    if refused:
        raise NoMeans(refused)


# ---- by control group


def by_group(threads: Sequence[VcpuThread], proc: Path = PROC) -> Hold:
    """A control group for each thread; nothing is made yet.

    Args:
        threads: as `find`.
        proc: where the kernel tells of processes; another folder only in tests.

    Raises:
        NoMeans: it can't be done.
        OSError: a thread has just ended, or a folder can't be looked into.
    """
    hierarchy = _hierarchy(proc)
    homes = {thread: hierarchy.folder_of(_group_of(thread, hierarchy.version, proc)) for thread in threads}
    if any(os.sched_getscheduler(thread.tid) not in (OTHER, BATCH, IDLE) for thread in threads):
        raise NoMeans("they are real-time threads, which no control group limits")
    enabled = [home for home in dict.fromkeys(homes.values()) if hierarchy.version == 2 and _prepare(home)]
    held = tuple(
        Thread(
            thread.pid,
            thread.tid,
            thread.start_ticks,
            home=home,
            group=f"{home}/whimbrel-{thread.tid}-{thread.start_ticks}",
        )
        for thread, home in homes.items()
    )
    for home in dict.fromkeys(homes.values()):
        if not os.access(home, os.W_OK):
            raise NoMeans(f"no control group can be made in {home}")
    return Hold(f"cgroup-v{hierarchy.version}", held, tuple(enabled))


def _hierarchy(proc: Path) -> Hierarchy:
    """The one that has the controller of processor time: version 1 where it is mounted so, else version 2."""
    found: dict[int, Hierarchy] = {}
    for line in _read(proc / "self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(" "), after.split(" ")
        if kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            found[1] = Hierarchy(1, _plain(words[4]), _plain(words[3]))
        elif kind[0] == "cgroup2":
            found.setdefault(2, Hierarchy(2, _plain(words[4]), _plain(words[3])))
    if not found:
        raise NoMeans("no control groups are mounted here")
    return found.get(1) or found[2]


def _group_of(thread: VcpuThread, version: int, proc: Path) -> str:
    for line in _read(proc / f"{thread.pid}/task/{thread.tid}/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if (version == 1 and "cpu" in controllers.split(",")) or (version == 2 and not controllers):
            return group
    raise NoMeans("the kernel does not say in which control group they are")


def _prepare(home: str) -> bool:
    """Whether a group of version 2 has to have the controller switched on for its children.

    Threads of one process in groups of their own make their group a *threaded domain* (cgroup-v2.rst). That is done
    only where nobody can notice: the group is threaded already, or has no other children and hands no controller on
    that such a group can't; and the controller is its to hand on.

    Raises:
        NoMeans: it can't be done there.
    """
    files = Path(home)
    if "cpu" not in _read(files / "cgroup.controllers").split():
        raise NoMeans(f"the control group {home} has no say in processor time")
    handed_on = frozenset(_read(files / "cgroup.subtree_control").split())
    if not handed_on <= THREADED:
        raise NoMeans(f"the control group {home} hands on controllers that know no threads")
    kind = _read(files / "cgroup.type").strip()
    others = any(each.is_dir() for each in files.iterdir())
    if kind not in ("threaded", "domain threaded") and (kind != "domain" or others):
        raise NoMeans(f"the control group {home} has others below it, which threaded mode would make unusable")
    return "cpu" not in handed_on


# ---- by deadline


def by_deadline(threads: Sequence[VcpuThread]) -> Hold:
    """The deadline scheduler, which is not touched yet.

    Raises:
        NoMeans: it can't be done.
    """
    if not outside_hold.has_calls():
        raise NoMeans("the deadline scheduler's calls are not known on this processor")
    held: list[Thread] = []
    for thread in threads:
        try:
            before = outside_hold.attributes_of(thread.tid)
        except OSError as error:
            raise NoMeans(f"the deadline scheduler: {error.strerror}") from error
        if before[0] not in (OTHER, BATCH, IDLE):
            raise NoMeans("their owner has given them another scheduler")
        held.append(Thread(thread.pid, thread.tid, thread.start_ticks, before=before))
    return Hold("deadline", tuple(held))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise NoMeans(f"{path} can't be read ({error.strerror})") from error


def _plain(word: str) -> str:
    """A path out of ``mountinfo``, which writes blanks as octal numbers (proc(5))."""
    for escape, character in _ESCAPES.items():
        word = word.replace(escape, character)
    return word
