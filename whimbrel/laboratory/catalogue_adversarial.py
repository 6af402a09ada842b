"""What search found, kept: for each policy a scenario or two that it does badly on, and why we think it does.

They stand in ``adversarial.toml`` beside this file. A test sees that each still shows its failure: whoever makes a
policy better searches anew (``python -m whimbrel.laboratory.search``) and replaces what no longer holds.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from whimbrel.scenario_file import loads
from whimbrel.scenario_writing import Plan, dumps
from whimbrel.sim.scenario import Scenario

from .records import Case

FILE: Final = "adversarial.toml"
FAMILY: Final = "adversarial"
HELD: Final = 0.6
"""A kept case must still show so much of the regret that it was found with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A scenario that a policy does badly on.

    Attributes:
        policy: which, as on the command line.
        number: tells several of one policy apart.
        regret: rounds that it cost more than the best reference (`whimbrel.laboratory.search.judge`).
        against: that reference.
        seeds: on each of which it did.
        does: what both came to, in a sentence.
        why: why we think that it does so badly.
        scenario: what is simulated.
    """

    policy: str
    number: int
    regret: float
    against: str
    seeds: tuple[int, ...]
    does: str
    why: str
    scenario: Scenario

    @property
    def case(self) -> Case:
        """It as a case of the catalogue."""
        workload = f"vs-{self.policy.partition(':')[0]}-{self.number}"
        about = f"Found by search against {self.policy}. {self.does[:1].upper()}{self.does[1:]}. {self.why}".rstrip()
        return Case(
            name=f"{workload}@found",
            family=FAMILY,
            workload=workload,
            link="found",
            scenario=self.scenario,
            about=about,
        )


@cache
def kept() -> tuple[Finding, ...]:
    """What is kept, policy by policy.

    Raises:
        BadScenario: a scenario in the file cannot be read.
        KeyError: a finding lacks something.
    """
    table = tomllib.loads((files(__package__ or __name__) / FILE).read_text(encoding="utf-8"))
    return tuple(_finding(each) for each in table.get("finding", []))


def _finding(table: dict[str, Any]) -> Finding:
    return Finding(
        policy=table["policy"],
        number=table["number"],
        regret=float(table["regret"]),
        against=table["against"],
        seeds=tuple(table["seeds"]),
        does=table["does"],
        why=table["why"],
        scenario=loads(table["scenario"], name=f"{table['policy']}-{table['number']}").scenario,
    )


def as_text(finding: Finding) -> str:
    """A finding as a table of the file, read back equal."""
    words = ("policy", "number", "regret", "against", "does", "why")
    lines = [f"{word} = {json.dumps(getattr(finding, word), ensure_ascii=False)}" for word in words]
    lines.insert(4, f"seeds = {list(finding.seeds)}")
    plan = Plan(scenario=finding.scenario, seed=finding.seeds[0])
    return "\n".join(["[[finding]]", *lines, f"scenario = '''\n{dumps(plan)}'''", "", ""])
