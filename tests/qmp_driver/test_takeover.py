"""What is believed of sides that nobody looked after for a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scripted_sides import scripted
from whimbrel.engine.errors import BadInput
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Fact
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.processes import QemuProcess
from whimbrel.qmp_driver.side import Side
from whimbrel.qmp_driver.takeover import believe_fences, the_dead


def side_of(name: SideName, process: QemuProcess | None) -> Side:
    """A side of which only the process is known."""
    side = Side(name, lambda event: None, lambda kind, fields: None, lambda: None)
    side.process = process
    return side


@pytest.fixture
async def living(tmp_path: Path) -> QemuProcess:
    """A process in the place of a QEMU; the test ends it."""
    return await QemuProcess.spawn(["sleep", "100"], stderr_path=tmp_path / "stderr")


async def test_a_word_is_taken_for_what_cannot_be_seen(living: QemuProcess) -> None:
    """Not for a process that lives here, nor for a monitor that answers; nobody else is fenced along."""
    source, destination = side_of(SideName.SOURCE, None), side_of(SideName.DESTINATION, living)
    await believe_fences((source, destination), frozenset({SideName.SOURCE}))
    assert source.fenced
    assert not destination.fenced
    with pytest.raises(BadInput, match=f"its process {living.pid} lives"):
        await believe_fences((source, destination), frozenset({SideName.DESTINATION}))
    assert not destination.fenced
    await living.kill()
    await believe_fences((source, destination), frozenset({SideName.DESTINATION}))
    assert destination.fenced
    async with scripted() as answers:
        with pytest.raises(BadInput, match="this one answers"):
            await believe_fences((answers.side,), frozenset({SideName.SOURCE}))


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (frozenset[Fact](), True),
        (frozenset({Fact.MIGRATE_SENT}), True),
        (frozenset({Fact.CONTINUED}), False),
        (frozenset({Fact.CONTINUED, Fact.SOURCE_COMPLETED}), True),
        (frozenset({Fact.CONTINUED, Fact.SETBACK}), True),
        (frozenset({Fact.CONTINUED, Fact.POSTCOPY}), True),
    ],
)
async def test_the_end_of_the_source_is_told_where_its_words_do_not_matter(
    living: QemuProcess, known: frozenset[Fact], told: bool
) -> None:
    """In limbo it may have failed and run on: then its end proves nothing."""
    source, destination = side_of(SideName.SOURCE, living), side_of(SideName.DESTINATION, None)
    assert the_dead(source, destination, known) == []
    await living.kill()
    assert [each.signal for each in the_dead(source, destination, known)] == [Signal.SOURCE_ENDED] * told


async def test_the_end_of_the_destination_is_told(living: QemuProcess) -> None:
    """What it said last never matters."""
    await living.kill()
    source, destination = side_of(SideName.SOURCE, None), side_of(SideName.DESTINATION, living)
    news = the_dead(source, destination, frozenset({Fact.CONTINUED}))
    assert [each.signal for each in news] == [Signal.DESTINATION_ENDED]
