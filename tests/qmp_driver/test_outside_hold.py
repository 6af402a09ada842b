"""A throttle from outside: put on and taken off real threads, and the watchdog that holds it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.guests import lives, until
from tests.support.spinner import spinning
from whimbrel.qmp_driver import outside_hold
from whimbrel.qmp_driver.outside import spawn_watchdog
from whimbrel.qmp_driver.outside_hold import (
    DEADLINE,
    OTHER,
    Hold,
    Thread,
    Watchdog,
    put_on,
    quota_of,
    start_of,
    take_off,
)
from whimbrel.qmp_driver.outside_means import NoMeans, by_deadline, by_group, try_out
from whimbrel.qmp_driver.vcpus import VcpuThread

PROC = Path("/proc")
UNIFIED = Path("/sys/fs/cgroup/unified")


def held_by(means: str, thread: VcpuThread) -> Hold:
    """A way to slow a thread, or skip where this host has none of that kind."""
    try:
        hold = (by_deadline if means == "deadline" else by_group)((thread,))
        try_out(hold)
    except NoMeans as error:
        pytest.skip(f"this host can't: {error.message}")
    return hold


def group_of(thread: VcpuThread) -> str:
    """The control group that it is in, of the hierarchy that has a say in processor time."""
    lines = (PROC / f"{thread.pid}/task/{thread.tid}/cgroup").read_text().splitlines()
    named = {controllers: group for _, controllers, group in (line.split(":", 2) for line in lines)}
    return next((group for controllers, group in named.items() if "cpu" in controllers.split(",")), named.get("", ""))


@pytest.mark.parametrize(
    ("share", "quota"),
    [
        (0.5, (5000, 10_000)),
        (0.9, (1000, 10_000)),
        (0.95, (1000, 20_000)),
        (0.99, (1000, 100_000)),
        (0.01, (9900, 10_000)),
    ],
)
def test_the_period_grows_where_the_kernel_has_no_shorter_quota(share: float, quota: tuple[int, int]) -> None:
    """It takes no quota under a millisecond."""
    assert quota_of(share) == quota


def test_a_hold_reads_as_it_was_written() -> None:
    """Through JSON, as in a log."""
    hold = Hold("cgroup-v1", (Thread(1, 2, 3, home="/h", group="/h/g"), Thread(1, 4, 5, before=(0, 0, 5, 0))), ("/h",))
    assert Hold.of(json.loads(json.dumps(hold.as_written()))) == hold


@pytest.mark.parametrize("written", [{"means": "magic", "threads": [], "enabled": []}, {"means": "deadline"}])
def test_a_hold_that_is_none_is_refused(written: dict[str, object]) -> None:
    """What stands in a damaged log is never acted on."""
    with pytest.raises((ValueError, KeyError)):
        Hold.of(written)


def test_a_control_group_is_made_for_a_thread_and_taken_away() -> None:
    """The thread is back where it was, and no folder is left."""
    with spinning() as thread:
        hold = held_by("cgroup", thread)
        (held,) = hold.threads
        before = group_of(thread)
        put_on(hold, 0.8)
        assert group_of(thread) == f"{before.rstrip('/')}/whimbrel-{thread.tid}-{thread.start_ticks}"
        assert limit_in(held.group) == (2000, 10_000)
        put_on(hold, 0.95)
        assert limit_in(held.group) == (1000, 20_000)
        put_on(hold, 0.0)
        assert group_of(thread).endswith(f"/whimbrel-{thread.tid}-{thread.start_ticks}"), "ready for another share"
        assert limit_in(held.group)[0] == -1
        assert take_off(hold) == []
        assert group_of(thread) == before
        assert not os.path.exists(held.group)


def limit_in(group: str) -> tuple[int, int]:
    """The quota and the period of a group, as the kernel has them."""
    if os.path.exists(f"{group}/cpu.max"):
        quota, period = Path(group, "cpu.max").read_text().replace("max", "-1").split()
    else:
        quota, period = (Path(group, f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(quota), int(period)


def test_a_stricter_limit_of_its_owner_stays_in_force() -> None:
    """The kernel refuses a child more than its parent has: there is nothing more to take then."""
    with spinning() as thread:
        hold = held_by("cgroup", thread)
        if hold.means != "cgroup-v1":
            pytest.skip("version 2 takes any limit, and the stricter one holds")
        (held,) = hold.threads
        owners = Path(held.home, f"owner-{thread.tid}")
        owners.mkdir()
        try:
            Path(owners, "cpu.cfs_quota_us").write_text("2000")
            Path(owners, "cpu.cfs_period_us").write_text("10000")
            Path(owners, "tasks").write_text(str(thread.tid))
            inner = replace(hold, threads=(replace(held, home=str(owners), group=f"{owners}/whimbrel"),))
            put_on(inner, 0.5)
            assert group_of(thread).endswith("/whimbrel")
            assert take_off(inner) == []
            assert group_of(thread).endswith(owners.name)
        finally:
            Path(held.home, "tasks").write_text(str(thread.tid))
            owners.rmdir()


def test_the_deadline_scheduler_is_given_and_taken_back() -> None:
    """With its nice value as it was."""
    with spinning() as thread:
        os.setpriority(os.PRIO_PROCESS, thread.tid, 5)
        hold = held_by("deadline", thread)
        put_on(hold, 0.8)
        assert outside_hold.attributes_of(thread.tid)[0] == DEADLINE
        put_on(hold, 0.0)
        assert outside_hold.attributes_of(thread.tid)[0] == OTHER
        put_on(hold, 0.8)
        assert take_off(hold) == []
        assert outside_hold.attributes_of(thread.tid) == (OTHER, 0, 5, 0)


@pytest.mark.parametrize("means", ["cgroup", "deadline"])
def test_undoing_it_twice_or_without_need_does_nothing(means: str) -> None:
    """Whoever undoes it need not know how far it came."""
    with spinning() as thread:
        hold = held_by(means, thread)
        assert take_off(hold) == []
        put_on(hold, 0.5)
        assert [take_off(hold), take_off(hold)] == [[], []]


@pytest.mark.parametrize("means", ["cgroup", "deadline"])
def test_a_thread_that_ended_under_it_leaves_nothing(means: str) -> None:
    """Its group goes, and a later thread of the same number is not touched."""
    with spinning() as thread:
        hold = held_by(means, thread)
        put_on(hold, 0.5)
    assert take_off(hold) == []
    assert not any(held.group and os.path.exists(held.group) for held in hold.threads)
    put_on(hold, 0.5)
    assert not any(held.group and os.path.exists(held.group) for held in hold.threads)


def test_a_thread_that_is_in_its_group_is_not_moved_there_again(tmp_path: Path) -> None:
    """To move one takes the kernel 8 ms and more, to change a limit microseconds. (A folder stands for the group.)"""
    pid, tid = os.getpid(), threading.get_native_id()
    start_ticks = start_of(pid, tid)
    assert start_ticks is not None
    for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"):
        (tmp_path / name).touch()
    inside = f"1\n{tid}\n"
    (tmp_path / "tasks").write_text(inside)
    put_on(Hold("cgroup-v1", (Thread(pid, tid, start_ticks, home="/nowhere", group=str(tmp_path)),)), 0.5)
    assert (tmp_path / "cpu.cfs_quota_us").read_text().startswith("5000")
    assert (tmp_path / "tasks").read_text() == inside


@pytest.mark.parametrize(("others", "written"), [(False, "-cpu"), (True, "")])
def test_the_controller_is_switched_off_again_unless_others_use_it(tmp_path: Path, others: bool, written: str) -> None:
    """Another group beside ours is of another migration. (A folder stands for the parent.)"""
    (tmp_path / "cgroup.subtree_control").touch()
    if others:
        (tmp_path / "whimbrel-1-1").mkdir()
    assert take_off(Hold("cgroup-v2", (), enabled=(str(tmp_path),))) == []
    assert (tmp_path / "cgroup.subtree_control").read_text() == written


def test_what_can_not_be_undone_is_named(tmp_path: Path) -> None:
    """A folder that is no control group, and not empty, stands for a group that can't be removed."""
    (tmp_path / "tasks").write_text("")
    left = take_off(Hold("cgroup-v1", (Thread(1, 1, 1, home="/nowhere", group=str(tmp_path)),)))
    assert left == [f"{tmp_path} is still slowed (Directory not empty)"]


@pytest.mark.skipif(not (UNIFIED / "cgroup.controllers").exists(), reason="version 2 is not mounted beside version 1")
def test_of_version_2_the_group_becomes_threaded_and_a_plain_one_again() -> None:
    """On a real hierarchy, which here has no controller of processor time: so the limit itself is refused."""
    home = UNIFIED / f"whimbrel-test-{os.getpid()}"
    home.mkdir()
    try:
        with spinning() as thread:
            (home / "cgroup.procs").write_text(str(thread.pid))
            held = Thread(thread.pid, thread.tid, thread.start_ticks, home=str(home), group=str(home / "g"))
            hold = Hold("cgroup-v2", (held,))
            with pytest.raises(FileNotFoundError):
                put_on(hold, 0.5)
            assert (home / "cgroup.type").read_text() == "domain threaded\n"
            (home / "g" / "cgroup.threads").write_text(str(thread.tid))
            assert take_off(hold) == []
            assert (home / "cgroup.type").read_text() == "domain\n"
            assert str(thread.pid) in (home / "cgroup.procs").read_text().split()
    finally:
        while (home / "cgroup.procs").read_text():
            pass  # a process that was reaped leaves its group a moment later
        home.rmdir()


# ---- the watchdog


@contextmanager
def watching(hold: Hold, lease_s: float) -> Generator[tuple[int, socket.socket]]:
    """A watchdog by its pid, and the manager's end of its line."""
    ours, its = socket.socketpair()
    with its:
        pid = spawn_watchdog(its.fileno(), hold, lease_s)
    ours.settimeout(10)
    try:
        yield pid, ours
    finally:
        ours.close()
        if lives(pid):
            os.waitpid(pid, 0)  # it ends with the line, when it has undone what it did


async def ended(pid: int) -> None:
    """Wait for the end of a watchdog."""
    await until(lambda: not lives(pid), "the watchdog ends")
    assert os.waitpid(pid, os.WNOHANG) == (pid, 0)  # noqa: ASYNC222 - it has ended, so this does not wait


def ask(line: socket.socket, words: str) -> str:
    """Tell it something; its answer."""
    line.sendall(words.encode() + b"\n")
    return line.recv(100).decode()


@pytest.mark.parametrize("means", ["cgroup", "deadline"])
@pytest.mark.parametrize("end", ["told", "line", "term", "lease"])
async def test_the_watchdog_undoes_it(means: str, end: str) -> None:
    """When told, when the line ends, when it is asked to end, and when its manager is silent."""
    with spinning() as thread:
        hold = held_by(means, thread)
        before = group_of(thread), outside_hold.attributes_of(thread.tid)
        with watching(hold, 0.3 if end == "lease" else 30.0) as (pid, line):
            assert ask(line, "take 0.8") == "done\n"
            assert (group_of(thread), outside_hold.attributes_of(thread.tid)) != before
            if end == "told":
                assert ask(line, "off") == "done\n"
            elif end == "line":
                line.close()
                await ended(pid)
            elif end == "term":
                os.kill(pid, signal.SIGTERM)
                await ended(pid)
            else:
                assert line.recv(100) == b"lapsed\n"
            assert (group_of(thread), outside_hold.attributes_of(thread.tid)) == before


async def test_a_lease_that_is_renewed_does_not_run_out() -> None:
    """Each word of the manager renews it."""
    with spinning() as thread:
        hold = held_by("cgroup", thread)
        with watching(hold, 0.8) as (_, line):
            assert ask(line, "take 0.5") == "done\n"
            until_s = time.monotonic() + 1.2
            while time.monotonic() < until_s:
                assert ask(line, "stay") == "done\n"
            assert "whimbrel" in group_of(thread)


def test_a_manager_that_died_is_noticed_though_a_child_of_its_holds_the_line() -> None:
    """The line has no end then, and says nothing; its process has ended."""
    ours, its = socket.socketpair()
    ends: list[int] = []
    with subprocess.Popen(("sleep", "100")) as manager:
        pidfd = os.pidfd_open(manager.pid)
        watchdog = Watchdog(its, Hold("deadline", ()), 30.0, manager=pidfd)
        watching_it = threading.Thread(target=lambda: ends.append(watchdog.run()))
        watching_it.start()
        try:
            assert ask(ours, "stay") == "done\n"
            manager.kill()
            watching_it.join(5)
            assert ends == [0]
        finally:
            ours.close()
            watching_it.join()
            its.close()
            os.close(pidfd)


async def test_what_the_kernel_refuses_is_told_and_undone() -> None:
    """A group that can't be made: its parent is no folder."""
    with spinning() as thread:
        held = Thread(thread.pid, thread.tid, thread.start_ticks, home="/proc", group="/proc/whimbrel")
        with watching(Hold("cgroup-v1", (held,)), 30.0) as (pid, line):
            assert ask(line, "take 0.5").startswith("failed ")
            assert lives(pid)
            assert ask(line, "end") == ""
            await ended(pid)
