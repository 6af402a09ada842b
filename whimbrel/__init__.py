"""Live migration for QEMU without libvirt.

The whole public interface is here; `help(whimbrel.migrate)` is where to begin.
"""

from __future__ import annotations

from whimbrel.engine._version import __version__
from whimbrel.engine.errors import (
    BadInput,
    CannotConnect,
    Infeasible,
    MigrationCancelled,
    MigrationFailed,
    OutcomeUnknown,
    PreflightFailed,
    PreparationFailed,
    QemuRefused,
    WhimbrelError,
)
from whimbrel.engine.plan import Plan
from whimbrel.engine.policies import Fixed, LeastDowntime
from whimbrel.engine.policy import Abilities, Decision, Knobs, Measurement, Objectives, Observation, Policy, Reason
from whimbrel.engine.protocol import Waits
from whimbrel.engine.report import CompletedReport, OngoingReport, StageTime
from whimbrel.engine.states import Side
from whimbrel.engine.statistics import Iteration, Statistics
from whimbrel.engine.timeline import Downtime
from whimbrel.migration import Migration, migrate
from whimbrel.planning import Link, Planned, plan
from whimbrel.qmp_driver.destination import Destination, Existing, FromArgv, FromCallable, FromSource
from whimbrel.qmp_driver.findings import Finding, Severity
from whimbrel.qmp_driver.hooks import HookContext, HookRefused, Hooks
from whimbrel.qmp_driver.lock_file import FileLock
from whimbrel.qmp_driver.locks import LockProvider, LockRefused
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.parties import Party
from whimbrel.qmp_driver.preflight import inspect as preflight
from whimbrel.resolving import Resolution, resolve

__all__ = [
    "Abilities",
    "BadInput",
    "CannotConnect",
    "CompletedReport",
    "Decision",
    "Destination",
    "Downtime",
    "Existing",
    "FileLock",
    "Finding",
    "Fixed",
    "FromArgv",
    "FromCallable",
    "FromSource",
    "HookContext",
    "HookRefused",
    "Hooks",
    "Infeasible",
    "Iteration",
    "Knobs",
    "LeastDowntime",
    "Link",
    "LockProvider",
    "LockRefused",
    "Measurement",
    "Migration",
    "MigrationCancelled",
    "MigrationFailed",
    "Objectives",
    "Observation",
    "OngoingReport",
    "Options",
    "OutcomeUnknown",
    "Party",
    "Plan",
    "Planned",
    "Policy",
    "PreflightFailed",
    "PreparationFailed",
    "QemuRefused",
    "Reason",
    "Resolution",
    "Severity",
    "Side",
    "StageTime",
    "Statistics",
    "Waits",
    "WhimbrelError",
    "__version__",
    "migrate",
    "plan",
    "preflight",
    "resolve",
]
