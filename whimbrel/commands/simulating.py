"""The command that simulates: one scenario, from a file or from options, once or many times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.given import new_file
from whimbrel.live import console as new_console
from whimbrel.live import ending, print_json
from whimbrel.policies import resolve
from whimbrel.scenario_file import Plan, check, read
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Scenario
from whimbrel.units import parse_duration, parse_rate, parse_size

from .codes import OK
from .simulation_text import simulation_text
from .words import Classes, Deadline, Json, NewLog

FROM_FILE, FROM_OPTIONS = "stepwise", "fast"
"""The models by default."""
DEFAULT_RAM = "524224KiB"
MOST_RUNS = 10_000

ScenarioFile = Annotated[
    Path | None, typer.Argument(metavar="SCENARIO", help="A scenario file (TOML); without: --curve or --class.")
]
CurveFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A measured guest: JSON with window_s, dirty_bytes (lists), total_bytes, zero_bytes."
    ),
]
SimulatedRam = Annotated[str | None, typer.Option(metavar="SIZE", help="RAM, with --class; default: 524224KiB.")]
LinkBandwidth = Annotated[
    str | None,
    typer.Option(metavar="RATE", help="Send at most this much; without a file it is what the link carries, too."),
]
Allowed = Annotated[str | None, typer.Option(metavar="TIME", help="Greatest downtime allowed, such as 300ms.")]
AnyPolicy = Annotated[
    str | None, typer.Option("--policy", metavar="POLICY", help="NAME, NAME:key=value,…, or FILE.py:NAME.")
]
AnySeed = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Where the dice begin; default: the file's, or 1.")
]
ModelName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="stepwise (default with a file), fast (default without), recurrence, constant-rate or two-segment.",
    ),
]
Runs = Annotated[int, typer.Option(metavar="N", min=1, max=MOST_RUNS, help="So many runs, each with the next seed.")]
Picture = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the first run: a .png or .svg.")]


def simulate(
    scenario: ScenarioFile = None,
    curve: CurveFile = None,
    classes: Classes = None,
    ram: SimulatedRam = None,
    bandwidth: LinkBandwidth = None,
    downtime: Allowed = None,
    deadline: Deadline = None,
    policy: AnyPolicy = None,
    seed: AnySeed = None,
    runs: Runs = 1,
    model: ModelName = None,
    plot: Picture = None,
    log: NewLog = None,
    as_json: Json = False,
) -> None:
    """Simulate a migration, from a scenario file or from options; options go before what the file says.

    Exits with 0 whether or not the migration converges: that is the answer, not a failure.

    \b
    Examples:
      whimbrel simulate docs/examples/outage.toml --plot outage.svg
      whimbrel simulate docs/examples/hot-and-cold.toml --policy fixed --runs 20
      whimbrel simulate --class hot:size=64MiB,rate=60MiB/s --bandwidth 1Gbit/s
      whimbrel simulate --curve curve.json --bandwidth 2Gbit/s --policy fixed
    """
    from whimbrel.plots import check_picture, save
    from whimbrel.simulating import simulate as run
    from whimbrel.simulation_records import as_dict

    chosen = model or (FROM_OPTIONS if scenario is None else FROM_FILE)
    plan = _plan(scenario, curve, classes, ram, bandwidth)
    plan = _with_options(plan, scenario, bandwidth, downtime, deadline, policy, seed)
    if plot is not None:
        check_picture(plot)
    if log is not None and chosen != FROM_FILE:
        raise BadInput("log", str(log), f"one with the model {FROM_FILE}: {chosen} sends no commands to write down")
    if log is not None and new_file(log) and log.exists() and log.stat().st_size:
        raise BadInput("log", str(log), "a new file, or an empty one: this one holds something already")
    simulation = run(plan.scenario, model=chosen, seed=plan.seed, runs=runs)
    if plot is not None:
        save(simulation, plot)
    if log is not None:
        _write(log, simulation.first.log)
    with ending(OK):
        if as_json:
            print_json(as_dict(simulation) | {"plot": str(plot or ""), "log": str(log or "")})
            return
        console = new_console()
        console.print(simulation_text(simulation, plan, console.width))
        for name, path in (("plot", plot), ("log", log)):
            if path is not None:
                console.print(f"{name}: {path}", soft_wrap=True)


def _plan(
    scenario: Path | None, curve: Path | None, classes: list[str] | None, ram: str | None, bandwidth: str | None
) -> Plan:
    """What is to be simulated, before the options that mean the same for all.

    Raises:
        BadInput: nothing is given, or more than one thing; or it can't be read.
    """
    given = {"SCENARIO": scenario, "curve": curve, "class": classes}
    named = [name for name, value in given.items() if value]
    if len(named) != 1:
        raise BadInput("SCENARIO", ", ".join(named), "one of: a scenario file, --curve FILE, --class CLASS")
    if ram is not None and not classes:
        raise BadInput("ram", ram, f"nothing together with {named[0]}, which says it")
    if scenario is not None:
        return read(scenario)
    if bandwidth is None:
        raise BadInput("bandwidth", "", "a rate such as 1Gbit/s: without a scenario file nothing else says it")
    link = LinkPlan(bandwidth_bytes_per_s=parse_rate(bandwidth, field="bandwidth"))
    return Plan(scenario=Scenario(guest=_guest(curve, classes or [], ram or DEFAULT_RAM), link=link))


def _guest(curve: Path | None, classes: list[str], ram: str) -> GuestPlan:
    from whimbrel.curve_file import measured_guest, read_curve
    from whimbrel.guest.spec import WorkloadSpec
    from whimbrel.guest_plan import guest_plan

    if curve is None:
        return guest_plan(WorkloadSpec.parse(classes), parse_size(ram, field="ram"))
    return measured_guest(read_curve(curve))


def _with_options(
    plan: Plan,
    file: Path | None,
    bandwidth: str | None,
    downtime: str | None,
    deadline: str | None,
    policy: str | None,
    seed: int | None,
) -> Plan:
    """The plan with what the options say; they go before the file.

    Raises:
        BadInput: one can't be read, or can't be simulated.
    """
    scenario = plan.scenario
    goal: Objectives = scenario.objectives
    if downtime is not None:
        goal = replace(goal, downtime_s=parse_duration(downtime, field="downtime"))
    if deadline is not None:
        goal = replace(goal, deadline_s=parse_duration(deadline, field="deadline"))
    if bandwidth is not None and file is not None:
        goal = replace(goal, bandwidth_bytes_per_s=round(parse_rate(bandwidth, field="bandwidth")))
    if policy is not None:
        resolve(policy)
        scenario = replace(scenario, policy=policy)
    scenario = replace(scenario, objectives=goal)
    check(scenario)
    return Plan(scenario=scenario, seed=plan.seed if seed is None else seed)


def _write(path: Path, log: bytes) -> None:
    try:
        path.write_bytes(log)
    except OSError as error:
        raise BadInput("log", str(path), f"a file that can be written ({error.strerror})") from None
