"""Options and arguments that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JSON_HELP = (
    "One JSON object on standard output, nothing else. An error without a report is "
    '{"error": {"kind": …, "message": …, "exit_code": …}}.'
)
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Downtime = Annotated[
    str | None, typer.Option(metavar="TIME", help="Greatest downtime allowed, such as 100ms; default: 300ms.")
]
Deadline = Annotated[str | None, typer.Option(metavar="TIME", help="When it should be over, such as 2m.")]
Bandwidth = Annotated[
    str | None, typer.Option(metavar="RATE", help="Send at most this much, such as 50MiB/s or 1Gbit/s.")
]
Throttle = Annotated[
    str | None,
    typer.Option(metavar="PART", help="The policy may take at most this part of the guest's CPU time, such as 90%."),
]
MayAbort = Annotated[bool, typer.Option("--may-abort", help="The policy may give up.")]
MayPause = Annotated[
    bool, typer.Option("--may-pause", help="The policy may stop the guest for as long as the rest takes to go over.")
]
MayPostcopy = Annotated[
    bool,
    typer.Option(
        "--may-postcopy", help="The policy may go over to post-copy, from which on the guest needs both hosts."
    ),
]
AbortOnFault = Annotated[
    bool,
    typer.Option(
        "--abort-on-fault", help="A policy that fails ends the migration; default: its last good settings stay."
    ),
]
HOW_POLICIES_ARE_NAMED = "NAME, NAME:key=value,…, FILE.py:NAME, or first(…), then(…), when(…)"
PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="POLICY",
        help=f"{HOW_POLICIES_ARE_NAMED}; default: least_downtime or, with objectives, what the plan chooses.",
    ),
]
LinkRate = Annotated[
    str | None, typer.Option("--link", metavar="RATE", help="What the link between the hosts carries, such as 1Gbit/s.")
]
Probe = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Measure the link: whimbrel sink listens there, on the destination's host."),
]
NoProbe = Annotated[bool, typer.Option("--no-probe", help="Send nothing to measure the link.")]
Measure = Annotated[
    str | None, typer.Option(metavar="TIME", help="How long the guest is measured for a plan; default: 4s.")
]
BestEffort = Annotated[
    bool, typer.Option("--best-effort", help="Where nothing can meet the objectives, take what comes nearest.")
]
Shadows = Annotated[
    list[str] | None,
    typer.Option("--shadow", metavar="POLICY", help="A policy that only watches; see whimbrel shadow; repeat."),
]
NewLog = Annotated[Path | None, typer.Option("--log", metavar="PATH", help="Where the log goes: a new file.")]
OldLog = Annotated[Path, typer.Argument(metavar="LOG", help="The log of a migration.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Of the guest's choices and contents.")]
Beats = Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Heartbeats per second.")]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="CLASS", help="Pages of the guest, such as hot:size=64MiB,rate=20MiB/s; repeat."),
]
MemoryLoss = Annotated[
    bool, typer.Option("--accept-memory-loss", help="Go on where this QEMU is known to lose guest writes.")
]
NoGuardian = Annotated[
    bool,
    typer.Option("--no-guardian", help="Start no helper that settles the migration should this process be killed."),
]
LockFile = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="The guest's lock, on storage that both hosts see: a file that names who runs it, and goes over with it.",
    ),
]
SourceQmp = Annotated[
    str, typer.Argument(metavar="SOURCE_QMP", help="QMP monitor of the running guest: a socket's path or HOST:PORT.")
]
DestinationQmp = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="QMP",
        help="QMP of a destination that you started with -incoming defer; default: one is started on this host.",
    ),
]
DestinationQemu = Annotated[
    str | None, typer.Option(metavar="BINARY", help="QEMU of the destination; default: the source's.")
]
Replacements = Annotated[
    list[str] | None,
    typer.Option(
        "--replace", metavar="KEY=VALUE", help="Instead of an argument that can't be taken over, as KEY=VALUE; repeat."
    ),
]
DisksShared = Annotated[bool, typer.Option("--disks-shared", help="You vouch that both ends see the same disks.")]
