"""The memory of a guest's plan: page by page, or in expectation."""

from __future__ import annotations

from whimbrel.sim.scenario import GuestPlan

from .contract import Memory
from .expected import ExpectedMemory


def memory_of(plan: GuestPlan, *, seed: int, kvm: bool = False) -> Memory:
    """A memory whose guest stands still, until `Memory.run` is called.

    Args:
        plan: the guest; its ``pages`` chooses (page by page needs numpy).
        seed: of the world. Without pages only where sweeps begin is drawn from it.
        kvm: whether the dirty log is KVM's, cleared by chunks while sending, or TCG's, cleared at the sync.

    Raises:
        BadInput: the plan is impossible; says everything that is wrong with it.
        ImportError: page by page, and numpy is not installed.
    """
    if not plan.pages:
        return ExpectedMemory(plan, seed=seed, kvm=kvm)
    # Here, since only those who count pages need numpy.
    from .paged import PagedMemory

    return PagedMemory(plan, seed=seed, kvm=kvm)
