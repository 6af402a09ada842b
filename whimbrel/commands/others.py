"""Commands that tell what there is: policies, the workload guest, this host, the version."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from whimbrel import render
from whimbrel.engine._version import __version__
from whimbrel.live import console as new_console
from whimbrel.live import ending, print_json, run, run_guest_shown
from whimbrel.units import parse_duration, parse_size

from .codes import FAILED, OK
from .words import Beats, Classes, Json, Seed


def policies(as_json: Json = False) -> None:
    """List the policies that can be named, with their parameters.

    \b
    Examples:
      whimbrel policies
      whimbrel demo --policy fixed:downtime_limit=50ms
    """
    from whimbrel.policies import available, describe, parameters_of

    known = {name: (describe(made), parameters_of(made)) for name, made in available().items()}
    with ending(OK):
        if as_json:
            print_json({name: {"about": about, "parameters": given} for name, (about, given) in known.items()})
        else:
            new_console().print(render.policies(known))


def guest(
    classes: Classes = None,
    ram: Annotated[str | None, typer.Option(metavar="SIZE", help="RAM; default: what the classes need.")] = None,
    beats: Beats = 200,
    seed: Seed = 1,
    seconds: Annotated[str, typer.Option(metavar="TIME", help="How long it runs.")] = "5s",
    qemu: Annotated[str, typer.Option(metavar="BINARY", help="QEMU.")] = "qemu-system-x86_64",
    as_json: Json = False,
) -> None:
    """Run the workload guest alone, and verify its memory at the end; ctrl-C ends it early, with a summary.

    \b
    Examples:
      whimbrel guest --seconds 2s
      whimbrel guest --class hot:size=64MiB,rate=40MiB/s,pattern=zipf
    """
    from whimbrel.demo import DEFAULT_CLASSES
    from whimbrel.guest.spec import WorkloadSpec

    spec = WorkloadSpec.parse(classes or DEFAULT_CLASSES, beat_hz=beats, seed=seed)
    span_s = parse_duration(seconds, field="seconds")
    ram_bytes = None if ram is None else parse_size(ram, field="ram")
    console = new_console(stderr=as_json)

    summary = run(run_guest_shown(spec, console, binary=qemu, ram_bytes=ram_bytes, span_s=span_s))
    with ending(OK if summary.verification.passed else FAILED):
        if as_json:
            print_json(asdict(summary))
        else:
            console.print(render.guest_summary(summary))


def doctor(as_json: Json = False) -> None:
    """Say what this host can do: QEMUs, KVM, userfaultfd, folders, versions.

    \b
    Example:
      whimbrel doctor
    """
    from whimbrel.doctor import examine

    found = run(examine())
    with ending(OK):
        if as_json:
            print_json(found)
        else:
            new_console().print(render.pairs(found))


def version() -> None:
    """Print the version, as --version does.

    \b
    Example:
      whimbrel version
    """
    with ending(OK):
        new_console().print(__version__)
