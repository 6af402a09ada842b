"""Policies on real QEMUs: what one decides is done for real, and one that fails does no harm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.guests import Guest, World, ask, read_log
from tests.support.taps import FAILED, MOVED, on_command
from whimbrel.engine.policy import Decision, Objectives, Observation, Reason
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver.runner import Runner

MIB = 1 << 20
ALLOWED = Path("/proc/sys/vm/unprivileged_userfaultfd")
HASTY = WorkloadSpec.parse(("hot:size=2MiB,rate=40MiB/s", "cold:size=6MiB"), beat_hz=200)
"""Dirties far more than `SLOWLY` carries: as pre-copy it never ends within 300 ms."""
SLOWLY = 8 * MIB
SOON_S = 0.2
"""Long before the first iteration has ended."""


def asked_of(side: Guest) -> dict[str, Any]:
    """What a QEMU says to `query-migrate`."""
    (said,) = ask(side.spare, "query-migrate")
    return dict(said)


@pytest.mark.skipif(
    os.geteuid() != 0 and (not ALLOWED.exists() or ALLOWED.read_text().strip() != "1"),
    reason="post-copy needs userfaultfd, which is for root alone here",
)
async def test_one_that_starts_post_copy_has_the_guest_moved_by_it(world: World) -> None:
    """In the first iteration; the guest runs at the destination before all of its memory is there."""

    def policy(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(capabilities={"postcopy-ram": True}, wake_after_s=0.05, because="it may come to post-copy")
        return Decision(start_postcopy=seen.elapsed_s > SOON_S, because="it does not converge")

    source = await world.boot(spec=HASTY)
    goal = Objectives(may_postcopy=True, bandwidth_bytes_per_s=SLOWLY, downtime_s=0.05)
    end = await world.migrate(source, policy=policy, objectives=goal)
    assert end.verdict == MOVED
    assert "postcopy" in end.phases()
    lines = read_log(end.log)
    signals = [line["signal"] for line in lines if line["kind"] == "signal"]
    assert signals.index("postcopy-chosen") < signals.index("destination-running") < signals.index("source-completed")
    assert next(line["detail"] for line in lines if line.get("signal") == "postcopy-chosen") == "it does not converge"
    await world.check(source, end)


async def test_one_that_wants_xbzrle_gets_it_with_its_cache(world: World) -> None:
    """QEMU says so itself while it runs: pages of a guest that changes little of each go over as differences."""
    figures: list[Mapping[str, Any]] = []

    def policy(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(capabilities={"xbzrle": True}, xbzrle_cache_bytes=5 * MIB)
        return Decision()

    def look(_: Runner) -> None:
        figures.append(asked_of(source)["xbzrle-cache"])

    spec = WorkloadSpec.parse(("hot:size=2MiB,rate=40MiB/s,touch=64B", "cold:size=6MiB"), beat_hz=200)
    source = await world.boot(spec=spec)
    # Within this downtime a fiftieth of what it dirties in each iteration would fit.
    goal = Objectives(bandwidth_bytes_per_s=2 * SLOWLY, downtime_s=0.005)
    end = await world.migrate(source, tap=on_command("release-source", look), policy=policy, objectives=goal)
    assert end.verdict == MOVED
    assert figures[0]["cache-size"] == 4 * MIB, "the greatest power of two that fits"
    assert figures[0]["pages"] > 100
    assert figures[0]["bytes"] < figures[0]["pages"] * 512
    await world.check(source, end)


async def test_one_that_wants_multifd_gets_its_channels_at_both_ends(world: World) -> None:
    """The destination counts the connections it waits for: it has to know before it listens."""
    bytes_by_multifd: list[int] = []

    def policy(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(capabilities={"multifd": True}, multifd_channels=3, wake_after_s=0.05)
        bytes_by_multifd.append(asked_of(source)["ram"]["multifd-bytes"])
        return Decision()

    source = await world.boot()
    before = source.settings()
    goal = Objectives(bandwidth_bytes_per_s=SLOWLY)
    end = await world.migrate(source, policy=policy, objectives=goal)
    assert end.verdict == MOVED
    assert bytes_by_multifd[-1] > MIB
    assert end.report.facts["own_stream"] is False
    assert before["multifd-channels"] == 2
    settings = [line for line in read_log(end.log) if line["kind"] == "settings"]
    assert {line["side"]: line["parameters"].get("multifd-channels") for line in settings} == {
        "source": 2,
        "destination": 2,
    }
    assert end.destination_qmp is not None
    (after,) = ask(end.destination_qmp, "query-migrate-parameters")
    assert after["multifd-channels"] == 2, "the destination has its own settings back"
    await world.check(source, end)


async def test_one_that_pauses_lets_the_guest_stand_until_all_is_over(world: World) -> None:
    """As pre-copy within the greatest downtime this guest would never go over."""

    def policy(seen: Observation) -> Decision:
        return Decision(pause=seen.elapsed_s > SOON_S, wake_after_s=0.05, because="it does not converge")

    source = await world.boot(spec=HASTY)
    goal = Objectives(may_pause=True, bandwidth_bytes_per_s=SLOWLY, downtime_s=0.02)
    end = await world.migrate(source, policy=policy, objectives=goal)
    assert end.verdict == MOVED
    limits = [line["changes"].get("downtime_limit_s") for line in read_log(end.log) if line["kind"] == "decision"]
    assert limits[-1] == 2000, "as much as QEMU takes"
    assert len(end.report.iterations) <= 2, "most of it went over while the guest stood still"
    await world.check(source, end)


@pytest.mark.parametrize("abort_on_fault", [False, True])
async def test_one_that_raises_does_no_harm(world: World, abort_on_fault: bool) -> None:
    """The last good settings stay and the guest goes over; or it stays, if that was asked for."""

    def policy(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            return Decision(downtime_limit_s=0.2, wake_after_s=0.05)
        raise RuntimeError("a bug in it")

    source = await world.boot()
    before = source.settings()
    goal = Objectives(bandwidth_bytes_per_s=SLOWLY, abort_on_fault=abort_on_fault)
    end = await world.migrate(source, policy=policy, objectives=goal)
    assert end.verdict == (FAILED if abort_on_fault else MOVED)
    assert any("a bug in it" in text for text in (*end.report.notes, end.report.why))
    await world.check(source, end, before=before)
