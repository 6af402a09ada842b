"""The keys of a scenario file: none is missing, each value is read as it is written, and wrong kinds are refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from whimbrel import scenario_keys
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.scenario_keys import COSTS, GUEST, LINK, OBJECTIVES, QEMU, TOP, WRITER, Key
from whimbrel.sim.qemu.contract import Costs
from whimbrel.sim.scenario import GuestPlan, LinkPlan, QemuPlan, Scenario, Writer

SECTIONS: list[tuple[dict[str, Key], type, set[str]]] = [
    (TOP, Scenario, {"guest", "link", "qemu", "objectives", "capabilities"}),
    (GUEST, GuestPlan, {"writers", "curve"}),
    (WRITER, Writer, set()),
    (LINK, LinkPlan, {"steps", "outages"}),
    (QEMU, QemuPlan, {"costs"}),
    (COSTS, Costs, set()),
    (OBJECTIVES, Objectives, set()),
]


@pytest.mark.parametrize(("keys", "record", "sections"), SECTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_field_has_a_key(keys: dict[str, Key], record: type, sections: set[str]) -> None:
    """But for those that are sections of their own; and every key a meaning."""
    own = {"seed", "writes", "dma", "capabilities"}  # the last is the scenario's
    written = {key.field for name, key in keys.items() if name not in own}
    assert written == {each.name for each in fields(record)} - sections
    assert all(key.meaning and key.kind.unit for key in keys.values())


@pytest.mark.parametrize(
    ("kind", "value", "read", "written"),
    [
        ("SIZE", "64MiB", 64 << 20, '"64MiB"'),
        ("SIZE", 4095, 4095, '"4095B"'),
        ("SIZE", 4096.0, 4096, '"4KiB"'),
        ("EXPECTED_SIZE", 1.5, 1.5, "1.5"),
        ("RATE", "1Gbit/s", 125e6, '"1Gbit/s"'),
        ("RATE", "40MiB/s", 40.0 * 2**20, '"40MiB/s"'),
        ("RATE", "2Gibit/s", 2.0**28, '"256MiB/s"'),
        ("RATE", 0, 0.0, '"0B/s"'),
        ("BYTE_RATE", "1500MB/s", 1.5e9, '"1.5GB/s"'),
        ("TIME", "0h", 0.0, '"0s"'),
        ("PART", 0, 0.0, '"0%"'),
        ("SIZE", "40kB", 40_000, '"40kB"'),
        ("WHOLE_RATE", "100MB/s", 100_000_000, '"800Mbit/s"'),
        ("TIME", "300ms", 0.3, '"300ms"'),
        ("TIME", "90m", 5400.0, '"1.5h"'),
        ("TIME", 1e-9, 1e-9, '"1ns"'),
        ("TIME", 0.1 + 0.2, 0.1 + 0.2, "0.30000000000000004"),
        ("PART", "25%", 0.25, '"25%"'),
        ("PART", 1, 1.0, '"100%"'),
        ("WHOLE", 3, 3, "3"),
        ("NUMBER", 1, 1.0, "1.0"),
        ("TEXT", 'a "b"\x7f\n', 'a "b"\x7f\n', '"a \\"b\\"\\u007f\\n"'),
        ("SWITCH", True, True, "true"),
        ("ACCELERATOR", "kvm", True, '"kvm"'),
        ("WRITES", 2, 8192.0, "8192.0"),
    ],
)
def test_read_and_written(kind: str, value: Any, read: Any, written: str) -> None:
    of = getattr(scenario_keys, kind)
    assert of.read(value) == read
    assert type(of.read(value)) is type(read)
    assert of.write(read) == written


OTHERS: list[tuple[str, list[Any]]] = [
    ("SIZE", ["1s", "-1MiB", -1, 1.5, True, [], {}, "", float("inf")]),
    ("RATE", ["1MiB", "-1MiB/s", -1.0, True, None, float("nan")]),
    ("TIME", ["1MiB", "-1s", -0.5, False]),
    ("PART", ["101%", 1.01, -0.1, "half", True]),
    ("WHOLE", ["1", 1.0, -1, True]),
    ("NUMBER", ["1", True, float("nan")]),
    ("TEXT", [1, "", "a\0b", True]),
    ("SWITCH", ["true", 1, 0]),
    ("ACCELERATOR", ["xen", True, []]),
    ("WRITES", ["5", -1, True]),
]


@pytest.mark.parametrize(("kind", "values"), OTHERS)
def test_other_kinds_are_refused_with_what_is_allowed(kind: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(BadInput) as caught:
            getattr(scenario_keys, kind).read(value)
        assert caught.value.allowed
        assert caught.value.given == value or value != value
