"""Finding a policy by what the user wrote: a name, a name with parameters, a file, or a composition of these::

    least_downtime
    fixed:downtime_limit=50ms,bandwidth=100MiB/s
    my_policy.py:Patient
    my_policy.py:Patient:after=60
    then(least_downtime, hybrid_after:iterations=1, after=30s)

How compositions are written is told in `whimbrel.policy_text`.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import inspect
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter
from pathlib import Path
from typing import Any, cast

from whimbrel import policy_text
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import BUILT_IN, first, then, when
from whimbrel.engine.policy import Policy
from whimbrel.policy_text import KINDS, Composed
from whimbrel.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_fraction,
    parse_rate,
    parse_size,
)

GROUP = "whimbrel.policies"

PolicyFactory = Callable[..., Policy]


def available() -> dict[str, PolicyFactory]:
    """Every policy that can be named: our own in their order, then those of other packages (entry points) by name."""
    return dict(BUILT_IN) | {name: cast(PolicyFactory, point.load()) for name, point in _installed().items()}


def _installed() -> dict[str, EntryPoint]:
    """Those of other packages; one of the name of our own is not ours."""
    return {point.name: point for point in sorted(entry_points(group=GROUP)) if point.name not in BUILT_IN}


def resolve(text: str) -> Policy:
    """A fresh policy from what the user wrote.

    Raises:
        BadInput: no such policy, no such file, parameters that it does not take, or a composition that is not well
            formed; in one of several, the part that is wrong.
    """
    parts = policy_text.composed(text)
    return _single(policy_text.unbracketed(text)) if parts is None else _compose(parts)


def _compose(given: Composed) -> Policy:
    if given.kind == "first":
        return first(*(resolve(part) for part in given.parts))
    if given.kind == "when":
        test, policy, otherwise = given.parts
        return when(policy_text.condition(test), resolve(policy), resolve(otherwise))
    before, after = given.parts
    after_s, iterations, until = (given.options.get(name) for name in policy_text.OPTIONS)
    return then(
        resolve(before),
        resolve(after),
        after_s=None if after_s is None else parse_duration(after_s, field="policy option after"),
        iterations=None if iterations is None else policy_text.whole("policy option iterations", iterations),
        until=None if until is None else policy_text.condition(until),
    )


def _single(text: str) -> Policy:
    name, _, rest = text.partition(":")
    if name.endswith(".py"):
        attribute, _, parameters = rest.partition(":")
        factory = _from_file(Path(name), attribute)
    else:
        parameters = rest
        factory = BUILT_IN.get(name) or _from_package(name, text)
    values = _values(factory, parameters, text)
    if _is_policy_itself(factory):
        policy = functools.partial(factory, **values) if values else factory
        return cast(Policy, policy)
    return _make(factory, values, text)


def _from_package(name: str, text: str) -> PolicyFactory:
    installed = _installed()
    if name not in installed:
        ways = f"FILE.py:NAME, or a composition ({', '.join(f'{kind}(...)' for kind in KINDS)})"
        names = [*BUILT_IN, *installed]
        near = "".join(f"{each} (is that meant?), or " for each in difflib.get_close_matches(name, names, 1))
        raise BadInput("policy", text, f"{near}one of {', '.join(names)}, {ways}")
    return cast(PolicyFactory, installed[name].load())


def named(texts: Iterable[str] | None) -> dict[str, Policy]:
    """Fresh policies by what the user wrote, in that order.

    Raises:
        BadInput: as for `resolve`.
    """
    return {text: resolve(text) for text in texts or ()}


def describe(factory: PolicyFactory) -> str:
    """The first line of a policy's docstring, in plain text."""
    return (inspect.getdoc(factory) or "").partition("\n")[0].replace("``", "")


def parameters_of(factory: PolicyFactory) -> dict[str, str]:
    """A policy's parameters and their defaults, as users write them; the unit is left off the name."""
    return {_short(p.name): _shown(p) for p in _parameters(factory)}


def _parameters(factory: PolicyFactory) -> list[Parameter]:
    """What may be given by name: neither a policy's observation nor what it keeps for itself."""
    try:
        found = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return []  # made in C: it does not say
    takes = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    named = [p for p in found if p.kind in takes and not p.name.startswith("_")]
    return named[1:] if _is_policy_itself(factory) and named[:1] == found[:1] else named


def _is_policy_itself(candidate: Callable[..., Any]) -> bool:
    """Whether this is a function of an observation, and not what makes a policy."""
    if inspect.isclass(candidate):
        return False
    try:
        parameters = inspect.signature(candidate).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.default is Parameter.empty and p.kind is not Parameter.VAR_KEYWORD]
    return len(needed) == 1 and needed[0].kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _from_file(path: Path, attribute: str) -> PolicyFactory:
    # os.path says no to a name that can't be one, where Path.is_file would raise.
    spec = importlib.util.spec_from_file_location(f"whimbrel_policy_{path.stem}", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise BadInput("policy", str(path), "a Python file that exists")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while they are made
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's file may fail in any way
        del sys.modules[spec.name]
        raise BadInput("policy", str(path), f"a Python file that can be run ({_told(error, path)})") from error
    found = getattr(module, attribute, None) if attribute else None
    if not callable(found):
        names = sorted(n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == spec.name)
        allowed = f"FILE.py:NAME, with one of {', '.join(names)}" if names else "a file that defines a policy"
        raise BadInput("policy", f"{path}:{attribute}", allowed)
    return cast(PolicyFactory, found)


def _told(error: BaseException, path: Path) -> str:
    """What went wrong with a file, and in which of its lines."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}" if str(error) else f"{where}{type(error).__name__}"


def _make(factory: PolicyFactory, values: dict[str, Any], text: str) -> Policy:
    try:
        made: object = factory(**values)
    except BadInput as error:
        raise BadInput(f"policy parameter {_short(error.field)}", error.given, error.allowed) from None
    except (Exception, SystemExit) as error:  # the user's code may fail in any way
        raise BadInput("policy", text, f"one that can be made with these parameters ({error!r})") from error
    if not callable(made):
        raise BadInput("policy", text, f"a callable that takes an Observation (this makes a {type(made).__name__})")
    return made


def _values(factory: PolicyFactory, parameters: str, text: str) -> dict[str, Any]:
    known = {parameter.name: parameter for parameter in _parameters(factory)}
    short = {_short(name): name for name in known}
    values: dict[str, Any] = {}
    for part in filter(None, parameters.split(",")):
        key, separator, value = part.partition("=")
        name = key if key in known else short.get(key, "")
        if not separator or name not in known:
            raise BadInput("policy", text, f"parameters {', '.join(sorted(short)) or '(none)'}, as NAME=VALUE")
        values[name] = _value(known[name], f"policy parameter {key}", value)
    return values


_READ: dict[str, Callable[[str, str], float]] = {
    "_bytes_per_s": lambda field, text: parse_rate(text, field=field),
    "_bytes": lambda field, text: parse_size(text, field=field),
    "_s": lambda field, text: parse_duration(text, field=field),
}
"""How a parameter is read, by the unit at the end of its name."""


def _duration(duration_s: float) -> str:
    """Exactly: 800 s are not 13.3m."""
    text = format_duration(duration_s)
    return f"{duration_s:g}s" if "." in text else text


_SHOW: dict[str, Callable[[float], str]] = {"_bytes_per_s": format_rate, "_bytes": format_size, "_s": _duration}


def _unit(name: str) -> str:
    return next((unit for unit in _READ if name.endswith(unit)), "")


def _short(name: str) -> str:
    return name.removesuffix(_unit(name))


def _shown(parameter: Parameter) -> str:
    default, unit = parameter.default, _unit(parameter.name)
    if default is Parameter.empty:
        return "(needed)"
    if default is None:
        return "(unset)"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return _SHOW[unit](default) if unit else f"{default:g}"
    return str(default)


def _value(parameter: Parameter, field: str, text: str) -> Any:
    kind = _kind(parameter)
    unit = _unit(parameter.name)
    if unit:
        number = _READ[unit](field, text)
        return round(number) if kind == "int" else number
    if kind == "bool" or (not kind and text in ("true", "false")):
        if text not in ("true", "false"):
            raise BadInput(field, text, "true or false")
        return text == "true"
    if kind == "str":
        return text
    return _number(text, field, kind)


def _kind(parameter: Parameter) -> str:
    """The type of a parameter: that of its default, else what its annotation names; empty: unknown."""
    for kind in (bool, int, float, str):
        if type(parameter.default) is kind:
            # A float parameter often has a whole default: believe the annotation, if there is one.
            return "float" if kind is int and "float" in _annotation(parameter) else kind.__name__
    written = _annotation(parameter)
    return next((kind for kind in ("float", "int", "bool", "str") if kind in written), "")


def _annotation(parameter: Parameter) -> str:
    written = parameter.annotation
    if written is Parameter.empty:
        return ""
    return written.__name__ if isinstance(written, type) else str(written)


def _number(text: str, field: str, kind: str) -> Any:
    try:
        return int(text)
    except ValueError:
        pass  # then it may be one with a fraction
    if kind == "float" and text.endswith("%"):
        return parse_fraction(text, field=field)
    try:
        number = float(text)
    except ValueError:
        if not kind:
            return text
        raise BadInput(field, text, "a whole number" if kind == "int" else "a number") from None
    if kind == "int" or not math.isfinite(number):
        raise BadInput(field, text, "a whole number" if kind == "int" else "a finite number")
    return number
