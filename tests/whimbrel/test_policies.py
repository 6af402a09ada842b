"""A policy from what the user wrote: always a policy, or an error that names what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import Fixed, LeastDowntime
from whimbrel.engine.policy import Decision, Knobs, Objectives, Observation, Reason
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


def test_the_registered_ones_are_found_by_name() -> None:
    assert isinstance(resolve("least_downtime"), LeastDowntime)
    assert isinstance(resolve("fixed"), Fixed)
    assert set(available()) >= {"fixed", "least_downtime"}


def test_each_one_is_fresh() -> None:
    """A policy with state serves one migration only."""
    assert resolve("least_downtime") is not resolve("least_downtime")


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
        ("def policy(:", "SyntaxError"),
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit(3)"),
        ("a = 1\0", "null bytes"),
        ("", "a file that defines a policy"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    said = why_not(f"{path}:policy")
    assert str(path) in said
    assert words.partition("(")[0] in said


@pytest.mark.parametrize("name", ["nowhere.py", ".py", "/.py", "x" * 5000 + ".py", "a\0b.py"])
def test_a_file_that_is_not_there(name: str) -> None:
    assert "a Python file that exists" in why_not(f"{name}:It")


@given(
    st.one_of(
        st.text(),
        st.builds("{}:{}".format, st.sampled_from(["fixed", "least_downtime", "x.py", "x.py:Y"]), st.text()),
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


def test_what_tells_nothing_of_itself_has_no_parameters() -> None:
    """What is made in C has no signature to look at."""
    assert parameters_of(cast(PolicyFactory, iter)) == {}
    assert describe(lambda: lambda seen: Decision()) == ""


def test_a_needed_parameter_is_shown_as_such() -> None:
    def make(*, speed_bytes_per_s: int, size_bytes: int = 2048) -> Fixed:
        return Fixed(bandwidth_bytes_per_s=speed_bytes_per_s + size_bytes)

    assert parameters_of(make) == {"speed": "(needed)", "size": "2KiB"}
