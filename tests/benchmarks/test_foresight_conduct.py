"""Running a design, or what is missing of it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from benchmarks.foresight.conduct import BUSY_CORES, GREATEST_REPEATS, Make, missing, run, sink
from benchmarks.foresight.design import Case
from benchmarks.foresight.records import Came, Store
from tests.support.foresight import came, case, said
from whimbrel.engine.errors import WhimbrelError

CASES = [case(number) for number in (1, 2, 3)]


def made(*cores: float) -> Make:
    """Makes a case at once, while others use so much each time, the last for ever."""
    left = list(cores)

    def make(store: Store, asked: Case) -> Came:
        one = msgspec.structs.replace(said(attempt=store.attempts(asked.name) + 1), case=asked)
        store.predict(one)
        others = left.pop(0) if len(left) > 1 else left[0]
        result = came(one, store.digest(asked.name, one.attempt), others_cores=others)
        store.record(result)
        return result

    return make


def ended_after(count: int, make: Make) -> Make:
    """The same, called off in the midst of a case: it is predicted and nothing comes of it."""
    done: list[str] = []

    def until(store: Store, asked: Case) -> Came:
        if len(done) == count:
            store.predict(msgspec.structs.replace(said(), case=asked))
            raise KeyboardInterrupt
        done.append(asked.name)
        return make(store, asked)

    return until


def silent(_text: str) -> None:
    """Nobody listens."""


def test_every_case_is_made_once_where_nobody_disturbs_it(tmp_path: Path) -> None:
    told: list[str] = []
    run(tmp_path, CASES, made(0.0), say=told.append)
    store = Store(tmp_path)
    assert [len(store.came(each.name)) for each in CASES] == [1, 1, 1]
    assert missing(store, CASES) == []
    assert "[1/3]" in told[0]
    assert "min to go" in told[2]
    assert "came: 4.00 s, down 100 ms" in told[1]


def test_what_was_called_off_is_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, CASES, ended_after(1, made(0.0)), say=silent)
    run(tmp_path, CASES, made(0.0), say=silent)
    store = Store(tmp_path)
    assert [len(store.came(each.name)) for each in CASES] == [1, 1, 1]
    assert [store.attempts(each.name) for each in CASES] == [1, 2, 1]
    assert {pair.said.attempt for pair in store.pairs("judged") if pair.said.case == CASES[1]} == {2}


def test_a_disturbed_case_is_made_again_until_it_is_not(tmp_path: Path) -> None:
    run(tmp_path, CASES[:1], made(2.0, 1.0, BUSY_CORES), say=silent)
    (pair,) = Store(tmp_path).pairs("judged")
    assert pair.came.others_cores == BUSY_CORES
    assert pair.said.attempt == 3


def test_it_is_not_made_again_for_ever(tmp_path: Path) -> None:
    run(tmp_path, CASES[:1], made(2.0), say=silent)
    assert len(Store(tmp_path).came(CASES[0].name)) == 1 + GREATEST_REPEATS


def test_nobody_has_to_make_it_again(tmp_path: Path) -> None:
    run(tmp_path, CASES, made(2.0), repeats=0, say=silent)
    assert all(len(Store(tmp_path).came(each.name)) == 1 for each in CASES)


def test_a_sink_listens_at_a_port_that_it_says_and_ends_with_its_context() -> None:
    with sink((), "127.0.0.1") as (host, port), socket.create_connection((host, port)) as stream:
        stream.sendall(b"x")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port))


@pytest.mark.parametrize("said_instead", ["nothing here", ""])
def test_a_sink_that_does_not_come_up_is_said(said_instead: str, script: Callable[[str], tuple[str, ...]]) -> None:
    with (
        pytest.raises(WhimbrelError, match=said_instead or "it said nothing"),
        sink(script(said_instead), "127.0.0.1"),
    ):
        pass


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """Words before a command line that say something else and do not run it."""

    def prefix(text: str) -> tuple[str, ...]:
        path = tmp_path / "instead"
        path.write_text(f"#!/bin/sh\necho '{text}'\n")
        path.chmod(0o755)
        return (str(path),)

    return prefix
