"""What a manager leaves behind in its log, and how the next one takes it up.

A log tells more than the protocol needs: which QEMUs take part and how to find them again, where the
destination keeps its things, what the settings were before we changed them. `Legacy` is all of that, read from
the lines; it changes nothing and looks at nothing but the log.

A process is named by pid and start time, and those mean something only on the host, in the boot and in the
namespaces in which they were written down. `Host` says which. After a reboot every process of before is dead; from
another host, or out of another pid namespace, nothing can be said of any of them.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import msgspec

from whimbrel.engine.errors import PreparationFailed, WhimbrelError
from whimbrel.engine.policy import Abilities, Objectives
from whimbrel.engine.protocol import Waits
from whimbrel.engine.side_words import NO_STATUS
from whimbrel.engine.states import Side as SideName

from .facts import SideFacts
from .findings import Finding
from .hooks import Hooks
from .known import Known, Likeness, recorded_address
from .launch import Announce, StartedDestination, unannounced
from .options import Options
from .outside_hold import LINE as OUTSIDE
from .outside_hold import Hold
from .processes import ProcessIdentity, QemuProcess
from .sockets import Address
from .truth import SourceTruth

RECORDED = (
    "host",
    "port",
    "own_stream",
    "keep_source",
    "accept_memory_loss",
    "disks_shared",
    "lock_within_s",
    "stall_s",
    "reconnect_s",
)
"""The options that a log keeps besides the waits; objectives and policy stand in the header by themselves."""


ELSEWHERE = "its log is of another host, where the same path means another socket: resolve it there"


class Judged(enum.Enum):
    """What pids out of a log mean here."""

    SAME = "same"
    """The same host, boot and namespaces: they name processes."""
    REBOOTED = "rebooted"
    """The same host, another boot: none of them lives."""
    ELSEWHERE = "elsewhere"
    """Another host, or another pid namespace: nothing can be said of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where a manager runs, as far as it bears on pids and start times. Empty: not known."""

    boot_id: str = ""
    machine_id: str = ""
    name: str = ""
    namespaces: str = ""
    """Of pids and of the boot's clock, in which start times are counted."""

    @classmethod
    def here(cls) -> Self:
        """This one."""
        return cls(
            boot_id=_read("/proc/sys/kernel/random/boot_id"),
            machine_id=_read("/etc/machine-id"),
            name=os.uname().nodename,
            namespaces=" ".join(_link(f"/proc/self/ns/{name}") for name in ("pid", "time")).strip(),
        )

    def judge(self, then: Host) -> Judged:
        """What pids that were written down ``then`` mean here."""
        if self.boot_id and self.boot_id == then.boot_id:
            return Judged.SAME if self.namespaces == then.namespaces else Judged.ELSEWHERE
        # An empty or cloned machine-id says nothing: containers and golden images have those.
        known = all((self.boot_id, then.boot_id, self.machine_id, self.name))
        rebooted = known and (self.machine_id, self.name) == (then.machine_id, then.name)
        return Judged.REBOOTED if rebooted else Judged.ELSEWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationLeft:
    """A destination as the log names it (`StartedDestination`)."""

    address: Address
    known: Known
    owned: bool
    directory: Path | None = None
    relocalised: Mapping[str, str] = field(default_factory=dict[str, str])
    stderr: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one side had set before we set it otherwise."""

    capabilities: Mapping[str, bool] = field(default_factory=dict[str, bool])
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(slots=True, kw_only=True)
class Legacy:
    """What a manager left behind.

    Attributes:
        header: the first line.
        host: where it ran, before others took over.
        options: what it was told, as far as a log keeps it.
        source: the source, once it was reached; ``None`` if it never was.
        destination: the destination, once there was one.
        directory: the private directory of a destination that was about to be started.
        settings: what was set before, by side; a side that is missing was not touched.
        uri: where the destination listened last.
        badge: what the source wears if it is still in this migration (see ``badge``).
        outside: what slows, or may slow, the guest from outside of QEMU.
        abilities: what could be done with this pair.
        source_address: as the caller gave it.
        last_t_ns: the migration's clock at the last line.
    """

    header: Mapping[str, Any]
    host: Host
    options: Options
    source_address: Address
    source: Known | None = None
    destination: DestinationLeft | None = None
    directory: Path | None = None
    settings: dict[str, Settings] = field(default_factory=dict[str, Settings])
    uri: str = ""
    badge: str | None = None
    outside: Hold | None = None
    abilities: Abilities | None = None
    last_t_ns: int = 0
    _writer: Host = Host()
    """Where the manager ran that wrote the line at hand: a log may have seen several."""
    _seen_from: dict[SideName, Host] = field(default_factory=dict[SideName, Host])
    _outside_seen_from: Host = Host()
    _status_seen: set[str] = field(default_factory=set[str])

    @classmethod
    def read(cls, lines: Iterable[Mapping[str, Any]]) -> Self:
        """Gather it from the lines of a log.

        Raises:
            WhimbrelError: a line lacks what it should have, or was written by a version that keeps less.
        """
        number = 0
        legacy: Self | None = None
        try:
            for line in lines:
                number += 1
                if legacy is None:
                    legacy = cls._of_header(line)
                else:
                    legacy._take(line)
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
            raise WhimbrelError(f"line {number} of the log lacks what a new manager needs: {error!r}") from error
        if legacy is None:
            raise WhimbrelError("the log is empty")
        return legacy

    @classmethod
    def _of_header(cls, header: Mapping[str, Any]) -> Self:
        host = msgspec.convert(header["host"], Host)
        return cls(
            header=header,
            host=host,
            _writer=host,
            options=recorded_options(header),
            source_address=_address(header["options"]["source"]),
            last_t_ns=int(header["t_ns"]),
        )

    def started_ns(self, here: Host, monotonic_ns: int) -> int:
        """Where the migration's clock began, on ours; it never goes backwards.

        In the same boot the clock is the same, so the time that passed without a manager counts: QEMU went on, and
        rates are bytes over time. Otherwise the clock goes on from the last line.

        Args:
            here: this host.
            monotonic_ns: our clock now.
        """
        latest = monotonic_ns - self.last_t_ns
        if here.judge(self.host) is not Judged.SAME:
            return latest
        return min(latest, int(self.header.get("monotonic_ns", latest)))

    def judge(self, side: SideName, here: Host) -> Judged:
        """What one side's pid means here."""
        return here.judge(self._seen_from.get(side, self.host))

    def judge_outside(self, here: Host) -> Judged:
        """What the threads that are slowed from outside mean here."""
        return here.judge(self._outside_seen_from)

    def known(self, side: SideName) -> Known | None:
        """What is known of one side's QEMU."""
        if side is SideName.SOURCE:
            known = self.source
        else:
            known = self.destination.known if self.destination is not None else None
        return known and replace(known, had_status=known.had_status or side.value in self._status_seen)

    def _take(self, line: Mapping[str, Any]) -> None:
        self.last_t_ns = max(self.last_t_ns, int(line["t_ns"]))
        match line["kind"]:
            case "adopted":
                self._writer = msgspec.convert(line["host"], Host)
            case "side":
                self._take_side(SideName(line["side"]), _known(line))
            case "badge":
                self.badge = line["id"]
            case kind if kind == OUTSIDE:
                self.outside = None if line["hold"] is None else Hold.of(line["hold"])
                self._outside_seen_from = self._writer
            case "starting":
                self.directory = Path(line["directory"])
            case "destination":
                self._take_destination(line)
            case "settings":
                found = msgspec.convert(line, Settings)
                self.settings.setdefault(line["side"], found)  # those of the first time are those of before
            case "learnt":
                self.uri = str(line["facts"].get("uri", self.uri))
                if line.get("abilities") is not None:
                    self.abilities = msgspec.convert(line["abilities"], Abilities)
            case "qmp" if line["event"] == "MIGRATION" and line["data"].get("status") not in NO_STATUS:
                self._status_seen.add(line["side"])
            case _:
                pass

    def _take_side(self, side: SideName, known: Known) -> None:
        self._seen_from[side] = self._writer
        if side is SideName.SOURCE:
            self.source = known
        elif self.destination is not None:
            self.destination = replace(self.destination, known=known)

    def _take_destination(self, line: Mapping[str, Any]) -> None:
        directory, stderr = line["directory"], line["stderr"]
        self._seen_from[SideName.DESTINATION] = self._writer
        self.destination = DestinationLeft(
            address=_address(line["address"]),
            known=_known(line),
            owned=bool(line["owned"]),
            directory=Path(directory) if directory else None,
            relocalised=dict(line["relocalised"]),
            stderr=Path(stderr) if stderr else None,
        )


def find_process(known: Known, judged: Judged, *, stderr_path: Path | None = None) -> tuple[Known, QemuProcess | None]:
    """Find the process of a QEMU that a log names.

    Args:
        known: what the log says of it.
        judged: what its pid means here.
        stderr_path: where it writes its standard error.

    Returns:
        What may be relied on of it, and the process, which says at once if it has ended; ``None`` where that can't
        be told: then only its monitor tells.
    """
    if known.process is None:
        return known, None
    unproven = replace(known, process=None)
    if judged is Judged.ELSEWHERE:
        return unproven, None
    if judged is Judged.REBOOTED:
        return known, QemuProcess.ended(known.process, stderr_path=stderr_path)
    try:
        return known, QemuProcess.attach(known.process, stderr_path=stderr_path)
    except WhimbrelError:
        return unproven, None  # hidden from us


def started_again(left: DestinationLeft, process: QemuProcess | None) -> StartedDestination:
    """The destination of a log, in the form in which the driver holds one."""
    return StartedDestination(left.address, process, left.owned, directory=left.directory, relocalised=left.relocalised)


class NoDestination:
    """In the place of the way by which a destination came about: the next manager starts none."""

    async def examine(
        self, source: SourceTruth, *, accept_memory_loss: bool = False, thorough: bool = False
    ) -> tuple[Finding, ...]:
        """See ``Destination``."""
        return ()

    async def start(self, source: SourceTruth, announce: Announce = unannounced) -> StartedDestination:
        """See ``Destination``.

        Raises:
            PreparationFailed: always.
        """
        raise PreparationFailed("a migration that was taken over starts no destination", side="destination")

    def compare(self, source: SourceTruth, destination: SideFacts) -> tuple[Finding, ...]:
        """See ``Destination``."""
        return ()


# ---- options, and how they are written down


def record_options(options: Options, source: Address) -> dict[str, Any]:
    """What the header keeps of the options, for a manager that has nothing but the log."""
    kept: dict[str, Any] = {name: getattr(options, name) for name in RECORDED}
    return kept | {
        "waits": asdict(options.waits),
        "source": recorded_address(source),
        "hooks": hooks_of(options),
        "locked": options.locks is not None,
    }


def hooks_of(options: Options) -> list[str]:
    """The names of the hooks that are asked."""
    return [each.name for each in fields(Hooks) if callable(getattr(options.hooks, each.name))]


def recorded_options(header: Mapping[str, Any]) -> Options:
    """The options out of a header; what a log can't keep (hooks, a policy that is an object) is as by default.

    Raises:
        BadInput, KeyError, msgspec.ValidationError: it holds something else.
    """
    kept = header["options"]
    types = {each.name for each in fields(Options)}
    given = {name: kept[name] for name in RECORDED if name in kept and name in types}
    return Options(
        **given,
        waits=msgspec.convert(kept["waits"], Waits),
        objectives=msgspec.convert(header["objectives"], Objectives),
        policy_name=str(header.get("policy", "")),
    )


def _address(written: object) -> Address:
    return msgspec.convert(written, str | tuple[str, int])


def _known(line: Mapping[str, Any]) -> Known:
    likeness = line.get("likeness")
    return Known(
        address=_address(line["address"]),
        process=msgspec.convert(line.get("process"), ProcessIdentity | None),
        likeness=None if likeness is None else msgspec.convert(likeness, Likeness),
        had_status=bool(line.get("had_status", False)),
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
