"""Migration capabilities: which there are, and which go together."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu.capabilities import Surroundings, combine, names, wanted
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.errors import Refusal

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1


def _refused(*on: str, **around: bool) -> str:
    with pytest.raises(Refusal) as refused:
        combine(dict.fromkeys(names(V10), False), dict.fromkeys(on, True), Surroundings(V10, **around))
    return refused.value.description


def test_each_version_has_its_own() -> None:
    """What 9.1 removed, what 8.1 and 9.0 added; 11 has lost zero-blocks."""
    assert {"compress", "block"} <= set(names(V7))
    assert set(names(V7)) ^ set(names(V10)) == {"compress", "block", "switchover-ack", "dirty-limit", "mapped-ram"}
    assert set(names(V10)) - set(names(V11)) == {"zero-blocks"}


@pytest.mark.parametrize(
    ("on", "around", "words"),
    [
        (("postcopy-preempt",), {}, "Postcopy preempt requires postcopy-ram"),
        (("zero-copy-send",), {}, "Zero copy only available for non-compressed non-TLS multifd migration"),
        (("zero-copy-send", "multifd"), {"plain_stream": False}, "Zero copy only available for non-compressed"),
        (("switchover-ack",), {}, "Capability 'switchover-ack' requires capability 'return-path'"),
        (("dirty-limit",), {}, "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set"),
        (("dirty-limit", "auto-converge"), {"kvm_dirty_ring": True}, "dirty-limit conflicts with auto-converge"),
        (("multifd", "postcopy-ram"), {}, "Postcopy is not yet compatible with multifd"),
        (("mapped-ram", "xbzrle"), {}, "Mapped-ram migration is incompatible with xbzrle"),
        (("mapped-ram", "postcopy-ram"), {}, "Mapped-ram migration is incompatible with postcopy"),
        (("x-ignore-shared", "postcopy-ram"), {}, "Postcopy is not compatible with ignore-shared"),
        (("x-colo",), {}, "Capability 'x-colo' requires capability 'return-path'"),
        (
            ("postcopy-ram",),
            {"incoming": True, "memory_on_disk": True},
            "Postcopy is not supported: Host backend files need to be TMPFS or HUGETLBFS only",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(on: tuple[str, ...], around: dict[str, bool], words: str) -> None:
    """In the words of 10.0."""
    assert _refused(*on, **around).startswith(words)


def test_versions_differ_on_post_copy_with_several_channels() -> None:
    """Accepted on 7.2, which can't do it; refused on 10.0; possible on 11.1."""
    both = {"multifd": True, "postcopy-ram": True}
    assert combine({}, both, Surroundings(V7)) == combine({}, both, Surroundings(V11)) == both


def test_7_2_accepts_post_copy_for_memory_on_a_disk() -> None:
    """And dies of it later; a source is not asked by any version."""
    on = {"postcopy-ram": True}
    assert combine({}, on, Surroundings(V7, incoming=True, memory_on_disk=True)) == on
    assert combine({}, on, Surroundings(V11, incoming=False, memory_on_disk=True)) == on


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "Invalid parameter type for 'capabilities', expected: array"),
        ([5], "Invalid parameter type for 'capabilities[0]', expected: object"),
        ([{"capability": "events"}], "Parameter 'capabilities[0].state' is missing"),
        ([{"capability": "events", "state": 1}], "Invalid parameter type for 'capabilities[0].state', expected: bool"),
        ([{"capability": "no-such", "state": True}], "Parameter 'capability' does not accept value 'no-such'"),
        ([{"capability": "mapped-ram", "state": True}], "Parameter 'capability' does not accept value 'mapped-ram'"),
    ],
)
def test_a_list_that_can_t_be_read_is_refused(given: object, words: str) -> None:
    """In the words of 7.2."""
    with pytest.raises(Refusal) as refused:
        wanted(given, V7)
    assert refused.value.description.startswith(words)


def test_all_of_a_list_or_nothing() -> None:
    """The capabilities as they were are not touched by a list that is refused."""
    before = {"events": False, "postcopy-ram": False}
    changes = wanted([{"capability": "events", "state": True}, {"capability": "postcopy-preempt", "state": True}], V7)
    with pytest.raises(Refusal):
        combine(before, changes, Surroundings(V7))
    assert before == {"events": False, "postcopy-ram": False}
