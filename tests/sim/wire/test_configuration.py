"""What is simulated: where it is found, what it may hold, and everything that is wrong with it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from whimbrel.sim.qemu.contract import Costs, Version
from whimbrel.sim.scenario import GuestPlan, LinkPlan, Pattern, Writer
from whimbrel.sim.wire.configuration import (
    FW_CFG_NAME,
    VARIABLE,
    BadConfiguration,
    Configuration,
    parse_configuration,
    read_configuration,
)

FULL: dict[str, Any] = {
    "version": "10.0",
    "speed": 20,
    "seed": 3,
    "kvm": True,
    "guest": {
        "zero_bytes": 4096,
        "writers": [{"name": "hot", "size_bytes": 8192, "rate_bytes_per_s": 1e6, "pattern": "zipf", "vcpu": None}],
        "curve": [[0.1, 4096], [1, 8192.0]],
    },
    "link": {"bandwidth_bytes_per_s": 1000, "steps": [[1, 2.5]]},
    "costs": {"device_state_bytes": 5},
}
WANTED = Configuration(
    version=Version.V10_0,
    speed=20.0,
    seed=3,
    kvm=True,
    guest=GuestPlan(
        ram_bytes=0,
        zero_bytes=4096,
        writers=(Writer(name="hot", size_bytes=8192, rate_bytes_per_s=1e6, pattern=Pattern.ZIPF, vcpu=None),),
        curve=((0.1, 4096.0), (1.0, 8192.0)),
    ),
    link=LinkPlan(bandwidth_bytes_per_s=1000.0, steps=((1.0, 2.5),)),
    costs=Costs(device_state_bytes=5),
)


def findings(data: object) -> list[str]:
    """What is wrong with it."""
    with pytest.raises(BadConfiguration) as caught:
        parse_configuration(data, "W")
    return list(caught.value.findings)


def test_nothing_said_is_the_default() -> None:
    """An idle guest, one second a second."""
    assert read_configuration(["-m", "64"], {}) == Configuration()


def test_inline_and_from_a_file(tmp_path: Path) -> None:
    """JSON in the variable itself, in a file, and TOML."""
    text = json.dumps(FULL)
    file = tmp_path / "s.json"
    file.write_text(text)
    toml = tmp_path / "s.toml"
    toml.write_text('speed = 7\n[[guest.writers]]\nname = "w"\nsize_bytes = 4096\n')
    assert read_configuration([], {VARIABLE: text}) == WANTED
    assert read_configuration([], {VARIABLE: str(file)}) == WANTED
    found = read_configuration([], {VARIABLE: str(toml)})
    assert found.speed == 7.0
    assert found.guest.writers == (Writer(name="w", size_bytes=4096),)


def test_the_command_line_comes_first(tmp_path: Path) -> None:
    """As a file or as the text itself, with QEMU's doubled commas; other entries are left alone."""
    file = tmp_path / "s,1.json"
    file.write_text('{"speed": 4}')
    environment = {VARIABLE: '{"speed": 2}'}
    doubled = str(file).replace(",", ",,")
    for value, speed in (
        (f"name={FW_CFG_NAME},file={doubled}", 4.0),
        (f'name={FW_CFG_NAME},string={{"speed": 5,, "seed": 2}}', 5.0),
        ("name=opt/other,string=x", 2.0),
    ):
        assert read_configuration(["-m", "64", "-fw_cfg", value], environment).speed == speed


def test_everything_wrong_is_said_at_once() -> None:
    """Each finding with its place."""
    assert findings(
        {
            "versoin": "7.2",
            "version": "6.0",
            "speed": "fast",
            "kvm": 1,
            "guest": {"writers": [{"size_bytes": -1}, 5], "zero_bytes": 1.5},
            "link": [],
        }
    ) == [
        "W.versoin: nothing is known by this name",
        "W.version: Invalid enum value '6.0'",
        "W.speed: Expected `float`, got `str`",
        "W.kvm: Expected `bool`, got `int`",
        "W.guest.writers[0].name: it is missing",
        "W.guest.writers[0].size_bytes: -1 is negative",
        "W.guest.writers[1]: an object is expected",
        "W.guest.zero_bytes: Expected `int`, got `float`",
        "W.link: an object is expected",
    ]


@pytest.mark.parametrize("speed", [0, 1001])
def test_the_speed_has_limits(speed: float) -> None:
    """Time neither stands still nor runs faster than anybody could look."""
    assert findings({"speed": speed}) == [f"W.speed: {speed:g} is not above 0 and up to 1000"]


@pytest.mark.parametrize(
    ("given", "words"),
    [("{", "Expecting property name"), ("/nowhere/s.json", "No such file or directory"), ("{} {}", "Extra data")],
)
def test_what_cannot_be_read(given: str, words: str) -> None:
    """It says where it was given, or which file."""
    with pytest.raises(BadConfiguration, match=words):
        read_configuration([], {VARIABLE: given})
    assert findings([]) == ["W: an object is expected"]
