"""What search found still shows what it was found for: a regression set."""

import tomllib

import pytest

from whimbrel.engine.policies import BUILT_IN
from whimbrel.laboratory.catalogue import case, named
from whimbrel.laboratory.catalogue_adversarial import HELD, Finding, as_text, kept
from whimbrel.laboratory.search import judge
from whimbrel.scenario_file import loads

every_finding = pytest.mark.parametrize("finding", kept(), ids=lambda each: f"{each.policy}-{each.number}")


@every_finding
def test_a_policy_still_does_badly_on_what_was_found_against_it(finding: Finding) -> None:
    judged = judge(finding.scenario, finding.policy, (finding.against,), seeds=finding.seeds[:1])

    assert judged.regret >= HELD * finding.regret, (
        f"{finding.policy} has got better here: search anew (python -m whimbrel.laboratory.search {finding.policy})"
    )


@every_finding
def test_a_finding_says_what_it_is(finding: Finding) -> None:
    assert finding.regret > 0
    assert finding.against != finding.policy
    assert finding.does
    assert finding.why.endswith(".")


def test_every_built_in_policy_has_been_searched_against() -> None:
    assert {finding.policy for finding in kept()} >= set(BUILT_IN)


def test_findings_are_cases_of_the_catalogue() -> None:
    assert named("adversarial") == tuple(finding.case for finding in kept())
    finding = kept()[0]
    found = case(f"vs-{finding.policy}-{finding.number}@found")
    assert found.scenario == finding.scenario
    assert finding.why in found.about


@every_finding
def test_a_finding_is_written_as_it_was_read(finding: Finding) -> None:
    [table] = tomllib.loads(as_text(finding))["finding"]

    assert loads(table.pop("scenario")).scenario == finding.scenario
    assert table == {
        "policy": finding.policy,
        "number": finding.number,
        "regret": finding.regret,
        "against": finding.against,
        "seeds": list(finding.seeds),
        "does": finding.does,
        "why": finding.why,
    }
