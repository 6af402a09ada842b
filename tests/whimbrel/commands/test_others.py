"""The small commands: policies, the guest alone, this host."""

from __future__ import annotations

import json

import pytest

from tests.support.command_line import here
from whimbrel.cli import OK
from whimbrel.engine._version import __version__


def test_policies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """With their parameters as they are given, and none of what they keep for themselves."""
    listed = here(capsys, "policies")
    assert "least_downtime" in listed.out
    assert "outage=0s" in listed.out
    known = here(capsys, "policies", "--json").object
    assert known["fixed"]["parameters"] == {"downtime_limit": "(unset)", "bandwidth": "(unset)"}
    assert all(not key.startswith("_") for each in known.values() for key in each["parameters"])


def test_doctor_says_the_same_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    found = here(capsys, "doctor", "--json").object
    text = here(capsys, "doctor").out
    assert found["whimbrel"] == __version__
    assert all(name in text for name in found)


def test_the_guest_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """It runs for as long as it was told, and its memory is verified."""
    small = ("guest", "--class", "hot:size=2MiB,rate=2MiB/s", "--ram", "24512KiB", "--seconds", "0.2s")
    ran = here(capsys, *small, "--json")
    assert ran.code == OK
    assert ran.object["ran_s"] >= 0.2
    assert ran.object["verification"]["pages"] == 512
    assert json.loads(ran.out)["classes"][0]["name"] == "hot"
