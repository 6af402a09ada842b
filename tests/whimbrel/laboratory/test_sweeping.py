"""The same matrix on a Dask cluster: bit for bit the same table, whatever happens to a worker."""

from __future__ import annotations

import importlib
import logging
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.whimbrel.laboratory.matrices import small_matrix
from tests.whimbrel.laboratory.test_crews import serial, table
from whimbrel.engine.errors import BadInput
from whimbrel.laboratory.store import in_order
from whimbrel.laboratory.sweeping import Cluster
from whimbrel.laboratory.table import parquet_of

distributed: Any = importlib.import_module("distributed")
"""Untyped."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    """Somebody's own cluster: a scheduler and two workers, processes on this host."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        local_directory=str(tmp_path_factory.mktemp("dask")),
        silence_logs=logging.CRITICAL,
    ) as made:
        yield made


def test_workers_give_the_same_bytes_as_one_run_after_the_other(cluster: Any) -> None:
    assert table(Cluster(scheduler=cluster.scheduler_address).run(small_matrix(4).blocks())) == serial()


def test_a_worker_that_is_killed_loses_nothing(cluster: Any) -> None:
    """Killed in the middle: what it had, and what it was about to have, is run by the other one."""
    clients: list[Any] = []
    done = Cluster(scheduler=cluster.scheduler_address, watch=clients.append).run(small_matrix(4).blocks())
    rows = list(next(done).rows)
    pids = list(clients[0].run(os.getpid).values())
    os.kill(pids[0], signal.SIGKILL)
    rows += [row for each in done for row in each.rows]
    assert len(pids) == 2
    assert parquet_of(in_order(rows)) == serial()


def test_a_cluster_of_this_host_comes_and_goes_with_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens on the loopback only, says nothing, and leaves neither a process nor a folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    clients: list[Any] = []
    said: list[str] = []
    done = Cluster(workers=1, watch=clients.append, say=said.append).run(small_matrix(4).blocks())
    first = next(done)
    pids = list(clients[0].run(os.getpid).values())
    handles = [os.pidfd_open(pid) for pid in pids]
    assert clients[0].scheduler.address.startswith("tcp://127.0.0.1:")
    assert table(each for each in (first, *done)) == serial()
    assert said == []
    for handle in handles:
        os.close(handle)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not list(tmp_path.glob("whimbrel-*"))


def test_a_scheduler_without_workers_is_waited_for_and_that_is_said() -> None:
    said: list[str] = []
    with distributed.LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tcp://",
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as empty:

        def say(text: str) -> None:
            said.append(text)
            if "no workers" in text:
                empty.scale(1)

        done = list(Cluster(scheduler=empty.scheduler_address, say=say).run(small_matrix(1).blocks()))
    assert len(done) == 2
    assert said == [
        f"connecting to {empty.scheduler_address}",
        f"the scheduler at {empty.scheduler_address} has no workers yet: they are waited for",
    ]


@pytest.mark.parametrize("address", ["", "somewhere", "http://127.0.0.1:8786", "tcp://127.0.0.1", "127.0.0.1:x"])
def test_what_is_no_address_of_a_scheduler_is_refused_at_once(address: str) -> None:
    with pytest.raises(BadInput, match=r"^scheduler: .* such as tcp://host:8786"):
        Cluster(scheduler=address)


def test_where_no_scheduler_answers_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whimbrel.laboratory.sweeping.CONNECT_WITHIN", "100ms")
    with pytest.raises(BadInput, match=r"^scheduler: 'tcp://127\.0\.0\.1:1'"):
        list(Cluster(scheduler="tcp://127.0.0.1:1").run(small_matrix(1).blocks()))
