"""What is known of a guest, its link and its hosts before a migration, and how surely: what a plan is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .estimate import Estimate

CPU = Estimate(1.5e9, 0.1, "default")
MODEL = Estimate(1.0, 0.03, "default")
MODEL_DOWNTIME = Estimate(1.0, 0.2, "default")
"""Before any migration has been compared with what was predicted of it."""
SMALL_OUTAGE_S = 0.1
"""What a forecast of an outage is off by are the pipe, the loading, and where in its slice of 51 ms the sender stood:
beyond this it does not grow with the outage."""
DEVICE_STATE_PART = 0.6
"""Of the fixed cost of a switchover, what goes to sending and loading the device state: QEMU 7.2, a small guest."""


def outage_error(outage_s: float) -> float:
    """How much of `Belief.model_downtime`'s spread an outage of so many seconds has, 1 at most.

    A long one is off by no more seconds than a short one, so by a smaller part of itself.
    """
    return min(1.0, SMALL_OUTAGE_S / outage_s) if outage_s > 0 else 1.0


class CurvePoint(NamedTuple):
    """A measured point of the dirty curve."""

    window_s: float
    dirtied_bytes: float
    error_bytes: float
    """One standard error: of sampling, and of rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """All that a plan rests on. Times are seconds, sizes bytes of memory, rates bytes per second.

    Attributes:
        total_bytes: all RAM blocks.
        zero_bytes: of it, pages that are all zero and likely to stay so.
        points: of the dirty curve, windows rising; at least one.
        bandwidth_bytes_per_s: what the link between the hosts carries, wire bytes; the user's cap is not in it.
        pipe_bytes: what buffers and queues on the way hold.
        fixed_s: what a switchover takes with nothing left to send and an empty pipe: stop, device state, load, resume.
        device_state_part: of `fixed_s`, what goes to sending and loading the device state, 0 to 1.
        preparation_s: from the call to the first byte.
        vcpu_shares: how much of its time each vCPU needs for what it does, 0 to 1, waking up not counted
            (`whimbrel.engine.measuring.needed_shares`); empty: not known.
        delta_ratio: what a page that changed since it was sent comes to as XBZRLE's delta, as a part of a page;
            ``None``: not measured.
        cpu_bytes_per_s: how fast one thread of QEMU sends where no link holds it.
        model_time, model_bytes, model_downtime: by how much the model itself is off, learnt from earlier predictions:
            what was measured over what was predicted, and how far that scatters; of the downtime this is the
            scatter of outages up to `SMALL_OUTAGE_S` (`outage_error`).
        accelerator: of the source: ``kvm``, ``tcg``, or empty where it is not known; it decides how the dirty log is
            kept, and what a sync costs.
        notes: what a reader should know of the measuring, in sentences.
    """

    total_bytes: int
    zero_bytes: Estimate
    points: tuple[CurvePoint, ...]
    bandwidth_bytes_per_s: Estimate
    pipe_bytes: Estimate
    fixed_s: Estimate
    preparation_s: Estimate
    vcpu_shares: tuple[float, ...] = ()
    delta_ratio: Estimate | None = None
    device_state_part: float = DEVICE_STATE_PART
    cpu_bytes_per_s: Estimate = CPU
    model_time: Estimate = MODEL
    model_bytes: Estimate = MODEL
    model_downtime: Estimate = MODEL_DOWNTIME
    accelerator: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What kind of guest it is: guests of one kind, moved between the same two hosts, cost alike to switch over.

    Attributes:
        machine: its type in the versioned form (``pc-q35-7.2``).
        ram_bytes: the guest's RAM, without ROM and video memory.
        vcpus: how many.
        accelerator: ``kvm`` or ``tcg``.
        version: of the source's QEMU, ``(7, 2, 22)``.
    """

    machine: str
    ram_bytes: int
    vcpus: int
    accelerator: str
    version: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """What earlier migrations of the same kind between the same hosts say; ``None``: nothing.

    The fields are named as in `Belief`.
    """

    bandwidth_bytes_per_s: Estimate | None = None
    pipe_bytes: Estimate | None = None
    fixed_s: Estimate | None = None
    preparation_s: Estimate | None = None
    cpu_bytes_per_s: Estimate | None = None
    model_time: Estimate | None = None
    model_bytes: Estimate | None = None
    model_downtime: Estimate | None = None
    device_state_part: float | None = None
