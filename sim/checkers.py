"""What must hold at every moment of a simulated migration, judged by what is true and not by what anybody believes.

The invariants are those of the explorer (`whimbrel.sim.explorer.invariants`), by the same numbers; here they are
asked of whole QEMUs, whose memory is on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from whimbrel.engine.driving import END_GRACE_S
from whimbrel.engine.states import Fact, Guest, Owner, Phase, State
from whimbrel.engine.states import Side as SideName

from .clock import SECOND_NS
from .explorer.invariants import MEANING
from .explorer.world import Breach

STOPPED_TO_MOVE = frozenset({"finish-migrate", "postmigrate"})
HAS_THE_GUEST = frozenset(
    {"completed", "postcopy-device", "postcopy-active", "postcopy-paused", "postcopy-recover", "postcopy-recover-setup"}
)
"""Statuses of a destination in which its guest may run."""
SEEN_NS = round(END_GRACE_S * SECOND_NS)
IN_POSTCOPY = HAS_THE_GUEST - {"completed"}


class Observed(Protocol):
    """What is looked at of a QEMU."""

    @property
    def alive(self) -> bool: ...
    @property
    def guest_runs(self) -> bool: ...
    @property
    def run_state(self) -> str: ...
    @property
    def migration_status(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant that does not hold."""

    breach: Breach
    at_s: float
    how: str

    def __str__(self) -> str:
        return f"{self.at_s:.6f} s: {MEANING[self.breach]}: {self.how}"


@dataclass(slots=True)
class Witness:
    """Sees all of one migration.

    Attributes:
        now_ns: the world's clock.
        source, destination: the QEMUs; no destination before there is one.
        broken: what did not hold, in order.
        outage_ns: from the moment when the guest last stopped at the source to that at which it first ran at the
            destination; ``None``: it did not.
        whole_ns: when all of it was there, in post-copy its memory too; ``None``: it never was.
        d_has_run: it has run at the destination.
        stale: the source ran after it had stopped for the switchover: the destination's copy is old.
        on_whole: told when that is so.
        continued, told_to_run, postcopy_began, shut_down, acted: what was done, and by whom.
        excused: something happened after which nobody can know, or do, all that is needed.
    """

    now_ns: Callable[[], int]
    source: Observed
    destination: Observed | None = None
    broken: list[Broken] = field(default_factory=list[Broken])
    stopped_ns: int | None = None
    resumed_ns: int | None = None
    whole_ns: int | None = None
    on_whole: Callable[[], None] = lambda: None
    d_has_run: bool = False
    stale: bool = False
    continued: bool = False
    told_to_run: bool = False
    postcopy_began: bool = False
    acted: bool = False
    excused: str = ""
    died_whole_ns: int | None = None
    _stopped_to_move: bool = False
    _d_was_whole: bool = False
    _s_state: str = ""
    _d_state: str = ""
    _s_ran: bool = True
    _d_ran: bool = False
    _said: set[Breach] = field(default_factory=set[Breach])

    @property
    def outage_ns(self) -> int | None:
        """See the class."""
        if self.stopped_ns is None or self.resumed_ns is None:
            return None
        return self.resumed_ns - self.stopped_ns

    def glance(self) -> None:
        """As `look`, for a world in which nothing goes wrong: there the run states tell when to."""
        destination = self.destination
        state = self.source.run_state
        told = state != self._s_state or (destination is not None and destination.run_state != self._d_state)
        # In post-copy what comes last is told by the status alone.
        if told or (self.postcopy_began and self.whole_ns is None):
            self._s_state = state
            self._d_state = destination.run_state if destination is not None else ""
            self.look()

    def look(self) -> None:
        """Look at both; to be called after everything that happens."""
        source, destination = self.source, self.destination
        s_runs = source.guest_runs
        if s_runs is not self._s_ran:
            self._s_ran = s_runs
            if not s_runs:
                self.stopped_ns = self.now_ns()
        if source.run_state in STOPPED_TO_MOVE:
            self._stopped_to_move = True
        elif self._stopped_to_move and s_runs:
            self.stale = True
        if destination is None:
            return
        d_runs = destination.guest_runs
        status = destination.migration_status
        if status in IN_POSTCOPY:
            self.postcopy_began = True
        whole = self._destination_is_whole
        if whole is not self._d_was_whole:
            self._d_was_whole = whole
            if not destination.alive:
                self.died_whole_ns = self.now_ns()
        if d_runs is not self._d_ran:
            self._d_ran = d_runs
            if d_runs and not self.d_has_run:
                self.d_has_run, self.resumed_ns = True, self.now_ns()
        if self.d_has_run and self.whole_ns is None and status == "completed":
            self.whole_ns = self.now_ns()
            self.on_whole()
        if d_runs or (s_runs and self.d_has_run):
            self._judge(s_runs, d_runs, status)

    def _judge(self, s_runs: bool, d_runs: bool, status: str) -> None:
        if s_runs and d_runs:
            self.breaks(Breach.TWO_RUNNING, "the guest runs on both sides")
        elif s_runs:
            self.breaks(Breach.NOT_WHOLE, "the source runs, though the guest has run at the destination")
        elif self.stale:
            self.breaks(Breach.NOT_WHOLE, "the destination runs, though the source ran since its copy was taken")
        elif status not in HAS_THE_GUEST:
            self.breaks(Breach.NOT_WHOLE, f"the destination runs, though its migration is {status or 'none'}")

    # ---- what a manager does

    def commanded(self, side: SideName, command: str) -> None:
        """A manager has sent this over a monitor."""
        if side is SideName.SOURCE:
            if command == "migrate-continue":
                self.continued = True
            elif command == "migrate_cancel" and self.continued:
                self.breaks(Breach.CANCEL_AFTER_CONTINUE, "migrate_cancel was sent after migrate-continue")
            elif command == "quit":
                self._source_is_ended()
            elif command == "cont" and self.postcopy_began and self.source.migration_status in IN_POSTCOPY:
                self.breaks(Breach.SOURCE_AFTER_POSTCOPY, "cont was sent to a source in post-copy")
        elif command == "cont":
            self.told_to_run = True
        elif command == "quit":
            self.destination_is_killed()

    def _source_is_ended(self) -> None:
        if self.source.guest_runs:
            self.breaks(Breach.OWNER_KILLED, "a source whose guest runs was told to quit")
        elif self.postcopy_began and self.source.migration_status in IN_POSTCOPY:
            self.breaks(Breach.OWNER_KILLED, "a source was told to quit that post-copy still needs")
        elif not self.d_has_run and not self._destination_is_whole and not self._just_died:
            self.breaks(Breach.OWNER_KILLED, "a source was told to quit that has the only copy")

    @property
    def _just_died(self) -> bool:
        """Whether the destination, which had everything, ended so short a time ago that nobody need have seen it."""
        return self.died_whole_ns is not None and self.now_ns() - self.died_whole_ns < SEEN_NS

    @property
    def _destination_is_whole(self) -> bool:
        destination = self.destination
        return (
            destination is not None
            and destination.alive
            and destination.migration_status == "completed"
            and not self.stale
        )

    def destination_is_killed(self) -> None:
        """A manager is about to end the destination's process."""
        destination = self.destination
        if destination is None or not destination.alive:
            return
        if self.d_has_run and not self.stale:
            self.breaks(Breach.OWNER_KILLED, "a destination was ended at which the guest has run")
        elif self._destination_is_whole and not self.source.alive:
            self.breaks(Breach.OWNER_KILLED, "a destination was ended that has the only copy")

    def breaks(self, breach: Breach, how: str) -> None:
        """Take down what does not hold; each kind once."""
        if breach not in self._said:
            self._said.add(breach)
            self.broken.append(Broken(breach, self.now_ns() / 1e9, how))

    # ---- the end

    def judge_end(self, state: State, *, shut_down: bool = False) -> None:
        """Judge what an end says, once both QEMUs have come to rest."""
        wrong = self._false_end(state, shut_down=shut_down)
        if wrong is not None:
            self.breaks(Breach.WRONG_END, wrong)

    def _false_end(self, state: State, *, shut_down: bool) -> str | None:
        guest, owner, destination = state.guest, state.owner, self.destination
        if guest is None:
            return "it does not say what became of the guest"
        if state.phase is Phase.COMPLETED and owner is not Owner.DESTINATION:
            return "completed, and the destination is not the owner"
        if state.phase is Phase.CANCELLED and owner is not Owner.SOURCE:
            return "cancelled, and the source is not the owner"
        if owner is Owner.LIMBO and guest not in (Guest.HELD, Guest.UNCONFIRMED):
            return f"{guest.value}, and nobody is named as the owner"
        s_runs = self.source.guest_runs
        # In post-copy whose source has ended it stands at the first page that never comes.
        whole = self.source.alive or (destination is not None and destination.migration_status == "completed")
        d_runs = destination is not None and destination.guest_runs and whole
        at_destination = owner is Owner.DESTINATION
        runs, elsewhere = (d_runs, s_runs) if at_destination else (s_runs, d_runs)
        if elsewhere and owner is not Owner.LIMBO:
            return "it runs at the side that is not the owner"
        here = (destination is not None and destination.alive) if at_destination else self.source.alive
        return self._false_guest(state, runs=runs, elsewhere=elsewhere, here=here, shut_down=shut_down)

    def _false_guest(self, state: State, *, runs: bool, elsewhere: bool, here: bool, shut_down: bool) -> str | None:
        guest = state.guest
        if guest is Guest.RUNNING:
            if not runs and here and not self.acted:
                return "it is said to run, and does not"
        elif guest is Guest.PAUSED:
            if runs and not self.acted:
                return "it is said to stand paused, and runs"
        elif guest is Guest.LOST:
            if runs or elsewhere:
                return "it is said to be lost, and runs"
            told = self.told_to_run or {Fact.ADOPTED, Fact.CONT_SENT} <= state.facts
            out = self.postcopy_began or self.source.migration_status in IN_POSTCOPY  # QEMU will not have it run again
            if self.source.alive and not self.d_has_run and not out and not told:
                return "it is said to be lost, and the source has it"
            if self._destination_is_whole:
                return "it is said to be lost, and the destination has it"
        elif guest is Guest.SHUT_DOWN:
            if not shut_down:
                return "it is said to have powered itself off, and did not"
        elif not self.excused and Fact.MIGRATE_SENT in state.facts:
            return f"{guest.value if guest else None}, and nothing that happened makes that needful"
        return None
