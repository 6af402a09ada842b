"""The table of options, held against the QEMU that is installed."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.bare_qemu import QEMU
from whimbrel.qmp_driver import argument_table as table
from whimbrel.qmp_driver.argument_rules import RULES


def qemu(*arguments: str) -> str:
    """Run QEMU to its end (a mistake in the table would let it boot: the deadline catches that)."""
    done = subprocess.run([QEMU, *arguments], capture_output=True, timeout=20, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def documented() -> set[str]:
    """The names of the options in ``-help``."""
    text = qemu("-help")
    names = set(re.findall(r"^ *--?([A-Za-z][A-Za-z0-9_-]*)", text, re.MULTILINE))
    names |= set(re.findall(r"^-\w+/-(\w+)", text, re.MULTILINE))
    assert len(names) > 80
    return names


def test_every_option_of_the_installed_qemu_is_known(documented: set[str]) -> None:
    """Nothing that this QEMU documents is refused only because nobody thought of it."""
    assert documented - table.OPTIONS.keys() == set()


def test_the_table_knows_which_options_take_a_value(documented: set[str]) -> None:
    """Each documented option is tried: QEMU itself says whether it wants a value."""
    wrong: list[str] = []
    for name in sorted(documented - {"h", "help", "version", "audio-help"}):
        if table.OPTIONS[name].takes_value:
            said, expected = qemu(f"-{name}"), "requires an argument"
        else:
            said, expected = qemu(f"-{name}", "-nonsense"), "-nonsense: invalid option"
        if expected not in said and "not supported for this target" not in said:
            wrong.append(f"{name}: {said.strip()}")
    assert wrong == []


def test_every_treatment_has_a_rule() -> None:
    """No row of the table can lead nowhere."""
    assert RULES.keys() == set(table.Treatment)


def test_what_is_refused_or_dropped_says_why() -> None:
    """A refusal by name has a reason, in every table."""
    silent = [
        name
        for name, rule in table.OPTIONS.items()
        if rule.treatment in (table.Treatment.REFUSE, table.Treatment.DROP) and not rule.because
    ]
    assert silent == []
    reasons = (*table.CHARDEVS_REFUSED.values(), *table.BLOCK_REFUSED.values(), *dict(table.DEVICES_REFUSED).values())
    assert all(reasons)


@pytest.mark.parametrize(
    ("option", "known"),
    [
        ("-object", table.OBJECTS.keys()),
        ("-chardev", table.CHARDEVS_COPIED | table.CHARDEVS_REFUSED.keys() | {"socket", "file", "stdio", "udp", "mux"}),
        ("-netdev", table.NETDEVS.keys()),
    ],
)
def test_every_kind_that_the_installed_qemu_has_is_known(option: str, known: set[str]) -> None:
    """QEMU's own lists of objects, character devices and network backends hold nothing new."""
    listed = {line.strip() for line in qemu(option, "help").splitlines() if re.fullmatch(r"\s*[a-z0-9_-]+", line)}
    assert len(listed) > 5
    assert listed - known == set()
