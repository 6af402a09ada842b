"""Published settings keep the figures that their sources give."""

import pytest

from whimbrel.engine.bounds import floor_s, plateau_s
from whimbrel.engine.curve import Curve
from whimbrel.laboratory.catalogue import named
from whimbrel.laboratory.catalogue_published import memcached, workloads

WORKLOADS = workloads()


def test_every_workload_is_used_and_says_what_it_is() -> None:
    used = {each.workload for each in named("published")}

    assert used == set(WORKLOADS)
    assert all(each.about.endswith(".") for each in WORKLOADS.values())


def test_lambda_is_what_was_published() -> None:
    assert WORKLOADS["kubevirt65"].parts[0].rate == 0.65
    assert WORKLOADS["mvm"].parts[0].rate == pytest.approx(96 / 2 / (1000 / 9), abs=0.005)
    assert WORKLOADS["mvm"].parts[0].part == pytest.approx(96 / 2000)
    assert WORKLOADS["mvm"].parts[1].rate == pytest.approx(2 / (1000 / 9), abs=0.001)
    assert WORKLOADS["mmuncher"].parts[0].part == 256 / 512


def test_vcpus_that_share_a_load_share_it_evenly() -> None:
    parts = WORKLOADS["refined1200"].parts

    assert [part.vcpu for part in parts] == list(range(10))
    assert sum(part.rate for part in parts) == pytest.approx(16.0)


@pytest.mark.parametrize(("gibit", "plateau", "floor"), [(1, 30.789, 4.059), (2, 3.873, 0.949), (2.5, 2.235, 0.609)])
def test_the_measured_guest_has_the_plateau_and_the_floor_of_its_original(
    gibit: float, plateau: float, floor: float
) -> None:
    """Seconds of the original, from the published curve at that bandwidth."""
    guest = memcached(gibit).guest()
    size = memcached(gibit).size
    original_round_s = 6332 / 16392 * 8392704 * 4096 / (gibit * 2**30 / 8)
    scale = size.round_s / original_round_s
    curve = Curve(guest.curve, guest.ram_bytes, guest.zero_bytes)

    assert plateau_s(curve, size.bandwidth_bytes_per_s) == pytest.approx(plateau * scale, rel=0.02)
    assert floor_s(curve, size.bandwidth_bytes_per_s) == pytest.approx(floor * scale, rel=0.02)
