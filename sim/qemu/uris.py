"""Where a migration goes to or comes from, as ``migrate`` and ``migrate-incoming`` take it."""

from __future__ import annotations

from .contract import Version
from .errors import Refusal, missing
from .values import as_list, as_object

_SCHEMES = ("tcp", "unix", "fd", "exec", "vsock", "rdma")


def check_outgoing(uri: str, version: Version) -> None:
    """See whether a source understands a uri.

    Raises:
        Refusal: it does not.
    """
    if not _known(uri, version):
        if version is Version.V7_2:
            raise Refusal("Parameter 'uri' expects a valid migration protocol")
        raise Refusal(f"unknown migration protocol: {uri}")
    _check_address(uri)


def check_incoming(uri: str, version: Version) -> None:
    """See whether a destination understands a uri.

    Raises:
        Refusal: it does not.
    """
    if not _known(uri, version):
        raise Refusal(f"unknown migration protocol: {uri}")
    _check_address(uri)


def from_channels(channels: object) -> str:
    """The uri that a list of ``channels`` stands for (8.2 and later).

    Raises:
        Refusal: there is not exactly one main channel, or its address is of no known kind.
    """
    rows = [as_object(each) for each in as_list(channels) or []]
    main = rows[0] if len(rows) == 1 else None
    if main is None or main.get("channel-type") != "main":
        raise Refusal("Channel list must have one entry")
    address = as_object(main.get("addr"))
    if address is None:
        raise missing("channels[0].addr")
    transport, kind = address.get("transport"), address.get("type")
    if transport == "socket" and kind == "inet":
        return f"tcp:{address.get('host')}:{address.get('port')}"
    if transport == "socket" and kind == "unix":
        return f"unix:{address.get('path')}"
    if transport == "socket" and kind == "fd":
        return f"fd:{address.get('str')}"
    if transport == "file":
        return f"file:{address.get('filename')}"
    raise Refusal(f"Parameter 'channels[0].addr.transport' does not accept value '{transport}'")


def no_descriptor(uri: str) -> str:
    """QEMU's sentence about a descriptor that nobody handed over."""
    return f"File descriptor named '{uri.removeprefix('fd:')}' has not been found"


def connect_failure(uri: str, words: str) -> str:
    """QEMU's sentence about a connection that was not made.

    Args:
        uri: where it was to go.
        words: the kernel's, or the resolver's.
    """
    place = uri.partition(":")[2]
    if "not known" in words or "resolution" in words:
        return f"address resolution failed for {place}: {words}"
    return f"Failed to connect to '{place}': {words}"


def _known(uri: str, version: Version) -> bool:
    scheme, colon, _ = uri.partition(":")
    return bool(colon) and (scheme in _SCHEMES or (scheme == "file" and version is not Version.V7_2))


def _check_address(uri: str) -> None:
    scheme, _, place = uri.partition(":")
    if scheme in ("tcp", "vsock", "rdma"):
        host, colon, port = place.rpartition(":")
        if not colon or not port or (not host and scheme != "tcp"):
            raise Refusal(f"error parsing address '{place}'")
