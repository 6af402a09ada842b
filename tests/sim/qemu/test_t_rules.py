"""Tests of whimbrel.sim.qemu.t_rules."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.t_rules import FLUSH_BYTES, rules_of


@pytest.mark.parametrize("version", Version)
def test_every_modelled_version_has_its_rules(version: Version) -> None:
    """None is forgotten, and a version's rules are one object."""
    assert rules_of(version) is rules_of(version)


def test_what_came_when() -> None:
    """The features of later versions are off in earlier ones."""
    old, middle, new = (rules_of(version) for version in Version)
    for feature in ("forced_sync", "switchover_bandwidth", "dirty_limit", "zero_in_channels"):
        assert [getattr(each, feature) for each in (old, middle, new)] == [False, True, True], feature
    assert [each.says_postcopy_device for each in (old, middle, new)] == [False, False, True]
    assert [each.shows_remaining for each in (old, middle, new)] == [False, False, True]
    assert [each.counts_every_sync for each in (old, middle, new)] == [True, True, False]


def test_a_flush_is_32_pages_with_their_headers() -> None:
    """64 pieces: a header and a page for each."""
    assert FLUSH_BYTES == 32 * (4096 + 8)
