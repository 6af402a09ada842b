"""``cloud_hypervisor``: whole passes until the next one fits the downtime; what Cloud Hypervisor does.

``is_precopy_converged`` (vmm/src/lib.rs, 2026) is asked at the start of every pass: the guest is paused where nothing
is dirty, or where the bytes of this pass divided by the bandwidth of the one before are within the downtime (300 ms).
After the timeout (3600 s), looked at in the same place, its strategy counts: ``cancel`` (the default) gives up,
``ignore`` pauses the guest whatever the rest. The estimate leaves out the device state, knowingly.

QEMU's own rule is held off between (`whimbrel.engine.policies.permits.HOLD_S`): it works on a bandwidth over 100 ms,
and anywhere in a pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from whimbrel.engine.policy import Decision, Observation, Reason

from .checking import not_negative, one_of
from .permits import HOLD_S, left_s, stop_now

STRATEGIES = ("cancel", "ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudHypervisor:
    """Cloud Hypervisor: stop before the first pass that fits the downtime; after an hour give up, or stop anyway.

    Needs: for ``cancel`` that giving up is allowed, for ``ignore`` pausing. Without either, all of the downtime
        allowed.

    Attributes:
        downtime_s: what the last pass may take, seconds; ``None``: the greatest downtime allowed.
        timeout_s: after which the strategy counts, seconds.
        timeout_strategy: ``cancel`` or ``ignore``.

    Raises:
        BadInput: a time makes no sense, or there is no such strategy.
    """

    downtime_s: float | None = None
    timeout_s: float = 3600.0
    timeout_strategy: str = "cancel"

    def __post_init__(self) -> None:
        one_of("timeout_strategy", self.timeout_strategy, STRATEGIES)
        not_negative(downtime_s=self.downtime_s or 0.0, timeout_s=self.timeout_s)

    def __call__(self, seen: Observation) -> Decision:
        """Decide at the start of each pass."""
        goal_s = seen.objectives.downtime_s if self.downtime_s is None else self.downtime_s
        if seen.reason is Reason.SETUP:
            return Decision(downtime_limit_s=HOLD_S, because=f"whole passes until one fits {goal_s * 1e3:.0f} ms")
        if seen.reason is not Reason.ITERATION or not seen.iterations:
            return Decision()
        expected_s = left_s(seen)
        if expected_s is not None and expected_s <= goal_s:
            return Decision(
                downtime_limit_s=goal_s,
                because=f"this pass takes {expected_s * 1e3:.0f} ms, of {goal_s * 1e3:.0f} ms",
            )
        if seen.elapsed_s >= self.timeout_s:
            return self._too_late(seen)
        told = "not known" if expected_s is None else f"{expected_s * 1e3:.0f} ms"
        return Decision(downtime_limit_s=HOLD_S, because=f"this pass takes {told}, {goal_s * 1e3:.0f} ms are allowed")

    def _too_late(self, seen: Observation) -> Decision:
        because = f"not converged in {self.timeout_s:.0f} s"
        if self.timeout_strategy == "ignore":
            return stop_now(seen, because)
        if seen.objectives.may_abort:
            return Decision(abort=True, because=because)
        return stop_now(seen, f"{because}; giving up is not allowed")
