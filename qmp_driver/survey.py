"""What is known of a guest and its link before a migration: measured on the running source, which it leaves as it was.

The source's monitor is held for as long as the measuring takes, for it may be the only one, and let go of at the end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from whimbrel.engine.belief import CPU, DEVICE_STATE_PART, MODEL, MODEL_DOWNTIME, Belief, CurvePoint, Kind, Typical
from whimbrel.engine.driving import END_GRACE_S, LOOK_EVERY_S
from whimbrel.engine.errors import BadInput, CannotConnect, OutcomeUnknown, WhimbrelError
from whimbrel.engine.estimate import Estimate
from whimbrel.engine.measuring import Mode, needed_shares, rate_point, why_not, windows_for, zero_unknown
from whimbrel.engine.negotiation import abilities
from whimbrel.engine.policy import Abilities
from whimbrel.engine.resolve import MOVING_STATUSES, POSTCOPY_STATUSES

from . import replies
from .facts import SideFacts, read_facts
from .kinds import host_of, kind_of
from .link_probe import LinkFound, probe_here
from .link_probe import probe as probe_there
from .measuring import Measuring
from .monitor import Monitor, QmpEvent
from .peeking import MemoryGone, Peeker, ProcessMemory, peek
from .peeking_places import LEAST_BYTES, CannotPeek, find_stretches
from .sockets import Address
from .stream import UNSENT_BYTES, in_our_network
from .truth import Peer
from .vcpus import find_threads, run_times_s, shares, sleeps
from .zero_pages import sample_zero

T = TypeVar("T")

SPAN_S: Final = 4.0
LEAST_SPAN_S: Final = 0.1
LONGEST_SPAN_S: Final = 60.0
BUSY_S: Final = 1.5
"""So long somebody else's ``calc-dirty-rate`` is waited for."""
FIXED = Estimate(0.015, 0.5, "default")
"""Stop, device state, load and resume of a small guest (docs: benchmarks, guest-seen gap of an idle guest)."""
STARTED_HERE = Estimate(0.4, 0.5, "default")
STARTED_THERE = Estimate(0.1, 0.7, "default")
"""From the call to the first byte, with a destination that is to be started here, and with one that waits."""
QEMU_PIPE_BYTES: Final = 4 << 20
"""What the kernel lets a socket of QEMU's own buffer (``tcp_wmem``, its default)."""
QUEUE_S: Final = 0.005
PIPE_SPREAD: Final = 0.7
SHARED_SPREAD: Final = 0.3
"""Of a bandwidth that is a matter of processors, not of a link, until history says better."""
ENDED: Final = {
    "SHUTDOWN": "the guest shut down while it was measured",
    "GUEST_PANICKED": "the guest panicked while it was measured",
    "STOP": "the guest was stopped while it was measured, so nothing was learnt of what it does",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What measuring cost.

    Attributes:
        took_s: the whole of it, seconds.
        read_bytes: of the guest's memory, by us; 0 where QEMU did the reading.
        cpu_s: processor seconds of ours in reading.
        link_bytes: sent over the link by the probe.
    """

    took_s: float
    read_bytes: int
    cpu_s: float
    link_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found.

    Attributes:
        belief: what a plan rests on.
        abilities: the source's; what both ends can do is known only once there are two.
        kind: what kind of guest it is.
        costs: of finding out.
        pid: the source's process, where it is on this host and proven.
    """

    belief: Belief
    abilities: Abilities
    kind: Kind
    costs: Costs
    pid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """How to survey; see `survey`."""

    source: Address
    span_s: float
    link: Estimate | None
    probe: tuple[str, int] | None
    may_probe: bool
    capped_bytes_per_s: int | None
    local: bool
    mode: Mode
    typical: Callable[[Kind, str], Typical]
    tell: Callable[[str], None]


def nothing_known(_kind: Kind, _host: str) -> Typical:
    """No history."""
    return Typical()


def tell_nobody(_text: str) -> None:
    """No progress is shown."""


async def survey(
    source: Address,
    *,
    span_s: float = SPAN_S,
    link: Estimate | None = None,
    probe: tuple[str, int] | None = None,
    may_probe: bool = True,
    capped_bytes_per_s: int | None = None,
    local: bool = True,
    mode: Mode = Mode.PAGE_SAMPLING,
    typical: Callable[[Kind, str], Typical] = nothing_known,
    tell: Callable[[str], None] = tell_nobody,
) -> Survey:
    """Measure a running guest and its link. Nothing is changed.

    What the link carries is taken from the first of these that there is: `link`, the sink that was named as `probe`,
    earlier migrations, a probe of this host's way to itself where the destination is here, and at last the cap.

    Args:
        source: the QMP monitor of the guest's QEMU.
        span_s: how long to look at the guest's memory, 0.1 to 60 s. ``calc-dirty-rate``, where it has to stand in,
            takes a second at least on QEMU before 8.2.
        link: what it carries, as the user says.
        probe: host and port of a ``whimbrel sink`` at the destination.
        may_probe: whether anything may be sent over the link.
        capped_bytes_per_s: the most that is going to be sent.
        local: whether the destination is going to be on this host.
        mode: sampling, by us where that is possible; or have QEMU count every page, where that is known to work.
        typical: what history says of a kind of guest on a host as the logs name it (empty: nobody knows which one it
            is); called once, in a thread.
        tell: told what is being done, a clause at a time.

    Raises:
        BadInput: ``measure`` (a span out of range), ``link`` (nothing is known of it, and nothing may be found out),
            ``mode`` (not known to work on this QEMU).
        CannotConnect: the source has no monitor for us, or nobody listens where the probe is to go.
        QemuRefused, OutcomeUnknown: the source's QEMU would not tell, or did not.
        WhimbrelError: the guest does not run, stopped, shut down or died meanwhile; it has no memory worth measuring;
            it is migrating already; somebody else is measuring it.

    If cancelled: the monitor is let go of; a measurement that QEMU has begun ends by itself and does no harm.
    """
    if not LEAST_SPAN_S <= span_s <= LONGEST_SPAN_S:
        raise BadInput("measure", f"{span_s:g} s", f"{LEAST_SPAN_S:g} s to {LONGEST_SPAN_S:g} s")
    if link is not None and not 0 < link.value < float("inf"):
        raise BadInput("link", link.value, "bytes per second, above 0")
    question = Question(
        source=source,
        span_s=span_s,
        link=link,
        probe=probe,
        may_probe=may_probe,
        capped_bytes_per_s=capped_bytes_per_s,
        local=local,
        mode=mode,
        typical=typical,
        tell=tell,
    )
    watch = _Watch()
    monitor = await Monitor.connect(source, side="source", on_event=watch.hear, on_lost=watch.lose)
    try:
        return await watch.unless_gone(_Surveyor(monitor, question).survey())
    finally:
        await monitor.close()


class _Watch:
    """Hears whether the guest goes on running."""

    def __init__(self) -> None:
        self._gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def hear(self, event: QmpEvent) -> None:
        if event.name in ENDED:
            self._end(ENDED[event.name])

    def lose(self, reason: str) -> None:
        self._end(f"the guest's QEMU went away while it was measured: {reason}")

    async def unless_gone(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it, unless the guest is gone first.

        Raises:
            WhimbrelError: it is.
        """
        working = asyncio.get_running_loop().create_task(work)
        try:
            await asyncio.wait((working, self._gone), return_when=asyncio.FIRST_COMPLETED)
            if not self._gone.done() and _may_be_its_end(working.exception()):
                await asyncio.wait((self._gone,), timeout=END_GRACE_S)
        finally:
            working.cancel()
            await asyncio.wait((working,))
            failed = working.cancelled() or working.exception() is not None
        if self._gone.done() and failed:
            raise WhimbrelError(self._gone.result(), side="source")
        return working.result()

    def _end(self, why: str) -> None:
        if not self._gone.done():
            self._gone.set_result(why)


def _may_be_its_end(error: BaseException | None) -> bool:
    """Whether a guest that is going away shows in such an error first."""
    if isinstance(error, CannotConnect):
        return error.side == "source"
    return isinstance(error, MemoryGone | OutcomeUnknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dirtied:
    """What was found of the guest's memory."""

    points: tuple[CurvePoint, ...]
    zero_bytes: Estimate
    delta_ratio: Estimate | None = None
    read_bytes: int = 0
    cpu_s: float = 0.0
    notes: tuple[str, ...] = ()


class _Surveyor:
    """One survey of one source."""

    def __init__(self, monitor: Monitor, question: Question) -> None:
        self._monitor = monitor
        self._ask = question
        self._notes: list[str] = []

    async def survey(self) -> Survey:
        began_s = time.monotonic()
        monitor, ask = self._monitor, self._ask
        await self._check_running()
        peer = await Peer.read(monitor)
        pid = None if peer.process is None else peer.process.pid
        facts = await read_facts(monitor, pid=pid)
        _check_memory(facts)
        kind = kind_of(facts)
        against = why_not(ask.mode, kind.version, kind.accelerator)
        if against:
            raise BadInput("mode", ask.mode.value, f"{Mode.PAGE_SAMPLING}: {against}")
        typical = await asyncio.to_thread(ask.typical, kind, host_of(ask.source, here=pid is not None))
        link = await self._link(typical, pid)
        threads = find_threads(pid, facts.cpu_threads) if pid is not None else ()
        measuring = Measuring(lambda: run_times_s(threads), mode=ask.mode)
        await measuring.look(monitor, facts.ram_bytes)
        can = await self._abilities(measuring.able, bool(threads))
        ask.tell(f"measuring what the guest dirties, for {ask.span_s:g} s")
        ran_s, slept, measured_s = run_times_s(threads), sleeps(threads), time.monotonic()
        dirtied = await self._dirtied(peer, facts, measuring)
        span_s = time.monotonic() - measured_s
        sleeps_per_s = [(after - before) / span_s for before, after in zip(slept, sleeps(threads), strict=False)]
        ran = shares(ran_s, run_times_s(threads), span_s)
        vcpu_shares = needed_shares(ran, sleeps_per_s, kind.accelerator)
        await self._check_running()
        belief = _belief(facts, typical, link, dirtied, local=ask.local)
        belief = replace(belief, vcpu_shares=vcpu_shares, notes=(*self._notes, *dirtied.notes))
        costs = Costs(
            took_s=time.monotonic() - began_s,
            read_bytes=dirtied.read_bytes,
            cpu_s=dirtied.cpu_s,
            link_bytes=link.sent_bytes,
        )
        return Survey(belief=belief, abilities=can, kind=kind, costs=costs, pid=pid)

    async def _check_running(self) -> None:
        status = await replies.query_status(self._monitor)
        if not status.running:
            message = f"the guest does not run (it is {status.status}), so what it dirties can't be measured"
            raise WhimbrelError(
                message, side="source", advice="let it run first, or give a policy: then nothing is measured"
            )

    async def _abilities(self, able: bool, threads: bool) -> Abilities:
        capabilities = await replies.query_capabilities(self._monitor)
        parameters = await replies.query_parameters(self._monitor)
        # As far as it can be told without trying it on a thread of the guest.
        outside = threads and os.geteuid() == 0
        return abilities(capabilities, capabilities, parameters, outside_throttle=outside, measuring=able)

    async def _link(self, typical: Typical, pid: int | None) -> LinkFound:
        ask, known = self._ask, typical.bandwidth_bytes_per_s
        if ask.link is not None:
            return self._unprobed(ask.link, typical, pid)
        if ask.probe is not None and ask.may_probe:
            ask.tell(f"probing the link to {ask.probe[0]}")
            return await probe_there(*ask.probe)
        if known is not None:
            return self._unprobed(known, typical, pid)
        if ask.local and ask.may_probe and pid is not None:  # else the source, and so the destination, may be elsewhere
            ask.tell("probing this host's way to itself")
            return _as_qemu_sends(await probe_here(), typical.cpu_bytes_per_s or CPU)
        if ask.capped_bytes_per_s is not None:
            self._notes.append("What the link carries is not known: it is taken for no less than the cap.")
            return self._unprobed(Estimate(ask.capped_bytes_per_s, 0.05, "the cap"), typical, pid)
        raise BadInput("link", "unknown", _HOW_TO_KNOW)

    def _unprobed(self, bandwidth: Estimate, typical: Typical, pid: int | None) -> LinkFound:
        shallow = pid is not None and in_our_network(pid)
        pipe_bytes = UNSENT_BYTES + QUEUE_S * bandwidth.value if shallow else float(QEMU_PIPE_BYTES)
        return LinkFound(
            bandwidth_bytes_per_s=bandwidth,
            pipe_bytes=typical.pipe_bytes or Estimate(pipe_bytes, PIPE_SPREAD, "default"),
            sent_bytes=0,
            took_s=0.0,
        )

    async def _dirtied(self, peer: Peer, facts: SideFacts, measuring: Measuring) -> _Dirtied:
        because = "it was asked for"
        if self._ask.mode is Mode.PAGE_SAMPLING:
            try:
                return await self._peeked(peer, facts)
            except CannotPeek as error:
                because = f"its memory can't be looked at from here: {error.message}"
        if not measuring.able:
            message = f"the guest can't be measured: its QEMU has no calc-dirty-rate, and {because}"
            raise WhimbrelError(message, side="source")
        return await self._sampled(facts, measuring, because)

    async def _peeked(self, peer: Peer, facts: SideFacts) -> _Dirtied:
        if peer.process is None:
            raise CannotPeek("its process is not on this host, or not shown to be QEMU's")
        stretches = await find_stretches(self._monitor, facts.ram_blocks, peer.process.pid)
        missing = {block.name for block in facts.guest_ram} - {stretch.name for stretch in stretches}
        if missing:
            raise CannotPeek(f"the guest does not show where {', '.join(sorted(missing))} lies")
        memory = ProcessMemory(peer.process)
        try:
            seen = await peek(Peeker(memory, stretches), self._ask.span_s)
        finally:
            memory.close()
        return _Dirtied(
            points=seen.points,
            zero_bytes=seen.zero_bytes,
            delta_ratio=seen.delta_ratio,
            read_bytes=seen.read_bytes,
            cpu_s=seen.cpu_s,
        )

    async def _sampled(self, facts: SideFacts, measuring: Measuring, because: str) -> _Dirtied:
        windows_s = windows_for(self._ask.span_s, milliseconds=measuring.milliseconds)
        points: list[CurvePoint] = []
        for window_s in windows_s:
            await self._until_free()
            one = await measuring.measure(self._monitor, window_s, within_s=window_s + BUSY_S)
            assert one is not None  # there is time for it
            points.append(rate_point(one.dirtied_bytes, one.window_s, facts.ram_bytes, self._ask.mode))
        zero_bytes = await sample_zero(self._monitor, facts.guest_ram)
        notes: tuple[str, ...] = (f"Measured by calc-dirty-rate ({self._ask.mode}): {because}.",)
        if zero_bytes == zero_unknown(facts.ram_bytes):
            notes += ("How many pages are zero is not known: a fifth is taken for likely, give or take a factor of 3.",)
        return _Dirtied(points=tuple(points), zero_bytes=zero_bytes, notes=notes)

    async def _until_free(self) -> None:
        """Wait a little for somebody else's measurement: QEMU has one at a time."""
        deadline_s = time.monotonic() + BUSY_S
        while (await replies.query_dirty_rate(self._monitor)).status == "measuring":
            if time.monotonic() > deadline_s:
                message = f"somebody else is measuring the guest (calc-dirty-rate), for more than {BUSY_S:g} s already"
                raise WhimbrelError(message, side="source", advice="wait for its end")
            await asyncio.sleep(LOOK_EVERY_S)


_HOW_TO_KNOW = "--link RATE, --probe HOST:PORT of a whimbrel sink at the destination, or --bandwidth"


def _check_memory(facts: SideFacts) -> None:
    if facts.ram_bytes < LEAST_BYTES:
        raise WhimbrelError("this QEMU has no guest with memory worth measuring", side="source")
    if facts.migration_status in MOVING_STATUSES | POSTCOPY_STATUSES:
        raise WhimbrelError("the guest is being migrated already", side="source")


def _as_qemu_sends(found: LinkFound, cpu: Estimate) -> LinkFound:
    """A host's way to itself takes more than QEMU sends: both ends of it share the processors with the guest."""
    probed = found.bandwidth_bytes_per_s
    bandwidth = probed if probed.value < cpu.value else replace(cpu, source="what a thread of QEMU sends")
    return replace(found, bandwidth_bytes_per_s=replace(bandwidth, spread=max(bandwidth.spread, SHARED_SPREAD)))


def _belief(facts: SideFacts, typical: Typical, link: LinkFound, dirtied: _Dirtied, *, local: bool) -> Belief:
    return Belief(
        total_bytes=sum(block.used_bytes for block in facts.ram_blocks),
        zero_bytes=dirtied.zero_bytes,
        points=dirtied.points,
        bandwidth_bytes_per_s=link.bandwidth_bytes_per_s,
        pipe_bytes=link.pipe_bytes,
        fixed_s=typical.fixed_s or FIXED,
        preparation_s=typical.preparation_s or (STARTED_HERE if local else STARTED_THERE),
        delta_ratio=dirtied.delta_ratio,
        device_state_part=DEVICE_STATE_PART if typical.device_state_part is None else typical.device_state_part,
        cpu_bytes_per_s=typical.cpu_bytes_per_s or CPU,
        model_time=typical.model_time or MODEL,
        model_bytes=typical.model_bytes or MODEL,
        model_downtime=typical.model_downtime or MODEL_DOWNTIME,
        accelerator=facts.accelerator,
    )
