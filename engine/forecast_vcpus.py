"""How long each of a guest's vCPUs runs during a forecast, as its host would count it."""

from __future__ import annotations

from dataclasses import dataclass

from .forecast_dirt import Area, Dirt


def shares_of(areas: list[Area], taken: float) -> tuple[float, ...]:
    """How much of its time each vCPU runs now, 0 to 1.

    Args:
        areas: with their writers, at their present speeds. Several on one vCPU add up, to no more than there is.
        taken: of the vCPUs' time.
    """
    writers = [(area.writers, area.speed) for area in areas if area.writers is not None]
    count = max((each.vcpu + each.vcpus for each, _ in writers), default=1)
    needed = [0.0] * count
    for each, speed in writers:
        for number in range(each.vcpu, each.vcpu + each.vcpus):
            needed[number] += (each.cpu_share or 0.0) * each.duty * speed
    return tuple([min(share, 1.0 - taken) for share in needed])


@dataclass(slots=True)
class VcpuTime:
    """Counts it.

    Attributes:
        shares: how much of its time each runs now.
    """

    shares: tuple[float, ...]
    _from_s: float = 0.0
    _ran_s: tuple[float, ...] = ()

    @classmethod
    def of(cls, dirt: Dirt) -> VcpuTime:
        """From the beginning on."""
        shares = shares_of(dirt.areas, 0.0)
        return cls(shares, _ran_s=(0.0,) * len(shares))

    def at(self, now_s: float) -> tuple[float, ...]:
        """How long each has run by now, seconds."""
        span_s = now_s - self._from_s
        return tuple([ran_s + share * span_s for ran_s, share in zip(self._ran_s, self.shares, strict=True)])

    def changed(self, now_s: float, dirt: Dirt, taken: float) -> None:
        """Speeds have changed."""
        self._ran_s, self._from_s = self.at(now_s), now_s
        self.shares = shares_of(dirt.areas, taken)
