"""How compositions of policies are written: ``first(A, B)``, ``then(A, B, after=30s)``, ``when(iteration>3, A, B)``.

Inside stand policies as users write them everywhere, compositions too. Parameters follow a policy as they do alone
(``nova_steps:steps=5,delay=10s``), or in brackets (``nova_steps(steps=5, delay=10s)``), which is needed only where a
parameter's name is that of an option of ``then`` itself (`OPTIONS`). A condition is a quantity, one of ``<  <=  >
>=``, and a value in people's units: ``remaining<100MiB``, ``downtime<=300ms``, ``progress<10%``.

Only the text is taken apart here; `whimbrel.policies` makes policies of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies.conditions import QUANTITIES, RELATIONS, Condition
from whimbrel.units import parse_duration, parse_fraction, parse_rate, parse_size

KINDS = {
    "first": "first(POLICY, POLICY, ...)",
    "then": "then(POLICY, POLICY, after=TIME or iterations=N or until=CONDITION)",
    "when": "when(CONDITION, POLICY, POLICY)",
}
"""Compositions, and how each is written."""
OPTIONS = ("after", "iterations", "until")
"""What ``then`` takes besides policies."""
MOST_NESTED = 16
"""Deeper ones are refused: nobody could tell what they do."""

_COMPOSED = re.compile(rf"\s*({'|'.join(KINDS)})\s*\(", re.ASCII)
_BRACKETED = re.compile(r"([^(),=]+)\((.*)\)", re.DOTALL)
_OPTION = re.compile(r"(\w+)\s*=\s*(.*)", re.ASCII | re.DOTALL)
_CONDITION = re.compile(r"\s*(\w+)\s*([<>]=?)\s*(.*?)\s*", re.ASCII | re.DOTALL)
_UNITS = ("_bytes_per_s", "_bytes", "_s")


@dataclass(slots=True)
class Composed:
    """A composition, taken apart.

    Attributes:
        kind: a key of `KINDS`.
        parts: what stands in it, in order: policies, and the condition of ``when``.
        options: what is said by name.
    """

    kind: str
    parts: list[str] = field(default_factory=list[str])
    options: dict[str, str] = field(default_factory=dict[str, str])


def composed(text: str) -> Composed | None:
    """What a composition is made of; ``None``: the text is none.

    Raises:
        BadInput: it begins like one, but is not well formed.
    """
    opening = _COMPOSED.match(text)
    if opening is None:
        return None
    kind = opening.group(1)
    found = Composed(kind)
    for part in _split(text.rstrip(), opening.end()):
        option = _OPTION.fullmatch(part)
        if option is None:
            found.parts.append(part)
        elif kind == "then" and option.group(1) in OPTIONS:
            if option.group(1) in found.options:
                once = f"each of {', '.join(OPTIONS)} once; those of a policy stand in brackets, NAME({part})"
                raise BadInput("policy", text, once)
            found.options[option.group(1)] = option.group(2)
        elif found.parts and ":" in found.parts[-1] and not found.parts[-1].endswith(")"):
            found.parts[-1] += f",{part}"  # a further parameter of the policy before it
        else:
            raise BadInput("policy", part, f"a parameter behind a policy, as in NAME:{part}, within {KINDS[kind]}")
    wanted = {"first": len(found.parts) >= 2, "then": len(found.parts) == 2, "when": len(found.parts) == 3}
    if not wanted[kind] or (kind == "then" and not found.options):
        raise BadInput("policy", text, KINDS[kind])
    return found


def _split(text: str, begin: int) -> list[str]:
    """What stands between commas, up to the bracket that closes the one before `begin` and must end the text."""
    parts, depth, start = list[str](), 1, begin
    for place in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth > MOST_NESTED:
            raise BadInput("policy", text, f"at most {MOST_NESTED} brackets within each other")
        if depth == 0 and place < len(text) - 1:
            raise BadInput("policy", text[place + 1 :].strip(), "nothing behind the bracket that closes a composition")
        if depth == 0 or (depth == 1 and text[place] == ","):
            parts.append(text[start:place].strip())
            start = place + 1
    if depth:
        raise BadInput("policy", text, "as many closing brackets as opening ones")
    if not all(parts):
        raise BadInput("policy", text, "a policy or an option between commas and brackets")
    return parts


def unbracketed(text: str) -> str:
    """``NAME(key=value, ...)`` as ``NAME:key=value,...``; any other text as it is."""
    found = _BRACKETED.fullmatch(text.strip())
    if found is None:
        return text
    name, parameters = found.groups()
    return f"{name.strip()}:{','.join(each.strip() for each in parameters.split(','))}"


def condition(text: str) -> Condition:
    """A condition from what the user wrote: ``iteration>3``, ``remaining<100MiB``.

    Raises:
        BadInput: it is none, or its value is none of its quantity's.
    """
    known = {name: name for name in QUANTITIES} | {_short(name): name for name in QUANTITIES}
    found = _CONDITION.fullmatch(text)
    if found is None or found.group(1) not in known:
        names = ", ".join(sorted(_short(name) for name in QUANTITIES))
        raise BadInput("condition", text, f"QUANTITY, one of {' '.join(RELATIONS)}, VALUE; quantities: {names}")
    name, relation, value = known[found.group(1)], found.group(2), found.group(3)
    return Condition(name, relation, _value(name, value))


def _value(quantity: str, text: str) -> float:
    what = f"condition on {_short(quantity)}"
    if quantity.endswith("_bytes_per_s"):
        return parse_rate(text, field=what)
    if quantity.endswith("_bytes"):
        return float(parse_size(text, field=what))
    if quantity.endswith("_s"):
        return parse_duration(text, field=what)
    if quantity == "iteration":
        return float(whole(what, text))
    return parse_fraction(text, field=what)


def whole(what: str, text: str) -> int:
    """A whole number, 0 or more.

    Raises:
        BadInput: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise BadInput(what, text, "a whole number, 0 or more")
    return int(text)


def _short(quantity: str) -> str:
    return quantity.removesuffix(next((unit for unit in _UNITS if quantity.endswith(unit)), ""))
