"""Where a migration goes to."""

from __future__ import annotations

import pytest

from whimbrel.sim.qemu import uris
from whimbrel.sim.qemu.contract import Version
from whimbrel.sim.qemu.errors import Refusal

V7, V10 = Version.V7_2, Version.V10_0


@pytest.mark.parametrize("uri", ["tcp:h:1", "tcp::1", "tcp:[::1]:0", "unix:/a:b", "fd:7", "exec:cat", "vsock:2:3"])
def test_known_ones(uri: str) -> None:
    """In either direction."""
    for version in Version:
        uris.check_outgoing(uri, version)
        uris.check_incoming(uri, version)


def test_unknown_ones_are_refused_in_different_words() -> None:
    """Sources of 7.2 say something else; files came with 8.2."""
    with pytest.raises(Refusal, match="Parameter 'uri' expects a valid migration protocol"):
        uris.check_outgoing("bogus:1", V7)
    with pytest.raises(Refusal, match="unknown migration protocol: bogus:1"):
        uris.check_outgoing("bogus:1", V10)
    with pytest.raises(Refusal, match="unknown migration protocol: file:x"):
        uris.check_incoming("file:x", V7)
    uris.check_outgoing("file:x", V10)


@pytest.mark.parametrize("place", ["127.0.0.1", "h:", "vsock"])
def test_an_address_without_a_port_is_none(place: str) -> None:
    """As QEMU parses it."""
    with pytest.raises(Refusal, match=f"error parsing address '{place}'"):
        uris.check_outgoing(f"tcp:{place}", V7)


def test_channels_stand_for_a_uri() -> None:
    """One main channel, of a socket or a file."""
    inet = {"transport": "socket", "type": "inet", "host": "h", "port": "1"}
    expected = {
        "tcp:h:1": inet,
        "unix:/p": {"transport": "socket", "type": "unix", "path": "/p"},
        "fd:x": {"transport": "socket", "type": "fd", "str": "x"},
        "file:f": {"transport": "file", "filename": "f"},
    }
    for uri, address in expected.items():
        assert uris.from_channels([{"channel-type": "main", "addr": address}]) == uri
    nothing: dict[str, object] = {}
    unfit: list[object] = [5, [nothing, nothing], [{"channel-type": "cpr", "addr": inet}], [{"channel-type": "main"}]]
    for bad in unfit:
        with pytest.raises(Refusal):
            uris.from_channels(bad)
    with pytest.raises(Refusal, match="does not accept value 'rdma'"):
        uris.from_channels([{"channel-type": "main", "addr": {"transport": "rdma"}}])


def test_what_failed_is_said_with_the_kernel_s_words() -> None:
    """Or the resolver's."""
    assert uris.connect_failure("unix:nope", "No such file") == "Failed to connect to 'nope': No such file"
    assert (
        uris.connect_failure("tcp:no.host:9", "Name or service not known")
        == "address resolution failed for no.host:9: Name or service not known"
    )
    assert uris.no_descriptor("fd:x") == "File descriptor named 'x' has not been found"
