"""What the options of ``whimbrel compare`` and ``sweep`` mean: a matrix."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import BUILT_IN
from whimbrel.policies import resolve
from whimbrel.scenario_file import check, read
from whimbrel.scenario_keys import LINK
from whimbrel.sim.scenario import LinkPlan
from whimbrel.units import parse_rate

from .catalogue import SETS, cases, named
from .matrix import Matrix, parse_seeds
from .records import Backend, Case

__all__ = ["DEFAULT_SEEDS", "Chosen", "cases_of", "describe", "matrix_of"]

DEFAULT_SEEDS = "20"
DEFAULT_SET, DEFAULT_REAL_SET = "basic", "real"

_NUMBER = re.compile(r"\d+")
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Options as they were typed."""

    policies: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    """Patterns, as a shell has them, for names of cases."""
    sets: tuple[str, ...] = ()
    scenarios: tuple[Path, ...] = ()
    links: tuple[str, ...] = ()
    seeds: str = DEFAULT_SEEDS
    real: bool = False


def matrix_of(chosen: Chosen) -> Matrix:
    """The matrix that is asked for: all policies that come with Whimbrel if none is named, and the set ``basic``.

    Raises:
        BadInput: something that there is not, that can't be read, or that can't be run there; names the option.
    """
    policies = chosen.policies or tuple(BUILT_IN)
    for each in policies:
        resolve(each)
    backend = Backend.REAL if chosen.real else Backend.SIMULATED
    return Matrix(cases=cases_of(chosen), policies=policies, seeds=parse_seeds(chosen.seeds), backend=backend)


def cases_of(chosen: Chosen) -> tuple[Case, ...]:
    """The cases that are asked for.

    Raises:
        BadInput: as `matrix_of`.
    """
    if chosen.real and chosen.links:
        raise BadInput("link", ", ".join(chosen.links), "none with --real: each case has its own")
    found = [*_named(chosen), *(_of_file(path) for path in chosen.scenarios)]
    unreal = [case.name for case in found if not case.real]
    if chosen.real and unreal:
        raise BadInput("case", ", ".join(unreal), "with --real only what the workload guest can be: --set real")
    if chosen.links:
        found = [_over(case, text) for case, text in itertools.product(found, chosen.links)]
    return tuple(found)


def _named(chosen: Chosen) -> Iterator[Case]:
    """Those of the sets, of which patterns choose some; patterns alone choose from all cases there are."""
    sets = chosen.sets
    for name in sets:
        if name not in SETS:
            raise BadInput("set", name, f"one of {', '.join(SETS)}")
    if not sets and not chosen.cases:
        if chosen.scenarios:
            return
        sets = (DEFAULT_REAL_SET if chosen.real else DEFAULT_SET,)
    known = dict.fromkeys(itertools.chain.from_iterable(map(named, sets))) if sets else dict.fromkeys(cases())
    for pattern in chosen.cases:
        if not any(fnmatchcase(case.name, pattern) for case in known):
            if sets or any(letter in pattern for letter in "*?["):
                where = f"in the set {', '.join(sets)}" if sets else "that there is"
                raise BadInput("case", pattern, f"the name of a case {where}, or a pattern such as '*@1g'")
            named(pattern)  # which says what is near
    for case in known:
        if not chosen.cases or any(fnmatchcase(case.name, pattern) for pattern in chosen.cases):
            yield case


def _of_file(path: Path) -> Case:
    """A scenario file as a case, by the file's name; its policy and its seed do not count."""
    scenario = read(path).scenario
    workload, link = _plain(path.stem), "file"
    if scenario.migrations != 1:
        raise BadInput("scenario", str(path), "a scenario of one migration")
    about = f"from the file {path.name}"
    return Case(name=f"{workload}@{link}", family="file", workload=workload, link=link, scenario=scenario, about=about)


def _over(case: Case, text: str) -> Case:
    """The same case over another link."""
    link = _link(case.scenario.link, text)
    name = f"{case.link}_{_plain(text.removesuffix('/s'))}"
    scenario = replace(case.scenario, link=link)
    check(scenario, f"link {text}")
    return replace(case, name=f"{case.workload}@{name}", link=name, scenario=scenario, real=False)


def _link(link: LinkPlan, text: str) -> LinkPlan:
    if "=" not in text:
        return replace(link, bandwidth_bytes_per_s=parse_rate(text, field="link"))
    changes: dict[str, object] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in LINK:
            raise BadInput("link", text, f"a rate, or KEY=VALUE,… with the keys {', '.join(LINK)}")
        try:
            changes[LINK[name].field] = LINK[name].kind.read(int(value) if _NUMBER.fullmatch(value) else value)
        except BadInput as error:
            raise BadInput("link", text, f"for {name} {error.allowed}") from None
    return replace(link, **changes)  # type: ignore[arg-type]  # each was read as what its field is


def _plain(text: str) -> str:
    """Made of the letters that a case's name may have."""
    return _NO_NAME.sub("-", text).strip("-") or "unnamed"


def describe(matrix: Matrix) -> str:
    """A line on what is to be run."""

    def several(edge: Sequence[object], one: str, many: str) -> str:
        return f"{len(edge)} {one if len(edge) == 1 else many}"

    edges = (
        several(matrix.policies, "policy", "policies"),
        several(matrix.cases, "case", "cases"),
        several(matrix.seeds, "seed", "seeds"),
    )
    where = "on real QEMUs" if matrix.backend is Backend.REAL else "simulated"
    return f"{' × '.join(edges)} = {several(range(len(matrix)), 'run', 'runs')}, {where}"
