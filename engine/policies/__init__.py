"""The policies that come with Whimbrel, a file each, and `BUILT_IN`: all of them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from whimbrel.engine.policy import Policy

from .auto_converge import AutoConverge
from .clark_rate import ClarkRate
from .cloud_hypervisor import CloudHypervisor
from .composition import first, then, when
from .conditions import Condition
from .cycle_aware import CycleAware
from .deadline import Deadline
from .dirty_limit import DirtyLimit
from .fixed import Fixed
from .ganeti_two_sync import GanetiTwoSync
from .hybrid_after import HybridAfter
from .hybrid_progress import HybridProgress
from .kubevirt_legacy import KubevirtLegacy
from .kubevirt_vep248 import KubevirtVep248
from .kubevirt_vep291 import KubevirtVep291
from .least_downtime import LeastDowntime
from .nova_steps import NovaSteps
from .ovirt_schedule import OvirtSchedule
from .predictive import Predictive
from .proxmox_double import ProxmoxDouble
from .qemu_default import QemuDefault
from .refined_auto_converge import RefinedAutoConverge
from .sdps_like import SdpsLike
from .smart_stop import SmartStop
from .throttle_to_fit import ThrottleToFit
from .xen_classic import XenClassic

BUILT_IN: Mapping[str, Callable[..., Policy]] = MappingProxyType(
    {
        "fixed": Fixed,
        "qemu_default": QemuDefault,
        "auto_converge": AutoConverge,
        "refined_auto_converge": RefinedAutoConverge,
        "dirty_limit": DirtyLimit,
        "nova_steps": NovaSteps,
        "proxmox_double": ProxmoxDouble,
        "ovirt_schedule": OvirtSchedule,
        "kubevirt_legacy": KubevirtLegacy,
        "kubevirt_vep291": KubevirtVep291,
        "kubevirt_vep248": KubevirtVep248,
        "ganeti_two_sync": GanetiTwoSync,
        "cloud_hypervisor": CloudHypervisor,
        "xen_classic": XenClassic,
        "clark_rate": ClarkRate,
        "smart_stop": SmartStop,
        "sdps_like": SdpsLike,
        "deadline": Deadline,
        "hybrid_after": HybridAfter,
        "hybrid_progress": HybridProgress,
        "cycle_aware": CycleAware,
        "least_downtime": LeastDowntime,
        "throttle_to_fit": ThrottleToFit,
        "predictive": Predictive,
    }
)
"""What makes a policy, by the name that users write. Each takes its parameters as keywords, all of them with a
default; what it makes serves one migration. Installed packages add theirs by the entry-point group
``whimbrel.policies``, in which these stand too."""

__all__ = [
    "BUILT_IN",
    "AutoConverge",
    "ClarkRate",
    "CloudHypervisor",
    "Condition",
    "CycleAware",
    "Deadline",
    "DirtyLimit",
    "Fixed",
    "GanetiTwoSync",
    "HybridAfter",
    "HybridProgress",
    "KubevirtLegacy",
    "KubevirtVep248",
    "KubevirtVep291",
    "LeastDowntime",
    "NovaSteps",
    "OvirtSchedule",
    "Predictive",
    "ProxmoxDouble",
    "QemuDefault",
    "RefinedAutoConverge",
    "SdpsLike",
    "SmartStop",
    "ThrottleToFit",
    "XenClassic",
    "first",
    "then",
    "when",
]
