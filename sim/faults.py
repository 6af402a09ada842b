"""What goes wrong in a simulated migration: drawn from the seed, set off at its moment, and over at some time.

A fault has a moment (a time, an order of the manager, a status that a QEMU reaches) and most have a span after which
they heal. What a user may do at any time (call it off, choose post-copy, stop the guest) is drawn in the same way and
is no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from random import Random
from typing import Any

from whimbrel.engine.signals import Command
from whimbrel.engine.states import Phase
from whimbrel.engine.states import Side as SideName

from .clock import SECOND_NS, Clock
from .driver import Driver
from .driver_line import Trouble, Wire
from .link.local import LocalNetwork
from .pair import Pair
from .qemu.process import Qemu


class Kind(StrEnum):
    """What can befall a migration."""

    KILL_SOURCE = "kill-source"
    KILL_DESTINATION = "kill-destination"
    FREEZE_SOURCE = "freeze-source"
    FREEZE_DESTINATION = "freeze-destination"
    FAIL_DESTINATION = "fail-destination"
    """Its load fails."""
    OUTAGE = "outage"
    """Nothing moves over the link, and nobody is told."""
    RESET = "reset"
    """Every connection between the QEMUs is reset."""
    CLOG = "clog"
    """What is sent forth is not taken any more, though the connection stands."""
    CUT_SOURCE = "cut-source"
    """The connection to its monitor breaks; it can be had again."""
    CUT_DESTINATION = "cut-destination"
    BLOCK_SOURCE = "block-source"
    """The connection to its monitor breaks, and can't be had again for a while."""
    BLOCK_DESTINATION = "block-destination"
    LOSE = "lose"
    """The connection breaks with a command under way: it did not get there."""
    LOSE_ANSWER = "lose-answer"
    """… it was carried out."""
    LATE = "late"
    """A command takes its time to get there."""
    LATE_ANSWER = "late-answer"
    REFUSE = "refuse"
    """QEMU says no."""
    KILL_MANAGER = "kill-manager"
    """A new one takes over after a while."""
    FREEZE_MANAGER = "freeze-manager"
    LIE_TOTALS = "lie-totals"
    """``completed``, and its totals are still 0 (7.2)."""
    LIE_RUN_STATE = "lie-run-state"
    """``completed``, and the run state is still ``finish-migrate`` (7.2 and 11.1)."""
    # no faults
    CANCEL = "cancel"
    POSTCOPY = "postcopy"
    STOP_GUEST = "stop-guest"
    CONT_GUEST = "cont-guest"


WISHES = frozenset({Kind.CANCEL, Kind.POSTCOPY, Kind.STOP_GUEST, Kind.CONT_GUEST})
ON_COMMAND = frozenset({Kind.LOSE, Kind.LOSE_ANSWER, Kind.LATE, Kind.LATE_ANSWER, Kind.REFUSE})
EXCUSES = frozenset(
    {
        *(Kind.BLOCK_SOURCE, Kind.BLOCK_DESTINATION, Kind.FREEZE_SOURCE, Kind.FREEZE_DESTINATION),
        *(Kind.LATE, Kind.LATE_ANSWER, Kind.REFUSE, Kind.FREEZE_MANAGER),
    }
)
"""After one of these nobody may be able to know, or to do, all that is needed: an end may leave it open."""
LOSES_WORDS = frozenset(
    {Kind.CUT_SOURCE, Kind.CUT_DESTINATION, Kind.LOSE, Kind.LOSE_ANSWER, Kind.KILL_MANAGER, Kind.OUTAGE, Kind.CLOG}
)
"""After two of these, or one and a death, too."""
DEATHS = frozenset({Kind.KILL_SOURCE, Kind.KILL_DESTINATION, Kind.FAIL_DESTINATION})

SOURCE_COMMANDS = (
    *("migrate", "migrate-continue", "migrate_cancel", "query-migrate", "query-status", "migrate-set-parameters"),
    *("migrate-set-capabilities", "quit", "cont", "migrate-start-postcopy", "migrate-pause", "yank", "object-add"),
)
DESTINATION_COMMANDS = (
    *("migrate-incoming", "cont", "query-migrate", "query-status", "migrate-set-capabilities", "migrate-recover"),
    *("migrate-pause",),
)
REFUSABLE = frozenset(
    {
        *("migrate", "migrate-continue", "migrate-set-parameters", "migrate-set-capabilities", "cont", "yank"),
        *("migrate-start-postcopy", "migrate-pause", "migrate-incoming", "migrate-recover", "object-add"),
    }
)
REFUSED = "refused by the simulation"

ORDERS = (
    *(Command.INSPECT, Command.PREPARE, Command.ARM, Command.MIGRATE, Command.QUIESCE, Command.CONTINUE),
    *(Command.CONTINUE, Command.CLAIM, Command.RESUME_DESTINATION, Command.RESUME_DESTINATION),
    *(Command.RELEASE_SOURCE, Command.CANCEL_MIGRATION, Command.DISCARD_DESTINATION, Command.RESTORE_SOURCE),
    *(Command.RESUME_SOURCE, Command.INSPECT_BOTH, Command.BREAK, Command.START_POSTCOPY),
    *(Command.PAUSE_POSTCOPY, Command.LISTEN_AGAIN, Command.SEND_AGAIN),
)
STATUSES = (
    *((SideName.SOURCE, status) for status in ("active", "pre-switchover", "device", "completed", "postcopy-active")),
    *((SideName.SOURCE, status) for status in ("postcopy-paused", "failed", "cancelling", "device", "pre-switchover")),
    *((SideName.DESTINATION, status) for status in ("active", "completed", "postcopy-active", "failed")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When it happens: at a time, at an order, or at a status; and so much later.

    Attributes:
        at_s: seconds since the beginning; where it is not at an order or a status.
        order: the command of the engine.
        status: the side, and the status that it reaches.
        nth: at which occurrence of that.
        delay_s: so much after it.
    """

    at_s: float = 0.0
    order: Command | None = None
    status: tuple[SideName, str] | None = None
    nth: int = 1
    delay_s: float = 0.0

    def __str__(self) -> str:
        later = f" + {self.delay_s * 1e3:.3f} ms" if self.delay_s else ""
        again = f" ({self.nth}.)" if self.nth > 1 else ""
        if self.order is not None:
            return f"at {self.order.value}{again}{later}"
        if self.status is not None:
            return f"when the {self.status[0].value} is {self.status[1]}{later}"
        return f"at {self.at_s:.6f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One of them.

    Attributes:
        kind: what.
        moment: when; for faults of a command: from when on the next such command is hit.
        span_s: how long it lasts, or how late something is; with `Kind.KILL_MANAGER`: until the new one.
        command: with faults of a command: its side, and its name in QMP.
        sent: with `Kind.KILL_MANAGER`: whether what it had written still gets there.
    """

    kind: Kind
    moment: Moment
    span_s: float = 0.0
    command: tuple[SideName, str] | None = None
    sent: bool = False

    def __str__(self) -> str:
        words = [self.kind.value]
        if self.command is not None:
            words.append(f"{self.command[1]} to the {self.command[0].value}")
        words.append(str(self.moment))
        if self.span_s:
            words.append(f"for {self.span_s:.3f} s")
        if self.sent:
            words.append("(what it wrote gets there)")
        return " ".join(words)


def draw(random: Random, *, expected_s: float, postcopy: bool) -> list[Fault]:
    """Draw what befalls one migration.

    Args:
        random: what it is drawn from.
        expected_s: about how long the migration would take.
        postcopy: it can do post-copy.
    """
    count = random.choices((0, 1, 2, 3), (1, 5, 4, 2))[0]
    kinds = [kind for kind in Kind if kind not in WISHES]
    faults = [_draw_one(random, random.choice(kinds), expected_s) for _ in range(count)]
    if random.random() < 0.2:
        faults.append(_draw_one(random, Kind.CANCEL, expected_s))
    if postcopy:
        faults.append(Fault(kind=Kind.POSTCOPY, moment=Moment(at_s=random.uniform(0.1, 1.2 * expected_s + 0.2))))
    if random.random() < 0.1:
        acts = (Kind.STOP_GUEST, Kind.CONT_GUEST)[: random.randint(1, 2)]
        faults += [_draw_one(random, kind, expected_s) for kind in acts]
    return faults


def _draw_one(random: Random, kind: Kind, expected_s: float) -> Fault:
    moment = _draw_moment(random, expected_s)
    span_s = random.choice((random.uniform(0.001, 0.1), random.uniform(0.1, 3.0), random.uniform(3.0, 90.0)))
    if kind in ON_COMMAND:
        sides = [(SideName.SOURCE, each) for each in SOURCE_COMMANDS]
        sides += [(SideName.DESTINATION, each) for each in DESTINATION_COMMANDS]
        if kind is Kind.REFUSE:
            sides = [each for each in sides if each[1] in REFUSABLE]
        command = random.choice(sides)
        if command[1].startswith("query"):
            return Fault(kind=kind, moment=moment, span_s=span_s, command=command)
        # One that is sent once or twice is hit whenever that is.
        return Fault(kind=kind, moment=Moment(), span_s=span_s, command=command)
    return Fault(kind=kind, moment=moment, span_s=span_s, sent=random.random() < 0.5)


def _draw_moment(random: Random, expected_s: float) -> Moment:
    delay_s = random.choice((0.0, random.uniform(0, 0.002), random.uniform(0, 0.05), random.uniform(0, 0.5)))
    which = random.random()
    if which < 0.3:
        return Moment(at_s=random.uniform(0.0, 1.3 * expected_s + 0.3))
    if which < 0.7:
        return Moment(order=random.choice(ORDERS), nth=random.choice((1, 1, 1, 2)), delay_s=delay_s)
    return Moment(status=random.choice(STATUSES), delay_s=delay_s)


class Havoc:
    """Sets faults off in a world, and heals them.

    Attributes:
        faults: what was armed.
        done: what was set off, with its time in seconds, in order.
    """

    def __init__(
        self,
        clock: Clock,
        network: LocalNetwork,
        pair: Pair,
        faults: Sequence[Fault],
        *,
        take_over: Callable[[], None],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Arm them.

        Args:
            clock: the world's.
            network: the world's.
            pair: whom they befall.
            faults: what.
            take_over: starts a new manager, if the old one's log does not say that all is settled.
            tell: takes a sentence on everything that is set off, or healed.
        """
        self.faults = tuple(faults)
        self.done: list[tuple[float, Fault]] = []
        self._clock = clock
        self._network = network
        self._pair = pair
        self._take_over = take_over
        self._tell = tell
        self._at_order = [fault for fault in faults if fault.moment.order is not None]
        self._at_status = [fault for fault in faults if fault.moment.status is not None]
        self._on_command: list[Fault] = []
        self._orders: dict[Command, int] = {}
        self._seen: dict[SideName, str] = {}
        for fault in faults:
            if fault.moment.order is None and fault.moment.status is None:
                clock.at(round(fault.moment.at_s * SECOND_NS), partial(self._strike, fault))

    # ---- moments

    def ordered(self, command: Command) -> None:
        """A manager has given this order."""
        nth = self._orders[command] = self._orders.get(command, 0) + 1
        for fault in [each for each in self._at_order if each.moment.order is command and each.moment.nth == nth]:
            self._at_order.remove(fault)
            self._later(fault)

    def look(self) -> None:
        """See whether a status was reached."""
        if not self._at_status:
            return
        pair = self._pair
        for side, qemu in ((SideName.SOURCE, pair.source_qemu), (SideName.DESTINATION, pair.destination_qemu)):
            status = qemu.migration_status if qemu is not None else ""
            if self._seen.get(side) != status:
                self._seen[side] = status
                for fault in [each for each in self._at_status if each.moment.status == (side, status)]:
                    self._at_status.remove(fault)
                    self._later(fault)

    def _later(self, fault: Fault) -> None:
        self._clock.after(round(fault.moment.delay_s * SECOND_NS), lambda: self._strike(fault))

    def commanded(self, side: SideName, command: str) -> Trouble | None:
        """What befalls a command that goes out now."""
        fault = next((each for each in self._on_command if each.command == (side, command)), None)
        if fault is None:
            return None
        self._on_command.remove(fault)
        self._note(fault)
        late_ns = round(fault.span_s * SECOND_NS)
        match fault.kind:
            case Kind.LOSE:
                return Trouble(cut_before=True)
            case Kind.LOSE_ANSWER:
                return Trouble(cut_after=True)
            case Kind.LATE:
                return Trouble(late_ns=late_ns)
            case Kind.LATE_ANSWER:
                return Trouble(answer_late_ns=late_ns)
            case _:
                return Trouble(refused=REFUSED)

    # ---- striking

    def _note(self, fault: Fault) -> None:
        self.done.append((self._clock.now_ns / SECOND_NS, fault))
        self._tell(f"{fault.kind.value} {'wish' if fault.kind in WISHES else 'fault'}: {fault}")
        excuse = self._excuse()
        if excuse:
            self._pair.witness.excused = excuse

    def _excuse(self) -> str:
        kinds = [fault.kind for _, fault in self.done]
        for kind in kinds:
            if kind in EXCUSES:
                return kind.value
        lost = [kind for kind in kinds if kind in LOSES_WORDS]
        dead = [kind for kind in kinds if kind in DEATHS]
        if len(lost) > 1 or (lost and dead) or len(dead) > 1 or (dead and not self._pair.watched):
            return " and ".join(kind.value for kind in (*lost, *dead))
        return ""

    def _strike(self, fault: Fault) -> None:
        if fault.kind in ON_COMMAND:
            self._on_command.append(fault)
            return
        if fault.kind in WISHES:
            self._wish(fault)
        elif fault.kind in (Kind.KILL_MANAGER, Kind.FREEZE_MANAGER):
            self._strike_manager(fault)
        elif fault.kind in (Kind.OUTAGE, Kind.RESET, Kind.CLOG):
            self._strike_link(fault)
        else:
            self._strike_side(fault)

    def _heal(self, fault: Fault, what: Callable[[], None]) -> None:
        def healed() -> None:
            self._tell(f"{fault.kind.value} is over")
            what()

        self._clock.after(max(1, round(fault.span_s * SECOND_NS)), healed)

    def _strike_manager(self, fault: Fault) -> None:
        driver = self._pair.driver
        if driver is None or driver.report is not None:
            return
        self._note(fault)
        if fault.kind is Kind.KILL_MANAGER:
            driver.die(in_flight=fault.sent)
            self._pair.driver = None
            self._heal(fault, self._take_over)
        else:
            driver.loop.time.freeze()
            self._heal(fault, driver.loop.time.thaw)

    def _strike_link(self, fault: Fault) -> None:
        self._note(fault)
        network = self._network
        if fault.kind is Kind.OUTAGE:
            network.set_down(True)
            self._heal(fault, lambda: network.set_down(False))
        elif fault.kind is Kind.CLOG:
            network.clog(True)
            self._heal(fault, lambda: network.clog(False))
        else:
            network.reset_all()

    def _strike_side(self, fault: Fault) -> None:
        pair = self._pair
        at_source = fault.kind in (
            *(Kind.KILL_SOURCE, Kind.FREEZE_SOURCE, Kind.CUT_SOURCE, Kind.BLOCK_SOURCE),
            *(Kind.LIE_TOTALS, Kind.LIE_RUN_STATE),
        )
        qemu = pair.source_qemu if at_source else pair.destination_qemu
        wire = pair.source_wire if at_source else pair.destination_wire
        if qemu is None or wire is None or not qemu.alive:
            return
        self._note(fault)
        match fault.kind:
            case Kind.KILL_SOURCE | Kind.KILL_DESTINATION:
                qemu.kill()
            case Kind.FREEZE_SOURCE | Kind.FREEZE_DESTINATION:
                qemu.freeze()
                self._heal(fault, qemu.thaw)
            case Kind.FAIL_DESTINATION:
                qemu.fail_incoming("error while loading state for instance 0x0 of device 'simulated'")
            case Kind.CUT_SOURCE | Kind.CUT_DESTINATION:
                wire.cut()
            case Kind.BLOCK_SOURCE | Kind.BLOCK_DESTINATION:
                self._block(fault, wire)
            case _:
                self._lie(fault, wire, qemu)

    def _block(self, fault: Fault, wire: Wire) -> None:
        wire.blocked = True
        wire.cut()

        def unblock() -> None:
            wire.blocked = False

        self._heal(fault, unblock)

    def _lie(self, fault: Fault, wire: Wire, qemu: Qemu) -> None:
        """QEMU is a little behind itself, for as long as was seen: within 50 ms of its completion."""

        def lied(command: str, said: Any) -> Any:
            if qemu.migration_status != "completed":
                return said
            if fault.kind is Kind.LIE_TOTALS and command == "query-migrate":
                return said | {"total-time": 0, "downtime": 0}
            if fault.kind is Kind.LIE_RUN_STATE and command == "query-status" and said["status"] == "postmigrate":
                return said | {"status": "finish-migrate"}
            return said

        wire.lie = lied
        until_ns: list[int] = []

        def end() -> None:
            if qemu.migration_status == "completed":
                until_ns.append(1)
            if until_ns or not qemu.alive:
                wire.lie = None
            else:
                self._clock.after(50_000_000, end)

        self._clock.after(50_000_000, end)

    def _wish(self, fault: Fault) -> None:
        driver = self._pair.driver
        if fault.kind in (Kind.STOP_GUEST, Kind.CONT_GUEST):
            self._act(fault)
        elif driver is not None and driver.report is None:
            self._note(fault)
            self._tell_driver(driver, fault.kind)

    def _tell_driver(self, driver: Driver, kind: Kind) -> None:
        if kind is Kind.CANCEL:
            if driver.machine.phase is Phase.RECOVERING:
                self._pair.witness.excused = "mending was called off"
            driver.cancel()
        else:
            driver.choose_postcopy()

    def _act(self, fault: Fault) -> None:
        """The guest's owner, at the source's second monitor."""
        qemu = self._pair.source_qemu
        if not qemu.alive or qemu.migration_status not in ("none", "setup", "active"):
            return  # whoever has a source run again that has handed its guest over asks for two of them
        self._note(fault)
        self._pair.witness.acted = True
        monitor = qemu.connect(lambda _: None, lambda: None, 1)
        if monitor is None:
            return
        monitor.send({"execute": "qmp_capabilities"})
        monitor.send({"execute": "stop" if fault.kind is Kind.STOP_GUEST else "cont"})
        self._clock.after(SECOND_NS, monitor.close)
