"""From the source's argument vector to the destination's: every argument copied, re-localised or refused by name.

    plan = plan_arguments(read_argv(pid), context=PlanContext(directory="/tmp/w-x1", machine="pc-q35-7.2"))
    if plan.refused: print(plan.explain())
    else:            start(plan.argv)

Everything here is pure: no file is looked at and no process is asked. The table of options is
``argument_table``; the rules that need more than a row of it are in ``argument_rules`` and its neighbours.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from whimbrel.engine.errors import BadInput

from .argument_base import (
    Action,
    Argument,
    Bench,
    Outcome,
    PlanContext,
    Refusal,
)
from .argument_rules import RULES
from .argument_table import OPTIONS
from .option_text import Settings, UnreadableOption, double_commas
from .processes import split_launcher
from .sockets import UNIX_PATH_MAX_BYTES

__all__ = [
    "QMP_LABEL",
    "QMP_LABEL_HUMAN",
    "Action",
    "ArgumentPlan",
    "PlanContext",
    "Verdict",
    "plan_arguments",
    "split_arguments",
]

QMP_LABEL = "qmp"
"""Under this label ``ArgumentPlan.relocalised`` has the monitor that the driver uses."""

QMP_LABEL_HUMAN = "qmp-human"
"""And under this one the second, which is free for people: a QMP monitor serves one client at a time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one argument of the source.

    Attributes:
        index: where it stands among the source's arguments (after the program's name), from 0.
        option: as it was written, with its dashes; ``""`` for an image that was named without an option.
        value: its value, or ``None``.
        action: what was done with it.
        because: why, as a clause; empty for a plain copy.
        words: what stands for it in the destination's vector; empty where it was dropped or refused.
        instead: for a refused one, what the caller can do.
    """

    index: int
    option: str
    value: str | None
    action: Action
    because: str
    words: tuple[str, ...]
    instead: str = ""

    @property
    def text(self) -> str:
        """The argument as it was written."""
        return " ".join(word for word in (self.option, self.value) if word)


@dataclass(frozen=True, slots=True)
class ArgumentPlan:
    """The destination's argument vector, and how it came about.

    Attributes:
        argv: the whole vector, with the program. Not to be started while anything is refused.
        verdicts: one for each argument of the source, in its order.
        relocalised: where what the destination has of its own is to be found: ``qmp``, ``qmp-human``,
            ``serial0``, the ids of character devices, ``vnc0``, ``pidfile``, ``log``, ... to a path, or to
            ``tcp:HOST:0`` where the kernel chooses the port (``query-chardev`` tells it).
        directory: the private directory that the paths lie in.
        cwd: working directory to start in, or ``None``.
    """

    argv: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    relocalised: Mapping[str, str]
    directory: str
    cwd: str | None

    @property
    def refused(self) -> tuple[Verdict, ...]:
        """The arguments that cannot be taken over; a plan that has any is not to be carried out."""
        return tuple(verdict for verdict in self.verdicts if verdict.action is Action.REFUSED)

    def explain(self) -> str:
        """The plan in words: a line for each argument, then where to find the destination's own things."""
        lines = [_explain(verdict) for verdict in self.verdicts]
        lines += [f"{'found at':>12}  {label}: {where}" for label, where in self.relocalised.items()]
        return "\n".join(lines)


def split_arguments(words: Sequence[str]) -> tuple[Argument, ...]:
    """Take QEMU's arguments (without the program) apart as QEMU does: options, their values, and an image.

    An option begins with one dash or two; a value may begin with a dash. Of an option that the table
    does not have it is unknown whether it takes a value: a next word without a dash counts as its value.
    """
    found: list[Argument] = []
    counts: dict[str, int] = {}
    position = 0
    while position < len(words):
        word = words[position]
        name = word[1:].removeprefix("-") if word.startswith("-") else ""
        rule = OPTIONS.get(name)
        length = 1
        if word.startswith("-") and position + 1 < len(words):
            takes_value = rule.takes_value if rule else not words[position + 1].startswith("-")
            length += takes_value
        known = rule is not None or not word.startswith("-")
        span = tuple(words[position : position + length])
        found.append(Argument(position, span, name, counts.get(name, 0), known))
        counts[name] = counts.get(name, 0) + 1
        position += length
    return tuple(found)


def plan_arguments(source_argv: Sequence[str], *, context: PlanContext) -> ArgumentPlan:
    """Make the destination's argument vector from the source's.

    The destination is to start paused and to wait for the command to listen (``-S -incoming defer``); it
    gets two QMP monitors, at unix sockets in the private directory.

    Args:
        source_argv: the source's whole vector, as ``processes.read_argv`` gives it.
        context: what the plan is made for.

    Returns:
        The plan. What cannot be taken over is in ``refused``; the rest of the plan is made all the same, so
        that all of it can be shown at once.

    Raises:
        BadInput: a replacement that fits no argument, or a private directory whose name is too long.
        WhimbrelError: the vector has no program in it.
    """
    launcher, words = split_launcher(source_argv)
    directory = posixpath.normpath(context.directory)
    context = replace(context, directory=directory)
    arguments = split_arguments(words)
    bench = Bench(context, arguments)
    bench.own_monitors = [bench.place(QMP_LABEL, "sock"), bench.place(QMP_LABEL_HUMAN, "sock")]
    longest_bytes = max(len(os.fsencode(path)) for path in bench.own_monitors)
    if not directory.startswith("/") or longest_bytes > UNIX_PATH_MAX_BYTES:
        raise BadInput("directory", directory, "an absolute path that leaves 15 of the 107 bytes of a socket's path")
    unused = set(context.replacements)
    verdicts = tuple(_judge(argument, bench, unused) for argument in arguments)
    if unused:
        raise BadInput("replacements", min(unused), f"one of {', '.join(_all_keys(arguments)) or 'none'}")
    program = launcher if context.binary is None else (context.binary,)
    argv = (*program, *(word for verdict in verdicts for word in verdict.words), *_added(bench))
    return ArgumentPlan(argv, verdicts, dict(bench.relocalised), directory, context.source_cwd)


def replacement_keys(argument: Argument) -> tuple[str, ...]:
    """The keys under which a caller can replace this argument, the most exact first."""
    if not argument.option:
        return ("disk",)
    exact = (f"-{argument.option}#{argument.ordinal}", f"-{argument.option}")
    rule = OPTIONS.get(argument.option)
    if argument.value is None or rule is None:
        return exact
    try:
        settings = Settings.parse(argument.text, implied=rule.implied)
    except UnreadableOption:
        return exact
    name = settings.get("id", "node-name")
    return exact if name is None else (f"{argument.option}:{name}", *exact)


def _judge(argument: Argument, bench: Bench, unused: set[str]) -> Verdict:
    keys = replacement_keys(argument)
    key = next((key for key in keys if key in bench.context.replacements), None)
    instead = ""
    if key is not None:
        unused.difference_update(keys)
        outcome = _replacement(argument, key, bench)
    else:
        try:
            outcome = _outcome(argument, bench)
        except Refusal as refusal:
            outcome = Outcome(Action.REFUSED, (), refusal.because)
            instead = refusal.instead or f"give a replacement for {keys[0]}, or an empty one to leave it out"
    option = argument.words[0] if argument.option or argument.words[0].startswith("-") else ""
    value = argument.value if option else argument.words[0]
    return Verdict(argument.index, option, value, outcome.action, outcome.because, outcome.words, instead)


def _outcome(argument: Argument, bench: Bench) -> Outcome:
    if not argument.known:
        raise Refusal("nobody here knows what it does")
    rule = OPTIONS.get(argument.option or "hda")
    if rule is None or (rule.takes_value and argument.value is None):
        raise Refusal("its value is missing")
    return RULES[rule.treatment](argument, rule, bench)


def _replacement(argument: Argument, key: str, bench: Bench) -> Outcome:
    value = bench.context.replacements[key]
    if not value:
        return Outcome(Action.REPLACED, (), "left out, as the caller wishes")
    if argument.value is None:
        raise BadInput("replacements", f"{key}={value}", f"the empty text: {argument.words[0]} takes no value")
    bench.machine_named |= argument.option in ("machine", "M")
    bench.cpu_named |= argument.option == "cpu"
    return Outcome(Action.REPLACED, argument.with_value(value), "by the caller")


def _added(bench: Bench) -> Iterable[str]:
    """What the destination needs and the source's vector does not have."""
    context = bench.context
    if context.machine is not None and not bench.machine_named:
        yield from ("-machine", context.machine)
    if context.cpu is not None and not bench.cpu_named:
        yield from ("-cpu", context.cpu)
    named = bench.has("accel", "enable-kvm", "enable-hax") or any(
        settings.get("accel") for option in ("machine", "M") for settings in bench.peek(option, "type")
    )
    if context.accelerator is not None and not named:
        # QEMU's own choice depends on the name that it was called by ("kvm" or not), which is not kept.
        yield from ("-accel", context.accelerator)
    for path in bench.own_monitors:
        yield from ("-qmp", f"unix:{double_commas(path)},server=on,wait=off")
    yield from ("-S", "-incoming", "defer")


def _all_keys(arguments: Iterable[Argument]) -> list[str]:
    return sorted({replacement_keys(argument)[0] for argument in arguments})


def _explain(verdict: Verdict) -> str:
    line = f"{verdict.action.value:>12}  {verdict.text}"
    if verdict.action in (Action.RELOCALISED, Action.PINNED, Action.REPLACED) and verdict.words:
        line += f"  ->  {' '.join(verdict.words)}"
    if verdict.because:
        line += f"  ({verdict.because}{'; ' + verdict.instead if verdict.instead else ''})"
    return line
