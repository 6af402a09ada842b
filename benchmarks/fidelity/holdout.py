"""Six more migrations, of other kinds than the grid: predicted first, by a model that was frozen, and recorded then.

The grid's predictions were renewed as the simulator grew, after its records had been looked at. Nothing of that holds
here: the file of predictions carries a digest of every source file of the model and the time at which it was written,
each recorded run carries the digest of that file, and predictions are never made anew once there is a record.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from benchmarks.guests import MIB
from whimbrel.engine.errors import BadInput
from whimbrel.guest.spec import PAGE_BYTES, PageClass, WorkloadSpec
from whimbrel.laboratory.link import Link, paced_link
from whimbrel.laboratory.load import until_quiet
from whimbrel.laboratory.stage import Guest

from . import predict
from .compare import Comparison, compare
from .moving import move, traced_stage
from .plan import CUT_OFF_S, LINK_RATE, RAM_BYTES
from .probe import Probed, probe
from .record import outcome_of, qemu_version, undisturbed
from .records import FOLDER, FORMAT, Calibration, Known, Prediction, Run, as_lines
from .scenarios import spec_of

FROZEN: Final = "holdout-predictions.json"
RUNS: Final = "holdout-runs.json"
PATIENCE_S: Final = 20.0
MODEL: Final = ("engine/**/*.py", "sim/**/*.py", "benchmarks/fidelity/predict.py", "benchmarks/fidelity/scenarios.py")
"""The source files that a prediction follows from."""
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One of the six.

    Attributes:
        name: for people.
        writers: each class that writes, as text without its rate, and its rate as a part of the link's goodput.
        limit_s: downtime limit.
        filled_bytes: random content; the rest of the memory is zero.
    """

    name: str
    writers: tuple[tuple[str, float], ...]
    limit_s: float
    filled_bytes: int
    link_rate: str = LINK_RATE
    ram_bytes: int = RAM_BYTES

    @property
    def ratio(self) -> float:
        """Bytes of page writes per second over the link's goodput."""
        return round(sum(ratio for _, ratio in self.writers), 6)

    def guest(self, goodput_bytes_per_s: float) -> Guest:
        """The guest of this cell on a link of this goodput."""
        rates = [round(ratio * goodput_bytes_per_s / PAGE_BYTES) * PAGE_BYTES for _, ratio in self.writers]
        classes = [
            PageClass.parse(f"{text},rate={rate}B/s") for (text, _), rate in zip(self.writers, rates, strict=True)
        ]
        size_bytes = self.filled_bytes - sum(each.size_bytes for each in classes)
        cold = PageClass(name="cold", size_bytes=size_bytes)
        return Guest(self.name, WorkloadSpec(classes=(*classes, cold)), self.ram_bytes)

    def known(self, probed: Probed) -> Known:
        """All that a prediction may use, the link being as probed."""
        guest = self.guest(probed.goodput_bytes_per_s)
        return Known(
            case=self.name,
            pattern=" and ".join(each.pattern.value for each in guest.spec.classes[:-1]),
            ratio=self.ratio,
            limit_s=self.limit_s,
            cut_off_s=CUT_OFF_S,
            classes=tuple(str(each) for each in guest.spec.classes),
            ram_bytes=guest.ram_bytes,
            beat_hz=guest.spec.beat_hz,
            guest_seed=guest.spec.seed,
            link_rate=self.link_rate,
            goodput_bytes_per_s=probed.goodput_bytes_per_s,
            pipe_bytes=probed.pipe_bytes,
            qemu=qemu_version(),
            accelerator="tcg",
            policy=f"fixed:downtime_limit={self.limit_s}s",
            kernel=platform.release(),
            load_cores=0.0,
        )


CELLS: Final = (
    Cell(
        name="uniform-0.5-100ms",
        writers=(("writer:size=48MiB,pattern=uniform", 0.5),),
        limit_s=0.1,
        filled_bytes=200 * MIB,
    ),
    Cell(
        name="zipf-1.1-150ms",
        writers=(("writer:size=96MiB,pattern=zipf,skew=1.1", 1.1),),
        limit_s=0.15,
        filled_bytes=160 * MIB,
    ),
    Cell(
        name="hotspot-and-sweep-0.5-200ms",
        writers=(("hot:size=64MiB,pattern=hotspot,share=80%,part=10%", 0.3), ("row:size=48MiB,pattern=sweep", 0.2)),
        limit_s=0.2,
        filled_bytes=200 * MIB,
    ),
    Cell(
        name="uniform-and-zipf-1.1-500ms",
        writers=(("even:size=24MiB,pattern=uniform", 0.4), ("tail:size=100MiB,pattern=zipf,skew=0.6", 0.7)),
        limit_s=0.5,
        filled_bytes=200 * MIB,
    ),
    Cell(
        name="sweep-0.5-100ms-600mbit-320MiB",
        writers=(("writer:size=128MiB,pattern=sweep", 0.5),),
        limit_s=0.1,
        filled_bytes=260 * MIB,
        link_rate="600mbit",
        ram_bytes=327616 << 10,
    ),
    Cell(
        name="hotspot-1.1-200ms-200mbit",
        writers=(("writer:size=64MiB,pattern=hotspot,share=85%,part=20%", 1.1),),
        limit_s=0.2,
        filled_bytes=120 * MIB,
        link_rate="200mbit",
    ),
)
"""Ratios between the grid's and beyond 1, two classes at once, other sizes, limits, memory and links. Written down
before any of them was simulated."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The predictions, and what they were made from.

    Attributes:
        written: when, UTC.
        model: SHA-256 of the model's source files, see `MODEL`.
        known: the inputs; the link was probed right before.
    """

    written: str
    model: str
    known: tuple[Known, ...]
    predictions: tuple[Prediction, ...]


class Recorded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of them.

    Attributes:
        predictions: SHA-256 of the file of predictions, as it lay there before the first of these runs.
        runs: each with the link as probed right before it, which no prediction has seen.
    """

    format: int
    predictions: str
    runs: tuple[Run, ...]


def model_digest(root: Path = _ROOT) -> str:
    """SHA-256 of the model's source files with their names."""
    whole = hashlib.sha256()
    for path in sorted(path for pattern in MODEL for path in root.glob(pattern)):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def freeze(calibration: Calibration, folder: Path = FOLDER, *, say: Callable[[str], None] = print) -> Frozen:
    """Probe the links, predict all cells, and write that down; nothing is migrated.

    Raises:
        BadInput: there are records already: what is predicted after the fact is no prediction.
        WhimbrelError: no paced link can be made.
    """
    if (folder / RUNS).exists():
        raise BadInput("--hold-out", str(folder / RUNS), "a folder in which none of it is on record yet")
    known: dict[str, Known] = {}
    for rate in dict.fromkeys(cell.link_rate for cell in CELLS):
        with paced_link(rate) as link, link.at_source():
            probed = probe(link)
        say(f"{rate}: {probed.goodput_bytes_per_s / 1e6:.2f} MB/s, {probed.pipe_bytes >> 10} KiB in the pipe")
        known |= {cell.name: cell.known(probed) for cell in CELLS if cell.link_rate == rate}
    inputs = tuple(known[cell.name] for cell in CELLS)
    model = model_digest()
    frozen = Frozen(
        written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        model=model,
        known=inputs,
        predictions=tuple(predict.predict_all(inputs, calibration)),
    )
    if model_digest() != model:
        raise BadInput("the model", model, "the same source files before and after the predictions: freeze again")
    (folder / FROZEN).write_bytes(msgspec.json.format(msgspec.json.encode(frozen), indent=1) + b"\n")
    return frozen


def load(folder: Path = FOLDER) -> Frozen:
    """The predictions.

    Raises:
        BadInput: there are none.
        msgspec.ValidationError: the file is of another form.
    """
    path = folder / FROZEN
    if not path.exists():
        asked = "one with predictions: run `python -m benchmarks fidelity predict --hold-out`"
        raise BadInput("--folder", str(folder), asked)
    return msgspec.json.decode(path.read_bytes(), type=Frozen)


def load_recorded(folder: Path = FOLDER) -> tuple[Run, ...]:
    """What came of it; nothing where nothing is on record.

    Raises:
        BadInput: the file of predictions is another than when these were recorded.
        msgspec.ValidationError: the file is of another form.
    """
    path = folder / RUNS
    if not path.exists():
        return ()
    recorded = msgspec.json.decode(path.read_bytes(), type=Recorded)
    found = _digest(folder)
    if found != recorded.predictions:
        raise BadInput(FROZEN, found, f"the file that lay there before it was recorded: {recorded.predictions}")
    return recorded.runs


def record(folder: Path = FOLDER, *, only: str = "", say: Callable[[str], None] = print) -> tuple[Run, ...]:
    """Record the cells that are predicted and not yet on record; after each run everything is saved.

    Args:
        folder: where predictions are and records will be.
        only: cells whose name contains this.
        say: told of every run.

    Raises:
        BadInput: nothing was predicted.
        WhimbrelError: a migration failed otherwise than by not converging; no paced link can be made.
    """
    done = {run.known.case: run for run in load_recorded(folder)}
    wanted = [known for known in load(folder).known if only in known.case and known.case not in done]
    for rate in dict.fromkeys(known.link_rate for known in wanted):
        with paced_link(rate) as link, link.at_source():
            for known in wanted:
                if known.link_rate == rate:
                    done[known.case] = uvloop.run(undisturbed(functools.partial(_once, link, known), say))
                    save(done.values(), folder)
    return tuple(done.values())


def save(runs: Iterable[Run], folder: Path = FOLDER) -> None:
    """Write what came, a line for each run, with the digest of the predictions as they lie there."""
    body = ",\n".join(as_lines(runs))
    (folder / RUNS).write_text(f'{{"format":{FORMAT},"predictions":"{_digest(folder)}","runs":[\n{body}\n]}}\n')


def compared(folder: Path = FOLDER) -> list[Comparison]:
    """What came against what was predicted, for each way of predicting; nothing where nothing is on record.

    Raises:
        BadInput: as `load_recorded`.
    """
    runs = load_recorded(folder)
    if not runs:
        return []
    predictions = load(folder).predictions
    kinds = dict.fromkeys(prediction.by for prediction in predictions)
    each = [compare(runs, [said for said in predictions if said.by == kind]) for kind in kinds]
    return [replace(comparison, by=f"hold-out, {comparison.by}") for comparison in each]


async def _once(link: Link, frozen: Known, attempt: int) -> Run:
    guest = Guest(frozen.case, spec_of(frozen), frozen.ram_bytes)
    load_cores = await until_quiet(PATIENCE_S)
    probed = probe(link)
    known = msgspec.structs.replace(
        frozen,
        goodput_bytes_per_s=probed.goodput_bytes_per_s,
        pipe_bytes=probed.pipe_bytes,
        load_cores=load_cores,
    )
    async with traced_stage(link, guest) as stage:
        return Run(known=known, outcome=outcome_of(await move(stage, frozen.limit_s, frozen.cut_off_s), attempt))


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / FROZEN).read_bytes()).hexdigest()
