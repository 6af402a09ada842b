"""The workbench of a plan: places that nobody else has, and paths as they were meant."""

from __future__ import annotations

import pytest

from tests.support.plans import CONTEXT, DIRECTORY
from whimbrel.qmp_driver.argument_base import Bench, PlanContext, Refusal
from whimbrel.qmp_driver.arguments import split_arguments
from whimbrel.qmp_driver.sockets import UNIX_PATH_MAX_BYTES


def bench(*words: str, context: PlanContext = CONTEXT) -> Bench:
    return Bench(context, split_arguments(words))


def test_places_are_distinct_and_found_again() -> None:
    """The same label twice gives two places, and both are told."""
    made = bench()
    assert [made.place("log", "log"), made.place("log", "log")] == ["/run/w/log.log", "/run/w/log-2.log"]
    assert made.relocalised == {"log": "/run/w/log.log", "log-2": "/run/w/log-2.log"}


@pytest.mark.parametrize("label", ["x" * 120, "a/b", "ü" * 60, ".."])
def test_every_place_is_a_usable_socket_path_in_the_directory(label: str) -> None:
    """However long or odd the id is, the path stays in the directory and fits into a socket's address."""
    path = bench().place(label, "sock")
    assert path.startswith(f"{DIRECTORY}/")
    assert "/" not in path.removeprefix(f"{DIRECTORY}/")
    assert len(path.encode()) <= UNIX_PATH_MAX_BYTES


def test_relative_paths_are_meant_where_the_source_was_started() -> None:
    """They are joined to its working directory; absolute ones stay."""
    assert bench().absolute("a/b") == "/home/vm/a/b"
    assert bench().absolute("/a/b") == "/a/b"


@pytest.mark.parametrize(
    "made", [bench(context=PlanContext(directory=DIRECTORY)), bench("-daemonize")], ids=["unknown", "daemonised"]
)
def test_a_relative_path_without_its_directory_is_refused(made: Bench) -> None:
    """QEMU changes to / when it daemonises, so what its paths were relative to is lost."""
    with pytest.raises(Refusal, match="relative"):
        made.absolute("a/b")
    assert made.absolute("/a") == "/a"


def test_sets_of_descriptors_are_refused() -> None:
    """A path that is none."""
    with pytest.raises(Refusal, match="file descriptors"):
        bench().absolute("/dev/fdset/1")


def test_peeking_passes_over_what_cannot_be_read() -> None:
    """Broken JSON is for its own rule to refuse."""
    made = bench("-object", "{torn", "-object", "rng-builtin,id=r")
    assert [settings.get("id") for settings in made.peek("object", "qom-type")] == ["r"]
