"""What the words of a command line mean: addresses, destinations, files, objectives."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from whimbrel.engine.errors import BadInput
from whimbrel.engine.pilot import GREATEST_THROTTLE
from whimbrel.engine.policy import Objectives
from whimbrel.qmp_driver.destination import Existing, FromSource
from whimbrel.qmp_driver.sockets import Address
from whimbrel.units import parse_duration, parse_fraction, parse_rate

GREATEST_PORT = 65535


def check_text(words: Iterable[str]) -> None:
    """See that all is text. The log, JSON and most terminals take nothing else.

    Raises:
        BadInput: a word, perhaps a file's name, holds bytes that are no UTF-8.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise BadInput("argument", word.encode("utf-8", "surrogateescape"), "text in UTF-8") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a policy may do, as it was typed; what was not is not allowed.

    Attributes:
        throttle: the most of the guest's CPU time that may be taken, such as ``90%`` or ``0.9``.
        may_abort: give up.
        may_pause: let the guest stand still for as long as the rest takes.
        may_postcopy: go over to post-copy.
        abort_on_fault: a policy that fails ends the migration.
    """

    throttle: str | None = None
    may_abort: bool = False
    may_pause: bool = False
    may_postcopy: bool = False
    abort_on_fault: bool = False

    @property
    def stated(self) -> bool:
        """Whether anything of it was typed that a plan could make use of."""
        return self.throttle is not None or self.may_abort or self.may_pause or self.may_postcopy

    def of(self, goal: Objectives) -> Objectives:
        """These besides what is allowed already.

        Raises:
            BadInput: the throttle can't be read.
        """
        return replace(
            goal,
            greatest_throttle=goal.greatest_throttle if self.throttle is None else throttle(self.throttle),
            may_abort=goal.may_abort or self.may_abort,
            may_pause=goal.may_pause or self.may_pause,
            may_postcopy=goal.may_postcopy or self.may_postcopy,
            abort_on_fault=goal.abort_on_fault or self.abort_on_fault,
        )


NOTHING_MORE = Allowed()


def throttle(text: str) -> float:
    """The most of the guest's CPU time that may be taken, 0 to 0.99.

    Raises:
        BadInput: it is no such part.
    """
    try:
        part = parse_fraction(text, field="throttle")
    except BadInput:
        part = math.inf
    if not 0 <= part <= GREATEST_THROTTLE:
        raise BadInput("throttle", text, "a part from 0 to 99% (0.99), for some of the guest's time has to be left")
    return part


DEFAULT_DOWNTIME = "300ms"


def objectives(
    downtime: str | None, deadline: str | None, bandwidth: str | None, allowed: Allowed = NOTHING_MORE
) -> Objectives:
    """What the user wants, from people's units; without a downtime, `DEFAULT_DOWNTIME`.

    Raises:
        BadInput: one of them can't be read.
    """
    goal = Objectives(
        downtime_s=parse_duration(DEFAULT_DOWNTIME if downtime is None else downtime, field="downtime"),
        deadline_s=None if deadline is None else parse_duration(deadline, field="deadline"),
        bandwidth_bytes_per_s=None if bandwidth is None else round(parse_rate(bandwidth, field="bandwidth")),
    )
    return allowed.of(goal)


def address(field: str, text: str) -> Address:
    """A monitor's address: ``HOST:PORT`` (``[::1]:4444`` too) where it ends in a port and has no slash, else a path.

    Raises:
        BadInput: it is empty, has no host, or a port that there is not.
    """
    allowed = f"a socket's path, or HOST:PORT with a port from 1 to {GREATEST_PORT}"
    host, separator, port = text.rpartition(":")
    if not text or "\0" in text:
        raise BadInput(field, text, allowed)
    if not (separator and port.isascii() and port.isdigit()) or "/" in text:
        return text
    host = host.removeprefix("[").removesuffix("]")
    if not host or len(port) > 5 or not 1 <= int(port) <= GREATEST_PORT:
        raise BadInput(field, text, allowed)
    return host, int(port)


def destination(
    to: str | None, binary: str | None, replacements: Iterable[str] | None, disks_shared: bool
) -> Existing | FromSource:
    """Where the guest goes: to a QEMU that is there, or to one that is made from the source's command line.

    Raises:
        BadInput: an address or a replacement that can't be read, or what goes with the other way only.
    """
    if to is None:
        pairs = dict(_pair(text) for text in replacements or ())
        return FromSource(binary=binary, replacements=pairs, disks_shared=disks_shared or None)
    for field, value in (("destination-qemu", binary), ("replace", ", ".join(replacements or ()))):
        if value:
            raise BadInput(field, value, "nothing together with --to: that QEMU runs already")
    return Existing(address("to", to))


def new_file(path: Path | None) -> Path | None:
    """The path of a log; that it is new is seen when it is made.

    Raises:
        BadInput: something is there that no log can be written to: a folder, a pipe, a device.
    """
    if path is not None and os.path.exists(path) and not os.path.isfile(path):
        raise BadInput("log", str(path), "a new file, or an empty one")
    return path


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise BadInput("replace", text, "KEY=VALUE")
    return key, value
