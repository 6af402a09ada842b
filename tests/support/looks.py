"""What QEMU says of a migration that never was: statistics of a guest with a known curve, over a known link."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from whimbrel.engine.statistics import Ledger, Statistics

SECOND = 1_000_000_000
MIB = 1 << 20
PAGE = 4096


@dataclass
class Looks:
    """A migration that is looked at every tenth of a second, without any policy: the limit stays as it is.

    Attributes:
        dirtied: distinct bytes dirtied in a window of so many seconds.
        rate: of the link, wire bytes per second.
        total_bytes: all RAM.
        limit_s: a sync comes when what is left can be sent in so long.
        throttle: what QEMU says that it takes.
        vcpu_share: what the vCPU uses; ``None``: it can't be seen.
    """

    dirtied: Callable[[float], float]
    rate: float = 100.0 * MIB
    total_bytes: int = 500 * MIB
    limit_s: float = 0.02
    throttle: float = 0.0
    vcpu_share: float | None = None
    ledger: Ledger = field(default_factory=Ledger)
    now_s: float = 0.0
    sent: float = 0.0
    left: float = 0.0
    iteration: int = 1

    def __post_init__(self) -> None:
        self.left = self.total_bytes

    def look(self) -> Ledger:
        """One more look, as it stands."""
        used = () if self.vcpu_share is None else (self.vcpu_share * self.now_s,)
        pages = round(self.sent) // PAGE
        self.ledger = self.ledger.add(
            Statistics(
                at_ns=round(self.now_s * SECOND),
                status="active",
                iteration=self.iteration,
                remaining_bytes=round(self.left),
                transferred_bytes=round(self.sent),
                total_bytes=self.total_bytes,
                normal_pages=pages,
                throttle=self.throttle,
                vcpu_s=used,
            )
        )
        return self.ledger

    def send(self, span_s: float) -> None:
        """Time passes."""
        sent = min(self.rate * span_s, self.left)
        self.now_s, self.sent, self.left = self.now_s + span_s, self.sent + sent, self.left - sent

    def run(self, iterations: int) -> Iterator[Ledger]:
        """So many iterations, look by look; the last look is the first one of the iteration after them."""
        for _ in range(iterations):
            began_s = self.now_s
            while self.left > self.limit_s * self.rate or self.now_s < began_s + 0.05:
                yield self.look()
                self.send(min(0.1, max(0.01, self.left / self.rate - self.limit_s)))
            yield self.look()
            self.left += self.dirtied(self.now_s - began_s) * (1 - self.left / self.total_bytes)
            self.iteration += 1
        yield self.look()
