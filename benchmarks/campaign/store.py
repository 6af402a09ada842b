"""The results file: one run on each line, appended when it is done, so that a campaign can be gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from .judge import VIOLATION, Evidence
from .plan import Run


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run that was done."""

    seed: int
    run: Run
    verdict: str
    violations: list[str]
    evidence: Evidence

    @property
    def struck(self) -> bool:
        """Whether what was to be hurt was there: a stream that is over can't be cut any more."""
        return any(hit["sockets"] for hit in self.evidence.hits) or self.evidence.died

    @property
    def bad(self) -> bool:
        """Whether something was as it may not be."""
        return self.verdict == VIOLATION


class Store:
    """A results file."""

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Raises:
            msgspec.ValidationError: it is no results file, or one of another version of this program.
        """
        self.path = path
        self._results: dict[tuple[int, str], Result] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                result = msgspec.json.decode(line, type=Result)
                self._results[result.seed, result.run.key] = result

    def of(self, seed: int, runs: list[Run]) -> list[Result]:
        """The results of those of these runs that were done; one that would be done otherwise now does not count."""
        found = (self._results.get((seed, run.key)) for run in runs)
        return [result for result, run in zip(found, runs, strict=True) if result is not None and result.run == run]

    def add(self, result: Result) -> None:
        """Keep one; of two with the same name the later one counts."""
        self._results[result.seed, result.run.key] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(result) + b"\n")


def summary(results: list[Result]) -> dict[str, Any]:
    """What there is to say of all of them together; times in seconds."""
    settled = sorted(result.evidence.total_s for result in results)
    resolving = sorted(result.evidence.resolving_s for result in results if result.evidence.resolved)
    return {
        "runs": len(results),
        "struck": sum(result.struck for result in results),
        "violations": sum(result.bad for result in results),
        "verdicts": {
            verdict: sum(result.verdict == verdict for result in results)
            for verdict in sorted({result.verdict for result in results})
        },
        "managers_killed": sum(result.evidence.died for result in results),
        "settled_by_resolve": len(resolving),
        "settled_by_a_word": sum(bool(result.evidence.fenced) for result in results),
        "settled_s_median": _quantile(settled, 0.5),
        "settled_s_greatest": _quantile(settled, 1.0),
        "resolve_s_median": _quantile(resolving, 0.5),
        "resolve_s_greatest": _quantile(resolving, 1.0),
    }


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[round(share * (len(ordered) - 1))] if ordered else None
