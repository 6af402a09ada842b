"""``whimbrel sink``: the other end of a probe of the link."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from whimbrel.engine.errors import BadInput
from whimbrel.live import console as new_console
from whimbrel.live import ending, interruptible, print_json, run
from whimbrel.qmp_driver.link_probe import Swallowed
from whimbrel.qmp_driver.link_probe import sink as open_sink
from whimbrel.units import format_duration, format_rate, format_size

from .codes import OK
from .words import Json

GREATEST_PORT = 65535


def sink(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen at this address of this host.")],
    port: Annotated[int, typer.Option(metavar="N", help="And at this port; 0: any, it is said which.")] = 0,
    as_json: Json = False,
) -> None:
    """Swallow what a probe sends, at the destination, until ctrl-C.

    Nothing of it is kept. Whoever can reach the address can send; stop it when the plan is made.

    \b
    Examples:
      whimbrel sink --host 10.0.0.7 --port 4445
      whimbrel plan /run/vm.qmp --probe 10.0.0.7:4445
    """
    if not host:
        raise BadInput("host", host, "an address of this host")
    if not 0 <= port <= GREATEST_PORT:
        raise BadInput("port", port, f"0 (any) to {GREATEST_PORT}")
    console = new_console(stderr=as_json)
    senders = run(_swallow(host, port, console))
    with ending(OK):
        if as_json:
            print_json({"senders": senders})


async def _swallow(host: str, port: int, console: Console) -> list[Swallowed]:
    senders: list[Swallowed] = []

    def tell(one: Swallowed) -> None:
        senders.append(one)
        console.print(_line(one), soft_wrap=True)

    stop = asyncio.Event()
    # Nothing is called off here, so nothing is said of that: to be ended is how a sink ends.
    with interruptible(lambda _: stop.set(), Console(quiet=True)):
        async with open_sink(host, port, tell) as (at, chosen):
            console.print(f"listening at {at}:{chosen}; ctrl-C ends it", soft_wrap=True)
            await stop.wait()
    return senders


def _line(one: Swallowed) -> str:
    size = format_size(one.taken_bytes)
    if not one.took_s:
        return f"{one.sender}: {size}"
    return f"{one.sender}: {size} in {format_duration(one.took_s)}, {format_rate(one.taken_bytes / one.took_s)}"
