"""A manager in a process of its own that kills itself (SIGKILL) at a line of its log, and leaves its guest behind.

``python -m tests.support.left_behind DEATH``, where DEATH is a `Death` as JSON. The line stands in the log, and what
it announces has not been done.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from tests.support.guests import BRISK, TappedJournal
from whimbrel.engine.machine import Happened
from whimbrel.engine.policy import Decision, Objectives, Observation, Policy, Reason
from whimbrel.engine.protocol import SECOND_NS
from whimbrel.engine.signals import Signal
from whimbrel.qmp_driver.destination import Existing, FromSource
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.runner import Runner

ROOT = Path(__file__).resolve().parents[2]


class Death(msgspec.Struct, frozen=True, kw_only=True):
    """A manager's life: what it moves, and where it dies."""

    source: str
    log: str
    kind: str
    """Of the line at which it dies."""
    fields: dict[str, Any] = {}
    """What that line has to have."""
    bandwidth_bytes_per_s: int | None = None
    to: str | None = None
    """The monitor of a destination that waits; ``None``: one from the source's command line."""
    cancel_at: str | None = None
    """The signal at which it calls the migration off."""
    keep_source: bool = False
    postcopy: bool = False
    """Go over to post-copy as soon as memory moves."""
    slowed: float = 0.0
    """Slow the guest from outside by this share; it dies only when that is done."""
    kill_watchdog: bool = False
    """Take what holds that along."""


def postcopy_able(observation: Observation) -> Decision:
    """The policy that has the capability set, and decides nothing."""
    return Decision(capabilities={"postcopy-ram": True} if observation.reason is Reason.SETUP else {})


def slowing(share: float) -> Policy:
    """The policy that slows the guest from outside, and decides nothing else."""
    return lambda seen: Decision(outside_throttle=share) if seen.reason is Reason.SETUP else Decision()


async def live(death: Death) -> None:
    """Migrate, and die on the way."""
    journal = TappedJournal.create(Path(death.log))
    options = Options(
        objectives=Objectives(bandwidth_bytes_per_s=death.bandwidth_bytes_per_s, greatest_throttle=death.slowed),
        waits=replace(BRISK, handover_ns=10 * SECOND_NS, activating_ns=10 * SECOND_NS),  # others are at work too
        reconnect_s=1.0,
        keep_source=death.keep_source,
        policy=postcopy_able if death.postcopy else slowing(death.slowed) if death.slowed else None,
    )
    to = Existing(death.to) if death.to is not None else FromSource()
    header = {"policy": "least_downtime", "objectives": {"bandwidth_bytes_per_s": death.bandwidth_bytes_per_s}}
    runner = Runner(death.source, to, options, journal, header)

    def tap(kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "signal" and fields["signal"] == death.cancel_at:
            asyncio.get_running_loop().call_soon(runner.cancel)
        if death.postcopy and kind == "signal" and fields["signal"] == "source-active":
            asyncio.get_running_loop().call_soon(runner.deliver, Happened(Signal.POSTCOPY_CHOSEN))
        throttle = runner.procedures.helm.cpus.throttle
        if death.slowed and (throttle is None or throttle.taken != death.slowed):
            return
        if kind == death.kind and all(fields.get(name) == value for name, value in death.fields.items()):
            if death.kill_watchdog and throttle is not None and throttle.watchdog_pid is not None:
                os.kill(throttle.watchdog_pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    journal.tap = tap
    await runner.run()


async def die(death: Death) -> None:
    """Run it in a process of its own, to its end.

    Raises:
        AssertionError: it did not die of its own hand.
    """
    words = (sys.executable, "-m", "tests.support.left_behind", msgspec.json.encode(death).decode())
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT)
    code = await process.wait()
    last = Path(death.log).read_text().splitlines()[-1:]  # noqa: ASYNC240 - a test's own log
    assert code == -signal.SIGKILL, f"the manager ended with {code}: {last}"


if __name__ == "__main__":
    asyncio.run(live(msgspec.json.decode(sys.argv[1], type=Death)))
