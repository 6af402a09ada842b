"""The paced link."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from whimbrel.engine.errors import WhimbrelError
from whimbrel.laboratory.link import can_link, namespaces_of, paced_link

WHY_NOT = can_link()
needs_link = pytest.mark.skipif(bool(WHY_NOT), reason=f"no paced link can be made here: {WHY_NOT}")


@needs_link
def test_a_link_stands_while_it_is_used_and_is_gone_afterwards() -> None:
    with paced_link("100mbit") as link:
        assert namespaces_of(os.getpid()) == sorted((link.source_namespace, link.destination_namespace))
    assert namespaces_of(os.getpid()) == []


@needs_link
def test_a_link_is_gone_after_an_error_too() -> None:
    with pytest.raises(RuntimeError, match="on purpose"), paced_link("100mbit"):
        raise RuntimeError("on purpose")
    assert namespaces_of(os.getpid()) == []


@needs_link
def test_a_rate_that_tc_does_not_know_leaves_nothing_behind() -> None:
    with pytest.raises(WhimbrelError, match=r"tc .*rate"), paced_link("fast"):
        pytest.fail("it was made all the same")
    assert namespaces_of(os.getpid()) == []


@needs_link
def test_one_stream_gets_no_more_than_the_link_has() -> None:
    """At the receiver, headers not counted; there is no lower bound to rely on where the machine is busy."""
    with paced_link("100mbit") as link:
        assert 0 < link.goodput_bytes_per_s(0.5) <= 100e6 / 8


@needs_link
def test_at_the_source_this_thread_lives_in_its_namespace_for_a_while() -> None:
    home = os.readlink("/proc/thread-self/ns/net")
    with paced_link("100mbit") as link:
        with link.at_source():
            assert os.readlink("/proc/thread-self/ns/net") != home
            assert {name for _index, name in socket.if_nameindex()} >= {"lo", "va"}
        assert os.readlink("/proc/thread-self/ns/net") == home


@needs_link
def test_two_links_stand_side_by_side() -> None:
    with paced_link("100mbit") as one, paced_link("200mbit") as other:
        assert one.host == other.host
        assert len({one.source_namespace, one.destination_namespace, other.source_namespace}) == 3


def test_without_the_programs_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert can_link() == "ip and tc not found (apt-get install iproute2)"
