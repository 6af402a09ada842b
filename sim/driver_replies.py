"""What the simulated driver reads in QEMU's answers, and the commands that it sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from whimbrel.engine.driving import ANSWER_WITHIN_S
from whimbrel.engine.errors import QemuRefused, WhimbrelError
from whimbrel.engine.measuring import pages_to_sample

from .driver_tasks import Work

BADGE = "whimbrel-migration-"


class Caller(Protocol):
    """Whatever carries a command out (`driver_line.Line`)."""

    def call(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        within_s: float = ANSWER_WITHIN_S,
        oob: bool = False,
    ) -> Work[Any]: ...


@dataclass(slots=True)
class Ram:
    """The ``ram`` part of an answer (`whimbrel.engine.sampling.RamFigures`)."""

    transferred_bytes: int
    remaining_bytes: int
    total_bytes: int
    page_size_bytes: int
    normal_pages: int
    duplicate_pages: int
    dirty_sync_count: int
    dirty_pages_per_s: int
    throughput_mbit_per_s: float


@dataclass(slots=True)
class Info:
    """An answer of ``query-migrate`` (`whimbrel.engine.sampling.Figures`); ``None``: not said."""

    status: str | None
    ram: Ram | None
    total_time_ms: int | None
    setup_time_ms: int | None
    downtime_ms: int | None
    expected_downtime_ms: int | None
    cpu_throttle_percentage: int | None
    blocked_reasons: tuple[str, ...]
    addresses: tuple[Mapping[str, Any], ...]
    """Where the destination listens."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Info:
        """Read an answer."""
        get = said.get
        ram = get("ram")
        return cls(
            get("status"),
            None if ram is None else _ram(ram.get),
            get("total-time"),
            get("setup-time"),
            get("downtime"),
            get("expected-downtime"),
            get("cpu-throttle-percentage"),
            tuple(get("blocked-reasons", ())),
            tuple(get("socket-address", ())),
        )

    @property
    def uri(self) -> str:
        """The newest address, as ``migrate`` takes it.

        Raises:
            WhimbrelError: there is none.
        """
        if not self.addresses:
            raise WhimbrelError("it does not say where it listens", side="destination")
        address = self.addresses[-1]
        if address["type"] == "unix":
            return f"unix:{address['path']}"
        host = f"[{address['host']}]" if ":" in address["host"] else address["host"]
        return f"tcp:{host}:{address['port']}"


def _ram(get: Any) -> Ram:
    return Ram(
        get("transferred", 0),
        get("remaining", 0),
        get("total", 0),
        get("page-size", 4096),
        get("normal", 0),
        get("duplicate", 0),
        get("dirty-sync-count", 0),
        get("dirty-pages-rate", 0),
        get("mbps", 0.0),
    )


@dataclass(frozen=True, slots=True)
class RunStatus:
    """An answer of ``query-status``."""

    status: str
    running: bool


def query_status(line: Caller) -> Work[RunStatus]:
    """Ask what the guest's processors do."""
    said = yield from line.call("query-status")
    return RunStatus(str(said["status"]), bool(said["running"]))


def query_migrate(line: Caller) -> Work[Info]:
    """Ask where the migration stands."""
    return Info.of((yield from line.call("query-migrate")))


def query_capabilities(line: Caller) -> Work[dict[str, bool]]:
    """List the capabilities that it has, and whether each is on."""
    said = yield from line.call("query-migrate-capabilities")
    return {each["capability"]: bool(each["state"]) for each in said}


def set_capabilities(line: Caller, capabilities: Mapping[str, bool]) -> Work[None]:
    """Switch capabilities; all or none."""
    states = [{"capability": name, "state": state} for name, state in capabilities.items()]
    yield from line.call("migrate-set-capabilities", {"capabilities": states})


def query_parameters(line: Caller) -> Work[dict[str, object]]:
    """List the parameters."""
    return dict((yield from line.call("query-migrate-parameters")))


def set_parameters(line: Caller, parameters: Mapping[str, object]) -> Work[None]:
    """Set parameters."""
    yield from line.call("migrate-set-parameters", parameters)


def calc_dirty_rate(line: Caller, window_s: float, *, milliseconds: bool, ram_bytes: int) -> Work[None]:
    """Start to measure the dirty rate by sampling pages.

    Args:
        line: to the guest's QEMU.
        ram_bytes: how large the guest is.
        window_s: length of the window, 1 to 60 whole seconds; from 0.05 s with ``milliseconds``.
        milliseconds: count it in milliseconds (QEMU 8.2 and later).
    """
    arguments: dict[str, object] = {"calc-time": round(window_s), "sample-pages": pages_to_sample(ram_bytes)}
    if milliseconds:
        arguments |= {"calc-time": round(window_s * 1000), "calc-time-unit": "millisecond"}
    yield from line.call("calc-dirty-rate", arguments)


def query_dirty_rate(line: Caller) -> Work[Mapping[str, Any]]:
    """Ask how far a measurement is, and what it found (``dirty-rate``, MiB/s)."""
    said: Mapping[str, Any] = yield from line.call("query-dirty-rate")
    return said


def cont(line: Caller) -> Work[None]:
    """Let the guest run."""
    yield from line.call("cont")


# ---- the badge of a source that is in a migration of ours (see whimbrel.qmp_driver.badge)


def worn(line: Caller) -> Work[list[str]]:
    """The badges that it wears."""
    said = yield from line.call("qom-list", {"path": "/objects"})
    return [each["name"] for each in said if each["name"].startswith(BADGE)]


def put_badge_on(line: Caller, badge: str) -> Work[None]:
    """Put one on, in place of all others."""
    for other in (yield from worn(line)):
        yield from take_badge_off(line, other)
    yield from line.call("object-add", {"qom-type": "secret", "id": badge, "data": badge})


def take_badge_off(line: Caller, badge: str) -> Work[None]:
    """Take it off; nothing happens where it is gone."""
    try:
        yield from line.call("object-del", {"id": badge})
    except QemuRefused:
        pass  # it is not there any more
