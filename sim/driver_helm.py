"""What becomes of a policy's decisions on the source: its knobs, the throttle from outside, and measuring it before.

What `whimbrel.qmp_driver.helm` is to a real source. Nothing of it is of consequence for the protocol: whatever fails is
a note, and the migration goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from whimbrel.engine.machine import Event, Learnt
from whimbrel.engine.negotiation import abilities
from whimbrel.engine.policy import Abilities, Measurement
from whimbrel.engine.protocol import SECOND_NS, Waits

from . import driver_replies as replies
from .driver_measuring import Measuring
from .driver_outside import LEAST_SHARE, OutsideThrottle, Slowed
from .driver_side import Side
from .driver_tasks import Loop, Work


class Threads(Slowed, Protocol):
    """The source's guest, and its vCPU threads (`whimbrel.sim.pair.Pair`)."""

    @property
    def ram_bytes(self) -> int:
        """How large it is."""
        ...

    @property
    def local(self) -> bool:
        """Whether they can be seen and slowed: they are of the manager's own host."""
        ...

    @property
    def vcpu_s(self) -> tuple[float, ...]:
        """How long each of them has run, seconds; empty where that can't be seen."""
        ...


class Helm:
    """Steers one source."""

    def __init__(
        self,
        loop: Loop,
        place: Threads,
        source: Side,
        *,
        deliver: Callable[[Event], None],
        write: Callable[[str, dict[str, object]], None],
        waits: Waits,
        greatest_throttle: float,
    ) -> None:
        """Nothing is done yet.

        Args:
            loop: of the manager.
            place: where the source is.
            source: what is steered.
            deliver: takes what is learnt.
            write: puts a line into the log.
            waits: how long the manager waits.
            greatest_throttle: the most that the user allows to be taken of the guest's time.
        """
        self._place = place
        self._source = source
        self._deliver = deliver
        self._write = write
        self._waits = waits
        self._greatest_throttle = greatest_throttle
        self._outside = OutsideThrottle(loop, place, self._lose_throttle)
        self._measuring = Measuring(loop, source, lambda: place.vcpu_s, place.ram_bytes)
        self._abilities = Abilities()
        self._known: Mapping[str, object] = {}

    # ---- what can be done

    def offer(
        self, source: Mapping[str, bool], destination: Mapping[str, bool], parameters: Mapping[str, object]
    ) -> Abilities:
        """What this pair can do, and what can be done with the source besides. All modelled QEMUs can be measured.

        Args:
            source: its capabilities.
            destination: its capabilities.
            parameters: the source's.
        """
        self._known = parameters
        self._outside.offered = self._place.local and self._greatest_throttle >= LEAST_SHARE
        self._abilities = abilities(
            source, destination, parameters, outside_throttle=self._outside.offered, measuring=True
        )
        return self._abilities

    def _lose_throttle(self, why: str) -> None:
        self._abilities = replace(self._abilities, outside_throttle=False)
        self._deliver(Learnt({}, abilities=self._abilities, note=f"no throttle from outside any more: {why}"))

    # ---- taken over

    def take_up(self, can: Mapping[str, Any] | None) -> None:
        """Take up what an earlier manager wrote of what can be done."""
        if can is not None:
            self._abilities = Abilities(
                capabilities=frozenset(can["capabilities"]),
                parameters=frozenset(can["parameters"]),
                outside_throttle=can["outside_throttle"],
                measuring=can["measuring"],
            )

    def offer_no_throttle(self) -> None:
        """Tell the policy of a migration that was taken over that there is no throttle from outside any more."""
        if self._abilities.outside_throttle:
            self._abilities = replace(self._abilities, outside_throttle=False)
            self._deliver(Learnt({}, abilities=self._abilities))

    # ---- before the start

    def measure(self, windows_s: tuple[float, ...]) -> Work[tuple[Measurement, ...]]:
        """Measure what the guest dirties in windows of these lengths, one after the other, as far as that can be done.

        What can't be measured is left out, with a note: no migration ends for the want of it.
        """
        # The machine allows for the sum of the windows, and for as long as preparing may take besides.
        within_s = sum(windows_s) + self._waits.preparing_ns / (2 * SECOND_NS)
        found, notes = yield from self._measuring.measure_all(windows_s, within_s=within_s)
        for text in notes:
            self._deliver(Learnt({}, note=text))
        return found

    # ---- on the way

    def slow(self, share: float) -> None:
        """This share of the vCPUs' time is to be taken from outside from now on."""
        self._outside.take(share)

    def give_back(self) -> None:
        """Nothing is taken any more."""
        self._outside.give_back()

    def end(self) -> None:
        """The manager has died."""
        self._outside.end()

    def tune(self, parameters: Mapping[str, object]) -> Work[None]:
        """Set knobs of QEMU; one that it does not know would have it refuse them all, and is left out."""
        known = {name: value for name, value in parameters.items() if not self._known or name in self._known}
        if known:
            yield from replies.set_parameters(self._source.require(), known)
        if unknown := sorted(set(parameters) - set(known)):
            self._write("note", {"text": f"the source's QEMU has no {', '.join(unknown)}"})
