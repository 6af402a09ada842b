"""One seed of the swarm."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from whimbrel.engine.policies import Fixed
from whimbrel.engine.policy import Observation, Reason
from whimbrel.engine.signals import Command
from whimbrel.sim import trial
from whimbrel.sim.driver import Driver
from whimbrel.sim.driver_procedures import Procedures
from whimbrel.sim.driver_tasks import Work
from whimbrel.sim.explorer.world import Breach
from whimbrel.sim.faults import Fault, Kind, Moment
from whimbrel.sim.trial import Trial
from whimbrel.sim.world import Wanting


def calm(seed: int = 1) -> Trial:
    """A trial in which nothing goes wrong."""
    return replace(Trial.drawn(seed), faults=(), capabilities=())


def test_a_seed_draws_the_same_trial_again_and_all_of_it_is_said() -> None:
    assert Trial.drawn(11) == Trial.drawn(11) != Trial.drawn(12)
    said = Trial.drawn(11).described()
    assert json.loads(json.dumps(said))["seed"] == 11
    assert {"guest", "link", "qemu", "objectives", "policy", "faults", "waits", "watched"} <= set(said)


def test_what_is_drawn_is_of_all_kinds() -> None:
    drawn = [Trial.drawn(seed) for seed in range(300)]
    assert {each.scenario.policy for each in drawn} == {"fixed", "least_downtime"}
    assert len({(each.scenario.qemu.source, each.scenario.qemu.destination) for each in drawn}) == 9
    assert {each.watched for each in drawn} == {each.keep_source for each in drawn} == {True, False}
    assert {"postcopy-ram", "xbzrle", "auto-converge"} == {name for each in drawn for name in each.capabilities}
    assert len({each.waits for each in drawn}) > 10
    assert all(each.scenario.guest.ram_bytes <= 512 << 20 for each in drawn)


def test_a_trial_runs_twice_alike() -> None:
    first, again = trial.run(Trial.drawn(3)), trial.run(Trial.drawn(3))
    assert first == again
    assert first.log
    assert first.digest != trial.run(Trial.drawn(4)).digest


def test_one_in_which_nothing_goes_wrong_ends_well() -> None:
    found = trial.run(calm(5))
    assert (found.broken, found.struck) == ((), ())
    assert "guest running" in found.end


def test_an_end_that_settled_nothing_is_tried_again_once_everything_has_healed() -> None:
    fault = Fault(kind=Kind.BLOCK_DESTINATION, moment=Moment(order=Command.RESUME_DESTINATION), span_s=60.0)
    told: list[str] = []
    found = trial.run(replace(calm(5), watched=True, faults=(fault,)), tell=told.append)
    assert any("tries again" in text for text in told)
    assert (found.end, found.broken) == ("completed, owner destination, guest running", ())


def test_a_migration_that_never_ends_is_found_out() -> None:
    class Silent(Procedures):
        """Never answers."""

        def migrate(self) -> Work[None]:
            while True:
                yield self.loop.sleep(1000.0)

    class Stuck(Driver):
        """A manager that waits for it for ever."""

        procedures_of = Silent

        def cancel(self, why: str = "") -> None:
            """Not heard."""

    patient = replace(calm(5), waits=replace(calm(5).waits, connect_ns=10**15))
    found = trial.run(patient, make_driver=Stuck)
    assert [each.breach for each in found.broken] == [Breach.NO_END]
    assert found.end == "no end"


def test_a_defect_of_a_manager_is_found_out() -> None:
    class Faulty(Procedures):
        """Has a bug."""

        def migrate(self) -> Work[None]:
            raise ZeroDivisionError
            yield

    class Broken(Driver):
        """A manager with it."""

        procedures_of = Faulty

    found = trial.run(calm(5), make_driver=Broken)
    assert [each.breach for each in found.broken] == [Breach.NO_END]
    assert "ZeroDivisionError" in found.broken[0].how


@pytest.mark.parametrize("reason", [Reason.SETUP, Reason.TICK])
def test_capabilities_are_asked_for_at_the_setup_alone(reason: Reason) -> None:
    decision = Wanting(Fixed(), ("xbzrle",))(Observation(reason=reason))
    assert dict(decision.capabilities) == ({"xbzrle": True} if reason is Reason.SETUP else {})
