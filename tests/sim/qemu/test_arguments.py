"""The arguments of commands, in the words of QEMU 7.2's generated code."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu.arguments import LATER, OLD, Argument, check
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.errors import Refusal

KNOWN = (
    Argument("uri", versions=OLD),
    Argument("uri", required=False, versions=LATER),
    Argument("resume", "boolean", required=False),
    Argument("channels", "uint8_t", required=False),
    Argument("limit", "uint64", required=False),
    Argument("time", "integer", required=False),
    Argument("mode", "enum", required=False, values=("a", "b")),
    Argument("name", "StrOrNull", required=False),
    Argument("rows", "array", required=False),
    Argument("ratio", "number", required=False),
    Argument("what", "any", required=False),
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "Parameter 'uri' is missing"),
        ({"uri": 5}, "Invalid parameter type for 'uri', expected: string"),
        ({"uri": "x", "zzz": 1}, "Parameter 'zzz' is unexpected"),
        ({"zzz": 1}, "Parameter 'uri' is missing"),
        ({"uri": "x", "resume": 1}, "Invalid parameter type for 'resume', expected: boolean"),
        ({"uri": "x", "channels": 256}, "Parameter 'channels' expects uint8_t"),
        ({"uri": "x", "channels": -1}, "Parameter 'channels' expects uint8_t"),
        ({"uri": "x", "limit": "a"}, "Parameter 'limit' expects uint64"),
        ({"uri": "x", "limit": 1.5}, "Parameter 'limit' expects uint64"),
        ({"uri": "x", "limit": True}, "Parameter 'limit' expects uint64"),
        ({"uri": "x", "limit": 1 << 64}, "Parameter 'limit' expects uint64"),
        ({"uri": "x", "time": "a"}, "Invalid parameter type for 'time', expected: integer"),
        ({"uri": "x", "mode": "c"}, "Parameter 'mode' does not accept value 'c'"),
        ({"uri": "x", "mode": 3}, "Invalid parameter type for 'mode', expected: string"),
        ({"uri": "x", "name": 3}, "Invalid parameter type for 'name', expected: StrOrNull"),
        ({"uri": "x", "rows": 3}, "Invalid parameter type for 'rows', expected: array"),
        ({"uri": "x", "ratio": True}, "Invalid parameter type for 'ratio', expected: number"),
    ],
)
def test_what_does_not_fit_is_refused_in_qemu_s_words(arguments: dict[str, object], words: str) -> None:
    """In the order of the schema, and what is not in it last."""
    with pytest.raises(Refusal) as refused:
        check(arguments, KNOWN, Version.V7_2)
    assert refused.value.description == words


def test_what_fits_passes_and_a_negative_number_fits_64_bits() -> None:
    """QEMU takes it for the large one with the same bits."""
    given: dict[str, object] = {
        "uri": "x", "resume": True, "channels": 255, "limit": -1, "time": -1, "mode": "b", "name": None, "rows": [],
        "ratio": 0.5, "what": object(),
    }  # fmt: skip
    check(given, KNOWN, Version.V7_2)


def test_an_argument_is_known_where_its_version_has_it() -> None:
    """The one that 7.2 requires may be left out later."""
    check({}, KNOWN, Version.V10_0)
    with pytest.raises(Refusal, match=r"Parameter 'a\.uri' is missing"):
        check({}, KNOWN, Version.V7_2, "a.")
