"""Everything that would stop a migration, or that somebody should know, before anything is touched.

All findings come at once, each with what was seen and what to do. ``judge`` and its parts are pure; what they
judge is gathered by ``inspect``, which only reads, and which starts a QEMU only to let it print its lists.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from whimbrel.engine.errors import CannotConnect, PreflightFailed
from whimbrel.engine.negotiation import REQUIRED

from .arguments import ArgumentPlan
from .compare import HOST_CPU_MODELS, compare
from .facts import SideFacts
from .findings import Finding, inform, refuse, refused, warn
from .monitor import Monitor
from .probe import BinaryFacts
from .replies import query_capabilities
from .sockets import UNIX_PATH_MAX_BYTES, Address
from .truth import SourceTruth

TRAP_ALIGNMENT_BYTES = 64 * 4096
"""64 pages: the granularity at which QEMU takes the fast path through its dirty bitmap (see ``memory_loss``)."""

TRAP_FIXED_IN = (9, 0)
"""The first QEMU whose fast path tells the TCG to log writes again."""

QEMU_OVERHEAD_BYTES = 64 << 20
"""What a QEMU needs besides its guest's RAM; an allowance, rather high for a small guest."""

OLDEST_QEMU = (6, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightInputs:
    """What ``judge`` judges. Whatever is ``None`` was not looked at.

    Attributes:
        source: what the running QEMU says.
        destination: what the waiting QEMU says, if it is there already.
        source_capabilities: names of the migration capabilities that the source has.
        destination_capabilities: and the destination.
        plan: the destination's command line, if it is yet to be started.
        binary: the QEMU that is to be started.
        available_bytes: memory that the destination's host could give to a new process.
        source_resident_bytes: how much of its memory the source's process really occupies.
        same_files: both ends open their disks by the same names.
        accept_memory_loss: go on although this QEMU is known to lose guest writes.
        gathered: findings that were made while gathering (a monitor that does not answer).
    """

    source: SideFacts
    destination: SideFacts | None = None
    source_capabilities: frozenset[str] | None = None
    destination_capabilities: frozenset[str] | None = None
    plan: ArgumentPlan | None = None
    binary: BinaryFacts | None = None
    available_bytes: int | None = None
    source_resident_bytes: int | None = None
    same_files: bool = True
    accept_memory_loss: bool = False
    gathered: tuple[Finding, ...] = field(default=())


def judge(inputs: PreflightInputs) -> tuple[Finding, ...]:
    """Judge all that was gathered; pure.

    Returns:
        Every finding. Those of severity ``REFUSE`` forbid the migration.
    """
    source, destination = inputs.source, inputs.destination
    findings: list[Finding] = [*inputs.gathered, *judge_source(source, inputs.accept_memory_loss)]
    if destination is not None:
        findings += judge_waiting(destination.run_state, destination.migration_status, listening=destination.listening)
        findings += same_process(source.pid, destination.pid)
        findings += compare(source, destination, same_files=inputs.same_files)
    findings += capabilities(inputs.source_capabilities, inputs.destination_capabilities)
    if inputs.plan is not None:
        findings += judge_plan(inputs.plan)
    if inputs.binary is not None:
        findings += judge_binary(source, inputs.binary)
    findings += memory(source, inputs.available_bytes, inputs.source_resident_bytes)
    return tuple(findings)


def judge_source(source: SideFacts, accept_memory_loss: bool = False) -> Iterable[Finding]:
    """What the source alone says against it: its state, a migration under way, QEMU's blockers, the trap."""
    if source.version[:2] < OLDEST_QEMU:
        yield refuse("qemu-too-old", f"the source is QEMU {_dotted(source.version)}", "anything from 6.2 is accepted")
    if source.run_state not in ("running", "paused"):
        yield refuse(
            "source-state",
            f"the source's guest is neither running nor paused but {source.run_state}",
            _STATE_ADVICE.get(source.run_state, "see to it that it runs, or is paused"),
        )
    if source.migration_status not in (None, "", "none", "completed", "failed", "cancelled"):
        yield refuse(
            "migration-under-way",
            f"the source has a migration under way ({source.migration_status})",
            "wait for its end, or cancel it",
        )
    for blocker in source.blockers:
        yield refuse("blocker", f"QEMU says: {blocker}", "remove what blocks it")
    yield from memory_loss(source, accept_memory_loss)


_STATE_ADVICE = {
    "inmigrate": "it is itself the destination of a migration: give the other QEMU as the source",
    "postmigrate": "its guest was migrated away, or a migration of its paused guest was called off: then"
    " cont, and stop after it, make it fit to be moved again",
    "finish-migrate": "a migration is under way",
    "shutdown": "its guest has shut down",
    "prelaunch": "its guest was never started: let it run once (cont), or start it where it is to be",
    "guest-panicked": "its guest has crashed",
    "internal-error": "its guest has crashed",
    "io-error": "its guest waits for a disk: mend that, and let it run (cont)",
}


def memory_loss(source: SideFacts, accept: bool) -> Iterable[Finding]:
    """The trap of TCG before QEMU 9.0: writes of the guest are lost, and QEMU reports success.

    Its fast path through the dirty bitmap (``cpu_physical_memory_sync_dirty_bitmap``, ``include/exec/ram_addr.h``)
    clears the dirty bits without making the TCG log the next write to those pages. It is taken for every
    block whose offset and length are multiples of 64 pages. Which blocks count:

    - The guest's RAM (memory backends): refused, for what is lost is the guest's data.
    - Video memory: the guest's processor writes to it as directly. A picture may be stale until it is drawn
      anew, which is a warning.
    - ROMs and the firmware's tables: the guest does not write to them, so nothing is lost.
    """
    if source.accelerator != "tcg" or source.version[:2] >= TRAP_FIXED_IN:
        return
    trapped = [block for block in source.ram_blocks if _on_fast_path(block.offset_bytes, block.used_bytes)]
    ram = [block for block in trapped if block in source.guest_ram]
    if ram:
        kind = warn if accept else refuse
        kib = ram[0].used_bytes // 1024 - 64
        yield kind(
            "memory-loss",
            f"QEMU {_dotted(source.version)} under TCG loses guest writes while it migrates RAM whose size is a "
            f"multiple of 256 KiB ({', '.join(f'{block.name}: {block.used_bytes} bytes' for block in ram)})",
            f"start the guest with another size of RAM (-m {kib}K), with KVM, or with QEMU 9.0 or later",
        )
    video = [block.name for block in trapped if block not in source.guest_ram and "vram" in block.name.replace("_", "")]
    if video:
        yield warn(
            "video-memory-loss",
            f"the picture in {', '.join(video)} may be stale after the move (QEMU {_dotted(source.version)} under TCG)",
            "let the guest draw its screen anew",
        )


def _on_fast_path(offset_bytes: int, length_bytes: int) -> bool:
    return length_bytes > 0 and offset_bytes % TRAP_ALIGNMENT_BYTES == 0 and length_bytes % TRAP_ALIGNMENT_BYTES == 0


def judge_waiting(run_state: str, migration_status: str | None, *, listening: bool) -> Iterable[Finding]:
    """Whether a destination that others started can still be set up.

    Args:
        run_state: as in ``query-status``.
        migration_status: as in ``query-migrate``. QEMU 7.2 says none while it listens.
        listening: it names an address at which it listens.
    """
    if run_state != "inmigrate":
        yield refuse(
            "destination-state",
            f"the destination does not wait for a migration, its guest is {run_state}",
            "start it with -incoming defer; a QEMU serves as a destination once",
        )
    elif listening or migration_status not in (None, "", "none"):
        yield refuse(
            "destination-listens",
            "the destination already listens for a migration, so its capabilities can no longer be set",
            "start it with -incoming defer instead of an address",
        )


def same_process(source_pid: int | None, destination_pid: int | None) -> Iterable[Finding]:
    """A QEMU can't be migrated to itself."""
    if source_pid is not None and source_pid == destination_pid:
        seen = f"source and destination are one process ({source_pid})"
        yield refuse("same-process", seen, "give the destination's own monitor")


def capabilities(source: frozenset[str] | None, destination: frozenset[str] | None) -> Iterable[Finding]:
    """Capabilities that the protocol needs, and those that only one end has."""
    for side, has in (("source", source), ("destination", destination)):
        missing = [] if has is None else [name for name in REQUIRED if name not in has]
        if missing:
            seen = f"the {side}'s QEMU has no migration capability {', '.join(missing)}"
            yield refuse("capability-missing", seen, "use QEMU 6.2 or later")
    if source is not None and destination is not None and source != destination:
        for side, only in (("source", source - destination), ("destination", destination - source)):
            if only:
                yield inform("capability-difference", f"only the {side} has {', '.join(sorted(only))}")


def judge_plan(plan: ArgumentPlan) -> Iterable[Finding]:
    """The arguments that can't be taken over, and the socket paths that are too long."""
    for verdict in plan.refused:
        seen = f"the source's argument {verdict.text} cannot be taken over: {verdict.because}"
        yield refuse("argument", seen, verdict.instead)
    for label, path in plan.relocalised.items():
        if path.endswith(".sock") and len(os.fsencode(path)) > UNIX_PATH_MAX_BYTES:
            yield refuse(
                "socket-path",
                f"the path of the destination's socket {label} has more than {UNIX_PATH_MAX_BYTES} bytes: {path}",
                "choose a shorter directory",
            )


def judge_binary(source: SideFacts, binary: BinaryFacts) -> Iterable[Finding]:
    """Whether the QEMU that is to be started exists, is one, and knows the machine and the CPU."""
    if binary.problem is not None:
        yield refuse("destination-binary", binary.problem, "give the path of a qemu-system binary")
        return
    if binary.machines and source.machine not in binary.machines:
        yield refuse(
            "machine-unknown",
            f"{binary.path} (QEMU {_dotted(binary.version)}) does not know the machine type {source.machine}",
            "use the source's QEMU, or a newer one that still has this type",
        )
    if source.cpu is not None and binary.cpus and source.cpu not in binary.cpus:
        yield refuse("cpu-unknown", f"{binary.path} does not know the CPU model {source.cpu}", "use the source's QEMU")
    elif source.cpu in HOST_CPU_MODELS and binary.version[:2] != source.version[:2]:
        yield refuse(
            "cpu-model-of-host",
            f"the CPU model {source.cpu} means something else in {binary.path}, which has another version",
            "restart the guest with a named CPU model, or use the source's QEMU",
        )
    if binary.version[:2] < source.version[:2]:
        yield warn(
            "older-destination",
            f"{binary.path} is QEMU {_dotted(binary.version)}, older than the source's {_dotted(source.version)}",
            "it may not know what the newer one sends",
        )


def memory(source: SideFacts, available_bytes: int | None, resident_bytes: int | None) -> Iterable[Finding]:
    """Whether the destination's host has the memory.

    RAM that the guest never touched costs nothing at either end, so what is refused is less memory than the
    source really occupies; less than the guest may come to use is a warning.
    """
    if available_bytes is None:
        return
    wanted = source.ram_bytes + QEMU_OVERHEAD_BYTES
    needed = wanted if resident_bytes is None else min(wanted, resident_bytes)
    if available_bytes < needed:
        yield refuse(
            "memory",
            f"the destination's host has {available_bytes >> 20} MiB to give and the guest occupies {needed >> 20} MiB",
            "free memory there: the kernel would kill a process, and it may choose the source",
        )
    elif available_bytes < wanted:
        yield warn(
            "memory-tight",
            f"the destination's host has {available_bytes >> 20} MiB to give and the guest may use {wanted >> 20} MiB",
            "free memory there",
        )


class Examiner(Protocol):
    """What ``inspect`` needs of a ``destination.Destination``."""

    async def examine(
        self, source: SourceTruth, *, accept_memory_loss: bool = False, thorough: bool = False
    ) -> tuple[Finding, ...]:
        """As ``Destination.examine``."""
        ...


async def inspect(source: Address, destination: Examiner, *, accept_memory_loss: bool = False) -> tuple[Finding, ...]:
    """Look at everything that can be looked at before a migration, and say all at once; nothing is changed.

    Args:
        source: the monitor of the running QEMU.
        destination: the way in which the destination is to come about.
        accept_memory_loss: see ``memory_loss``.

    Returns:
        Every finding; a monitor that does not answer is one too.

    Raises:
        BadInput: a replacement that fits no argument.
    """
    try:
        monitor = await Monitor.connect(source, side="source")
    except CannotConnect as error:
        return (refuse("source-monitor", error.message, error.advice or "give the socket of the guest's QMP monitor"),)
    async with monitor:
        truth = await SourceTruth.read(monitor)
        has = await query_capabilities(monitor)
    findings = await destination.examine(truth, accept_memory_loss=accept_memory_loss, thorough=True)
    return (*capabilities(frozenset(has), None), *findings)


def raise_if_refused(findings: Iterable[Finding]) -> None:
    """Do nothing, unless a finding forbids the migration.

    Raises:
        PreflightFailed: one does; it carries all of them.
    """
    everything = tuple(findings)
    forbidding = refused(everything)
    if forbidding:
        first = forbidding[0]
        more = f", and {len(forbidding) - 1} more" if len(forbidding) > 1 else ""
        advice = f" ({first.advice})" if first.advice else ""
        raise PreflightFailed(f"the migration cannot begin: {first.seen}{advice}{more}", everything)


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)
