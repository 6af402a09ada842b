"""What is on record: each prediction, written before its migration begins, and what came of it.

Two files of lines, appended and never changed. A line of what came has the SHA-256 of the prediction's line, so that
a prediction which was touched afterwards is found out, and the model's digest is in the prediction.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from whimbrel.engine.belief import Belief
from whimbrel.engine.errors import BadInput
from whimbrel.engine.estimate import Range
from whimbrel.engine.plan import Predicted
from whimbrel.engine.policy import Abilities

from .design import Case

FOLDER: Final = Path(__file__).parent / "recorded"
PREDICTED: Final = "predicted.jsonl"
CAME: Final = "came.jsonl"
MODEL: Final = (
    "engine/**/*.py",
    "qmp_driver/measuring.py",
    "qmp_driver/survey.py",
    "qmp_driver/peeking*.py",
    "qmp_driver/link_probe.py",
    "whimbrel/calibration.py",
    "benchmarks/foresight/predicting.py",
)
"""The source files that a prediction follows from."""
_ROOT: Final = Path(__file__).parents[2]


class Span(msgspec.Struct, frozen=True, array_like=True):
    """A `Range`; ``None`` stands for infinity, which JSON does not have."""

    low: float | None
    middle: float | None
    high: float | None

    @classmethod
    def of(cls, found: Range) -> Span:
        """Of a range."""
        return cls(*(value if math.isfinite(value) else None for value in (found.low, found.middle, found.high)))

    @property
    def range(self) -> Range:
        """The range."""
        return Range(*(math.inf if value is None else value for value in (self.low, self.middle, self.high)))


class Foretold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was predicted; the names are those of `whimbrel.engine.plan.Predicted`.

    Attributes:
        spans: by name.
        components: by the names of `whimbrel.engine.prediction.COMPONENTS`.
        took_s: to predict it.
    """

    meets: float
    moves: float
    misses: dict[str, float]
    spans: dict[str, Span]
    components: dict[str, Span]
    draws: int
    took_s: float = 0.0

    @property
    def ranges(self) -> dict[str, Range]:
        """`spans`, with their ends."""
        return {name: span.range for name, span in self.spans.items()}


SPANS: Final = (
    "total_s",
    "downtime_s",
    "transferred_bytes",
    "iterations",
    "lost_s",
    "throttle",
    "postcopy_s",
)


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prediction, as it was before its migration began.

    Attributes:
        case: all of it.
        attempt: 1, or more where an earlier one was called off, or disturbed by others.
        written: when, UTC.
        model: SHA-256 of the model's source files, see `MODEL`.
        learnt_from: how many migrations the model's constants are from; 0: defaults.
        belief: what was measured.
        abilities: what the source said that it can do.
        foretold: the prediction.
        survey_s: for so long the guest was measured.
        costs: of measuring, by name.
    """

    case: Case
    attempt: int
    written: str
    model: str
    learnt_from: int
    belief: Belief
    abilities: Abilities
    foretold: Foretold
    survey_s: float
    costs: dict[str, float] = {}


class Came(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of a migration. Seconds and bytes.

    Attributes:
        case: its name.
        attempt: as in `Said`.
        said: SHA-256 of that line.
        began: when ``migrate`` was sent, UTC.
        moved: whether the guest is the destination's.
        met: whether the objectives were.
        total_s: from ``migrate`` until the guest ran on the destination, or until it was called off.
        downtime_s: STOP to RESUME; ``None``: it did not move.
        outage_s: between two heartbeats of the guest.
        transferred_bytes: of RAM, on the wire, as QEMU counts.
        iterations: dirty-bitmap syncs of the running guest.
        throttle: the most that the guest was slowed by.
        lost_s: guest-seconds of work that were lost.
        postcopy_s: for so long pages still came after the guest had moved.
        components: by the names of `whimbrel.engine.prediction.COMPONENTS`, as reports have them.
        items: of the downtime, as the report has it.
        rows: of every iteration its end since ``migrate``, what it sent and what it dirtied.
        others_cores: cores that others used meanwhile.
        why: what the report says.
    """

    case: str
    attempt: int
    said: str
    began: str
    moved: bool
    met: bool
    total_s: float
    downtime_s: float | None
    outage_s: float | None
    transferred_bytes: float
    iterations: int
    throttle: float
    lost_s: float
    postcopy_s: float
    components: dict[str, float]
    items: dict[str, float]
    rows: tuple[tuple[float, float, float], ...]
    others_cores: float
    why: str

    def actual(self, name: str) -> float | None:
        """A figure, by the names of `SPANS`."""
        value = getattr(self, name)
        return None if value is None else float(value)


class Pair(msgspec.Struct, frozen=True):
    """A prediction and what came."""

    said: Said
    came: Came


def foretold_of(found: Predicted, took_s: float = 0.0) -> Foretold:
    """What is kept of a prediction.

    Raises:
        BadInput: the candidate can't be taken at all.
    """
    if found.excluded:
        raise BadInput("policy", found.candidate.policy, f"one that can be taken: {found.excluded}")
    spans = {name: getattr(found, name) for name in SPANS}
    return Foretold(
        meets=found.meets,
        moves=found.moves,
        misses=dict(found.misses),
        spans={name: Span.of(each) for name, each in spans.items() if each is not None},
        components={name: Span.of(each) for name, each in found.components.items()},
        draws=found.draws,
        took_s=took_s,
    )


class Store:
    """The two files of a folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Read what is there; nothing is there at first.

        Raises:
            BadInput: what came stands beside another prediction than it was recorded with, or beside none, or began
                before that was written.
            msgspec.ValidationError: a line is of another form.
        """
        self.folder = folder
        self._said = {
            (each.case.name, each.attempt): (each, digest)
            for line in _lines(folder / PREDICTED)
            for each, digest in [(msgspec.json.decode(line, type=Said), _sha(line))]
        }
        self._came = {
            (each.case, each.attempt): each
            for line in _lines(folder / CAME)
            for each in [msgspec.json.decode(line, type=Came)]
        }
        for key, came in self._came.items():
            self._check(came, *self._said.get(key, (None, "none")))

    def _check(self, came: Came, said: Said | None, digest: str) -> None:
        path = str(self.folder / PREDICTED)
        if said is None or digest != came.said:
            raise BadInput(path, digest, f"for {came.case} the line that it was made with: {came.said}")
        if came.began < said.written:  # both in UTC and in one form
            raise BadInput(path, said.written, f"written before {came.case} began: {came.began}")

    def predict(self, said: Said) -> None:
        """Put a prediction on record; it is on the disk when this returns."""
        line = msgspec.json.encode(said)
        self._append(PREDICTED, line)
        self._said[said.case.name, said.attempt] = (said, _sha(line))

    def record(self, came: Came) -> None:
        """Put what came on record."""
        self._append(CAME, msgspec.json.encode(came))
        self._came[came.case, came.attempt] = came

    def digest(self, case: str, attempt: int) -> str:
        """SHA-256 of a prediction's line."""
        return self._said[case, attempt][1]

    def attempts(self, case: str) -> int:
        """How often it was predicted."""
        return sum(name == case for name, _ in self._said)

    def came(self, case: str) -> list[Came]:
        """What came of all attempts that came to an end."""
        return [came for (name, _), came in self._came.items() if name == case]

    def pairs(self, stage: str) -> list[Pair]:
        """Of each case of a stage that is on record the attempt during which others did least."""
        best: dict[str, Pair] = {}
        for key, came in self._came.items():
            said = self._said[key][0]
            before = best.get(key[0])
            if said.case.stage == stage and (before is None or came.others_cores < before.came.others_cores):
                best[key[0]] = Pair(said, came)
        return list(best.values())

    def _append(self, name: str, line: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(sum(len(whole) + 1 for whole in _lines(path)))  # what a program that was ended left of a line
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())


def model_digest(root: Path = _ROOT, patterns: Sequence[str] = MODEL) -> str:
    """SHA-256 of the model's source files with their names."""
    whole = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def _lines(path: Path) -> list[bytes]:
    """Whole lines: one that was being written when the program ended was never on record."""
    if not path.exists():
        return []
    whole, _, _torn = path.read_bytes().rpartition(b"\n")
    return whole.split(b"\n") if whole else []


def _sha(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
