"""The rules of ownership, each as docs/design.md has it, against a recorded session of a real QEMU.

A session is what the two QEMUs said, in order (``src STOP``), with what this protocol is answered in
between (``quiesce-done``). What the recording harness itself had sent is left out: the protocol sends its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from whimbrel.engine.protocol import step
from whimbrel.engine.resolve import VERDICTS, Intent, SourceClass
from whimbrel.engine.signals import Command, Signal
from whimbrel.engine.states import Fact, Guest, Owner, Phase, State
from whimbrel.engine.tables import TABLE

C, F, P, S = Command, Fact, Phase, Signal

SAID = {
    "src setup": None,
    "src active": S.SOURCE_ACTIVE,
    "src STOP": S.SOURCE_STOPPED,
    "src RESUME": S.SOURCE_RUNNING,
    "src pre-switchover": S.SOURCE_PRE_SWITCHOVER,
    "src device": S.SOURCE_DEVICE,
    "src postcopy-active": S.SOURCE_POSTCOPY,
    "src postcopy-paused": S.SOURCE_POSTCOPY_PAUSED,
    "src postcopy-device": None,
    "src postcopy-recover": None,
    "src cancelling": None,
    "src cancelled": S.SOURCE_CANCELLED,
    "src failed": S.SOURCE_FAILED,
    "src completed": S.SOURCE_COMPLETED,
    "src ended": S.SOURCE_ENDED,
    "dst setup": None,
    "dst active": S.DESTINATION_ACTIVE,
    "dst RESUME": S.DESTINATION_RUNNING,
    "dst postcopy-active": S.DESTINATION_POSTCOPY,
    "dst postcopy-paused": S.DESTINATION_POSTCOPY_PAUSED,
    "dst postcopy-device": None,
    "dst postcopy-recover": None,
    "dst completed": S.DESTINATION_COMPLETED,
    "dst failed": S.DESTINATION_FAILED,
    "dst ended": S.DESTINATION_ENDED,
}
"""What a QEMU says, as the protocol's word; ``None``: it changes nothing."""

PREPARED = "start | inspect-done | prepare-done | arm-done | migrate-done"


@dataclass
class Played:
    """Where a session led to."""

    state: State = field(default_factory=State)
    sent: list[Command] = field(default_factory=list[Command])
    owners: list[Owner] = field(default_factory=list[Owner])

    def then(self, session: str) -> Played:
        """Go on with what was said."""
        for word in (each.strip() for each in session.split("|")):
            signal = SAID[word] if word in SAID else S(word)
            if signal is None:
                continue
            taken = step(self.state, signal, 0)
            self.state = taken.state
            self.owners.append(taken.state.owner)
            if taken.command is not None:
                self.sent.append(taken.command)
        return self


def play(session: str, *known: Fact) -> Played:
    """A session from its beginning."""
    return Played(State(facts=frozenset(known))).then(f"{PREPARED} | {session}")


def rule(sentence: str) -> str:
    """A rule, which has to stand in the design as it is quoted here."""
    page = " ".join((Path(__file__).parents[2] / "docs/design.md").read_text().split())
    assert " ".join(sentence.split()) in page, sentence
    return sentence


TO_HANDOVER = "dst setup | src setup | dst active | src active | src STOP | src pre-switchover | quiesce-done"


def test_stop_moves_nothing() -> None:
    """7.2, a source that was stopped before: no STOP, and the destination ends paused."""
    rule("STOP moves nothing: a paused guest sends none, and others cause it too.")
    session = "dst setup | src setup | dst active | src active | src STOP"
    assert play(session).state == play(session.removesuffix(" | src STOP")).state
    paused = play("dst setup | src setup | dst active | src active | src completed | dst completed", F.PAUSED_BEFORE)
    assert paused.state.owner is Owner.DESTINATION


def test_limbo_begins_when_continue_is_sent() -> None:
    """7.2: src pre-switchover | > migrate-continue | src device."""
    rule("The token enters limbo when `migrate-continue` is *sent*.")
    before = play(TO_HANDOVER.removesuffix(" | quiesce-done"))
    assert before.state.owner is Owner.SOURCE
    after = before.then("quiesce-done")
    assert (after.sent[-1], after.state.owner) == (C.CONTINUE, Owner.LIMBO)


def test_the_source_may_come_back_by_itself() -> None:
    """7.2, device state that does not fit: src STOP | dst failed | src failed | src RESUME. Nobody sent cont."""
    rule(
        "From there QEMU may resume the source **by itself**, on any failure, until the source says `completed`; a"
        " destination that says `completed` and `paused` proves nothing, since the source may have failed and be"
        " running (seen on 7.2 and 10.0)."
    )
    failed = play(f"{TO_HANDOVER} | dst failed | src failed | src RESUME")
    assert (failed.state.phase, failed.state.owner) == (P.CANCELLING, Owner.SOURCE)
    # 10.0, a cancel beside migrate-continue: the destination completed, paused, beside a running source.
    beside = play(f"{TO_HANDOVER} | src device | src cancelling | src RESUME | src cancelled | dst completed")
    assert C.CLAIM not in beside.sent
    assert beside.state.owner is Owner.SOURCE
    alone = play(f"{TO_HANDOVER} | src device | dst completed")
    assert (alone.state.owner, C.CLAIM in alone.sent) == (Owner.LIMBO, False)


@pytest.mark.parametrize(
    "session",
    ["src device | dst completed | src completed", "src completed | dst completed", "src ended | dst completed"],
)
def test_limbo_ends_at_the_destination_on_proof(session: str) -> None:
    """7.2: src device | src completed | dst RESUME | dst completed; the two words come in either order."""
    rule(
        "Limbo → destination: the source said `completed`; or its process ended, its events were read to end-of-file"
        " and held no RESUME, `failed` or `cancelled`, and the destination says `completed`."
    )
    played = play(f"{TO_HANDOVER} | {session}")
    assert (played.state.owner, played.sent[-1]) == (Owner.DESTINATION, C.CLAIM)


@pytest.mark.parametrize("word", ["src RESUME", "src failed", "src cancelled"])
def test_limbo_ends_at_the_source_when_it_is_back(word: str) -> None:
    """10.0: src device | src cancelling | src RESUME | src cancelled."""
    rule("Limbo → source: it is seen running, or is `failed`/`cancelled`.")
    assert play(f"{TO_HANDOVER} | src device | {word}").state.owner is Owner.SOURCE


def test_in_doubt_nothing_is_resumed_and_nobody_is_killed() -> None:
    """The source is out of sight, or gone unheard, in limbo."""
    rule("In doubt nothing is resumed; nobody is killed to create certainty while it may have run.")
    played = play(f"{TO_HANDOVER} | src device | source-lost")
    before = list(played.sent)
    assert before[-1] is C.INSPECT_BOTH
    played.then("verdict-hold")
    assert (played.state.owner, played.state.guest, played.sent) == (Owner.LIMBO, Guest.HELD, before)
    for unseen in (SourceClass.UNREACHABLE, SourceClass.GONE, SourceClass.UNCLEAR):
        for (source, _), verdict in VERDICTS[Intent.CONTINUED].items():
            if source is unseen:
                assert verdict not in (S.VERDICT_ACTIVATE, S.VERDICT_HAND_BACK, S.VERDICT_DESTINATION_RUNS)


def test_a_source_that_completed_comes_back_only_over_a_dead_destination_that_never_ran() -> None:
    """7.2, `cont` after completion: src completed | src [postmigrate] | > cont | src RESUME."""
    rule(
        "A source that completed (`postmigrate`) gets `cont` only if the destination's `cont` was never sent, post-copy"
        " never began, and the destination process was killed *and waited for*."
    )
    back = play(f"{TO_HANDOVER} | src completed | dst ended")
    assert back.sent[-1] is C.DISCARD_DESTINATION
    assert back.then("discard-destination-done").sent[-1] is C.RESUME_SOURCE
    not_dead = play(f"{TO_HANDOVER} | src completed | dst ended | discard-destination-refused")
    assert (C.RESUME_SOURCE in not_dead.sent, not_dead.state.guest) == (False, Guest.HELD)
    told = play(f"{TO_HANDOVER} | src completed | dst completed | claim-done | dst ended")
    assert (C.RESUME_SOURCE in told.sent, told.state.guest) == (False, Guest.LOST)
    entries = [entry for entry, rules in TABLE.items() if any(rule.do is C.RESUME_SOURCE for rule in rules)]
    known_dead = (S.DISCARD_DESTINATION_DONE, S.RECLAIM_DONE, S.RESTORE_SOURCE_REFUSED, S.RESUME_SOURCE_UNKNOWN)
    assert set(entries) == {(P.CANCELLING, signal) for signal in known_dead}


POSTCOPY = {
    "7.2": "src postcopy-active | src STOP | dst postcopy-active",
    "10.0": "src STOP | src device | src postcopy-active | dst postcopy-active",
    "11.1": "src STOP | src device | src postcopy-device | dst postcopy-device | dst postcopy-active"
    " | src postcopy-active",
    "10.0, paused before switchover": "src STOP | src pre-switchover | quiesce-done | src device | dst postcopy-active"
    " | src postcopy-active",
}


@pytest.mark.parametrize("version", POSTCOPY)
def test_in_postcopy_the_source_is_out_for_ever(version: str) -> None:
    """As each version says it; with -S the destination runs only by our cont."""
    rule(
        "Post-copy: the source is out for ever at its `device` or `postcopy-active`, whichever comes first (not at"
        " `migrate-start-postcopy`, which may still end as pre-copy), except that from its `postcopy-device` 11.1 may"
        " fail yet, and run: so the destination gets `cont` only when *both* have said `postcopy-active`."
    )
    session = f"dst active | src active | postcopy-chosen | start-postcopy-done | {POSTCOPY[version]}"
    played = play(session)
    assert (played.state.phase, played.state.owner, played.sent[-1]) == (P.POSTCOPY, Owner.DESTINATION, C.CLAIM)
    assert F.POSTCOPY in played.state.facts
    assert played.then("claim-done").sent[-1] is C.RESUME_DESTINATION
    lost = played.then("dst ended")
    assert (lost.state.guest, C.RESUME_SOURCE in lost.sent, C.RESTORE_SOURCE in lost.sent) == (Guest.LOST, False, False)


def test_a_source_in_postcopy_device_may_yet_run_and_so_the_destination_waits() -> None:
    """11.1: dst postcopy-active, the link breaks before the source has heard of it: src failing, RESUME, failed."""
    session = (
        "dst active | src active | postcopy-chosen | start-postcopy-done | src STOP | src device | src postcopy-device"
    )
    played = play(f"{session} | dst postcopy-active")
    assert (played.state.phase, played.state.owner) == (P.HANDOVER, Owner.LIMBO)
    assert C.CLAIM not in played.sent
    played.then("src RESUME | src failed")
    assert (played.state.phase, played.state.owner, played.sent[-1]) == (
        P.CANCELLING,
        Owner.SOURCE,
        C.DISCARD_DESTINATION,
    )


def test_a_request_for_postcopy_may_still_end_as_precopy() -> None:
    """It converged before the request was honoured."""
    asked = play("dst active | src active | postcopy-chosen | start-postcopy-done")
    assert (F.POSTCOPY in asked.state.facts, asked.state.owner) == (False, Owner.SOURCE)
    asked.then("src STOP | src pre-switchover | quiesce-done | src device | src completed | dst completed | claim-done")
    assert asked.sent[-1] is C.RESUME_DESTINATION


def test_the_source_is_let_go_when_both_have_completed_and_the_guest_runs() -> None:
    """7.2: dst postcopy-active | dst RESUME | dst completed | src completed."""
    rule("The source is let go when it said `completed` and the destination said `completed` **and** runs.")
    begun = f"dst active | src active | postcopy-chosen | start-postcopy-done | {POSTCOPY['7.2']} | claim-done"
    for order in (
        "dst RESUME | dst completed | src completed",
        "dst completed | src completed | dst RESUME",
        "src completed | dst RESUME | dst completed",
    ):
        *first, last = order.split(" | ")
        played = play(begun)
        for word in first:
            assert C.RELEASE_SOURCE not in played.then(word).sent
        assert played.then(last).sent[-1] is C.RELEASE_SOURCE


def test_after_continue_the_way_out_is_to_break_not_to_cancel() -> None:
    """7.2, a cancel there: src cancelling | src RESUME | src cancelled | dst RESUME | dst completed: two guests."""
    rule(
        "After `migrate-continue` the fallback is never `migrate_cancel`. In pre-copy: kill the destination and wait"
        " for its exit, or, where it can't be reached, `yank` (out of band) the source's migration; then wait until the"
        " source is `failed` and runs again, or `completed`."
    )
    hangs = play(f"{TO_HANDOVER} | src device | cancel | deadline")
    assert hangs.sent[-1] is C.BREAK
    assert C.CANCEL_MIGRATION not in hangs.sent
    assert hangs.then("break-done | src failed").sent[-1] is C.DISCARD_DESTINATION
    postcopy = play(f"dst active | src active | postcopy-chosen | start-postcopy-done | {POSTCOPY['7.2']}")
    postcopy.then("claim-done | cancel | stalled")
    assert (postcopy.state.phase, postcopy.sent[-1]) == (P.RECOVERING, C.PAUSE_POSTCOPY)
    assert not {C.BREAK, C.CANCEL_MIGRATION, C.DISCARD_DESTINATION} & set(postcopy.sent)


def test_a_link_that_broke_in_postcopy_is_mended() -> None:
    """7.2: src postcopy-paused | > migrate-recover | > migrate | src postcopy-recover | src postcopy-active."""
    asked = "dst active | src active | postcopy-chosen | start-postcopy-done"
    begun = f"{asked} | {POSTCOPY['7.2']} | claim-done | dst RESUME"
    broken = play(f"{begun} | dst postcopy-paused | src postcopy-paused | pause-postcopy-done | listen-again-done")
    assert broken.sent[-3:] == [C.PAUSE_POSTCOPY, C.LISTEN_AGAIN, C.SEND_AGAIN]
    mended = broken.then("send-again-done | dst postcopy-recover | src postcopy-recover | dst postcopy-active")
    assert mended.state.phase is P.RECOVERING
    assert mended.then("src postcopy-active").state.phase is P.POSTCOPY
    mended.then("dst completed | src completed | release-source-done")
    assert (mended.state.phase, mended.state.guest) == (P.COMPLETED, Guest.RUNNING)


@pytest.mark.parametrize("word", ["src cancelled", "src failed"])
def test_cancelled_means_any_final_status(word: str) -> None:
    """7.2, a peer that accepts and never reads: > migrate_cancel | src failed."""
    rule('"Cancelled" means that QEMU reached *any* final status')
    called_off = play(f"dst active | src active | cancel | {word} | discard-destination-done | restore-source-done")
    assert (called_off.state.phase, called_off.state.guest) == (P.CANCELLED, Guest.RUNNING)
