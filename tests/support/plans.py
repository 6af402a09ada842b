"""Plans for single arguments."""

from __future__ import annotations

import shlex

from whimbrel.qmp_driver.arguments import Action, ArgumentPlan, PlanContext, Verdict, plan_arguments

DIRECTORY = "/run/w"
CONTEXT = PlanContext(directory=DIRECTORY, source_cwd="/home/vm")
SHARED = PlanContext(directory=DIRECTORY, source_cwd="/home/vm", disks_shared=True)


def plan(line: str, context: PlanContext = CONTEXT) -> ArgumentPlan:
    """The plan for a command line without its program."""
    return plan_arguments(("qemu", *shlex.split(line)), context=context)


def verdict(line: str, context: PlanContext = CONTEXT) -> Verdict:
    """What becomes of the first argument of a line."""
    return plan(line, context).verdicts[0]


def becomes(line: str, context: PlanContext = CONTEXT) -> str:
    """What stands for the first argument in the destination's vector; it is not refused."""
    found = verdict(line, context)
    assert found.action is not Action.REFUSED, found.because
    return " ".join(found.words)


def refusal(line: str, context: PlanContext = CONTEXT) -> str:
    """Why the first argument is refused; there is a way out, too."""
    found = verdict(line, context)
    assert found.action is Action.REFUSED, found
    assert found.words == ()
    assert found.instead
    return found.because
