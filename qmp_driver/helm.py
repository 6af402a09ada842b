"""What becomes of a policy's decisions on the source: its knobs, the throttle from outside, and measuring it before.

The pilot of the engine decides; here it is carried out. Nothing of it is of consequence for the protocol: whatever
fails is a note, and the migration goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.machine import Event, Learnt
from whimbrel.engine.negotiation import abilities, changed_parameters, parameters_of
from whimbrel.engine.pilot import Steering
from whimbrel.engine.policy import Abilities, Knobs, Measurement

from . import replies
from .adoption import Host, Legacy
from .facts import SideFacts
from .measuring import Measuring
from .monitor import Monitor
from .options import Options
from .side import Side
from .source_cpus import SourceCpus


class Helm:
    """Steers one source."""

    def __init__(
        self,
        source: Side,
        options: Options,
        *,
        deliver: Callable[[Event], None],
        write: Callable[[str, dict[str, object]], None],
    ) -> None:
        """
        Args:
            source: what is steered.
            options: how the migration is to be done.
            deliver: takes what is learnt.
            write: puts a line into the log, or raises.
        """
        self.cpus = SourceCpus(write, self._lose_throttle)
        self._source = source
        self._options = options
        self._deliver = deliver
        self._write = write
        self._measuring = Measuring(self.cpus.run_times_s)
        self._abilities = Abilities()
        self._known: Mapping[str, object] = {}
        self._waiting: dict[str, object] = {}
        self._tuning: asyncio.Task[None] | None = None

    # ---- what can be done

    async def look(self, monitor: Monitor, facts: SideFacts) -> None:
        """Find out what can be done with the source.

        Raises:
            OutcomeUnknown, CannotConnect: it does not answer.
        """
        self.cpus.look(facts.pid, facts.cpu_threads)
        await self._measuring.look(monitor, facts.ram_bytes)

    async def offer(
        self, source: Mapping[str, bool], destination: Mapping[str, bool], parameters: Mapping[str, object]
    ) -> Abilities:
        """What this pair can do, and what can be done with the source besides.

        Args:
            source: its capabilities.
            destination: its capabilities.
            parameters: the source's.

        Raises:
            WhimbrelError: the log takes no line.
        """
        self._known = parameters
        self._abilities = abilities(
            source,
            destination,
            parameters,
            outside_throttle=await self.cpus.offer(self._options.objectives.greatest_throttle),
            measuring=self._measuring.able,
        )
        return self._abilities

    def _lose_throttle(self, why: str) -> None:
        self._abilities = replace(self._abilities, outside_throttle=False)
        self._deliver(Learnt({}, abilities=self._abilities, note=f"no throttle from outside any more: {why}"))

    # ---- taken over

    def undo_left(self, legacy: Legacy, here: Host) -> list[str]:
        """Undo the throttle from outside that a manager before us left; what could not be undone, a sentence each."""
        return self.cpus.undo_left(legacy.outside, legacy.judge_outside(here))

    def offer_no_throttle(self, legacy: Legacy) -> None:
        """Tell the policy of a migration that was taken over that there is no throttle from outside any more."""
        if legacy.abilities is not None and legacy.abilities.outside_throttle:
            self._deliver(Learnt({}, abilities=replace(legacy.abilities, outside_throttle=False)))

    # ---- before the start

    async def measure(self, windows_s: tuple[float, ...]) -> tuple[Measurement, ...]:
        """Measure what the guest dirties in windows of these lengths, one after the other, as far as that can be done.

        What can't be measured is left out, with a note: no migration ends for the want of it.
        """
        # The machine allows for the sum of the windows, and for as long as preparing may take besides.
        within_s = sum(windows_s) + self._options.waits.preparing_ns / 2e9
        found, notes = await self._measuring.measure_all(self._source.require, windows_s, within_s=within_s)
        for text in notes:
            self._deliver(Learnt({}, note=text))
        return found

    # ---- on the way

    def run_times_s(self) -> tuple[float, ...]:
        """How long each vCPU has run so far, seconds; empty where this host can't tell."""
        return self.cpus.run_times_s()

    def slow(self, share: float | None) -> None:
        """This share of the vCPUs' time is to be taken from outside from now on; as `OutsideThrottle.want`."""
        self.cpus.want(share)

    def tune(self, steering: Steering) -> None:
        """Have the knobs of QEMU set that a decision changed; returns at once.

        While QEMU sets some, what is decided is gathered: of each knob the newest value, and none is passed over.
        """
        self._have_set(changed_parameters(steering))

    def tune_all(self, knobs: Knobs) -> None:
        """Have all knobs set: whether the last ones that a log names were set, nobody saw; returns at once."""
        self._have_set(parameters_of(knobs, {}))

    def _have_set(self, parameters: Mapping[str, object]) -> None:
        self._waiting.update(parameters)
        if self._waiting and (self._tuning is None or self._tuning.done()):
            self._tuning = asyncio.get_running_loop().create_task(self._tune())

    async def _tune(self) -> None:
        while self._waiting:
            parameters, self._waiting = self._waiting, {}
            await self._set(parameters)

    async def _set(self, parameters: Mapping[str, object]) -> None:
        # One that QEMU does not know would have it refuse them all.
        known = {name: value for name, value in parameters.items() if not self._known or name in self._known}
        try:
            if known:
                await replies.set_parameters(self._source.require(), known)
        except WhimbrelError as error:
            self._note(f"the knobs could not be set: {error}")
        if unknown := sorted(set(parameters) - set(known)):
            self._note(f"the source's QEMU has no {', '.join(unknown)}")

    def _note(self, text: str) -> None:
        try:
            self._write("note", {"text": text})
        except WhimbrelError:
            pass  # the runner sees at its own next line that the log has failed

    async def close(self) -> None:
        """Nothing is set any more, and nothing is slowed; idempotent."""
        if self._tuning is not None:
            self._tuning.cancel()
            await asyncio.gather(self._tuning, return_exceptions=True)
        await self.cpus.close()
