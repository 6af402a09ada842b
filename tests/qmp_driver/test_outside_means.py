"""Whether threads can be slowed from outside on this host, and by what means."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.spinner import spinning
from whimbrel.engine.errors import WhimbrelError
from whimbrel.qmp_driver.outside_hold import Hold, Thread, attributes_of
from whimbrel.qmp_driver.outside_means import Hierarchy, NoMeans, by_group, find, try_out
from whimbrel.qmp_driver.vcpus import VcpuThread

V1 = "35 25 0:30 {root} {at} rw,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct"
V2 = "30 23 0:26 {root} {at} rw - cgroup2 cgroup2 rw"


def standing(thread: VcpuThread) -> tuple[bytes, object]:
    """Its control groups, and how it is scheduled."""
    return Path(f"/proc/{thread.pid}/task/{thread.tid}/cgroup").read_bytes(), attributes_of(thread.tid)


def nobody(hold: Hold) -> None:
    """Told, and does nothing."""


def kernel(folder: Path, thread: VcpuThread, mounts: str, groups: str) -> Path:
    """What a kernel would tell of a thread under ``/proc``."""
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(mounts + "\n")
    task = proc / f"{thread.pid}/task/{thread.tid}"
    task.mkdir(parents=True)
    (task / "cgroup").write_text(groups + "\n")
    return proc


def group_of_version_2(
    folder: Path, *, kind: str = "domain", controllers: str = "cpu memory", handed_on: str = "", child: bool = False
) -> Path:
    """A control group, as its folder looks."""
    group = folder / "cg/vm"
    group.mkdir(parents=True)
    (group / "cgroup.type").write_text(f"{kind}\n")
    (group / "cgroup.controllers").write_text(f"{controllers}\n")
    (group / "cgroup.subtree_control").write_text(f"{handed_on}\n")
    if child:
        (group / "other").mkdir()
    return group


async def test_this_host_offers_what_can_be_done_and_undone() -> None:
    """By root there is always a way: here it is tried on a real thread."""
    announced: list[Hold] = []
    with spinning() as thread:
        try:
            hold = await find((thread,), announced.append)
        except NoMeans as error:
            pytest.skip(f"this host can't: {error.message}")
        assert [held.tid for held in hold.threads] == [thread.tid]
        assert announced[-1] == hold, "before it was tried"


async def test_without_threads_there_is_nothing_to_slow() -> None:
    """The source is on another host, or hidden from us."""
    with pytest.raises(NoMeans, match="can't be seen from here"):
        await find((), nobody)


async def test_threads_that_have_just_ended_can_not_be_slowed() -> None:
    """Neither way finds them."""
    with spinning() as thread:
        pass
    with pytest.raises(NoMeans):
        await find((thread,), nobody)


async def test_what_can_not_be_announced_is_not_tried() -> None:
    """Otherwise nobody after us could undo it."""

    def full(hold: Hold) -> None:
        raise WhimbrelError("the log is full")

    with spinning() as thread, pytest.raises(WhimbrelError, match="the log is full"):
        await find((thread,), full)


def test_version_1_goes_before_version_2(tmp_path: Path) -> None:
    """Where both are mounted the controller is the first one's."""
    with spinning() as thread:
        mounts = "\n".join((V2.format(root="/", at=tmp_path / "u"), V1.format(root="/", at=tmp_path)))
        (tmp_path / "a b").mkdir()
        hold = by_group((thread,), kernel(tmp_path, thread, mounts, "3:cpu,cpuacct:/a b\n0::/"))
        home = f"{tmp_path}/a b"
        group = f"{home}/whimbrel-{thread.tid}-{thread.start_ticks}"
        assert hold == Hold("cgroup-v1", (Thread(thread.pid, thread.tid, thread.start_ticks, home, group),))


def test_a_way_that_is_written_with_blanks_is_read(tmp_path: Path) -> None:
    """As octal numbers, in the kernel's list of mounts."""
    with spinning() as thread:
        (tmp_path / "c g").mkdir()
        mounts = V1.format(root="/", at=str(tmp_path / "c g").replace(" ", "\\040"))
        hold = by_group((thread,), kernel(tmp_path, thread, mounts, "3:cpu:/"))
        assert hold.threads[0].home == str(tmp_path / "c g")


@pytest.mark.parametrize(
    ("kind", "handed_on", "enabled"), [("domain", "", True), ("domain", "cpu pids", False), ("threaded", "", True)]
)
def test_a_plain_group_of_version_2_may_become_threaded(
    tmp_path: Path, kind: str, handed_on: str, enabled: bool
) -> None:
    """The controller is switched on for its children only where it was not."""
    group = group_of_version_2(tmp_path, kind=kind, handed_on=handed_on)
    with spinning() as thread:
        proc = kernel(tmp_path, thread, V2.format(root="/", at=tmp_path / "cg"), "0::/vm")
        hold = by_group((thread,), proc)
        assert hold.means == "cgroup-v2"
        assert hold.threads[0].home == str(group)
        assert hold.enabled == ((str(group),) if enabled else ())


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"controllers": "memory"}, "no say in processor time"),
        ({"handed_on": "memory"}, "that know no threads"),
        ({"child": True}, "others below it"),
        ({"kind": "domain invalid"}, "others below it"),
    ],
)
def test_a_group_of_version_2_in_which_others_would_notice_is_let_be(
    tmp_path: Path, given: dict[str, object], because: str
) -> None:
    """Threaded mode would make its other children unusable, or is refused."""
    group_of_version_2(tmp_path, **given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with spinning() as thread:
        proc = kernel(tmp_path, thread, V2.format(root="/", at=tmp_path / "cg"), "0::/vm")
        with pytest.raises(NoMeans, match=because):
            by_group((thread,), proc)


@pytest.mark.parametrize(
    ("mounts", "groups", "because"),
    [
        ("22 1 0:20 / / rw - ext4 /dev/vda rw", "3:cpu:/", "no control groups are mounted"),
        (V1.format(root="/", at="/nowhere"), "3:memory:/", "does not say in which control group"),
        (V1.format(root="/", at="/nowhere"), "3:cpu:/", "no control group can be made in /nowhere"),
        (V1.format(root="/mine", at="/nowhere"), "3:cpu:/others", "can't be seen from here"),
    ],
)
def test_what_this_host_lacks_is_said(tmp_path: Path, mounts: str, groups: str, because: str) -> None:
    """A clause for the report."""
    with spinning() as thread, pytest.raises(NoMeans, match=because):
        by_group((thread,), kernel(tmp_path, thread, mounts, groups))


@pytest.mark.parametrize(
    ("root", "group", "folder"),
    [
        ("/", "/", "/cg"),
        ("/", "/a/b", "/cg/a/b"),
        ("/docker/1", "/docker/1", "/cg"),
        ("/docker/1", "/docker/1/a", "/cg/a"),
        ("/docker/1", "/docker/12", None),
        ("/", "/../outside", None),
    ],
)
def test_a_group_is_found_where_its_hierarchy_is_mounted(root: str, group: str, folder: str | None) -> None:
    """A container may see a part of it only."""
    seen = Hierarchy(1, "/cg", root)
    if folder is None:
        with pytest.raises(NoMeans):
            seen.folder_of(group)
    else:
        assert seen.folder_of(group) == folder


def test_what_the_kernel_refuses_is_not_offered() -> None:
    """It is tried before it is offered."""
    with spinning() as thread:
        held = Thread(thread.pid, thread.tid, thread.start_ticks, home="/proc", group="/proc/whimbrel")
        with pytest.raises(NoMeans, match="cgroup-v1: "):
            try_out(Hold("cgroup-v1", (held,)))


async def test_cancelled_in_the_middle_of_it_nothing_is_left() -> None:
    """Whoever cancels it waits until it is undone."""
    with spinning() as thread:
        before = standing(thread)
        trying = asyncio.Event()
        work = asyncio.ensure_future(find((thread,), lambda hold: trying.set()))
        await trying.wait()
        work.cancel()
        with pytest.raises((asyncio.CancelledError, NoMeans)):
            await work
        assert standing(thread) == before
