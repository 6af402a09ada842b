"""``ganeti_two_sync``: post-copy once QEMU has synced twice, looked at once a second; what Ganeti does.

Ganeti (lib/hypervisor/hv_kvm, ``GetMigrationStatus``; lib/cmdlib/instance_migration.py) asks for the status every
second (``_MIGRATION_POLL_INTERVAL``) and starts post-copy where ``dirty-sync-count`` is at least
``_POSTCOPY_SYNC_COUNT_THRESHOLD``, 2, and the instance's ``migration_caps`` have ``postcopy-ram``. QEMU counts the
sync at the start as the first, so that is after one pass over the RAM. Its defaults (src/Ganeti/Constants.hs) are a
bandwidth of 32 MiB/s, of which it warns that hardly anybody can want it, and a downtime of 30 ms. It has no limit of
time: without post-copy the copying may go on for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from whimbrel.engine.pilot import POSTCOPY
from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import above_zero, not_negative
from .permits import why_no_postcopy
from .polling import Polls


@dataclass(slots=True, kw_only=True)
class GanetiTwoSync:
    """Ganeti: 30 ms and 32 MiB/s, and post-copy after the second sync.

    Needs: post-copy. Without it this is plain pre-copy, as in Ganeti.

    Attributes:
        syncs: from which ``dirty-sync-count`` on post-copy is started.
        poll_s: how often it looks, seconds.
        downtime_limit_s: the limit given to QEMU, seconds.
        bandwidth_bytes_per_s: what is sent at most; 0: unlimited.

    Raises:
        BadInput: a parameter makes no sense.
    """

    syncs: int = 2
    poll_s: float = 1.0
    downtime_limit_s: float = 0.03
    bandwidth_bytes_per_s: int = 32 << 20
    _polls: Polls = field(init=False)

    def __post_init__(self) -> None:
        above_zero(poll_s=self.poll_s)
        not_negative(downtime_limit_s=self.downtime_limit_s, bandwidth_bytes_per_s=self.bandwidth_bytes_per_s)
        self._polls = Polls(every_s=self.poll_s)

    def __call__(self, seen: Observation) -> Decision:
        """Decide once a second."""
        looks = self._polls.due(seen)
        wait_s = self._polls.wait_s(seen)
        refused = why_no_postcopy(seen)
        if seen.reason is Reason.SETUP:
            return Decision(
                downtime_limit_s=self.downtime_limit_s,
                bandwidth_bytes_per_s=self.bandwidth_bytes_per_s,
                capabilities={} if refused else {POSTCOPY: True},
                wake_after_s=wait_s,
                because=f"{refused}: plain pre-copy" if refused else f"post-copy from sync {self.syncs} on",
            )
        if not looks or refused or seen.iteration < self.syncs:
            return Decision(wake_after_s=wait_s)
        return Decision(
            start_postcopy=True, wake_after_s=wait_s, because=f"{seen.iteration} syncs, post-copy from {self.syncs} on"
        )
