"""Published predictors, by name: what they say of a migration, with all that they leave out.

| name | formula | from |
|---|---|---|
| ``recurrence`` | ``t' = f(t) / B`` until ``t`` is within the limit | A. Gudkov, qemu-devel 2023 |
| ``constant-rate`` | ``V_i = V (D/R)^i`` and its geometric series | Liu et al., HPDC 2011 |
| ``two-segment`` | a hot set, then a cold rate | mVM / BtrPlace, UCC 2015 |

None of them knows QEMU's windows, the pipe, a throttle or a policy: `whimbrel.engine.forecast` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .bounds import PAGE_HEADER_BYTES
from .curve import PAGE_BYTES, DirtyCurve
from .errors import BadInput

GIVES_UP_AFTER_S = 3600.0
"""The published loop gives up after an hour."""
MB = 1e6
ZERO_PAGE_WIRE_BYTES = 8
"""What it counts for a zero page. (QEMU sends one byte more.)"""
MOST_ROUNDS = 100_000
"""Of a loop whose rounds have become so short that the hour never comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One iteration as a model sees it."""

    number: int
    wire_bytes: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model says of one migration.

    Attributes:
        model: its name.
        converged: whether the last round comes within the downtime limit.
        total_s: until the end, the last round included; where it does not converge: until the model gave up
            (``inf``: it has no such time).
        downtime_s: of the last round, and what the model adds to it; ``None``: the model says nothing of it.
        iterations: rounds, the last one included.
        transferred_bytes: on the wire.
        rows: the rounds.
        reason: why it does not converge; empty where it does.
    """

    model: str
    converged: bool
    total_s: float
    downtime_s: float | None
    iterations: int
    transferred_bytes: float
    rows: tuple[Round, ...] = ()
    reason: str = ""


def recurrence(
    curve: DirtyCurve,
    *,
    total_bytes: float,
    zero_bytes: float,
    bytes_per_s: float,
    downtime_limit_s: float,
    give_up_after_s: float = GIVES_UP_AFTER_S,
) -> Prediction:
    """Gudkov's loop: each round sends what was dirtied during the one before it.

    Args:
        curve: of the guest.
        total_bytes: all RAM, which the first round sends.
        zero_bytes: of it, pages that are all zero: a header each.
        bytes_per_s: of the link, above 0; pages have their headers on it.
        downtime_limit_s: the loop ends with the round that takes no longer.
        give_up_after_s: and without success once so much time has passed.
    """
    wire_each = (PAGE_BYTES + PAGE_HEADER_BYTES) / PAGE_BYTES
    wire = (total_bytes - zero_bytes) * wire_each + zero_bytes / PAGE_BYTES * ZERO_PAGE_WIRE_BYTES
    total_s = sent = 0.0
    rows: list[Round] = []
    while True:
        last_s = wire / bytes_per_s
        total_s += last_s
        sent += wire
        rows.append(Round(number=len(rows) + 1, wire_bytes=wire, duration_s=last_s))
        converged = last_s <= downtime_limit_s
        if converged or total_s > give_up_after_s or len(rows) >= MOST_ROUNDS:
            break
        wire = curve.at(last_s) * wire_each
    reason = f"after {total_s:.0f} s a round still takes {last_s:.3g} s, more than {downtime_limit_s:g} s"
    return Prediction(
        model="recurrence",
        converged=converged,
        total_s=total_s,
        downtime_s=last_s,
        iterations=len(rows),
        transferred_bytes=sent,
        rows=tuple(rows),
        reason="" if converged else reason,
    )


def constant_rate(
    *,
    total_bytes: float,
    dirty_bytes_per_s: float,
    bytes_per_s: float,
    downtime_limit_s: float,
    resume_s: float = 0.0,
) -> Prediction:
    """The closed forms of HPDC'11 for a constant dirty rate D on a link of rate R; no headers.

    With ``r = D/R``: rounds of ``V r^i`` bytes, ``n = ceil(log_r(R limit / V))`` before the last one,
    ``T = (V/R) (1 - r^(n+1)) / (1 - r)``, downtime ``V r^n / R + resume``.

    Args:
        total_bytes: V, above 0.
        dirty_bytes_per_s: D.
        bytes_per_s: R, above 0.
        downtime_limit_s: what the last round may take.
        resume_s: what the model adds for resuming the guest.
    """
    ratio, first_s = dirty_bytes_per_s / bytes_per_s, total_bytes / bytes_per_s
    if first_s <= downtime_limit_s:
        rounds = 0
    elif ratio >= 1:
        reason = f"the guest dirties {ratio:.2f} bytes for each one that is sent"
        return Prediction(
            model="constant-rate",
            converged=False,
            total_s=math.inf,
            downtime_s=None,
            iterations=0,
            transferred_bytes=math.inf,
            reason=reason,
        )
    elif ratio == 0:
        rounds = 1
    else:
        # Rounding of the logarithm must not cost a round whose length is the limit to the last digit.
        rounds = math.ceil(math.log(downtime_limit_s / first_s) / math.log(ratio) - 1e-12)
    sizes = [total_bytes * ratio**i for i in range(rounds + 1)]
    sending_s = first_s * (1 - ratio ** (rounds + 1)) / (1 - ratio) if ratio < 1 else first_s
    return Prediction(
        model="constant-rate",
        converged=True,
        total_s=sending_s + resume_s,
        downtime_s=sizes[-1] / bytes_per_s + resume_s,
        iterations=rounds + 1,
        transferred_bytes=sending_s * bytes_per_s,
        rows=tuple(Round(number=i + 1, wire_bytes=size, duration_s=size / bytes_per_s) for i, size in enumerate(sizes)),
    )


def two_segment(
    *,
    used_bytes: float,
    hot_bytes: float,
    hot_s: float,
    cold_bytes_per_s: float,
    link_bits_per_s: float,
) -> Prediction:
    """mVM's formulas: a hot set that is dirty after `hot_s`, then a cold rate. It says nothing of downtime.

    Args:
        used_bytes: memory in use (M).
        hot_bytes: the hot set (H).
        hot_s: after which it is dirty as a whole (h), above 0.
        cold_bytes_per_s: what is dirtied per second from then on (c).
        link_bits_per_s: of the link; the model takes a byte for each 9 bits, in whole MB/s (so its published plans
            come out to the second; below 1 MB/s nothing is rounded).
    """
    goodput = link_bits_per_s / 9
    if goodput >= MB:
        goodput = goodput // MB * MB
    first_s, hot_rate = used_bytes / goodput, hot_bytes / hot_s
    if hot_rate >= goodput or (first_s > hot_s and cold_bytes_per_s >= goodput):
        reason = f"the guest dirties {max(hot_rate, cold_bytes_per_s):.3g} bytes/s, the link carries {goodput:.3g}"
        return Prediction(
            model="two-segment",
            converged=False,
            total_s=math.inf,
            downtime_s=None,
            iterations=0,
            transferred_bytes=math.inf,
            reason=reason,
        )
    if first_s <= hot_s:
        segments = [first_s, hot_rate * first_s / (goodput - hot_rate)]
    else:
        cold_s = (hot_bytes + (first_s - hot_s) * cold_bytes_per_s) / (goodput - cold_bytes_per_s)
        segments = [first_s, cold_s, hot_bytes / goodput * hot_rate / (goodput - hot_rate)]
    return Prediction(
        model="two-segment",
        converged=True,
        total_s=sum(segments),
        downtime_s=None,
        iterations=len(segments),
        transferred_bytes=sum(segments) * goodput,
        rows=tuple(Round(number=i + 1, wire_bytes=s * goodput, duration_s=s) for i, s in enumerate(segments)),
    )


# ---- by name, from the same question


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What all models are asked: one guest, one link, one limit.

    Attributes:
        curve: of the guest.
        total_bytes: all RAM.
        zero_bytes: of it, pages that are all zero.
        bytes_per_s: of the link.
        downtime_limit_s: above 0.
        rate_window_s: ``constant-rate`` takes its dirty rate from a window of this length.
        hot_s: ``two-segment`` takes its hot set from a window of this length, and its cold rate from there to
            `rate_window_s`.

    Raises:
        BadInput: a number is out of its range.
    """

    curve: DirtyCurve
    total_bytes: float
    zero_bytes: float = 0.0
    bytes_per_s: float
    downtime_limit_s: float
    rate_window_s: float = 60.0
    hot_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("total_bytes", "bytes_per_s", "downtime_limit_s", "hot_s"):
            value: float = getattr(self, name)
            if not 0 < value < math.inf:
                raise BadInput(name, value, "a finite number above 0")
        if not 0 <= self.zero_bytes <= self.total_bytes:
            raise BadInput("zero_bytes", self.zero_bytes, "0 to total_bytes")
        if not self.hot_s < self.rate_window_s < math.inf:
            raise BadInput("rate_window_s", self.rate_window_s, f"more than hot_s ({self.hot_s:g} s), and finite")


def _by_recurrence(asked: Question) -> Prediction:
    return recurrence(
        asked.curve,
        total_bytes=asked.total_bytes,
        zero_bytes=asked.zero_bytes,
        bytes_per_s=asked.bytes_per_s,
        downtime_limit_s=asked.downtime_limit_s,
    )


def _by_constant_rate(asked: Question) -> Prediction:
    return constant_rate(
        total_bytes=asked.total_bytes - asked.zero_bytes,
        dirty_bytes_per_s=asked.curve.at(asked.rate_window_s) / asked.rate_window_s,
        bytes_per_s=asked.bytes_per_s,
        downtime_limit_s=asked.downtime_limit_s,
    )


def _by_two_segments(asked: Question) -> Prediction:
    hot_bytes = asked.curve.at(asked.hot_s)
    return two_segment(
        used_bytes=asked.total_bytes - asked.zero_bytes,
        hot_bytes=hot_bytes,
        hot_s=asked.hot_s,
        cold_bytes_per_s=(asked.curve.at(asked.rate_window_s) - hot_bytes) / (asked.rate_window_s - asked.hot_s),
        link_bits_per_s=asked.bytes_per_s * 8,
    )


MODELS: dict[str, Callable[[Question], Prediction]] = {
    "recurrence": _by_recurrence,
    "constant-rate": _by_constant_rate,
    "two-segment": _by_two_segments,
}
"""The models by name."""


def predict(model: str, asked: Question) -> Prediction:
    """What a model says.

    Raises:
        BadInput: there is no model of this name.
    """
    if model not in MODELS:
        raise BadInput("model", model, f"one of {', '.join(MODELS)}")
    return MODELS[model](asked)
