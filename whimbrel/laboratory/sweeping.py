"""Who runs blocks, on many machines: the workers of a Dask cluster, a local one or somebody's own.

A worker needs this Whimbrel, and the files of policies under the same names; both are checked with each row that comes
back. Rows are written here, so that no worker needs to see our disk. A worker that is killed loses nothing: Dask hands
its blocks to others, and gives up on a block that has taken several with it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from whimbrel.engine.errors import BadInput

from .crews import hand_out
from .matrix import Block
from .running import Done

__all__ = ["Cluster"]

AHEAD = 1000
"""Blocks that the scheduler knows of: enough for workers that come later, few enough to be forgotten in no time."""
CONNECT_WITHIN = "10s"
SILENT = logging.CRITICAL + 1
"""What goes wrong on a cluster of our own ends in an exception here, or is mended."""
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""ctrl-C goes to all processes of a terminal; workers end when they are told to."""

_ADDRESS = re.compile(r"(?:(?:tcp|tls|ws|wss|ucx)://)?[^\s/]+:\d{1,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Runs blocks on a Dask cluster (`whimbrel.laboratory.crews`).

    Attributes:
        workers: of a local cluster, processes with one thread each, on this host only; ends with the last block.
        scheduler: instead: the address of a running one, such as ``tcp://10.0.0.1:8786``.
        say: takes a sentence on what is waited for.
        watch: takes the client once it is connected.
    """

    workers: int = 1
    scheduler: str | None = None
    say: Callable[[str], None] = lambda _: None
    watch: Callable[[Any], None] = lambda _: None

    def __post_init__(self) -> None:
        """See that the address is one.

        Raises:
            BadInput: it is none.
        """
        if self.scheduler is not None and _ADDRESS.fullmatch(self.scheduler) is None:
            raise BadInput("scheduler", self.scheduler, "the address of a Dask scheduler, such as tcp://host:8786")

    def run(self, blocks: Iterable[Block]) -> Iterator[Done]:
        """See `Crew`.

        Raises:
            BadInput: no scheduler answers there.
        """
        with self._client() as client:
            self.watch(client)
            if not client.nthreads():
                self.say(f"the scheduler at {client.scheduler.address} has no workers yet: they are waited for")
            executor: Executor = client.get_executor(pure=False)
            try:
                yield from hand_out(blocks, lambda: executor, ahead=AHEAD, lost=(_distributed().KilledWorker,))
            finally:
                executor.shutdown(wait=False)  # what is left, if it was stopped, is wanted by nobody any more

    @contextlib.contextmanager
    def _client(self) -> Generator[Any]:
        distributed = _distributed()
        with contextlib.ExitStack() as stack:
            address: Any = self.scheduler
            if self.scheduler is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="whimbrel-sweep-"))
                address = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=self.workers,
                        threads_per_worker=1,
                        processes=True,
                        host="127.0.0.1",
                        dashboard_address="127.0.0.1:0",  # any port: another cluster may run
                        memory_limit=0,
                        local_directory=folder,
                        silence_logs=SILENT,
                        preload=[_DEAF],
                    )
                )
            else:
                self.say(f"connecting to {self.scheduler}")
            try:
                client = distributed.Client(address, timeout=CONNECT_WITHIN, set_as_default=False)
            except OSError as error:
                raise BadInput(
                    "scheduler", self.scheduler, f"that of a Dask scheduler that answers ({error})"
                ) from None
            yield stack.enter_context(client)


def _distributed() -> ModuleType:
    """The library; loaded only where a cluster is asked for, and untyped.

    Raises:
        BadInput: it is not installed.
    """
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise BadInput("sweep", "", "an installation with Dask: pip install 'whimbrel[sweep]'") from None
