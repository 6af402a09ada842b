"""How long the guest is out, against a bare script with QEMU's downtime limit of 300 ms on the same link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from whimbrel.laboratory.link import can_link, paced_link
from whimbrel.laboratory.place import Place
from whimbrel.laboratory.relay import paced_relay
from whimbrel.laboratory.stage import Guest

from .bars import Bar, Result, Row
from .figures import median, ratio
from .guests import idle, idle_zeros_last, writer
from .pairs import Manner, Pairs, run_pairs

GREATEST_TIME_RATIO = 1.05


class Paced(Place, Protocol):
    """A place whose link has a measured rate."""

    def goodput_bytes_per_s(self) -> float:
        """Bytes per second of one TCP stream."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One guest on one link, and what is asked there."""

    name: str
    guest: Guest
    greatest_ratio: float | None
    """Of our outage to the bare script's; ``None``: nothing is asked, it is shown."""


RATES = {"200mbit": 200e6 / 8, "1gbit": 1e9 / 8}
"""Links, as ``tc`` names them, and their bytes per second."""


def cases(rate: str, goodput_bytes_per_s: float) -> list[Case]:
    """The guests that are moved over a link."""
    if rate == "200mbit":
        return [
            Case("idle at 200 Mbit/s", idle(), 0.1),
            Case("idle at 200 Mbit/s, zeros last", idle_zeros_last(), None),
        ]
    return [
        Case(f"writes {share:.0%} of the link at 1 Gbit/s", writer(share, goodput_bytes_per_s), 0.2)
        for share in (0.05, 0.5)
    ]


def measure(manner: Manner) -> tuple[list[Result], dict[str, Pairs]]:
    """Run it.

    Returns:
        One result for each link, and the moves of each case.
    """
    why_not = can_link()
    if why_not:
        manner.say(f"!!! NO PACED LINK HERE ({why_not}).")
        manner.say("!!! A relay in this process paces instead: it takes CPU from both QEMUs, its buffers are its own.")
    results: list[Result] = []
    pairs: dict[str, Pairs] = {}
    for rate, nominal in RATES.items():
        with paced_relay(nominal) if why_not else paced_link(rate) as place:
            result, found = _on(place, rate, manner)
        results.append(result)
        pairs |= found
    return results, pairs


def _on(place: Paced, rate: str, manner: Manner) -> tuple[Result, dict[str, Pairs]]:
    goodput = place.goodput_bytes_per_s()
    kind = "relay" if place.relayed else "tbf between two network namespaces"
    manner.say(f"{rate} ({kind}): one TCP stream gets {goodput / 2**20:.1f} MiB/s")
    bars: list[Bar] = []
    rows: list[Row] = []
    found: dict[str, Pairs] = {}
    for case in cases(rate, goodput):
        pairs = run_pairs(place, case.guest, manner)
        found[case.name] = pairs
        ours, bare = pairs.values(lambda move: move.gap_s)
        ours_total, bare_total = pairs.values(lambda move: move.total_s)
        outage, time = ratio(ours, bare), ratio(ours_total, bare_total)
        if case.greatest_ratio is not None:
            ask = f"outage at most {case.greatest_ratio:g} of the bare script's"
            bars.append(Bar(case.name, ask, outage, case.greatest_ratio, "x"))
            ask = f"time at most {GREATEST_TIME_RATIO:g} of the bare script's"
            bars.append(Bar(case.name, ask, time, GREATEST_TIME_RATIO, "x"))
        else:
            rows.append(Row(f"{case.name}: outage, ours over bare", outage, "x"))
            rows.append(Row(f"{case.name}: time, ours over bare", time, "x"))
        for by, gaps, totals in (("bare", bare, bare_total), ("whimbrel", ours, ours_total)):
            rows.append(Row(f"{case.name}: outage, {by}", median(gaps).scaled(1e3), "ms"))
            rows.append(Row(f"{case.name}: time, {by}", median(totals), "s"))
    notes = (f"link: {kind}, one TCP stream gets {goodput / 2**20:.1f} MiB/s",)
    return Result(f"Outage at {rate}", tuple(bars), tuple(rows), notes), found
