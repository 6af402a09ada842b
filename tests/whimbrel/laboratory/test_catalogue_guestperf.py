"""guestperf's matrix, and what was added to it."""

import pytest

from whimbrel.laboratory.catalogue_guestperf import GREATEST_RATE, THREAD_BYTES_PER_S, guestperf
from whimbrel.sim.memory.contract import PAGE_BYTES
from whimbrel.sim.scenario import Pattern

BY_NAME = {each.name: each for each in guestperf()}


def _rate(name: str) -> float:
    """Writes as a multiple of the link."""
    scenario = BY_NAME[name].scenario
    return sum(writer.rate_bytes_per_s for writer in scenario.guest.writers) / scenario.link.bandwidth_bytes_per_s


@pytest.mark.parametrize(
    ("name", "rate"),
    [("stress@0.1g", 16), ("stress@0.3g", 16), ("stress@1g", 16), ("stress@10g", 1.95), ("stress@100g", 0.195)],
)
def test_its_five_bandwidths_are_there_with_their_lambda_or_the_cut(name: str, rate: float) -> None:
    assert _rate(name) == pytest.approx(rate, rel=0.01)
    assert _rate(name) <= GREATEST_RATE * 1.0001


def test_where_lambda_was_cut_is_told() -> None:
    assert "cut to 16" in BY_NAME["stress@0.1g"].about
    assert "cut" not in BY_NAME["stress@10g"].about


def test_its_writer_changes_all_of_every_page_of_all_of_its_memory() -> None:
    guest = BY_NAME["stress@1g"].scenario.guest

    assert [writer.pattern for writer in guest.writers] == [Pattern.SWEEP]
    assert guest.writers[0].size_bytes == guest.ram_bytes - guest.zero_bytes
    assert guest.writers[0].delta_bytes == PAGE_BYTES
    assert guest.writers[0].cpu_share == 1.0
    assert guest.zero_bytes * 3 == guest.ram_bytes  # 512 of 1536 MiB


def test_four_threads_share_its_memory() -> None:
    guest = BY_NAME["stress4@1g"].scenario.guest

    assert [writer.vcpu for writer in guest.writers] == [0, 1, 2, 3]
    assert len({writer.size_bytes for writer in guest.writers}) == 1
    assert sum(writer.size_bytes for writer in guest.writers) == guest.ram_bytes - guest.zero_bytes


def test_on_the_fastest_link_the_sender_s_thread_is_what_limits() -> None:
    scenario = BY_NAME["stress@100g"].scenario

    assert scenario.qemu.costs.cpu_bytes_per_s == THREAD_BYTES_PER_S / 16
    assert scenario.qemu.costs.cpu_bytes_per_s < scenario.link.bandwidth_bytes_per_s / 6


def test_what_it_lacks_is_there() -> None:
    assert _rate("paced50@1g") == pytest.approx(0.5)
    assert BY_NAME["paced150@1g"].scenario.guest.writers[0].cpu_share < 0.1
    assert BY_NAME["smallxor@1g"].scenario.guest.writers[0].delta_bytes == 256
    assert not BY_NAME["stress@1g-precopy"].scenario.objectives.may_postcopy
