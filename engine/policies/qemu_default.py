"""``qemu_default``: QEMU as it is if nobody sets anything; what a bare ``migrate`` does.

A downtime limit of 300 ms and a bandwidth of 128 MiB/s, no capability; where XBZRLE is switched on its cache is 64 MiB.
These are the defaults of QEMU's ``migration.c`` (7.2; ``options.c`` later on). The bandwidth is the trap in it: a link
of 10 Gbit/s is used to a tenth.
"""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuDefault:
    """Hold QEMU's own defaults.

    Attributes:
        downtime_limit_s: ``downtime-limit``, seconds.
        bandwidth_bytes_per_s: ``max-bandwidth``; 0: unlimited.
        xbzrle: whether to ask for the capability ``xbzrle``: pages sent again go as differences.
        xbzrle_cache_bytes: its cache, where it is asked for.
        multifd_channels: how many channels the capability ``multifd`` opens, 1 to 255; 0: it is not asked for.

    Raises:
        BadInput: a limit or a cache of 0 or less, or fewer than 0 channels.
    """

    downtime_limit_s: float = 0.3
    bandwidth_bytes_per_s: int = 128 * MIB
    xbzrle: bool = False
    xbzrle_cache_bytes: int = 64 * MIB
    multifd_channels: int = 0

    def __post_init__(self) -> None:
        above_zero(downtime_limit_s=self.downtime_limit_s, xbzrle_cache_bytes=self.xbzrle_cache_bytes)
        not_negative(bandwidth_bytes_per_s=self.bandwidth_bytes_per_s, multifd_channels=self.multifd_channels)

    def __call__(self, seen: Observation) -> Decision:
        """Decide once, before the start."""
        if seen.reason is not Reason.SETUP:
            return Decision()
        capabilities: dict[str, bool] = {}
        because = f"held at {self.downtime_limit_s * 1e3:.0f} ms"
        if self.xbzrle:
            capabilities["xbzrle"] = True
            because += f", XBZRLE with {self.xbzrle_cache_bytes / MIB:.0f} MiB"
        if self.multifd_channels:
            capabilities["multifd"] = True
            because += f", {self.multifd_channels} channels"
        return Decision(
            downtime_limit_s=self.downtime_limit_s,
            bandwidth_bytes_per_s=self.bandwidth_bytes_per_s,
            xbzrle_cache_bytes=self.xbzrle_cache_bytes if self.xbzrle else None,
            multifd_channels=self.multifd_channels or None,
            capabilities=capabilities,
            because=because,
        )
