"""Tests of whimbrel.sim.qemu.t_figures."""

from __future__ import annotations

import pytest

from tests.sim.qemu.thread_fakes import FakeMemory
from whimbrel.sim.memory.contract import Sent
from whimbrel.sim.qemu.contract import QmpMessage, Settings, Version
from whimbrel.sim.qemu.t_counters import Counters
from whimbrel.sim.qemu.t_figures import Figures, Step
from whimbrel.sim.qemu.t_rules import NO_ESTIMATE, rules_of
from whimbrel.sim.qemu.t_throttle import Throttle


class Case:
    """Figures over counters that the test moves."""

    def __init__(self, version: Version, capabilities: dict[str, bool] | None = None, **parameters: object) -> None:
        """1000 pages of RAM."""
        given = {name.replace("_", "-"): value for name, value in parameters.items()}
        self.settings = Settings(capabilities=capabilities or {}, parameters=given)
        rules = rules_of(version)
        self.counters = Counters(rules, self.settings, 0)
        self.throttle = Throttle(FakeMemory(1000), self.settings, rules)
        self.figures = Figures(rules, self.settings, self.counters, self.throttle, 1000)
        self.step = Step()

    def now(self, waiting: int = 0, *, remaining: int = 0, postcopy: bool = False) -> QmpMessage:
        """What is shown while so many bytes are still to be put into the stream."""
        return self.figures.running(self.step, waiting, remaining, 4096, postcopy)

    def ram(self, waiting: int = 0, *, remaining: int = 0) -> dict[str, object]:
        """Of it, ``ram``."""
        ram = self.now(waiting, remaining=remaining)["ram"]
        assert isinstance(ram, dict)
        return ram  # pyright: ignore[reportUnknownVariableType]


RAM = {
    *("total", "postcopy-requests", "dirty-sync-count", "multifd-bytes", "pages-per-second", "downtime-bytes"),
    *("page-size", "remaining", "postcopy-bytes", "mbps", "transferred", "dirty-sync-missed-zero-copy"),
    *("precopy-bytes", "duplicate", "dirty-pages-rate", "normal-bytes", "normal"),
}


@pytest.mark.parametrize("version", Version)
def test_the_members_are_those_that_were_recorded(version: Version) -> None:
    """7.2 has skipped; 11.1 a remaining of its own."""
    case = Case(version)
    answer = case.now()
    assert set(case.ram()) == (RAM | {"skipped"} if version is Version.V7_2 else RAM)
    assert set(answer) == {"ram", "expected-downtime"} | ({"remaining"} if version is Version.V11_1 else set())


def test_figures_grow_while_pages_are_on_their_way() -> None:
    """Half of the step is in the stream: half of its pages, and of its bytes."""
    case = Case(Version.V10_0)
    sent = Sent(normal=100, zero=20, bytes=100 * 4104 + 180)
    case.counters.add(sent, 18, 8, False)
    case.step.begin(sent, sent.bytes + 18, sent.bytes + 18, 2000)
    half = case.ram((sent.bytes + 18) // 2, remaining=880)
    assert half["normal"] == 50
    assert half["duplicate"] == 10
    assert half["remaining"] == (880 + 60) * 4096
    assert half["transferred"] == (sent.bytes + 18) // 2
    whole = case.ram(0, remaining=880)
    assert (whole["normal"], whole["remaining"], whole["transferred"]) == (100, 880 * 4096, sent.bytes + 18)


def test_what_waits_for_the_stream_is_not_in_yet() -> None:
    """A part of what the step puts into the stream, framing and all; more than all of it is all of it."""
    step = Step()
    assert step.open_part(100) == 0.0, "nothing is on its way"
    step.begin(Sent(normal=10, bytes=41_040), 41_040, 41_058, 1000)
    assert step.open_part(0) == 0.0
    assert step.open_part(41_058) == 1.0
    assert step.open_part(4_105_800) == 1.0
    assert step.open_part(13_686) == pytest.approx(1 / 3)


def test_transferred_of_7_2_is_pages_only() -> None:
    """Heads and feet of sections do not count there."""
    for version, expected in ((Version.V7_2, 4112), (Version.V10_0, 4122)):
        case = Case(version)
        case.counters.add(Sent(normal=1, bytes=4104), 18, 8, False)
        assert case.ram()["transferred"] == expected


def test_11_1_estimates_when_asked() -> None:
    """downtime-limit while there was one sync at most; no bandwidth: INT64_MAX."""
    case = Case(Version.V11_1, downtime_limit=300)
    case.counters.syncs = 1
    case.settings.parameters["downtime-limit"] = 500
    assert case.now()["expected-downtime"] == 500
    case.counters.syncs = 2
    assert case.now()["expected-downtime"] == NO_ESTIMATE
    case.counters.synced(0, 0, 31_745)
    case.counters.bandwidth = 133_912.0
    assert case.now()["expected-downtime"] == 970
    case.settings.parameters["avail-switchover-bandwidth"] = 1_300_275_200
    assert case.now()["expected-downtime"] == 100


def test_10_0_keeps_the_first_limit_as_its_estimate() -> None:
    """It is taken at the start; a later downtime-limit does not show."""
    case = Case(Version.V10_0, downtime_limit=300)
    case.settings.parameters["downtime-limit"] = 500
    assert case.now()["expected-downtime"] == 300


def test_in_postcopy_only_7_2_still_shows_an_estimate() -> None:
    """The others show the downtime that was."""
    for version, shown in ((Version.V7_2, True), (Version.V10_0, False), (Version.V11_1, False)):
        assert ("expected-downtime" in Case(version).now(postcopy=True)) is shown


def test_throttle_and_cache_are_there_only_while_they_are_on() -> None:
    """cpu-throttle-percentage while it throttles; xbzrle-cache with its capability."""
    case = Case(Version.V10_0, {"xbzrle": True}, xbzrle_cache_size=1 << 20)
    assert "cpu-throttle-percentage" not in case.now()
    case.throttle.percentage = 40
    answer = case.now()
    assert answer["cpu-throttle-percentage"] == 40
    assert answer["xbzrle-cache"] == {
        "cache-size": 1 << 20,
        "bytes": 0,
        "pages": 0,
        "cache-miss": 0,
        "cache-miss-rate": 0.0,
        "encoding-rate": 0.0,
        "overflow": 0,
    }


def test_the_dirty_limit_shows_how_long_it_makes_vcpus_sleep() -> None:
    """A ring of 16 MiB at 8 MiB/s is 2 s; at 4 MiB/s it would be 4."""
    case = Case(Version.V10_0)
    case.throttle.limit_mib_per_s = 4
    assert case.now()["dirty-limit-throttle-time-per-round"] == 0
    case.counters.dirty_pages_per_s = 2048
    answer = case.now()
    assert answer["dirty-limit-ring-full-time"] == 2_000_000
    assert answer["dirty-limit-throttle-time-per-round"] == 2_000_000


def test_when_it_is_over_nothing_is_left() -> None:
    """As ``completed`` shows it: no estimate, no dirty rate, no throttle."""
    case = Case(Version.V11_1)
    case.counters.dirty_pages_per_s = 5
    case.throttle.percentage = 20
    answer = case.figures.over()
    assert set(answer) == {"ram"}
    ram = answer["ram"]
    assert isinstance(ram, dict)
    assert (ram["remaining"], ram["dirty-pages-rate"]) == (0, 0)
