"""Progress, and output that goes away."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from whimbrel.engine.report import OngoingReport
from whimbrel.live import Interrupted, SteadyOutput, console, ending, interruptible, print_json, run, show

GLANCE = OngoingReport(phase="precopy", stage=2, stage_name="transfer", owner="source", elapsed_s=0.0)
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Generator[None]:
    """These are about the process's own signals, which the tests after this one need as they were."""
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)


async def each(*glances: OngoingReport) -> AsyncIterator[OngoingReport]:
    """One after the other."""
    for glance in glances:
        yield glance


async def test_without_a_terminal_there_is_a_line_a_second_and_one_per_stage() -> None:
    """Ten glances a second for three seconds, a change of stage within a second, and an end that the report tells."""
    steady = [replace(GLANCE, elapsed_s=tenth / 10) for tenth in range(30)]
    stop = replace(GLANCE, phase="switchover", stage=3, stage_name="stop the source", elapsed_s=2.92)
    end = replace(GLANCE, phase="completed", stage=None, elapsed_s=3.0)
    out = io.StringIO()
    await show(each(*steady, stop, stop, end), Console(file=out, width=40))
    assert out.getvalue().splitlines() == [
        "2/5 transfer, 0.0 s",
        "2/5 transfer, 1.0 s",
        "2/5 transfer, 2.0 s",
        "3/5 stop the source, 2.9 s",
    ]


async def test_phases_of_one_stage_are_one_line() -> None:
    first = replace(GLANCE, phase="preflight", stage=1, stage_name="prepare the destination")
    out = io.StringIO()
    await show(each(first, replace(first, phase="preparing")), Console(file=out))
    assert out.getvalue() == "1/5 prepare the destination, 0.0 s\n"


async def test_on_a_terminal_it_is_shown_in_place_and_removed() -> None:
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=80, _environ={"TERM": "xterm"})
    await show(each(GLANCE, replace(GLANCE, phase="failed", stage=None)), terminal)
    assert "2/5 transfer" in out.getvalue()
    assert "failed" not in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K"), "the line is erased at the end"


@pytest.mark.parametrize("terminal", [False, True])
async def test_what_there_is_to_say_of_a_verdict_is_said_once_and_stays(terminal: bool) -> None:
    drawn, back = "no pre-copy can do", "it is taken back"
    told = [replace(GLANCE, elapsed_s=tenth / 10, news=drawn if tenth < 15 else back) for tenth in range(5, 25)]
    ended = replace(GLANCE, phase="failed", stage=None, news=back)
    out = io.StringIO()
    shown = Console(file=out, force_terminal=terminal, width=80, _environ={"TERM": "xterm"})
    await show(each(GLANCE, *told, ended), shown)
    assert out.getvalue().count(drawn) == out.getvalue().count(back) == 1
    assert out.getvalue().index(drawn) < out.getvalue().index(back)


def test_a_console_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[red]x[/red] :smile: 'quoted' 3")
    console(stderr=True).print("[bold]y")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("[red]x[/red] :smile: 'quoted' 3\n", "[bold]y\n")


def test_output_to_a_closed_pipe_is_swallowed() -> None:
    """Nothing is raised, then or when the interpreter flushes what it holds."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        output = SteadyOutput(stream)
        output.write("lost\n")
        output.flush()
        assert output.lost is not None
        assert output.lost.errno == errno.EPIPE
        assert output.write("more") == 4
        output.flush()


def test_output_to_a_full_disk_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w") as stream:
        output = SteadyOutput(stream)
        for _ in range(3):
            output.write("lost\n")
            output.flush()
    assert capsys.readouterr().err == "whimbrel: the output can't be written: No space left on device\n"


def test_characters_that_a_stream_has_not_are_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    output = SteadyOutput(stream)
    output.write("2 × \udcff")
    output.flush()
    assert raw.getvalue() == b"2 \\xd7 \\udcff"
    assert (output.encoding, output.isatty()) == ("ascii", False)


def test_json_is_one_object_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": Path("/x"), "bird": "🐦"})
    assert capsys.readouterr().out == '{\n  "path": "/x",\n  "bird": "🐦"\n}\n'


@pytest.mark.parametrize("number", NUMBERS, ids=str)
async def test_signals_call_off_and_kill_nobody(number: signal.Signals) -> None:
    """The count goes to who calls off, one sentence to the user; after the block they do nothing."""
    out, counts, second = io.StringIO(), list[int](), asyncio.Event()

    def call_off(count: int) -> None:
        counts.append(count)
        if count == 2:
            second.set()
        else:
            os.kill(os.getpid(), number)

    with interruptible(call_off, Console(file=out)):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(second.wait(), 5)
    os.kill(os.getpid(), number)
    assert counts == [1, 2]
    assert out.getvalue() == "calling it off; where that is too late, it ends first\n"


async def test_a_closed_terminal_is_no_matter_under_nohup() -> None:
    """It is ignored before, so it stays ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    counts: list[int] = []
    with interruptible(counts.append, Console(file=io.StringIO())):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
    assert counts == []


def test_a_signal_while_the_end_is_printed_changes_no_outcome() -> None:
    printed: list[str] = []

    def print_it() -> None:
        with ending(7):
            printed.append("before")
            os.kill(os.getpid(), signal.SIGTERM)
            printed.append("after")

    with pytest.raises(SystemExit) as ended:
        print_it()
    assert (ended.value.code, printed) == (7, ["before"])


def test_work_that_is_cut_short_is_interrupted() -> None:
    async def cut() -> None:
        raise asyncio.CancelledError

    async def whole() -> str:
        return type(asyncio.get_running_loop()).__module__

    with pytest.raises(Interrupted):
        run(cut())
    assert run(whole()).startswith("uvloop"), sys.modules.keys()
