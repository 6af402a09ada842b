"""CPU that the managing process uses for one migration: a short one, and one of five seconds.

The threads that listen to the guest are left out, on both sides: they measure. What the two QEMUs use is theirs.
"""

from __future__ import annotations

from .bars import Result, Row
from .figures import median, ratio
from .pairs import Pairs


def judge(measured: dict[str, Pairs]) -> list[Result]:
    """The figures of moves that were made for other reasons: every move takes its CPU down."""
    rows: list[Row] = []
    for name, pairs in measured.items():
        ours, bare = pairs.values(lambda move: move.manager_cpu_s)
        seconds, _ = pairs.values(lambda move: move.call_s)
        rows.append(Row(f"{name}: whimbrel, per migration", median(ours).scaled(1e3), "ms"))
        rows.append(Row(f"{name}: bare script, per migration", median(bare).scaled(1e3), "ms"))
        rows.append(Row(f"{name}: whimbrel over bare", ratio(ours, bare), "x"))
        shares = [used / lasted for used, lasted in zip(ours, seconds, strict=True)]
        rows.append(Row(f"{name}: whimbrel, share of a core", median(shares).scaled(100), "%"))
    return [Result("CPU of the managing process", (), tuple(rows))]
