"""The rule for every treatment of the table, and the plain ones of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import argument_devices as devices
from . import argument_storage as storage
from .argument_base import Action, Argument, Bench, Outcome, Refusal, changed, copied
from .argument_table import OptionRule, Treatment

_ABSOLUTE = "relative paths were made absolute, against the source's working directory"


def _copy(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    return copied(argument)


def _drop(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    return Outcome(Action.DROPPED, (), rule.because)


def _refuse(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    raise Refusal(rule.because)


def _path(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    return changed(argument, bench.absolute(argument.text), _ABSOLUTE)


def _firmware(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    return _path(argument, rule, bench) if "/" in argument.text else copied(argument)


def _keyed(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    settings = bench.settings(argument, rule.implied)
    return changed(argument, bench.absolute_under(settings, rule.path_keys).text, _ABSOLUTE)


def _machine(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    settings = bench.settings(argument, rule.implied)
    named = settings.get("type")
    if named is None or bench.context.machine is None:
        return copied(argument)
    bench.machine_named = True
    if named == bench.context.machine:
        return copied(argument)
    text = settings.with_bare("type", bench.context.machine).text
    return Outcome(Action.PINNED, argument.with_value(text), f"{named} is {bench.context.machine} in the source")


def _cpu(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    bench.cpu_named = True
    model, comma, features = argument.text.partition(",")
    if bench.context.cpu in (None, model):
        return copied(argument)
    text = f"{bench.context.cpu}{comma}{features}"
    return Outcome(Action.PINNED, argument.with_value(text), f"{model} is {bench.context.cpu} in the source")


def _log_file(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    return changed(argument, bench.place("log", "log"), "the destination writes its own log")


def _pid_file(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    return changed(argument, bench.place("pidfile", "pid"), "the destination writes its own")


def _trace(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    settings = bench.absolute_under(bench.settings(argument, rule.implied), rule.path_keys)
    if settings.get("file") is not None:
        settings = settings.with_value("file", bench.place(f"trace{argument.ordinal}", "trace"))
    return changed(argument, settings.text, "the destination writes its own trace")


def _icount(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    if bench.settings(argument, rule.implied).get("rr") is not None:
        raise Refusal("a recording, or its replay, belongs to one process")
    return copied(argument)


def _acpi_table(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    settings = bench.settings(argument, rule.implied)
    for key in ("file", "data"):
        names = settings.get(key)
        if names is not None:
            absolute = ":".join(bench.absolute(name) for name in names.split(":"))
            settings = settings if absolute == names else settings.with_value(key, absolute)
    return changed(argument, settings.text, _ABSOLUTE)


def _run_with(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    settings = bench.settings(argument, rule.implied)
    if settings.get("chroot") is not None:
        raise Refusal("the paths of the destination would mean other files once it runs (chroot)")
    # The destination has to outlive whoever starts it: it is where the guest will be.
    if settings.is_on("exit-with-parent"):
        settings = settings.with_value("exit-with-parent", "off")
    return changed(argument, settings.text, "the destination outlives whoever starts it")


Rule = Callable[[Argument, OptionRule, Bench], Outcome]
"""What carries out one treatment. It raises ``Refusal`` where the argument can't be taken over."""

RULES: Mapping[Treatment, Rule] = {
    Treatment.COPY: _copy,
    Treatment.PATH: _path,
    Treatment.FIRMWARE: _firmware,
    Treatment.KEYED: _keyed,
    Treatment.DROP: _drop,
    Treatment.REFUSE: _refuse,
    Treatment.MACHINE: _machine,
    Treatment.CPU: _cpu,
    Treatment.DISK: storage.disk,
    Treatment.DISC: storage.disc,
    Treatment.DRIVE: storage.drive,
    Treatment.BLOCKDEV: storage.blockdev,
    Treatment.SHARED_FOLDER: storage.shared_folder,
    Treatment.CHARDEV: devices.chardev,
    Treatment.SERIAL: devices.serial,
    Treatment.MONITOR: devices.monitor,
    Treatment.QMP: devices.qmp,
    Treatment.NETDEV: devices.netdev,
    Treatment.OBJECT: devices.object_,
    Treatment.DEVICE: devices.device,
    Treatment.AUDIO: devices.audio,
    Treatment.VNC: devices.vnc,
    Treatment.SPICE: devices.spice,
    Treatment.DISPLAY: devices.display,
    Treatment.NOGRAPHIC: devices.nographic,
    Treatment.LOG_FILE: _log_file,
    Treatment.PID_FILE: _pid_file,
    Treatment.TRACE: _trace,
    Treatment.ICOUNT: _icount,
    Treatment.ACPI_TABLE: _acpi_table,
    Treatment.RUN_WITH: _run_with,
}
