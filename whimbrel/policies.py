"""Finding a policy by what the user wrote: a name, a name with parameters, or a file.

    least_downtime
    fixed:downtime_limit=50ms,bandwidth=100MiB/s
    my_policy.py:Patient
    my_policy.py:Patient:after=60
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Policy
from whimbrel.units import parse_duration, parse_rate, parse_size

GROUP = "whimbrel.policies"

PolicyFactory = Callable[..., Policy]


def available() -> dict[str, PolicyFactory]:
    """Every registered policy by name: our own, and those of installed packages (entry points)."""
    return {point.name: point.load() for point in sorted(importlib.metadata.entry_points(group=GROUP))}


def resolve(text: str) -> Policy:
    """A fresh policy from what the user wrote.

    Raises:
        BadInput: no such policy, no such file, or parameters that it does not take.
    """
    name, _, rest = text.partition(":")
    if name.endswith(".py"):
        attribute, _, parameters = rest.partition(":")
        factory = _from_file(Path(name), attribute)
    else:
        parameters = rest
        known = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
        if name not in known:
            raise BadInput("policy", text, f"one of {', '.join(sorted(known))}, or FILE.py:NAME")
        factory = cast(PolicyFactory, known[name].load())
    if not inspect.isclass(factory) and not parameters and _takes_an_observation(factory):
        return cast(Policy, factory)
    return _make(factory, parameters, text)


def describe(factory: PolicyFactory) -> str:
    """The first line of a policy's docstring, in plain text."""
    return (inspect.getdoc(factory) or "").partition("\n")[0].replace("``", "")


def parameters_of(factory: PolicyFactory) -> dict[str, str]:
    """A policy's parameters and their defaults, as text; the unit is left off the name as users write it."""
    return {_short(p.name): str(p.default) for p in _signature(factory) if p.default is not inspect.Parameter.empty}


def _signature(factory: PolicyFactory) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _takes_an_observation(candidate: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(candidate).parameters.values())
    return len(parameters) == 1 and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


def _from_file(path: Path, attribute: str) -> PolicyFactory:
    spec = importlib.util.spec_from_file_location(f"whimbrel_policy_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BadInput("policy", str(path), "a Python file that exists")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while they are made
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may fail in any way
        raise BadInput("policy", str(path), f"a Python file that can be run ({error!r})") from error
    found = getattr(module, attribute, None) if attribute else None
    if not callable(found):
        names = sorted(n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == spec.name)
        raise BadInput("policy", f"{path}:{attribute}", f"one of {', '.join(names) or '(nothing is defined there)'}")
    return cast(PolicyFactory, found)


def _make(factory: PolicyFactory, parameters: str, text: str) -> Policy:
    known = {parameter.name: parameter for parameter in _signature(factory)}
    short = {_short(name): name for name in known}
    values: dict[str, Any] = {}
    for part in filter(None, parameters.split(",")):
        key, separator, value = part.partition("=")
        name = key if key in known else short.get(key, "")
        if not separator or name not in known:
            raise BadInput("policy", text, f"parameters {', '.join(sorted(short)) or '(none)'}, as NAME=VALUE")
        values[name] = _value(name, key, value)
    try:
        return factory(**values)
    except (TypeError, ValueError) as error:
        raise BadInput("policy", text, f"parameters that it takes ({error})") from error


_UNITS: dict[str, Callable[[str, str], Any]] = {
    "_bytes_per_s": lambda field, text: parse_rate(text, field=field),
    "_bytes": lambda field, text: parse_size(text, field=field),
    "_s": lambda field, text: parse_duration(text, field=field),
}
"""How a parameter is read, by the unit at the end of its name; any other is a number, a bool or a word."""


def _short(name: str) -> str:
    return next((name.removesuffix(unit) for unit in _UNITS if name.endswith(unit)), name)


def _value(name: str, key: str, text: str) -> Any:
    for unit, parse in _UNITS.items():
        if name.endswith(unit):
            return parse(key, text)
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
