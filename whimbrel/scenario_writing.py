"""A scenario as text: a TOML file that is read back equal (`whimbrel.scenario_file`), in people's units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from whimbrel.scenario_keys import COSTS, CURVE, GUEST, LINK, OBJECTIVES, OUTAGE, QEMU, STEP, TOP, WRITER, Key
from whimbrel.sim.scenario import Scenario

__all__ = ["Plan", "dumps"]

_ASKED = {"capabilities": QEMU["capabilities"]}
"""In the section of QEMU, and yet no part of its record: they are asked for by whoever migrates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a file says: a scenario, and where the dice begin."""

    scenario: Scenario
    seed: int = 1


def dumps(plan: Plan) -> str:
    """A plan as text that `loads` reads back equal; what has its default is left out, but for the policy."""
    scenario = plan.scenario
    guest, link, qemu = scenario.guest, scenario.link, scenario.qemu
    policy = f"policy = {TOP['policy'].kind.write(scenario.policy)}"
    others = {name: key for name, key in TOP.items() if name != "policy"}
    lines = [f"seed = {plan.seed}", policy, *_fields(others, scenario)]
    lines += _section("[guest]", _fields(GUEST, guest), always=True)
    for writer in guest.writers:
        lines += ["", "[[guest.writer]]", *_fields(WRITER, writer)]
        lines += ["dma = true"] if writer.vcpu is None else []
    if guest.curve:
        windows, dirty = zip(*guest.curve, strict=True)
        values = (("windows", windows), ("dirty", dirty))
        lines += ["", "[guest.curve]", *(f"{key} = {CURVE[key].kind.write(value)}" for key, value in values)]
    drawn = [*_fields(LINK, link), *_pairs("steps", STEP, link.steps), *_pairs("outages", OUTAGE, link.outages)]
    lines += _section("[link]", drawn)
    lines += _section("[qemu]", [*_fields(QEMU, qemu), *_fields(_ASKED, scenario)])
    lines += _section("[qemu.costs]", _fields(COSTS, qemu.costs))
    lines += _section("[objectives]", _fields(OBJECTIVES, scenario.objectives))
    return "\n".join([*lines, ""])


def _section(head: str, lines: Iterable[str], *, always: bool = False) -> list[str]:
    listed = list(lines)
    return ["", head, *listed] if listed or always else []


def _fields(keys: Mapping[str, Key], record: Any) -> Iterator[str]:
    defaults = {each.name: each.default for each in fields(record)}
    for name, key in keys.items():
        value = getattr(record, key.field, None) if key.field in defaults and not key.read_only else None
        if value is not None and (defaults[key.field] is MISSING or value != defaults[key.field]):
            yield f"{name} = {key.kind.write(value)}"


def _pairs(name: str, keys: Mapping[str, Key], pairs: Iterable[tuple[float, float]]) -> Iterator[str]:
    drawn = [
        "{ " + ", ".join(f"{key} = {keys[key].kind.write(value)}" for key, value in zip(keys, pair, strict=True)) + " }"
        for pair in pairs
    ]
    if drawn:
        yield f"{name} = [{', '.join(drawn)}]"
