"""Looking, backing out and letting go, in virtual time: by the same steps as the modules of `whimbrel.qmp_driver`.

`inspection`, `restoring`, `releasing`, `breaking`, `discarding` and `postcopy` there are what is mirrored here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from whimbrel.engine.driving import (
    BEFORE_THE_STOP,
    EXIT_WITHIN_S,
    FIGURES_LOOKS,
    FINAL_STATUS_WITHIN_S,
    GLANCE_WITHIN_S,
    LOOK_EVERY_S,
    PAUSED_WITHIN_S,
    SETTINGS_WITHIN_S,
    holds_the_only_copy,
)
from whimbrel.engine.errors import CannotConnect, OutcomeUnknown, QemuRefused, WhimbrelError
from whimbrel.engine.machine import Event, Happened, Learnt, Sampled
from whimbrel.engine.resolve import (
    MOVING_STATUSES,
    STILL_STATES,
    DestinationClass,
    Intent,
    SourceClass,
    classify_destination,
    classify_source,
    intent_of,
)
from whimbrel.engine.sampling import statistics_of
from whimbrel.engine.signals import Signal
from whimbrel.engine.states import Fact

from .clock import SECOND_NS
from .driver_replies import Caller, cont, query_migrate, query_status, set_capabilities, set_parameters
from .driver_side import Side
from .driver_tasks import Loop, Work

Deliver = Callable[[Event], None]
YANK = {"instances": [{"type": "migration"}]}


# ---- inspection


def look_at_source(side: Side, *, within_s: float, deliver: Deliver) -> Work[SourceClass]:
    """The source's class; what is learnt on the way is delivered."""
    words = yield from _ask(side, within_s)
    if words is None:
        if not (yield from side.is_gone()):
            return SourceClass.UNREACHABLE
        return SourceClass.ENDED if (yield from side.has_ended()) else SourceClass.GONE
    status, run_state = words
    if status in BEFORE_THE_STOP and run_state in STILL_STATES:
        deliver(Happened(Signal.SOURCE_PAUSED, f"the guest stands still: {run_state}"))
    return classify_source(status, run_state)


def look_at_destination(side: Side, *, within_s: float) -> Work[DestinationClass]:
    """The destination's class."""
    words = yield from _ask(side, within_s)
    if words is None:
        return DestinationClass.ENDED if (yield from side.is_gone()) else DestinationClass.UNREACHABLE
    return classify_destination(*words)


def _ask(side: Side, within_s: float) -> Work[tuple[str | None, str | None] | None]:
    try:
        yield from side.reach(within_s=within_s)
        return (yield from side.look_around())
    except (OutcomeUnknown, CannotConnect):
        return None


def the_dead(source: Side, destination: Side, known: frozenset[Fact]) -> list[Happened]:
    """News of processes that ended while nobody looked."""
    text = "its process had ended when it was taken over (if its guest was moved on since, it runs there)"
    news: list[Happened] = []
    if destination.handle is not None and destination.handle.exited:
        news.append(Happened(Signal.DESTINATION_ENDED, f"the destination: {text}"))
    words_matter = intent_of(known) is Intent.CONTINUED
    if source.handle is not None and source.handle.exited and not words_matter:
        news.append(Happened(Signal.SOURCE_ENDED, f"the source: {text}"))
    return news


# ---- the source keeps the guest


def await_final_status(loop: Loop, line: Caller, deliver: Deliver) -> Work[None]:
    """Wait until the source is done with its migration, or the guest runs and it can be left to itself."""
    due_ns = loop.now_ns + round(FINAL_STATUS_WITHIN_S * SECOND_NS)
    while True:
        info = yield from query_migrate(line)
        if (info.status or "") not in MOVING_STATUSES:
            return
        run = yield from query_status(line)
        if loop.now_ns > due_ns or (info.status == "cancelling" and run.running):
            note = f"the guest runs; the source is busy with its old migration ({info.status}) for a while yet"
            deliver(Learnt({}, note=note))
            return
        yield loop.sleep(LOOK_EVERY_S)


def see_as_it_is(line: Caller, deliver: Deliver) -> Work[None]:
    """For a source on which no migration was started."""
    run = yield from query_status(line)
    if not run.running:
        deliver(Learnt({}, paused_before=True, note=f"the guest stands still: {run.status}"))


def see_running(loop: Loop, line: Caller, deliver: Deliver) -> Work[None]:
    """See to it that a guest which was stopped by its migration runs again; never one that completed."""
    due_ns = loop.now_ns + round(FINAL_STATUS_WITHIN_S * SECOND_NS)
    while True:
        run = yield from query_status(line)
        if run.running:
            return
        if run.status == "postmigrate":
            if (yield from query_migrate(line)).status == "completed":
                raise WhimbrelError("its migration completed, so its copy of the guest is not resumed", side="source")
            yield from cont(line)
            return
        if run.status in STILL_STATES:
            deliver(Learnt({}, paused_before=True, note=f"the guest stands still: {run.status}"))
            return
        if loop.now_ns > due_ns:
            raise WhimbrelError(f"the guest is not running but {run.status}", side="source")
        yield loop.sleep(LOOK_EVERY_S)


def put_back(
    line: Caller, parameters: Mapping[str, object], capabilities: Mapping[str, bool] | None, deliver: Deliver
) -> Work[None]:
    """Set the source's settings as they were; where QEMU refuses, it is noted."""
    try:
        yield from set_parameters(line, parameters)
        if capabilities:
            yield from set_capabilities(line, capabilities)
    except QemuRefused as error:
        deliver(Learnt({}, note=f"the source keeps this migration's settings: {error.description}"))


# ---- the guest has moved


def take_final_figures(loop: Loop, source: Side, elapsed_ns: Callable[[], int], deliver: Deliver) -> Work[None]:
    """QEMU 7.2 says completed before its totals are there: ask until they are, a second at most."""
    for _ in range(FIGURES_LOOKS):
        try:
            info = yield from query_migrate(source.require())
        except WhimbrelError:
            return
        if info.total_time_ms or info.status != "completed":
            deliver(Sampled(statistics_of(info, elapsed_ns())))
            deliver(Learnt({"qemu_total_ms": info.total_time_ms, "qemu_downtime_ms": info.downtime_ms}))
            return
        yield loop.sleep(LOOK_EVERY_S)


def leave_no_settings(
    loop: Loop, sides: Iterable[Side], before: Mapping[str, Mapping[str, bool]], deliver: Deliver
) -> Work[None]:
    """Set capabilities back as they were; what can't be is noted."""
    for side in sides:
        capabilities = before.get(side.name.value)
        if not capabilities or not side.alive:
            continue
        try:
            yield from loop.within(set_capabilities(side.require(), capabilities), SETTINGS_WITHIN_S)
        except (WhimbrelError, TimeoutError) as error:
            words = error if str(error) else f"no answer within {SETTINGS_WITHIN_S:g} s"
            deliver(Learnt({}, note=f"the {side.name.value} keeps this migration's settings: {words}"))


def quit_source(source: Side, *, within_s: float, look: bool) -> Work[None]:
    """End the source process and see it ended, where it can be watched.

    Raises:
        CannotConnect: it can't be told, and it is not known to have ended.
        WhimbrelError: its guest runs again, or it does not end.
    """
    if not (yield from source.reconnect(within_s=within_s)):
        if (yield from source.is_gone()):
            return
        raise CannotConnect("its monitor does not answer any more", side="source")
    if look and (yield from query_status(source.require())).running:
        raise WhimbrelError("its guest runs again, by somebody else's hand", side="source")
    try:
        yield from source.require().call("quit")
    except (OutcomeUnknown, CannotConnect):
        pass  # a QEMU that quits may close the connection before its answer is out
    if source.handle is not None and not (yield from source.handle.wait_exit(EXIT_WITHIN_S)):
        raise WhimbrelError(f"it has not ended within {EXIT_WITHIN_S:g} s", side="source")


# ---- ending a handover that hangs, and a destination


def break_stream(
    loop: Loop, source: Side, destination: Side, note: Callable[[str, dict[str, object]], None], *, within_s: float
) -> Work[None]:
    """Kill the destination where its process can be had, and cut the stream.

    Raises:
        WhimbrelError: the source's process has ended; the handover does not hang; or neither could be done.
    """
    if (yield from source.is_gone()):
        raise WhimbrelError("the source process ended: what the destination has is looked at first", side="source")
    (status, _), (_, run_state) = yield from loop.together(_glance(loop, source), _glance(loop, destination))
    if status == "completed" or run_state == "running":
        raise WhimbrelError("the handover does not hang: both sides are asked what is true")
    if destination.handle is None:
        line = yield from source.reach(within_s=within_s)
        yield from line.call("yank", YANK, oob=True)
        return
    yield from destination.handle.kill()
    try:
        yield from source.require().call("yank", YANK, oob=True)
    except WhimbrelError as error:
        note("note", {"text": f"the stream was not cut besides: {error}"})  # it may have noticed by itself


def _glance(loop: Loop, side: Side) -> Work[tuple[str | None, str | None]]:
    try:
        return (yield from loop.within(side.look_around(), GLANCE_WITHIN_S))
    except (WhimbrelError, TimeoutError):
        return None, None


def see_that_it_may_end(
    source: Side, destination: Side, known: frozenset[Fact], *, adopted: bool, within_s: float
) -> Work[None]:
    """Refuse to end a destination that holds, or may hold, the only copy, or that runs."""
    if holds_the_only_copy(known) and (yield from source.is_gone()):
        yield from source.has_ended()
        raise WhimbrelError("the source process ended: the destination holds the only copy", side="destination")
    if not adopted or destination.wire is None or (yield from destination.is_gone()):
        return
    try:
        yield from destination.reach(within_s=within_s)
        status, run_state = yield from destination.look_around()
    except (OutcomeUnknown, CannotConnect) as error:
        if Fact.MIGRATE_SENT in known and not source.alive:
            raise WhimbrelError("it does not answer, and may hold the guest by now", side="destination") from error
        return
    if run_state == "running":
        raise WhimbrelError("it runs a guest", side="destination")
    if run_state == "postmigrate":
        raise WhimbrelError("it had a guest, and has sent it on", side="destination")
    if status == "completed" and Fact.MIGRATE_SENT not in known:
        raise WhimbrelError("it holds a guest that another migration brought there", side="destination")


# ---- post-copy that lost its link


def pause(loop: Loop, sides: Sequence[Side], *, within_s: float) -> Work[None]:
    """Have both sides give the link up, and see that they have.

    Raises:
        WhimbrelError: one could not be told, refused, or does not pause; the others were told.
    """
    for task in (yield from loop.settled(*(_pause(loop, side, within_s) for side in sides))):
        task.result()


def _pause(loop: Loop, side: Side, within_s: float) -> Work[None]:
    refusal: QemuRefused | None = None
    try:
        line = yield from side.reach(within_s=within_s)
        yield from line.call("migrate-pause", oob=True)
    except QemuRefused as error:
        refusal = error
    due_ns = loop.now_ns + round(PAUSED_WITHIN_S * SECOND_NS)
    while (yield from side.look()).status != "postcopy-paused":
        if loop.now_ns > due_ns:
            raise refusal or WhimbrelError("it does not give its link up", side=side.name.value)
        yield loop.sleep(LOOK_EVERY_S)


def listen_again(destination: Side, uri: str, *, within_s: float) -> Work[str]:
    """Let the destination listen for its source to come back; where it does."""
    line = yield from destination.reach(within_s=within_s)
    yield from line.call("migrate-recover", {"uri": uri}, oob=True)
    return (yield from query_migrate(line)).uri
