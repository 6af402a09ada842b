"""A policy from what the user wrote: always a policy, or an error that names what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import BUILT_IN, Fixed, LeastDowntime
from whimbrel.engine.policy import Decision, Knobs, Objectives, Observation, Policy, Reason
from whimbrel.policies import PolicyFactory, available, describe, parameters_of, resolve

SETUP = Observation(reason=Reason.SETUP, elapsed_s=0.0, objectives=Objectives(), knobs=Knobs())

FILE = '''
from __future__ import annotations

import math
from dataclasses import dataclass

from whimbrel import Decision, Observation

NOT_CALLABLE = 3


def low(seen: Observation) -> Decision:
    """Low."""
    return Decision(downtime_limit_s=0.001)


def tuned(seen: Observation, *, limit_s: float = 0.5, eager: bool = False) -> Decision:
    """As told."""
    return Decision(downtime_limit_s=limit_s, switch_over=eager)


def maker(limit_s: float = 0.25):
    return lambda seen: Decision(downtime_limit_s=limit_s)


@dataclass
class Patient:
    after: float = 60
    limit_s: float = 0.1
    most_bytes: int = 0
    speed_bytes_per_s: int | None = None
    tries: int = 3
    eager: bool = False
    name: str = "x"
    anything: object = None
    _kept: int = 0

    def __call__(self, seen: Observation) -> Decision:
        return Decision(downtime_limit_s=self.limit_s)


class Plain:
    def __call__(self, seen):
        return Decision(downtime_limit_s=0.75)


@dataclass
class NoPolicy:
    after_s: float = 1


class Fragile:
    def __init__(self, *, after_s: float = 1):
        raise ZeroDivisionError("as ever")


class Demanding:
    def __init__(self, *, after_s: float):
        self.after_s = after_s

    def __call__(self, seen):
        return Decision()
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with policies, and what is none."""
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def limit(text: str) -> float | None:
    """The downtime limit that a policy decides on before the start."""
    return resolve(text)(SETUP).downtime_limit_s


def why_not(text: str) -> str:
    """What is said of a text that names no policy."""
    with pytest.raises(BadInput) as caught:
        resolve(text)
    return str(caught.value)


def test_a_part_of_something_may_be_written_as_percent() -> None:
    assert resolve("auto_converge:initial=70%") == resolve("auto_converge:initial=0.7")
    assert "at most the whole" in why_not("auto_converge:initial=150%")
    assert "a whole number" in why_not("nova_steps:steps=5%")


def test_the_registered_ones_are_found_by_name() -> None:
    assert isinstance(resolve("least_downtime"), LeastDowntime)
    assert isinstance(resolve("fixed"), Fixed)
    assert set(available()) >= {"fixed", "least_downtime"}


def test_all_of_our_own_are_there_in_their_order() -> None:
    assert list(available())[: len(BUILT_IN)] == list(BUILT_IN)


def test_another_package_can_add_one_but_not_replace_ours(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """An installed package is a folder with metadata on the path."""
    site = file.parent / "site"
    metadata = site / "others-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "others_policies.py").write_text(FILE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    points = "patient = others_policies:Patient\nfixed = others_policies:low"
    (metadata / "entry_points.txt").write_text(f"[whimbrel.policies]\n{points}\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    assert limit("patient:limit=30ms") == 0.03
    assert isinstance(resolve("fixed"), Fixed)
    assert list(available())[-1] == "patient"
    assert "predictive, patient, FILE.py:NAME" in why_not("nobody")


def test_each_one_is_fresh() -> None:
    """A policy with state serves one migration only."""
    assert resolve("least_downtime") is not resolve("least_downtime")


def test_parameters_may_stand_in_brackets() -> None:
    assert resolve("fixed(downtime_limit=50ms, bandwidth=100MiB/s)") == resolve(
        "fixed:downtime_limit=50ms,bandwidth=100MiB/s"
    )


def asked_at(policy: Policy, elapsed_s: float, iteration: int) -> float | None:
    return policy(Observation(reason=Reason.ITERATION, elapsed_s=elapsed_s, iteration=iteration)).downtime_limit_s


def test_compositions_are_made_of_policies_with_their_parameters() -> None:
    """The first of these decides at the start only, so that the second has its way from then on."""
    policy = resolve("first(fixed:downtime_limit=50ms,bandwidth=1MB/s, fixed:downtime_limit=70ms)")
    decision = policy(SETUP)
    assert (decision.downtime_limit_s, decision.bandwidth_bytes_per_s) == (0.05, 1_000_000)


@pytest.mark.parametrize("option", ["after=30s", "iterations=2", "until=elapsed>29s", "after=1h,iterations=2"])
def test_then_begins_with_one_and_goes_on_with_another(option: str) -> None:
    policy = resolve(f"then(fixed:downtime_limit=50ms, fixed:downtime_limit=70ms, {option})")
    assert policy(SETUP).downtime_limit_s == 0.05
    assert asked_at(policy, 1.0, 1) is None
    assert asked_at(policy, 30.0, 3) == 0.07


def test_when_chooses_by_a_condition() -> None:
    policy = resolve("when(iteration>3, fixed:downtime_limit=50ms, fixed:downtime_limit=70ms)")
    assert policy(SETUP).downtime_limit_s == 0.07
    assert [asked_at(policy, 1.0 * number, number) for number in (3, 4, 5, 1)] == [None, 0.05, None, 0.07]


def test_they_nest_and_take_files(file: Path) -> None:
    policy = resolve(f"first(then(cycle_aware, {file}:Patient(limit=20ms, after=3), after=5s), nova_steps:steps=5)")
    assert policy(SETUP).downtime_limit_s == 0.1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("first(fixed, nobody)", "policy: 'nobody' is not allowed; allowed: one of fixed, "),
        ("leastdowntime", "allowed: least_downtime (is that meant?), or one of fixed, "),
        ("first(fixed, fixed:speed=1)", "parameters bandwidth, downtime_limit, as NAME=VALUE"),
        ("first(fixed)", "first(POLICY, POLICY, ...)"),
        ("then(fixed, fixed, after=soon)", "policy option after: 'soon' is not allowed"),
        ("then(fixed, fixed, iterations=x)", "policy option iterations: 'x' is not allowed"),
        ("then(fixed, fixed, until=soon)", "condition: 'soon' is not allowed"),
        ("when(often, fixed, fixed)", "condition: 'often' is not allowed"),
        ("hybrid_after:iterations=-1", "policy parameter iterations: -1 is not allowed; allowed: 0 or more"),
        ("ganeti_two_sync:poll=0s", "policy parameter poll: 0.0 is not allowed"),
    ],
)
def test_the_part_that_is_wrong_is_named(text: str, words: str) -> None:
    assert words in why_not(text)


def test_parameters_have_units_and_may_leave_them_off_their_names() -> None:
    made = resolve("fixed:downtime_limit=50ms,bandwidth_bytes_per_s=100MiB/s")
    assert isinstance(made, Fixed)
    assert made == Fixed(downtime_limit_s=0.05, bandwidth_bytes_per_s=100 << 20)
    assert isinstance(made.bandwidth_bytes_per_s, int)
    assert resolve("least_downtime:outage=10ms,land=false") == LeastDowntime(outage_s=0.01, land=False)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("low", 0.001),
        ("tuned", 0.5),
        ("tuned:limit=20ms,eager=true", 0.02),
        ("maker", 0.25),
        ("maker:limit=1s", 1.0),
        ("Patient", 0.1),
        ("Patient:limit=30ms,after=90", 0.03),
        ("Plain", 0.75),
        ("Demanding:after=1s", None),
    ],
)
def test_from_a_file(file: Path, name: str, wanted: float | None) -> None:
    """A function, one with parameters, one that makes a policy, a dataclass, a plain class."""
    assert limit(f"{file}:{name}") == wanted


def test_values_are_read_by_what_the_parameter_is(file: Path) -> None:
    text = "after=1.5,most=2KiB,speed=1kB/s,tries=7,eager=true,name=5,anything=2"
    made = vars(resolve(f"{file}:Patient:{text}"))
    assert made == {
        "after": 1.5,
        "limit_s": 0.1,
        "most_bytes": 2048,
        "speed_bytes_per_s": 1000,
        "tries": 7,
        "eager": True,
        "name": "5",
        "anything": 2,
        "_kept": 0,
    }
    assert isinstance(made["speed_bytes_per_s"], int)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "one of Demanding, Fragile, NoPolicy, Patient, Plain, low, maker, tuned"),
        ("Nobody", "one of Demanding"),
        ("NOT_CALLABLE", "one of Demanding"),
        ("NoPolicy", "this makes a NoPolicy"),
        ("Fragile", "ZeroDivisionError('as ever')"),
        ("Demanding", "missing 1 required keyword-only argument"),
        ("math", "one of Demanding"),
        ("Patient:speed", "parameters after, anything, eager, limit, most, name, speed, tries, as NAME=VALUE"),
        ("Patient:_kept=1", "as NAME=VALUE"),
        ("Patient:tries=2.5", "policy parameter tries: '2.5' is not allowed; allowed: a whole number"),
        ("Patient:tries=many", "a whole number"),
        ("Patient:after=nan", "a finite number"),
        ("Patient:eager=yes", "true or false"),
        ("Patient:limit=1MiB", "a time such as"),
        ("low:limit=1s", "parameters (none)"),
        ("tuned:seen=1", "parameters eager, limit"),
    ],
)
def test_what_is_no_policy_in_a_file_is_named(file: Path, name: str, words: str) -> None:
    assert words in why_not(f"{file}:{name}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1\ndef policy(:", "(line 2: SyntaxError: invalid syntax)"),
        ("import no_such_module_anywhere", "(line 1: ModuleNotFoundError: No module named"),
        ("a = 1\n1 / 0", "(line 2: ZeroDivisionError: division by zero)"),
        ("raise SystemExit(3)", "(line 1: SystemExit: 3)"),
        ("assert False", "(line 1: AssertionError)"),
        ("a = 1\0", "null bytes"),
        ("", "a file that defines a policy"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    said = why_not(f"{path}:policy")
    assert str(path) in said
    assert words in said


@pytest.mark.parametrize("name", ["nowhere.py", ".py", "/.py", "x" * 5000 + ".py", "a\0b.py"])
def test_a_file_that_is_not_there(name: str) -> None:
    assert "a Python file that exists" in why_not(f"{name}:It")


@given(
    st.one_of(
        st.text(),
        st.builds("{}:{}".format, st.sampled_from(["fixed", "least_downtime", "x.py", "x.py:Y"]), st.text()),
        st.builds(
            "{}({}, {})".format,
            st.sampled_from(["first", "then", "when", "fixed"]),
            st.sampled_from(["fixed", "iteration>3", "first(fixed, fixed)", "after=1s", "x"]),
            st.lists(st.sampled_from(["fixed", "deadline", "after=3s", "until=progress<1%", "(", ")", "x=1"])).map(
                ", ".join
            ),
        ),
        st.builds(
            "least_downtime:{}={},land={}".format,
            st.sampled_from(["outage", "worth", "land", "outage_s", "_link"]),
            st.text(st.sampled_from("0123456789.-+eEmsinfaKMGB/,=: _")),
            st.sampled_from(["true", "false", "", "0"]),
        ),
    )
)
@example("")
@example(":")
@example("fixed:,")
@example("fixed:=")
@example("least_downtime:worth=1e400")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_written_is_a_policy_or_bad_input(text: str) -> None:
    """No other exception comes out, and what comes out can be asked."""
    try:
        policy = resolve(text)
    except BadInput:
        return
    assert isinstance(policy(SETUP), Decision)


def test_a_policy_describes_itself() -> None:
    """The first line of its docstring; its parameters as users write them, and not what it keeps for itself."""
    made = available()["least_downtime"]
    assert describe(made).startswith("Hold the limit low")
    assert parameters_of(made) == {"outage": "0s", "worth": "0.1", "land": "true"}
    assert parameters_of(available()["fixed"]) == {"downtime_limit": "(unset)", "bandwidth": "(unset)"}


def test_defaults_are_shown_exactly() -> None:
    """Minutes only where they are whole; no 3.0 for 3."""
    shown = parameters_of(available()["nova_steps"])
    assert (shown["completion_timeout"], shown["delay"]) == ("800s", "75s")
    assert parameters_of(available()["cycle_aware"])["delay"] == "1m"
    assert parameters_of(available()["xen_classic"])["factor"] == "3"


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_shown_of_the_parameters_can_be_given(name: str) -> None:
    given = {key: value for key, value in parameters_of(BUILT_IN[name]).items() if value != "(unset)"}
    made = resolve(f"{name}:{','.join(f'{key}={value}' for key, value in given.items())}")
    assert made == BUILT_IN[name]()


def test_what_tells_nothing_of_itself_has_no_parameters() -> None:
    """What is made in C has no signature to look at."""
    assert parameters_of(cast(PolicyFactory, iter)) == {}
    assert describe(lambda: lambda seen: Decision()) == ""


def test_a_needed_parameter_is_shown_as_such() -> None:
    def make(*, speed_bytes_per_s: int, size_bytes: int = 2048) -> Fixed:
        return Fixed(bandwidth_bytes_per_s=speed_bytes_per_s + size_bytes)

    assert parameters_of(make) == {"speed": "(needed)", "size": "2KiB"}
