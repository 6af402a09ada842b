"""What QEMU's steps cost: constants of a machine, measured on it, that predictions and the simulator share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What things cost in time, on the machine where they were measured: the class of machine that tests run on.

    Attributes:
        cpu_bytes_per_s: how fast the migration thread reads and writes pages in full where no link holds it.
        zero_page_s: how long it looks at a page that turns out to be zero.
        sync_s: the fixed part of one dirty-bitmap sync.
        sync_s_per_page: the part of a sync that grows with all RAM.
        sync_s_per_dirty_page: the part that grows with the pages that the log held at this sync (TCG clears the
            vCPU's translation for each of them).
        stop_s: from the decision to the guest's STOP.
        device_state_bytes: what all devices come to on the wire.
        load_s: the destination's loading of the device state and its answer on the return path.
        resume_s: from ``cont`` to RESUME.
        setup_s: from ``migrate`` to ``active``.
        start_stall_s: the guest's stall when logging begins (TCG).
    """

    cpu_bytes_per_s: float = 1.5e9
    zero_page_s: float = 0.3e-6
    sync_s: float = 0.0002
    sync_s_per_page: float = 4e-9
    sync_s_per_dirty_page: float = 0.0
    stop_s: float = 0.0005
    device_state_bytes: int = 40_000
    load_s: float = 0.004
    resume_s: float = 0.0005
    setup_s: float = 0.003
    start_stall_s: float = 0.0
