"""What the rules for QEMU's arguments share: one argument, what becomes of it, and the workbench between."""

from __future__ import annotations

import enum
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .argument_table import FD_KEYS
from .option_text import Settings, UnreadableOption
from .sockets import UNIX_PATH_MAX_BYTES


class Action(enum.Enum):
    """What was done with one argument of the source."""

    COPIED = "copied"
    RELOCALISED = "re-localised"
    """It names something that the destination gets one of its own of: a socket, a log, a path made absolute."""
    PINNED = "pinned"
    """It is now the name that the running source gives to it (the versioned machine type, the CPU model)."""
    REPLACED = "replaced"
    """The caller gave something else for it."""
    DROPPED = "dropped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """What a plan is made for.

    Attributes:
        directory: private directory of the destination, absolute; its sockets and files go there.
        binary: QEMU to start; ``None``: what started the source, word for word.
        machine: machine type in its versioned form (``pc-q35-7.2``), or ``None`` to leave it as it is given.
        cpu: CPU model (``qemu64``), or ``None`` to leave it as it is given.
        accelerator: what to name where the source names none (``tcg``), or ``None`` to name none either.
        source_cwd: the source's working directory, for relative paths; ``None`` if it is not known, and
            then a relative path is refused.
        replacements: what the caller gives instead of single arguments. A key is ``KIND:ID`` for an argument
            that has an ``id`` or ``node-name`` (``netdev:net0``, ``chardev:log``, ``drive:d0``,
            ``blockdev:disk``, ``object:mem0``, ``device:tpm0``, ``tpmdev:tpm0``), ``-OPTION#N`` for the
            N-th (from 0) of an option, ``-OPTION`` for each of it, or ``disk`` for the image named without an
            option. A value is the text that takes the place of the old value; ``""`` leaves the argument out.
        disks_shared: both ends see the same writable disks under the same names.
    """

    directory: str
    binary: str | None = None
    machine: str | None = None
    cpu: str | None = None
    accelerator: str | None = None
    source_cwd: str | None = None
    replacements: Mapping[str, str] = field(default_factory=dict[str, str])
    disks_shared: bool = False


class Refusal(Exception):
    """An argument cannot be taken over.

    Attributes:
        because: a clause that says why.
        instead: what the caller can do about it, or the empty string for the usual (give a replacement).
    """

    def __init__(self, because: str, instead: str = "") -> None:
        super().__init__(because)
        self.because = because
        self.instead = instead


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of the source: an option with its value, or an image named without an option.

    Attributes:
        index: where it stands among the source's arguments (after the program's name), from 0.
        words: its one or two words as they stand.
        option: the option's name without dashes; ``""`` for an image.
        ordinal: how many of the same option came before it.
        known: whether the table has the option.
    """

    index: int
    words: tuple[str, ...]
    option: str
    ordinal: int
    known: bool

    @property
    def value(self) -> str | None:
        """The option's value, or the image; ``None`` for an option without one."""
        return self.words[-1] if not self.option or len(self.words) > 1 else None

    @property
    def text(self) -> str:
        """The value, or the empty string."""
        return self.value or ""

    def with_value(self, value: str) -> tuple[str, ...]:
        """The argument's words with another value."""
        return (*self.words[:-1], value)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an argument: ``words`` stand for it in the destination's vector."""

    action: Action
    words: tuple[str, ...]
    because: str = ""


def copied(argument: Argument, because: str = "") -> Outcome:
    """The argument as it stands."""
    return Outcome(Action.COPIED, argument.words, because)


def changed(argument: Argument, value: str, because: str) -> Outcome:
    """The argument with another value, or as it stands where the value is the same."""
    if value == argument.text:
        return copied(argument)
    return Outcome(Action.RELOCALISED, argument.with_value(value), because)


@dataclass(slots=True)
class Bench:
    """The workbench of one plan: the context, what the whole vector says, and the places given out so far."""

    context: PlanContext
    arguments: Sequence[Argument]
    relocalised: dict[str, str] = field(default_factory=dict[str, str])
    own_monitors: list[str] = field(default_factory=list[str])
    machine_named: bool = False
    cpu_named: bool = False
    _taken: set[str] = field(default_factory=set[str])

    def has(self, *options: str) -> bool:
        """Whether the source was given any of these options."""
        return any(argument.option in options for argument in self.arguments)

    def peek(self, option: str, implied: str) -> list[Settings]:
        """What the source was given for an option; what cannot be read is left out (its own rule refuses it)."""
        found: list[Settings] = []
        for argument in self.arguments:
            if argument.option == option:
                try:
                    found.append(Settings.parse(argument.text, implied=implied))
                except UnreadableOption:
                    continue
        return found

    def settings(self, argument: Argument, implied: str | None) -> Settings:
        """The argument's value taken apart.

        Raises:
            Refusal: it cannot be read, or hands over a file descriptor by its number.
        """
        try:
            settings = Settings.parse(argument.text, implied=implied)
        except UnreadableOption as error:
            raise Refusal(str(error)) from error
        if settings.matching(*FD_KEYS):
            raise Refusal("a file descriptor's number means nothing in another process")
        return settings

    def free_label(self, label: str) -> str:
        """The label, or the first of ``label-2``, ``label-3``, ... that nothing is known under yet."""
        number, free = 1, label
        while free in self.relocalised:
            number += 1
            free = f"{label}-{number}"
        return free

    def place(self, label: str, suffix: str) -> str:
        """A path in the private directory that nobody else has; short enough for a unix socket.

        Args:
            label: what it is for, which shows in the name and is its key in ``relocalised`` (with a number
                behind it where a user's id is taken: ``qmp-2``).
            suffix: ``sock``, ``log`` and so on.
        """
        label = self.free_label(label)
        name = re.sub(r"[^A-Za-z0-9._-]", "_", label)
        path = posixpath.join(self.context.directory, f"{name}.{suffix}")
        if path in self._taken or len(os.fsencode(path)) > UNIX_PATH_MAX_BYTES:
            path = posixpath.join(self.context.directory, f"{len(self._taken)}.{suffix}")
        self._taken.add(path)
        self.relocalised[label] = path
        return path

    def absolute(self, path: str) -> str:
        """The path as it was meant where the source was started.

        Raises:
            Refusal: it is relative and nobody knows any more to what.
        """
        if path.startswith("/dev/fdset/"):
            raise Refusal("a set of file descriptors exists in one process only")
        if path.startswith("/") or not path:
            return path
        if self.context.source_cwd is None or self.has("daemonize"):
            # QEMU changes to "/" when it daemonises, after it has opened its files.
            raise Refusal(
                f"the path {path} is relative and the source's first working directory is not known",
                "give an absolute path in its place",
            )
        return posixpath.join(self.context.source_cwd, path)

    def absolute_under(self, settings: Settings, keys: Sequence[str]) -> Settings:
        """The settings with the paths under these keys made absolute."""
        for key in keys:
            path = settings.get(key)
            if path is not None:
                absolute = self.absolute(path)
                settings = settings if absolute == path else settings.with_bare(key, absolute)
        return settings
