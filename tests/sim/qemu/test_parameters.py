"""Migration parameters: defaults, ranges and words of each version."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.errors import Refusal
from whimbrel.sim.qemu.parameters import arguments, changed, defaults

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1


def _refused(version: Version, **given: object) -> str:
    with pytest.raises(Refusal) as refused:
        changed(defaults(version), {name.replace("_", "-"): value for name, value in given.items()}, version)
    return refused.value.description


def test_defaults_and_what_each_version_has() -> None:
    """As read from fresh processes of the three."""
    for version, count in ((V7, 26), (V10, 28), (V11, 30)):
        found = defaults(version)
        assert len(found) == count
        assert (found["max-bandwidth"], found["downtime-limit"], found["multifd-channels"]) == (134217728, 300, 2)
    assert "compress-level" in defaults(V7)
    assert {"mode", "vcpu-dirty-limit", "avail-switchover-bandwidth"} <= set(defaults(V10))
    assert defaults(V11)["cpr-exec-command"] == []


@pytest.mark.parametrize(
    ("given", "old", "new"),
    [
        (
            {"downtime_limit": 3_000_000},
            "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms",
            "Option downtime-limit expects an integer in the range of 0 to (2000 * 1000) ms",
        ),
        (
            {"max_cpu_throttle": 5},
            "Parameter 'max_cpu_throttle' expects an integer in the range of cpu_throttle_initial to 99",
            "Option max-cpu-throttle expects an integer in the range of cpu-throttle-initial to 99",
        ),
        (
            {"xbzrle_cache_size": 1000},
            "Parameter 'xbzrle_cache_size' expects a power of two no less than the target page size",
            "Option xbzrle-cache-size expects a power of two no less than the target page size",
        ),
        (
            {"multifd_channels": 0},
            "Parameter 'multifd_channels' expects a value between 1 and 255",
            "Option multifd-channels expects a value between 1 and 255",
        ),
        (
            {"cpu_throttle_initial": 0},
            "Parameter 'cpu_throttle_initial' expects an integer in the range of 1 to 99",
            "Option cpu-throttle-initial expects an integer in the range of 1 to 99",
        ),
        (
            {"announce_step": 0},
            "Parameter 'announce_step' expects a value between 0 and 10000",
            "Option announce-step expects a value between 0 and 10000",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, object], old: str, new: str) -> None:
    """11 words it differently."""
    assert _refused(V7, **given) == _refused(V10, **given) == old
    assert _refused(V11, **given) == new


def test_words_that_are_like_no_others() -> None:
    """The dirty limit's, an unknown name, a wrong type."""
    assert _refused(V10, vcpu_dirty_limit=0) == "Parameter 'vcpu_dirty_limit' must be greater than 1 MB/s"
    assert _refused(V11, vcpu_dirty_limit=0) == "Parameter 'vcpu-dirty-limit' must be greater than 1 MB/s"
    assert _refused(V7, vcpu_dirty_limit=0) == "Parameter 'vcpu-dirty-limit' is unexpected"
    assert _refused(V7, downtime_limit="a") == "Parameter 'downtime-limit' expects uint64"
    assert _refused(V7, multifd_compression="x") == "Parameter 'multifd-compression' does not accept value 'x'"


def test_one_that_is_bad_leaves_all_as_they_were() -> None:
    """What is set and what is refused come in one call."""
    before = defaults(V7)
    with pytest.raises(Refusal):
        changed(before, {"downtime-limit": 100, "multifd-channels": 0}, V7)
    assert before == defaults(V7)


def test_the_ceiling_of_the_throttle_goes_by_the_first_step_of_the_same_call() -> None:
    """Each is checked against the values that would stand."""
    after = changed(defaults(V7), {"cpu-throttle-initial": 60, "max-cpu-throttle": 60}, V7)
    assert after["max-cpu-throttle"] == 60
    assert _refused(V7, cpu_throttle_initial=60, max_cpu_throttle=59).startswith("Parameter 'max_cpu_throttle'")


def test_odd_values_that_are_taken() -> None:
    """A negative bandwidth is a huge one; ``null`` resets TLS; 7.2 does not look at two of the levels."""
    assert changed(defaults(V7), {"max-bandwidth": -1}, V7)["max-bandwidth"] == (1 << 64) - 1
    assert changed(defaults(V11), {"tls-creds": None}, V11)["tls-creds"] == ""
    assert changed(defaults(V7), {"multifd-zlib-level": 10}, V7)["multifd-zlib-level"] == 10
    assert _refused(V10, multifd_zlib_level=10) == "Parameter 'multifd_zlib_level' expects a value between 0 and 9"


def test_every_parameter_that_is_listed_can_be_set() -> None:
    """What a process says of itself is accepted back as it is."""
    for version in Version:
        assert changed(defaults(version), defaults(version), version) == defaults(version)
        assert set(defaults(version)) <= {argument.name for argument in arguments(version)}
