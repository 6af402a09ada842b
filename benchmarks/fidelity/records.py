"""What is kept of a recorded migration: what was known before it, and, apart from that, what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

import msgspec

FOLDER: Final = Path(__file__).parent / "recorded"
RUNS: Final = "runs.json"
AGAIN: Final = "again.json"
"""Ten cells of the same grid once more: how well reality predicts itself, and nothing of how general a model is."""
CALIBRATION: Final = "calibration.json"
FORMAT: Final = 1


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a prediction may use, together with the calibration.

    Attributes:
        classes: the guest's page classes as text, in address order (`whimbrel.guest.spec`).
        ram_bytes: the guest's ``-m``.
        goodput_bytes_per_s: of the link, by our own stream, right before the migration.
        pipe_bytes: what the link and the kernel hold, by the same stream.
        limit_s: downtime limit.
        cut_off_s: it was to be called off so long after ``migrate``.
    """

    case: str
    pattern: str
    ratio: float
    limit_s: float
    cut_off_s: float
    classes: tuple[str, ...]
    ram_bytes: int
    beat_hz: int
    guest_seed: int
    link_rate: str
    goodput_bytes_per_s: float
    pipe_bytes: int
    qemu: str
    accelerator: str
    policy: str
    kernel: str
    load_cores: float
    """Cores that others used just before."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of it. Times are seconds, sizes bytes; a migration that was called off has no downtime.

    Attributes:
        verdict: ``converged`` or ``cut off``.
        iterations: QEMU's ``dirty-sync-count`` at the end; the first is made in the setup, the last one when stopped.
        total_s: from ``migrate`` until the guest ran on the destination (cut off: until it was called off).
        migrated_s: from ``migrate`` until the source said ``completed``.
        bytes: what QEMU counts as transferred: RAM, headers and all.
        downtime: its components by the engine's marks (`whimbrel.engine.timeline`), ``total_s`` among them.
        traced: of the switchover, by QEMU's trace events: see `benchmarks.fidelity.record`.
        outage_s: the guest's last heartbeat on the source to its first on the destination.
        work: part of its page writes that the guest got done during the migration, 0 to 1.
        others_cores: cores that others used meanwhile, on average.
        rows: for each sync: seconds after ``migrate``, how long it took, bytes left right after it (-1: not said).
    """

    verdict: str
    iterations: int
    total_s: float
    migrated_s: float | None
    bytes: int
    normal_pages: int
    duplicate_pages: int
    downtime: dict[str, float]
    traced: dict[str, float]
    outage_s: float | None
    work: float
    longest_stall_s: float
    others_cores: float
    repeated: int
    rows: tuple[tuple[float, float, int], ...]


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One recorded migration."""

    known: Known
    outcome: Outcome


class Prediction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was predicted of one migration; fields as in `Outcome`.

    Attributes:
        by: which predictor.
        inputs: `digest` of what went in.
        bytes: ``None``: the predictor says nothing of it.
    """

    case: str
    by: str
    inputs: str
    verdict: str
    iterations: int
    total_s: float
    bytes: int | None
    downtime: dict[str, float]
    outage_s: float | None = None


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Constants of this machine and its QEMU, from runs that are not among the recorded ones.

    Attributes:
        constants: fields of `sim.qemu.contract.Costs` by name.
        extra_bytes: RAM blocks besides the guest's own memory: what ``ram.total`` is more than ``-m``.
        own_pages: pages of the guest that are not zero besides its classes: program, firmware.
        measured: every single measurement, by constant.
        about: the machine.
    """

    constants: dict[str, float]
    extra_bytes: int
    own_pages: int
    measured: dict[str, list[float]]
    about: dict[str, str]


class Recorded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it, as it lies in the folder."""

    format: int
    runs: tuple[Run, ...]


def load_runs(folder: Path = FOLDER, name: str = RUNS) -> tuple[Run, ...]:
    """The recorded migrations.

    Args:
        folder: where they are.
        name: `RUNS` or `AGAIN`.

    Raises:
        msgspec.ValidationError: the file is of another form.
        FileNotFoundError: nothing was recorded.
    """
    return msgspec.json.decode((folder / name).read_bytes(), type=Recorded).runs


def load_calibration(folder: Path = FOLDER) -> Calibration:
    """The constants; raises as `load_runs`."""
    return msgspec.json.decode((folder / CALIBRATION).read_bytes(), type=Calibration)


def save_runs(runs: Iterable[Run], folder: Path = FOLDER, name: str = RUNS) -> None:
    """Write them, a line for each, in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(as_lines(runs))
    (folder / name).write_text(f'{{"format":{FORMAT},"runs":[\n{body}\n]}}\n')


def as_lines(runs: Iterable[Run]) -> list[str]:
    """Each as a line of JSON, in the order of their names."""
    return [
        json.dumps(_rounded(msgspec.to_builtins(run)), separators=(",", ":"))
        for run in sorted(runs, key=lambda run: run.known.case)
    ]


def save_calibration(calibration: Calibration, folder: Path = FOLDER) -> None:
    """Write them."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(msgspec.to_builtins(calibration), 9), indent=1, sort_keys=True)
    (folder / CALIBRATION).write_text(text + "\n")


def digest(*parts: msgspec.Struct) -> str:
    """SHA-256 of records, in a form that does not depend on how they lie in a file; the first 16 digits."""
    text = b"\0".join(msgspec.json.encode(part, order="sorted") for part in parts)
    return hashlib.sha256(text).hexdigest()[:16]


def _rounded(value: Any, places: int = 6) -> Any:
    """The same with its floats to the microsecond: more would be noise."""
    if isinstance(value, float):
        return round(value, places)
    if isinstance(value, dict):
        return {key: _rounded(item, places) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_rounded(item, places) for item in cast(list[Any], value)]
    return value
