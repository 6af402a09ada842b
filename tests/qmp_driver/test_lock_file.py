"""The lock in a file: every operation from every state, between processes, and when one of them is killed."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.parties import DESTINATION, SOURCE, STRANGER
from whimbrel.engine.errors import BadInput
from whimbrel.qmp_driver.lock_file import MOST_BYTES, FileLock
from whimbrel.qmp_driver.locks import LockProvider, LockRefused
from whimbrel.qmp_driver.parties import Party

PARTIES = (SOURCE, DESTINATION, STRANGER)
STATES = (None, *PARTIES)

Operation: TypeAlias = Callable[[FileLock], Awaitable[None]]
Case: TypeAlias = tuple[str, Operation, frozenset[Party | None], Party | None]


def acquiring(holder: Party) -> Case:
    """Taking it, from where that is allowed, and what it leads to."""
    return f"acquire {holder.name}", lambda lock: lock.acquire(holder), frozenset({None, holder}), holder


def releasing(holder: Party) -> Case:
    """Freeing it."""
    return f"release {holder.name}", lambda lock: lock.release(holder), frozenset({None, holder}), None


def handing(from_: Party, to: Party) -> Case:
    """Passing it on."""
    what = f"{from_.name} to {to.name}"
    return what, lambda lock: lock.hand_over(from_, to), frozenset({from_, to}), to


OPERATIONS = [
    *map(acquiring, PARTIES),
    *map(releasing, PARTIES),
    *itertools.starmap(handing, itertools.permutations(PARTIES, 2)),
]


def write(path: Path, holder: str) -> None:
    """A lease, as its format is documented."""
    path.write_text(json.dumps({"whimbrel_lock": 1, "holder": holder}) + "\n")


def read(path: Path) -> str | None:
    """The holder, read with nothing but a JSON decoder."""
    if not path.exists():
        return None
    lease = json.loads(path.read_bytes())
    assert lease.keys() == {"whimbrel_lock", "holder"}
    assert lease["whimbrel_lock"] == 1
    return str(lease["holder"])


@pytest.mark.parametrize("case", OPERATIONS, ids=lambda case: case[0])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name if state else "free")
async def test_every_operation_from_every_state(tmp_path: Path, state: Party | None, case: Case) -> None:
    """The whole of it: the holder is all the state that there is. Doing it twice is doing it once."""
    _, operation, allowed, after = case
    lock = FileLock(tmp_path / "lock")
    if state is not None:
        write(lock.path, state.name)
    for _ in range(2):
        if state in allowed:
            await operation(lock)
            expected = after
        else:
            with pytest.raises(LockRefused, match="should be held by" if state is None else f"held by {state.name}"):
                await operation(lock)
            expected = state
        assert await lock.holder() == read(lock.path) == (expected.name if expected is not None else None)


def test_it_is_a_lock_provider(tmp_path: Path) -> None:
    """For the type checkers, too."""
    provider: LockProvider = FileLock(tmp_path / "lock")
    assert provider


async def test_names_that_are_given_are_the_ones_in_the_file(tmp_path: Path) -> None:
    """For the side that they were given for."""
    lock = FileLock(tmp_path / "lock", source="vm1@rack3", destination="vm1@rack4")
    await lock.acquire(SOURCE)
    assert read(lock.path) == "vm1@rack3"
    await lock.hand_over(SOURCE, DESTINATION)
    assert read(lock.path) == "vm1@rack4"
    half = FileLock(tmp_path / "lock", source="vm1@rack4")
    await half.acquire(SOURCE)
    await half.hand_over(SOURCE, DESTINATION)
    assert read(lock.path) == DESTINATION.name


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("source", {"source": ""}),
        ("destination", {"destination": " "}),
        ("destination", {"source": "a", "destination": "a"}),
    ],
)
def test_names_that_tell_nobody_apart_are_refused(tmp_path: Path, field: str, names: dict[str, str]) -> None:
    """By field."""
    with pytest.raises(BadInput) as caught:
        FileLock(tmp_path / "lock", **names)  # type: ignore[arg-type]
    assert caught.value.field == field


async def test_two_sides_of_one_name_are_refused(tmp_path: Path) -> None:
    """A hand-over that would change nothing would protect nothing."""
    lock = FileLock(tmp_path / "lock", source=DESTINATION.name)
    await lock.acquire(SOURCE)
    with pytest.raises(LockRefused, match="same name"):
        await lock.hand_over(SOURCE, DESTINATION)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b'{"whimbrel_lock": 1, "hol', "truncated"),
        (b"host1\n", "malformed"),
        (b'\xff\xfe{"whimbrel_lock": 1}', "malformed"),
        (b'{"whimbrel_lock": 1}', "missing required field `holder`"),
        (b'{"whimbrel_lock": 1, "holder": 7}', "Expected `str`"),
        (b'{"whimbrel_lock": 1, "holder": "\xff"}', "utf"),
        (b'{"whimbrel_lock": 1, "holder": "a", "until": 5}', "unknown field `until`"),
        (b'{"whimbrel_lock": 2, "holder": "a"}', "its format is 2, not 1"),
        (b'{"whimbrel_lock": 1, "holder": "' + b"a" * MOST_BYTES + b'"}', "longer than"),
    ],
)
async def test_what_is_no_lease_is_named_and_left_alone(tmp_path: Path, content: bytes, words: str) -> None:
    """In one sentence, by every operation: it may be somebody's."""
    lock = FileLock(tmp_path / "lock")
    lock.path.write_bytes(content)
    for work in (lock.holder(), lock.acquire(SOURCE), lock.hand_over(SOURCE, DESTINATION), lock.release(SOURCE)):
        with pytest.raises(LockRefused) as caught:
            await work
        assert f"{lock.path} is not the lock of a guest" in caught.value.message
        assert words.lower() in caught.value.message.lower()
        assert "\n" not in str(caught.value)
    assert lock.path.read_bytes() == content


@pytest.mark.parametrize("make", ["nowhere/lock", "folder"])
async def test_a_path_that_can_hold_no_file_is_refused(tmp_path: Path, make: str) -> None:
    """Nothing was moved, and that is known."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(LockRefused, match="can't be"):
        await FileLock(tmp_path / make).acquire(SOURCE)


async def test_a_lease_that_can_not_be_written_stays_as_it_was(tmp_path: Path) -> None:
    """Something is in the way of the new one."""
    lock = FileLock(tmp_path / "lock")
    await lock.acquire(SOURCE)
    (tmp_path / "lock.new").mkdir()
    with pytest.raises(LockRefused, match="can't be changed"):
        await lock.hand_over(SOURCE, DESTINATION)
    assert read(lock.path) == SOURCE.name


async def test_what_a_killed_writer_left_is_no_obstacle(tmp_path: Path) -> None:
    """Half a new lease beside a whole old one."""
    lock = FileLock(tmp_path / "lock")
    await lock.acquire(SOURCE)
    (tmp_path / "lock.new").write_bytes(b'{"whimbrel_lock": 1, "holder": "somebody of a very long na')
    await lock.hand_over(SOURCE, DESTINATION)
    assert read(lock.path) == DESTINATION.name
    assert not (tmp_path / "lock.new").exists()


async def test_a_link_is_followed(tmp_path: Path) -> None:
    """It may lead to the shared storage: a file in its place would be seen by this host alone."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "lock").symlink_to(shared / "lease")
    await FileLock(tmp_path / "lock").acquire(SOURCE)
    assert read(shared / "lease") == SOURCE.name
    assert (tmp_path / "lock").is_symlink()


async def test_a_relative_path_is_meant_from_where_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the working directory changes before it is used."""
    monkeypatch.chdir(tmp_path)
    lock = FileLock(Path("lock"))
    monkeypatch.chdir("/")
    await lock.acquire(SOURCE)
    assert read(tmp_path / "lock") == SOURCE.name


async def test_a_change_by_somebody_else_is_waited_for_only_so_long(tmp_path: Path) -> None:
    """Then it is known that nothing was moved."""
    lock = FileLock(tmp_path / "lock", wait_s=0.05)
    await lock.acquire(SOURCE)
    with (tmp_path / "lock.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LockRefused, match="somebody else has been changing"):
            await lock.hand_over(SOURCE, DESTINATION)
        assert await lock.holder() == SOURCE.name, "reading needs no turn"
    await lock.hand_over(SOURCE, DESTINATION)


async def test_an_operation_that_is_cancelled_moves_nothing_any_more(tmp_path: Path) -> None:
    """It ends only when its thread has."""
    lock = FileLock(tmp_path / "lock", wait_s=60.0)
    await lock.acquire(SOURCE)
    with (tmp_path / "lock.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        task = asyncio.create_task(lock.hand_over(SOURCE, DESTINATION))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # once more, while it waits for its thread
        with pytest.raises(asyncio.CancelledError):
            await task
    await FileLock(lock.path).hand_over(SOURCE, STRANGER)
    assert read(lock.path) == STRANGER.name


async def test_a_lock_file_that_was_tidied_away_lets_no_two_in(tmp_path: Path) -> None:
    """Whoever waits for the one that is gone sees that, and takes the new one, which somebody holds."""
    lock = FileLock(tmp_path / "lock", wait_s=0.2)
    beside = tmp_path / "lock.lock"
    with beside.open("w") as old, (tmp_path / "another").open("w") as new:
        fcntl.flock(old, fcntl.LOCK_EX)
        fcntl.flock(new, fcntl.LOCK_EX)
        task = asyncio.create_task(lock.acquire(SOURCE))
        await asyncio.sleep(0)
        os.replace(tmp_path / "another", beside)
        fcntl.flock(old, fcntl.LOCK_UN)
        with pytest.raises(LockRefused, match="somebody else"):
            await task
    assert read(lock.path) is None


SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from whimbrel.engine.states import Side
from whimbrel.qmp_driver.lock_file import FileLock
from whimbrel.qmp_driver.locks import LockRefused
from whimbrel.qmp_driver.parties import Party

folder, me = Path(sys.argv[1]), Party(side=Side.SOURCE, name=sys.argv[2], address="")
other = Party(side=Side.DESTINATION, name="destination", address="")
lock = FileLock(folder / "lock", wait_s=30.0)

async def race():
    won = 0
    while won < 25:
        try:
            await lock.acquire(me)
        except LockRefused:
            continue
        os.close(os.open(folder / "alone", os.O_CREAT | os.O_EXCL))  # fails where there are two
        os.unlink(folder / "alone")
        await lock.release(me)
        won += 1

async def to_and_fro():
    await lock.acquire(me)
    while True:
        await lock.hand_over(me, other)
        await lock.hand_over(other, me)
        print("once", flush=True)

asyncio.run(race() if sys.argv[3] == "race" else to_and_fro())
"""


def start(folder: Path, name: str, what: str) -> subprocess.Popen[bytes]:
    """A process that takes the lock."""
    return subprocess.Popen([sys.executable, "-c", SCRIPT, folder, name, what], stdout=subprocess.PIPE)


def test_of_two_processes_that_race_one_has_it(tmp_path: Path) -> None:
    """Never both, and never neither for good: each gets it again and again."""
    racers = [start(tmp_path, name, "race") for name in ("one", "two")]
    try:
        assert [racer.wait(60) for racer in racers] == [0, 0]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert read(tmp_path / "lock") is None


async def test_a_killed_process_leaves_a_whole_lease_and_no_lock_on_it(tmp_path: Path) -> None:
    """Killed where it happens to be, several times: the lease names one of the two, and others go on at once."""
    me = Party(side=SOURCE.side, name="source", address="")
    other = Party(side=DESTINATION.side, name="destination", address="")
    for turns in range(1, 6):
        process = await asyncio.to_thread(start, tmp_path, "source", "to and fro")
        try:
            assert process.stdout is not None
            for _ in range(turns):
                assert await asyncio.to_thread(process.stdout.readline) == b"once\n"
        finally:
            process.kill()
            await asyncio.to_thread(process.communicate)
        assert read(tmp_path / "lock") in ("source", "destination")
        await FileLock(tmp_path / "lock", wait_s=0.0).hand_over(other, me)
    assert sorted(os.listdir(tmp_path))[:2] == ["lock", "lock.lock"]
