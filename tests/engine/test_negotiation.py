"""What a pair of QEMUs is told: the same on both ends, each capability by name, and nothing left to chance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.errors import PreparationFailed
from whimbrel.engine.negotiation import (
    REQUIRED,
    RESTORED,
    abilities,
    changed_parameters,
    for_side,
    negotiate,
    parameters_of,
    to_put_back,
)
from whimbrel.engine.pilot import Pilot
from whimbrel.engine.policy import Decision, Knobs, Objectives

BASE: dict[str, bool] = dict.fromkeys(REQUIRED, False)
OPTIONAL = ("auto-converge", "multifd", "postcopy-ram", "xbzrle", "zero-blocks")
CAPABILITIES = st.dictionaries(st.sampled_from(OPTIONAL), st.booleans()).map(lambda more: BASE | more)
WANTED = st.dictionaries(st.sampled_from((*OPTIONAL, *REQUIRED)), st.booleans())


def test_return_path_is_always_on() -> None:
    """Without it a source of 7.2 says completed 4 ms before its destination fails, and the guest is gone.

    src {"event": "MIGRATION", "data": {"status": "completed"}}
    dst {"event": "MIGRATION", "data": {"status": "failed"}}
    """
    agreed = negotiate(BASE, BASE, {"return-path": False})
    assert agreed.capabilities["return-path"] is True


@given(CAPABILITIES, CAPABILITIES, WANTED)
def test_what_ownership_hangs_on_is_on_whatever_is_wanted(
    source: dict[str, bool], destination: dict[str, bool], wanted: dict[str, bool]
) -> None:
    """And every capability of either end is set explicitly, to the same value where both have it."""
    agreed = negotiate(source, destination, wanted)
    assert all(agreed.capabilities[name] for name in REQUIRED)
    assert set(agreed.capabilities) == set(source) | set(destination)
    for name, state in agreed.capabilities.items():
        if state and name not in REQUIRED:
            assert wanted[name]
            assert name in source
            assert name in destination
    for has in (source, destination):
        assert {**has, **for_side(agreed, has)} == {name: agreed.capabilities[name] for name in has}
        assert all(has[name] != state for name, state in for_side(agreed, has).items())


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("name", REQUIRED)
def test_an_end_without_a_required_capability_is_refused_by_name(side: str, name: str) -> None:
    poor: dict[str, bool] = {kept: False for kept in REQUIRED if kept != name}
    ends = {"source": BASE, "destination": BASE} | {side: poor}
    with pytest.raises(PreparationFailed, match=name) as raised:
        negotiate(ends["source"], ends["destination"], {})
    assert raised.value.side == side


def test_what_was_on_from_before_is_switched_off() -> None:
    """Capabilities survive in the process from whoever used it last."""
    left_over = BASE | {"xbzrle": True}
    assert negotiate(left_over, left_over, {}).capabilities["xbzrle"] is False


def test_what_one_end_lacks_is_dropped_and_said() -> None:
    rich = BASE | {"multifd": False}
    assert negotiate(rich, BASE, {"multifd": True}).dropped == ("multifd dropped: the destination has none",)
    assert negotiate(BASE, rich, {"multifd": True}).dropped == ("multifd dropped: the source has none",)
    assert negotiate(BASE, BASE, {"multifd": True}).dropped == (
        "multifd dropped: the source and the destination have none",
    )
    assert negotiate(BASE, rich, {"multifd": True}).capabilities["multifd"] is False


def test_what_is_not_wanted_is_not_missed() -> None:
    assert negotiate(BASE, BASE, {"multifd": False}).dropped == ()


def test_an_ability_is_what_both_ends_have() -> None:
    able = abilities({"events": True, "xbzrle": False}, {"events": False, "multifd": False}, {"downtime-limit": 300})
    assert able.capabilities == {"events"}
    assert able.parameters == {"downtime-limit"}


def test_knobs_in_qemus_units() -> None:
    """Downtime in whole milliseconds, never 0 (which a guest that writes would never meet); shares in percent."""
    assert parameters_of(Knobs(downtime_limit_s=0.0001, bandwidth_bytes_per_s=7), {}) == {
        "downtime-limit": 1,
        "max-bandwidth": 7,
    }
    throttled = Knobs(throttle_initial=0.2, throttle_increment=0.001, throttle_ceiling=0.99)
    assert parameters_of(throttled, {}) == {
        "downtime-limit": 300,
        "max-bandwidth": 0,
        "cpu-throttle-initial": 20,
        "cpu-throttle-increment": 1,
        "max-cpu-throttle": 99,
    }


def test_a_parameter_that_this_qemu_has_not_is_not_sent() -> None:
    assert parameters_of(Knobs(throttle_initial=0.2), {"downtime-limit": 300}) == {"downtime-limit": 300}


def test_a_decision_sends_what_it_changes_and_no_more() -> None:
    pilot = Pilot(lambda seen: Decision(downtime_limit_s=0.1), Objectives())
    assert changed_parameters(pilot.setup(0)) == {"downtime-limit": 100}
    throttle = Pilot(lambda seen: Decision(throttle_ceiling=0.5), Objectives(greatest_throttle=0.9))
    assert changed_parameters(throttle.setup(0)) == {"max-cpu-throttle": 50}


def test_the_source_gets_back_what_we_set_and_nothing_else() -> None:
    before = {"downtime-limit": 77, "max-bandwidth": 5, "announce-max": 550}
    assert to_put_back(before) == {"downtime-limit": 77, "max-bandwidth": 5}
    every = Knobs(throttle_initial=0.1, throttle_increment=0.1, throttle_ceiling=0.1)
    assert set(parameters_of(every, {})) <= set(RESTORED)


def test_every_knob_in_qemus_units() -> None:
    knobs = Knobs(
        throttle_trigger=0.01, throttle_tailslow=True, outside_throttle=0.5, dirty_limit_bytes_per_s=20 << 20,
        xbzrle_cache_bytes=1 << 26, multifd_channels=4,
    )  # fmt: skip
    assert parameters_of(knobs, {}) == {
        "downtime-limit": 300,
        "max-bandwidth": 0,
        "throttle-trigger-threshold": 1,
        "cpu-throttle-tailslow": True,
        "vcpu-dirty-limit": 20,
        "xbzrle-cache-size": 1 << 26,
        "multifd-channels": 4,
    }


def test_the_destination_is_told_how_many_channels_come() -> None:
    assert parameters_of(Knobs(multifd_channels=4, throttle_initial=0.2), {}, destination=True) == {
        "multifd-channels": 4
    }


def test_a_throttle_from_outside_is_no_parameter_of_qemu() -> None:
    pilot = Pilot(lambda seen: Decision(outside_throttle=0.5), Objectives(greatest_throttle=0.9))
    pilot.abilities = abilities({}, {}, {}, outside_throttle=True)
    steered = pilot.setup(0)
    assert steered.changes == {"outside_throttle": 0.5}
    assert changed_parameters(steered) == {}
