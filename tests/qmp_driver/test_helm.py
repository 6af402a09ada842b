"""What becomes of a policy's decisions: knobs are set, each to its newest value, and none is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.guests import until
from tests.support.qmp_server import Held, QmpServer, Refusal
from whimbrel.engine.errors import WhimbrelError
from whimbrel.engine.machine import Event, Learnt
from whimbrel.engine.pilot import Steering
from whimbrel.engine.policy import Decision, Knobs, Objectives, Reason
from whimbrel.engine.states import Side as SideName
from whimbrel.qmp_driver.adoption import Host, Judged, Legacy
from whimbrel.qmp_driver.helm import Helm
from whimbrel.qmp_driver.options import Options
from whimbrel.qmp_driver.outside_hold import Hold, Thread
from whimbrel.qmp_driver.side import Side

HERE = Host(boot_id="b", machine_id="m", name="n", namespaces="s")


@dataclass
class Bench:
    """A helm on a scripted source."""

    source: QmpServer
    side: Side
    events: list[Event] = field(default_factory=list[Event])
    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list[tuple[str, dict[str, object]]])
    full: bool = False

    def __post_init__(self) -> None:
        self.helm = Helm(self.side, Options(), deliver=self.events.append, write=self._write)

    def _write(self, kind: str, fields: dict[str, object]) -> None:
        if self.full:
            raise WhimbrelError("the log is full")
        self.lines.append((kind, fields))

    @property
    def set(self) -> list[dict[str, object]]:
        """The parameters that were set, call by call."""
        return [dict(each.arguments) for each in self.source.received if each.command == "migrate-set-parameters"]

    async def until_set(self, *calls: dict[str, object]) -> None:
        """Wait until exactly these were."""
        await until(lambda: len(self.set) == len(calls), f"{len(calls)} calls")
        assert self.set == list(calls)


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    """It takes any parameter."""
    async with QmpServer() as source:
        side = Side(SideName.SOURCE, lambda event: None, lambda kind, fields: None, lambda: None)
        source.on("query-cpus-fast", [])
        await side.connect(source.address)
        source.on("migrate-set-parameters", {})
        place = Bench(source, side)
        yield place
        await place.helm.close()
        await side.close()


def steering(**changes: Any) -> Steering:
    """A decision that changes these knobs."""
    return Steering(asked=Reason.TICK, decision=Decision(), knobs=Knobs(**changes), changes=changes, clamped=())


async def test_only_what_a_decision_changed_is_set(bench: Bench) -> None:
    """In QEMU's units."""
    bench.helm.tune(
        Steering(
            asked=Reason.TICK,
            decision=Decision(downtime_limit_s=0.125),
            knobs=Knobs(downtime_limit_s=0.125, bandwidth_bytes_per_s=9),
            changes={"downtime_limit_s": 0.125},
            clamped=(),
        )
    )
    await bench.until_set({"downtime-limit": 125})


async def test_no_change_is_lost_while_qemu_is_busy_with_an_earlier_one(bench: Bench) -> None:
    """Decisions that came meanwhile are one, with the newest value of each knob."""
    gate = asyncio.Event()
    bench.source.on_next("migrate-set-parameters", Held(gate, {}))
    bench.helm.tune(steering(downtime_limit_s=0.1))
    await bench.source.until_received("migrate-set-parameters")
    bench.helm.tune(steering(bandwidth_bytes_per_s=5))
    bench.helm.tune(steering(downtime_limit_s=0.2))
    bench.helm.tune(steering(downtime_limit_s=0.3))
    gate.set()
    await bench.until_set({"downtime-limit": 100}, {"max-bandwidth": 5, "downtime-limit": 300})


async def test_what_is_no_parameter_of_qemus_is_not_set(bench: Bench) -> None:
    """The throttle from outside is none."""
    bench.helm.tune(steering(outside_throttle=0.5))
    bench.helm.tune(steering(downtime_limit_s=0.1, outside_throttle=0.0))
    await bench.until_set({"downtime-limit": 100})


async def test_a_knob_that_this_qemu_has_not_does_not_spoil_the_others(bench: Bench) -> None:
    """QEMU would refuse all of them; it is said in the log."""
    await bench.helm.offer({}, {}, {"downtime-limit": 300, "max-bandwidth": 0})
    bench.helm.tune(steering(downtime_limit_s=0.1, dirty_limit_bytes_per_s=1 << 20))
    await bench.until_set({"downtime-limit": 100})
    await until(lambda: bench.lines != [], "it is noted")
    assert bench.lines == [("note", {"text": "the source's QEMU has no vcpu-dirty-limit"})]
    bench.helm.tune(steering(dirty_limit_bytes_per_s=1 << 20))
    await until(lambda: len(bench.lines) == 2, "it is noted")
    assert len(bench.set) == 1


async def test_what_qemu_refuses_is_noted_and_the_next_is_set(bench: Bench) -> None:
    """A migration goes on with the knobs that it has; a log that fails then is the runner's to notice."""
    bench.source.on_next("migrate-set-parameters", Refusal("no"), Refusal("no"))
    bench.helm.tune(steering(downtime_limit_s=0.1))
    await until(lambda: bench.lines != [], "it is noted")
    assert str(bench.lines[0][1]["text"]).startswith("the knobs could not be set: ")
    bench.full = True
    bench.helm.tune(steering(downtime_limit_s=0.2))
    await until(lambda: len(bench.set) == 2, "it is tried")
    bench.helm.tune(steering(downtime_limit_s=0.3))
    await bench.until_set({"downtime-limit": 100}, {"downtime-limit": 200}, {"downtime-limit": 300})


async def test_all_knobs_are_set_after_a_take_over(bench: Bench) -> None:
    """Whether the last ones that the log names were set nobody saw."""
    bench.helm.tune_all(
        Knobs(downtime_limit_s=0.1, bandwidth_bytes_per_s=7, throttle_initial=0.5, outside_throttle=0.5)
    )
    await bench.until_set({"downtime-limit": 100, "max-bandwidth": 7, "cpu-throttle-initial": 50})


def legacy(*, hold: Hold | None, abilities: bool) -> Legacy:
    """What a manager left that may have slowed its guest."""
    options: dict[str, object] = {"source": "/q", "waits": {}}
    header: dict[str, object] = {"kind": "header", "t_ns": 0, "options": options, "objectives": {}}
    host = {"boot_id": "b", "machine_id": "m", "name": "n", "namespaces": "s"}
    can: dict[str, object] = {"capabilities": [], "parameters": [], "outside_throttle": True, "measuring": True}
    learnt: dict[str, object] = {"kind": "learnt", "t_ns": 1, "facts": {}, "abilities": can if abilities else None}
    line: dict[str, object] = {"kind": "outside", "t_ns": 2, "hold": None if hold is None else hold.as_written()}
    return Legacy.read([header | {"host": host}, learnt, line])


GONE = Hold("cgroup-v1", (Thread(1, 1, 1, home="/nowhere", group="/nowhere/whimbrel"),))


async def test_what_another_manager_left_is_undone_and_the_policy_told(bench: Bench) -> None:
    """Once: the log says afterwards that nothing is left."""
    left = legacy(hold=GONE, abilities=True)
    assert left.outside == GONE
    assert bench.helm.undo_left(left, HERE) == []
    assert bench.lines == [("outside", {"hold": None})]
    bench.helm.offer_no_throttle(left)
    (event,) = bench.events
    assert isinstance(event, Learnt)
    assert event.abilities is not None
    assert (event.abilities.outside_throttle, event.abilities.measuring) == (False, True)


async def test_where_nothing_was_slowed_nothing_is_said(bench: Bench) -> None:
    """As after most migrations."""
    left = legacy(hold=None, abilities=False)
    assert bench.helm.undo_left(left, HERE) == []
    bench.helm.offer_no_throttle(left)
    assert (bench.lines, bench.events) == ([], [])


async def test_threads_of_another_boot_have_ended_and_those_of_another_host_are_named(bench: Bench) -> None:
    """The first need no undoing; the others can't be undone from here."""
    left = legacy(hold=GONE, abilities=True)
    rebooted = Host(boot_id="c", machine_id="m", name="n", namespaces="s")
    elsewhere = Host(boot_id="c", machine_id="other", name="n", namespaces="s")
    assert left.judge_outside(rebooted) is Judged.REBOOTED
    assert bench.helm.undo_left(left, rebooted) == []
    (sentence,) = bench.helm.undo_left(left, elsewhere)
    assert "on the host of its log only" in sentence


async def test_what_can_not_be_undone_is_said(bench: Bench, tmp_path: Any) -> None:
    """A sentence for the report, and the log still says what it is."""
    (tmp_path / "tasks").write_text("")
    stuck = Hold("cgroup-v1", (Thread(1, 1, 1, home="/nowhere", group=str(tmp_path)),))
    (sentence,) = bench.helm.undo_left(legacy(hold=stuck, abilities=True), HERE)
    assert (
        sentence == f"the throttle from outside could not be undone: {tmp_path} is still slowed (Directory not empty)"
    )
    assert bench.lines == []


async def test_nothing_is_offered_that_the_user_does_not_allow(bench: Bench) -> None:
    """And nothing that this host can't: this source is behind TCP."""
    assert not (await bench.helm.offer({}, {}, {})).outside_throttle
    assert bench.helm.cpus.because == "no throttle is allowed"
    options = Options(objectives=Objectives(greatest_throttle=0.5))
    helm = Helm(bench.side, options, deliver=bench.events.append, write=lambda kind, fields: None)
    assert not (await helm.offer({}, {}, {})).outside_throttle
    assert helm.cpus.because == "the source's vCPU threads can't be seen from here"
    helm.slow(0.5)
    assert helm.run_times_s() == ()
    await helm.close()
