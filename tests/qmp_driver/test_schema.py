"""What a QEMU understands: condensed truly, and kept so that no damage to the keeping matters."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bare_qemu import BARE, QEMU, bare_qemu
from whimbrel.engine.errors import WhimbrelError
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.schema import condense, read_schema

ENTRIES: list[dict[str, object]] = [
    {"name": "migrate", "meta-type": "command", "arg-type": "1", "ret-type": "0", "allow-oob": False},
    {"name": "object-add", "meta-type": "command", "arg-type": "2", "ret-type": "0"},
    {"name": "stop", "meta-type": "command", "arg-type": "0", "ret-type": "0"},
    {"name": "STOP", "meta-type": "event", "arg-type": "0"},
    {"name": "0", "meta-type": "object", "members": []},
    {"name": "1", "meta-type": "object", "members": [{"name": "uri", "type": "str"}, {"name": "resume"}]},
    {
        "name": "2",
        "meta-type": "object",
        "members": [{"name": "qom-type", "type": "3"}, {"name": "id", "type": "str"}],
        "tag": "qom-type",
        "variants": [{"case": "a", "type": "4"}, {"case": "b", "type": "0"}],
    },
    {"name": "3", "meta-type": "enum", "values": ["a", "b"], "members": [{"name": "a"}, {"name": "b"}]},
    {"name": "4", "meta-type": "object", "members": [{"name": "size", "type": "int"}]},
    {"name": "5", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "null"}]},
    {"name": "[int]", "meta-type": "array", "element-type": "int"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
]  # fmt: skip


class Qemu:
    """Answers the two queries that are made of it, and counts the dear one."""

    def __init__(self, entries: object = ENTRIES, micro: int = 22) -> None:
        self.entries = entries
        self.micro = micro
        self.asked = 0

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = 10.0,
        oob: bool = False,
    ) -> object:
        if command == "query-version":
            return {"qemu": {"major": 7, "minor": 2, "micro": self.micro}, "package": "made up"}
        assert command == "query-qmp-schema"
        self.asked += 1
        return self.entries


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "qemu"
    path.write_bytes(b"a program")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "whimbrel"


def test_commands_arguments_and_events() -> None:
    """What is there is known, what is not is not, and a name of one kind is no name of another."""
    schema = condense(ENTRIES)
    assert schema.has_command("migrate")
    assert schema.has_argument("migrate", "resume")
    assert not schema.has_argument("migrate", "detach")
    assert not schema.has_argument("stop", "uri")
    assert not schema.has_argument("no-such-command", "uri")
    assert not schema.has_command("STOP")
    assert schema.has_event("STOP")
    assert not schema.has_event("stop")


def test_arguments_that_depend_on_one_of_them_are_all_known() -> None:
    schema = condense(ENTRIES)
    assert schema.commands["object-add"] == {"qom-type", "id", "size"}


@pytest.mark.parametrize("answer", [{}, [{"name": "x"}], "text", [[]]])
async def test_an_answer_that_is_no_schema_is_an_error(answer: object, binary: Path, cache: Path) -> None:
    """And nothing of it is kept."""
    with pytest.raises(WhimbrelError, match="the answer to query-qmp-schema"):
        await read_schema(Qemu(answer), binary, cache)
    assert files_in(cache) == []


async def test_one_binary_is_asked_once(binary: Path, cache: Path) -> None:
    first, second = Qemu(), Qemu()
    assert await read_schema(first, binary, cache) == condense(ENTRIES)
    assert await read_schema(second, binary, cache) == condense(ENTRIES)
    assert (first.asked, second.asked) == (1, 0)
    assert [path.suffix for path in files_in(cache)] == [".json"]


async def test_without_a_binary_nothing_is_kept(cache: Path, tmp_path: Path) -> None:
    """Not known, or no longer there: the answer comes from QEMU each time."""
    for binary in (None, tmp_path / "gone"):
        qemu = Qemu()
        assert await read_schema(qemu, binary, cache) == condense(ENTRIES)
        assert qemu.asked == 1
    assert files_in(cache) == []


async def test_another_binary_at_the_same_path_is_asked_anew(binary: Path, cache: Path) -> None:
    """Its size, its time of change, or the version that runs gives it away."""
    await read_schema(Qemu(), binary, cache)
    other = [*ENTRIES, {"name": "cont", "meta-type": "command", "arg-type": "0"}]

    os.truncate(binary, 1000)
    assert (await read_schema(Qemu(other), binary, cache)).has_command("cont")
    os.utime(binary, ns=(0, 12345))
    assert not (await read_schema(Qemu(ENTRIES), binary, cache)).has_command("cont")
    assert (await read_schema(Qemu(other, micro=23), binary, cache)).has_command("cont")
    kept = Qemu(ENTRIES, micro=23)
    assert (await read_schema(kept, binary, cache)).has_command("cont")
    assert kept.asked == 0


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'{"format": 1}',
    ],
)
async def test_a_damaged_file_is_ignored_and_mended(binary: Path, cache: Path, damage: bytes) -> None:
    await read_schema(Qemu(), binary, cache)
    file = only_file(cache)
    whole = file.read_bytes()
    file.write_bytes(damage)
    qemu = Qemu()
    assert await read_schema(qemu, binary, cache) == condense(ENTRIES)
    assert qemu.asked == 1
    assert json.loads(file.read_bytes()) == json.loads(whole)


async def test_a_file_cut_off_anywhere_is_ignored(binary: Path, cache: Path) -> None:
    """No beginning of a file passes for a file."""
    await read_schema(Qemu(), binary, cache)
    file = only_file(cache)
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        qemu = Qemu()
        await read_schema(qemu, binary, cache)
        assert qemu.asked == 1


async def test_a_file_of_a_later_format_is_ignored(binary: Path, cache: Path) -> None:
    await read_schema(Qemu(), binary, cache)
    file = only_file(cache)
    file.write_bytes(file.read_bytes().replace(b'"format":1', b'"format":2'))
    qemu = Qemu()
    await read_schema(qemu, binary, cache)
    assert qemu.asked == 1


async def test_a_place_that_cannot_be_written_is_logged_and_no_more(
    binary: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The folder can't be made; or something else has the file's name. The answer is right in both cases."""
    caplog.set_level(logging.INFO)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    assert await read_schema(Qemu(), binary, blocked / "cache") == condense(ENTRIES)

    cache = tmp_path / "cache"
    await read_schema(Qemu(), binary, cache)
    file = only_file(cache)
    file.unlink()
    file.mkdir()
    assert await read_schema(Qemu(), binary, cache) == condense(ENTRIES)
    assert files_in(cache) == [file]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]


@given(st.lists(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.lists(st.integers())))))
def test_nonsense_is_an_error_and_nothing_worse(answer: list[dict[str, object]]) -> None:
    """Whatever a QEMU may say, the only complaint is ours."""
    try:
        schema = condense(answer)
    except WhimbrelError:
        return
    assert answer == []
    assert not schema.commands


async def test_a_real_qemu(tmp_path: Path) -> None:
    """The QEMU that is installed knows what every QEMU since 6.2 knows, and the cache says the same."""
    async with (
        bare_qemu(tmp_path, *BARE, "-machine", "none") as qemu,
        await Monitor.connect(qemu.socket, side="source") as monitor,
    ):
        fresh = await read_schema(monitor, Path(QEMU), tmp_path / "cache")
        assert await read_schema(monitor, Path(QEMU), tmp_path / "cache") == fresh
    assert fresh.has_argument("migrate", "uri")
    assert fresh.has_argument("migrate-incoming", "uri")
    assert fresh.has_argument("migrate-set-parameters", "max-bandwidth")
    assert fresh.has_command("yank")
    assert fresh.has_event("MIGRATION_PASS")
    assert not fresh.has_argument("migrate", "bandwidth")
