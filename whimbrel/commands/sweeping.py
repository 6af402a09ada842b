"""The command that compares policies on a cluster."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from whimbrel.engine.errors import BadInput

from .comparing import (
    MOST_JOBS,
    CaseNames,
    Csv,
    Html,
    Links,
    NoBounds,
    Out,
    Output,
    Pictures,
    Policies,
    Scenarios,
    Seeds,
    Sets,
    carry_out,
    wide_console,
)
from .words import Json


def sweep(
    policy: Policies = None,
    case: CaseNames = None,
    set_: Sets = None,
    scenario: Scenarios = None,
    link: Links = None,
    seeds: Seeds = "20",
    out: Out = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of a running Dask scheduler, such as tcp://10.0.0.1:8786."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=MOST_JOBS, help="Of a local cluster; default: one for each core."),
    ] = None,
    no_bounds: NoBounds = False,
    csv: Csv = None,
    html: Html = None,
    figures: Pictures = None,
    as_json: Json = False,
) -> None:
    """Compare policies as whimbrel compare does, and with the same result, on the workers of a Dask cluster.

    Without --scheduler it is a cluster of this host that ends with the command. Workers need this version of Whimbrel,
    and the files of policies under the same names; rows are written here. A worker that is killed loses nothing.

    \b
    Examples:
      whimbrel sweep --set league --out league
      whimbrel sweep --scheduler tcp://10.0.0.1:8786 --set all --out all
    """
    from whimbrel.laboratory.choosing import Chosen, matrix_of
    from whimbrel.laboratory.sweeping import Cluster

    if scheduler is not None and workers is not None:
        raise BadInput("workers", workers, "nothing together with --scheduler: the cluster has its own")
    chosen = Chosen(
        policies=tuple(policy or ()),
        cases=tuple(case or ()),
        sets=tuple(set_ or ()),
        scenarios=tuple(scenario or ()),
        links=tuple(link or ()),
        seeds=seeds,
    )
    output = Output(out=out, csv=csv, html=html, figures=figures, bounds=not no_bounds, as_json=as_json)
    console = wide_console(stderr=True)
    crew = Cluster(
        workers=workers or os.cpu_count() or 1,
        scheduler=scheduler,
        say=lambda text: console.print(text, style="dim", soft_wrap=True),
    )
    carry_out(matrix_of(chosen), crew, output)
