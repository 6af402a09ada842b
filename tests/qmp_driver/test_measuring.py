"""Measuring what a guest dirties: against scripted monitors, and before real moves."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.guests import World, ask, read_log
from tests.support.qmp_server import Drop, QmpServer, Refusal
from tests.support.taps import CALLED_OFF, LOST, MOVED, at_probe, call_off
from whimbrel.engine.errors import QemuRefused
from whimbrel.engine.policy import Decision, Measurement, Observation, Reason
from whimbrel.guest.spec import WorkloadSpec
from whimbrel.qmp_driver.measuring import Measuring
from whimbrel.qmp_driver.monitor import Monitor
from whimbrel.qmp_driver.runner import Runner

MIB = 1 << 20
HASTY = WorkloadSpec.parse(("hot:size=8MiB,rate=100MiB/s", "cold:size=2MiB"), beat_hz=200)


def told(status: str, rate: int | None = None, unit: str | None = None) -> dict[str, object]:
    """An answer of ``query-dirty-rate``."""
    answer: dict[str, object] = {"status": status, "start-time": 0, "calc-time": 1, "mode": "page-sampling"}
    return answer | ({} if rate is None else {"dirty-rate": rate}) | ({} if unit is None else {"calc-time-unit": unit})


@asynccontextmanager
async def source(server: QmpServer) -> AsyncGenerator[Monitor]:
    """A monitor of it."""
    monitor = await Monitor.connect(server.address, side="source")
    try:
        yield monitor
    finally:
        await monitor.close()


async def test_a_qemu_that_has_not_the_command_can_not_measure() -> None:
    """It refuses the question, too."""
    async with QmpServer() as server, source(server) as monitor:
        measuring = Measuring(lambda: ())
        await measuring.look(monitor, 1 << 28)
        assert not measuring.able


async def test_windows_come_one_after_the_other() -> None:
    """With what each vCPU ran in them; shorter than a second where QEMU counts milliseconds."""
    async with QmpServer() as server, source(server) as monitor:
        ran = iter(((1.0,), (1.01,), (2.0,), (2.0,)))
        measuring = Measuring(lambda: next(ran))
        server.on("query-dirty-rate", told("unstarted", unit="second"))
        await measuring.look(monitor, 1 << 28)
        assert measuring.able
        server.on_next("query-dirty-rate", told("unstarted"), told("measuring"), told("measured", 40))
        server.on("query-dirty-rate", told("measured", 20))
        server.on("calc-dirty-rate", {})
        found, notes = await measuring.measure_all(lambda: monitor, (0.05, 0.1), within_s=10)
        assert notes == ()
        assert [(each.window_s, each.dirtied_bytes) for each in found] == [(0.05, 2 * MIB), (0.1, 2 * MIB)]
        assert 0.05 <= found[0].at_s < found[1].at_s
        assert 0 < found[0].vcpu_shares[0] <= 0.2
        assert found[1].vcpu_shares == (0.0,)
        arguments = [each.arguments for each in server.received if each.command == "calc-dirty-rate"]
        assert arguments == [
            {"calc-time": 50, "calc-time-unit": "millisecond", "sample-pages": 16384},
            {"calc-time": 100, "calc-time-unit": "millisecond", "sample-pages": 16384},
        ]


@pytest.mark.parametrize("spoilt", [Refusal("no"), Drop()], ids=["refused", "lost"])
async def test_where_it_fails_what_was_measured_before_is_kept(spoilt: Refusal | Drop) -> None:
    """And it is said why there is no more."""
    async with QmpServer() as server, source(server) as monitor:
        measuring = Measuring(lambda: ())
        server.on("query-dirty-rate", told("measured", 1, unit="second"))
        await measuring.look(monitor, 1 << 28)
        server.on_next("calc-dirty-rate", {})
        server.on("calc-dirty-rate", spoilt)
        found, notes = await measuring.measure_all(lambda: monitor, (0.05, 0.05), within_s=10)
        assert len(found) == 1
        assert len(notes) == 1
        assert notes[0].startswith("the guest could not be measured: ")


async def test_a_window_for_which_there_is_no_time_is_not_begun() -> None:
    """The machine gives preparing an end."""
    async with QmpServer() as server, source(server) as monitor:
        measuring = Measuring(lambda: ())
        server.on("query-dirty-rate", told("unstarted"))
        await measuring.look(monitor, 1 << 28)
        found, notes = await measuring.measure_all(lambda: monitor, (0.1,), within_s=0.9)
        assert found == ()
        assert notes == ("a window of 0.1 s was not measured: there was no time left for it",)
        assert [each.command for each in server.received if each.command == "calc-dirty-rate"] == []


async def test_a_measurement_of_somebody_elses_is_waited_for() -> None:
    """QEMU has one at a time; one that does not end is not waited for longer than there is time."""
    async with QmpServer() as server, source(server) as monitor:
        measuring = Measuring(lambda: ())
        server.on("query-dirty-rate", told("measuring", unit="second"))
        await measuring.look(monitor, 1 << 28)
        found, notes = await measuring.measure_all(lambda: monitor, (0.05,), within_s=0.1)
        assert (found, notes) == ((), ("the guest could not be measured: source: it is still measuring",))


async def test_a_refusal_is_a_refusal() -> None:
    """For whoever asks for one window."""
    async with QmpServer() as server, source(server) as monitor:
        server.on("query-dirty-rate", told("unstarted", unit="second"))
        server.on("calc-dirty-rate", Refusal("the guest is shy"))
        measuring = Measuring(lambda: ())
        await measuring.look(monitor, 1 << 28)
        with pytest.raises(QemuRefused, match="shy"):
            await measuring.measure(monitor, 0.05, within_s=1)


# ---- on real QEMUs


def curious(*windows_s: float, found: list[Measurement] | None = None) -> Callable[[Observation], Decision]:
    """Wants to know before the start, once."""
    asked: list[Observation] = []

    def policy(seen: Observation) -> Decision:
        if seen.reason is Reason.SETUP:
            asked.append(seen)
            if len(asked) == 1 and seen.abilities.measuring:
                return Decision(measure_s=windows_s, not_yet_s=0.01, because="what does it dirty?")
            if found is not None:
                found.extend(seen.measurements)
        return Decision()

    return policy


async def test_a_policy_is_asked_again_with_what_was_measured(world: World) -> None:
    """QEMU 7.2 rounds up to a second; the guest dirties all of its hot pages in that time, and uses its vCPU."""
    source_guest = await world.boot(spec=HASTY)
    found: list[Measurement] = []
    end = await world.migrate(source_guest, policy=curious(0.2, found=found))
    assert end.verdict == MOVED
    (one,) = found
    assert one.window_s == 1.0
    assert 1.0 <= one.at_s < 5.0
    # A sample of 400 pages, and QEMU rounds down to whole MiB/s.
    assert 4 * MIB < one.dirtied_bytes < 16 * MIB
    assert len(one.vcpu_shares) == 1
    assert 0 < one.vcpu_shares[0] <= 1
    kinds = [line["kind"] for line in read_log(end.log)]
    assert kinds.index("probe") < kinds.index("measured") < kinds.index("settings")
    await world.check(source_guest, end)


async def test_called_off_while_it_measures(world: World) -> None:
    """It ends at once, not with the window; the measurement of QEMU's own ends by itself and does no harm."""
    source_guest = await world.boot()
    before = source_guest.settings()
    async with asyncio.timeout(10):
        end = await world.migrate(source_guest, tap=at_probe(call_off), policy=curious(30))
    assert end.verdict == CALLED_OFF
    assert "arm" not in end.commands()
    assert "measured" not in [line["kind"] for line in read_log(end.log)]
    await world.check(source_guest, end, before=before)
    assert ask(source_guest.spare, "query-dirty-rate")[0]["status"] in ("measuring", "unstarted")


async def test_a_source_that_dies_while_it_is_measured(world: World) -> None:
    """The guest is lost with it, and the destination is not left behind."""
    source_guest = await world.boot()

    def kill(_: Runner) -> None:
        os.kill(source_guest.pid, signal.SIGKILL)

    async with asyncio.timeout(10):
        end = await world.migrate(source_guest, tap=at_probe(kill), policy=curious(30))
    assert end.verdict == LOST
    await world.check(source_guest, end)
