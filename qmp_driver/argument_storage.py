"""The rules for disks: what may be opened by two QEMUs at once, and what may not.

A destination opens its images inactive while the source still writes to them, and QEMU's image locks see
to it that only one of the two writes. That is safe only where both open *the same* storage, and where locks
are on. A disk that the destination would find elsewhere, or not at all, is not moved by moving the RAM.
"""

from __future__ import annotations

import posixpath
import re

from .argument_base import Argument, Bench, Outcome, Refusal, changed, copied
from .argument_table import (
    BLOCK_FORMATS,
    BLOCK_LOCAL,
    BLOCK_NETWORK,
    BLOCK_NULL,
    BLOCK_REFUSED,
    NETWORK_SCHEMES,
    OptionRule,
)
from .option_text import Settings, UnreadableOption

_ABSOLUTE = "relative paths were made absolute, against the source's working directory"
_SHARE = "say that the disks are shared, or give a replacement"
_FAT_PREFIX = re.compile(r"fat:(?:floppy:)?(?:12:|16:|32:)?(rw:)?")


def disk(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-hda FILE`` and its like, and an image named without an option."""
    return changed(argument, image(argument.text, bench, writable=True), _ABSOLUTE)


def disc(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-cdrom FILE``."""
    return changed(argument, image(argument.text, bench, writable=False), _ABSOLUTE)


def drive(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-drive``: an image by its name (``file=``), by dotted keys (``file.filename=``), or none."""
    settings = bench.settings(argument, rule.implied)
    if settings.is_on("snapshot"):
        raise Refusal("the disk's temporary overlay exists in the source's process alone")
    writable = not (settings.is_on("readonly", "read-only") or settings.get("media") == "cdrom")
    for name in (settings.get("driver"), settings.get("format")):
        _check_driver(name)
    settings = _graph(settings, bench, writable=writable)
    name = settings.get("file")
    if name is not None:
        settings = _with(settings, "file", name, image(name, bench, writable=writable))
    return changed(argument, settings.text, _ABSOLUTE)


def blockdev(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-blockdev``, as JSON or as keys; a node may hold others, down to those that name storage."""
    settings = bench.settings(argument, rule.implied)
    writable = not settings.is_on("read-only")
    return changed(argument, _graph(settings, bench, writable=writable).text, _ABSOLUTE)


def shared_folder(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-fsdev`` and ``-virtfs``: a folder of the host for the guest."""
    settings = bench.settings(argument, rule.implied)
    kind = settings.get("fsdriver")
    if kind == "synth":
        return copied(argument)
    if kind != "local":
        raise Refusal(f"the server behind a folder of kind {kind} serves one process")
    if not (settings.is_on("readonly") or bench.context.disks_shared):
        raise Refusal(f"nothing says that both ends share the folder {settings.get('path')}", _SHARE)
    return changed(argument, bench.absolute_under(settings, rule.path_keys).text, _ABSOLUTE)


def image(name: str, bench: Bench, *, writable: bool) -> str:
    """An image's name as the destination is to be given it.

    Args:
        name: a path, or ``PROTOCOL:…`` (``nbd:…``, ``json:{…}``).
        bench: the workbench of the plan.
        writable: whether the guest may write to it.

    Raises:
        Refusal: two processes cannot have it, or nothing shows that both ends have the same.
    """
    scheme, colon, rest = name.partition(":")
    if not colon or "/" in scheme:
        return _local(name, bench, writable=writable)
    if scheme in BLOCK_LOCAL:
        return f"{scheme}:{_local(rest, bench, writable=writable and scheme != 'host_cdrom')}"
    if scheme == "json":
        try:
            settings = Settings.parse(rest.lstrip())
        except UnreadableOption as error:
            raise Refusal(str(error)) from error
        if settings.document is None:
            raise Refusal("what follows json: is no JSON object")
        return f"json:{_graph(settings, bench, writable=writable).text}"
    if scheme == "fat":
        return _fat(name, bench)
    if scheme in NETWORK_SCHEMES or scheme in BLOCK_NULL:
        return name
    raise Refusal(BLOCK_REFUSED.get(scheme, f"storage of the kind {scheme!r} is not known here"))


def _local(path: str, bench: Bench, *, writable: bool) -> str:
    absolute = bench.absolute(path)
    if writable and path and not bench.context.disks_shared:
        raise Refusal(f"nothing says that both ends share the writable disk {path}", _SHARE)
    return absolute


def _fat(name: str, bench: Bench) -> str:
    match = _FAT_PREFIX.match(name)
    if match is None or match.group(1):
        raise Refusal("QEMU can't move a folder that is shown to the guest as a writable FAT disk")
    return match.group() + bench.absolute(name[match.end() :])


def _graph(settings: Settings, bench: Bench, *, writable: bool) -> Settings:
    """Judge the nodes that dotted keys or JSON describe; give them back with their paths made absolute."""
    for item in settings.matching("locking"):
        if item.value == "off":
            raise Refusal("without image locks (locking=off) both ends could write to the disk", "switch locking on")
    for item in settings.matching("driver"):
        _check_driver(item.value)
    for item in settings.matching("filename", "dir"):
        driver = settings.get(_beside(item.key, "driver"))
        if driver is not None and driver not in BLOCK_LOCAL:
            continue  # an object of a server, not a file of this host
        # What lies behind another image, and a CD, is not written to.
        written = writable and "backing" not in item.key.split(".") and driver != "host_cdrom"
        name = _local(item.value, bench, writable=written) if driver else image(item.value, bench, writable=written)
        settings = _with(settings, item.key, item.value, name)
    for item in settings.matching("path"):
        if posixpath.basename(item.value) and item.key.endswith("server.path"):
            settings = _with(settings, item.key, item.value, bench.absolute(item.value))
    return settings


def _beside(key: str, name: str) -> str:
    parent = key.rpartition(".")[0]
    return f"{parent}.{name}" if parent else name


def _check_driver(name: str | None) -> None:
    if name is None or name in BLOCK_FORMATS | BLOCK_LOCAL | BLOCK_NETWORK | BLOCK_NULL:
        return
    raise Refusal(BLOCK_REFUSED.get(name, f"the block driver {name!r} is not known here"))


def _with(settings: Settings, key: str, old: str, new: str) -> Settings:
    return settings if old == new else settings.with_value(key, new)
