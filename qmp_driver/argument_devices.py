"""The rules for what stands behind the guest's devices, and for what people hold in their hands.

Server sockets, consoles and logs are *re-localised*: the destination gets its own, in its private directory,
and the plan says where. A connection that QEMU makes to somebody else's server is refused: the source still
has it, and a server made for one client would mistake the second for the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .argument_base import Action, Argument, Bench, Outcome, Refusal, changed, copied
from .argument_table import (
    CHARDEVS_COPIED,
    CHARDEVS_REFUSED,
    DEVICES_REFUSED,
    DISPLAYS_COPIED,
    NETDEVS,
    OBJECTS,
    KindRule,
    OptionRule,
)
from .option_text import Settings, double_commas

_OWN = "the destination has its own"
_TCP_OWN = "the destination has its own, at a port that the kernel chooses"
_TCP_KEYS = ("host", "port", "to", "ipv4", "ipv6", "nodelay", "keep-alive", "mptcp")
_CLIENT = "it connects to a server, as the source still does"
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:,]*):(?P<port>[^,]+)(?:,(?P<rest>.*))?")
_UNIX_SERVER = "server=on,wait=off"
VNC_DISPLAYS_TRIED = 99
"""How many display numbers above the source's are tried for the destination's VNC server, as in QEMU's own default."""


def chardev(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-chardev BACKEND,id=…``."""
    settings = bench.settings(argument, rule.implied)
    backend = settings.get("backend") or ""
    label = settings.get("id") or f"chardev{argument.ordinal}"
    if backend in CHARDEVS_REFUSED:
        raise Refusal(CHARDEVS_REFUSED[backend])
    if backend == "file":
        settings = settings.with_value("path", bench.place(label, "log"))
        input_path = settings.get("input-path")
        if input_path is not None:
            settings = settings.with_value("input-path", bench.absolute(input_path))
    elif backend == "stdio":
        settings = settings.without("signal").with_bare("backend", "socket")
        settings = settings.with_value("path", bench.place(label, "sock"))
        settings = settings.with_value("server", "on").with_value("wait", "off")
    elif backend == "socket":
        settings = _socket(settings, label, bench, monitor=label in _monitor_chardevs(bench))
    elif backend == "udp":
        if settings.get("localport", "localaddr") is not None:
            raise Refusal("a local UDP port can't be in two processes")
    elif backend not in CHARDEVS_COPIED:
        raise Refusal(f"the character device {backend!r} is not known here")
    if settings.get("logfile") is not None:
        settings = settings.with_value("logfile", bench.place(f"{label}-logfile", "log"))
    return changed(argument, settings.text, _OWN)


def _monitor_chardevs(bench: Bench) -> set[str]:
    """The ids of the character devices that monitors use: those are ours to move, clients of servers too."""
    found = [settings.get("chardev") for settings in bench.peek("mon", "chardev")]
    objects = bench.peek("object", "qom-type")
    found += [each.get("chardev") for each in objects if each.get("qom-type") in ("monitor-qmp", "monitor-hmp")]
    return {each for each in found if each}


def _socket(settings: Settings, label: str, bench: Bench, *, monitor: bool) -> Settings:
    """A server socket of the destination's own; a monitor's becomes a server wherever it was a client."""
    server = settings.is_on("server")
    if not server and not monitor:
        raise Refusal(_CLIENT)
    if server and settings.get("path") is None:
        bench.relocalised[label] = f"tcp:{settings.get('host') or ''}:0"
        settings = settings.without("to").with_value("port", "0")
    else:
        # A relative or an abstract name becomes a plain file: only that is sure to be in nobody's way.
        settings = settings.without(*_TCP_KEYS, "abstract", "tight", "reconnect", "reconnect-ms", "delay")
        settings = settings.without("tls-creds", "tls-authz")  # QEMU has TLS over TCP only
        settings = settings.with_value("path", bench.place(label, "sock"))
    return settings.with_value("server", "on").with_value("wait", "off")


def serial(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-serial``, ``-parallel``, ``-debugcon``: a character device in its short form."""
    label = f"{argument.option}{argument.ordinal}"
    return changed(argument, _short(argument.text, label, bench), _OWN)


def _short(text: str, label: str, bench: Bench) -> str:
    """The short form of a character device, as ``qemu_chr_parse_compat`` of QEMU's ``chardev/char.c`` reads it."""
    kind, colon, rest = text.partition(":")
    if kind == "mon" and colon:
        return f"mon:{_short(rest, label, bench)}"
    if kind in ("chardev", "vc", "pty") or text in CHARDEVS_COPIED | {"none"}:
        return text
    if kind == "stdio":
        return f"unix:{double_commas(bench.place(label, 'sock'))},{_UNIX_SERVER}"
    if kind == "file" and colon:
        return f"file:{bench.place(label, 'log')}"
    if kind in ("tcp", "telnet", "tn3270", "websocket"):
        return _short_tcp(kind, rest, label, bench)
    if kind == "unix":
        if not Settings.parse(rest, implied="path").is_on("server"):
            raise Refusal(_CLIENT)
        return f"unix:{double_commas(bench.place(label, 'sock'))},{_UNIX_SERVER}"
    if kind == "udp":
        if "@" in rest:
            raise Refusal("a local UDP port can't be in two processes")
        return text
    if text.startswith("/dev/"):
        raise Refusal("a port of the host serves one process")
    raise Refusal(CHARDEVS_REFUSED.get(kind, f"the character device {text!r} is not known here"))


def _short_tcp(kind: str, rest: str, label: str, bench: Bench) -> str:
    match = _HOST_AND_PORT.fullmatch(rest)
    if match is None:
        raise Refusal(f"the address {rest!r} can't be read")
    options = Settings.parse(match["rest"] or "")
    if not options.is_on("server"):
        raise Refusal(_CLIENT)
    bench.relocalised[label] = f"tcp:{match['host']}:0"
    options = options.without("to").with_value("server", "on").with_value("wait", "off")
    return f"{kind}:{match['host']}:0,{options.text}"


def monitor(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-monitor``: always a unix socket of the destination's own, whatever it was."""
    if argument.text in CHARDEVS_COPIED | {"none"} or argument.text.startswith(("chardev:", "vc:", "pty:")):
        return copied(argument)
    path = bench.place(f"monitor{argument.ordinal}", "sock")
    return changed(argument, f"unix:{double_commas(path)},{_UNIX_SERVER}", _OWN)


def qmp(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-qmp``: the first two become the destination's own two, so that their number does not grow with each move."""
    if argument.text in ("none", "null") or argument.text.startswith("chardev:"):
        return copied(argument)
    if bench.own_monitors:
        path = bench.own_monitors.pop(0)
    else:
        path = bench.place(f"{argument.option}{argument.ordinal}", "sock")
    return changed(argument, f"unix:{double_commas(path)},{_UNIX_SERVER}", _OWN)


def nographic(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-nographic``: the serial port that it would put on standard output, which nobody sees, gets a socket."""
    # The three things that keep QEMU from making a serial port by itself (default_list in softmmu/vl.c).
    named = any(settings.get("driver") == "isa-serial" for settings in bench.peek("device", "driver"))
    if named or bench.has("serial", "nodefaults"):
        return copied(argument)
    path = double_commas(bench.place("serial0", "sock"))
    words = (*argument.words, "-serial", f"unix:{path},{_UNIX_SERVER}")
    return Outcome(Action.RELOCALISED, words, "the first serial port is at a socket, for want of a terminal")


def netdev(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-netdev``, ``-nic``, ``-net``."""
    settings = bench.settings(argument, rule.implied)
    kind = settings.get("type") or ""
    kind_rule = _kind(NETDEVS, kind, "network backend")
    for item in settings.items:
        name = item.key.partition(".")[0]
        if name in ("hostfwd", "guestfwd"):
            raise Refusal(
                f"the forward {name}={item.value} can't be in two processes",
                "give a replacement without it, or with another port",
            )
    return changed(argument, bench.absolute_under(settings, kind_rule.path_keys).text, "paths were made absolute")


def object_(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-object``."""
    settings = bench.settings(argument, rule.implied)
    kind = settings.get("qom-type") or ""
    kind_rule = _kind(OBJECTS, kind, "object type")
    if kind == "memory-backend-file" and settings.is_on("share") and not settings.is_on("readonly"):
        raise Refusal(
            f"incoming RAM would overwrite the running source's in {settings.get('mem-path')} (share=on)",
            "give a replacement with another mem-path",
        )
    settings = bench.absolute_under(settings, kind_rule.path_keys)
    for key in kind_rule.output_keys:
        settings = settings.with_value(key, bench.place(settings.get("id") or kind, "out"))
    return changed(argument, settings.text, "its files are the destination's own, its paths absolute")


def _kind(table: Mapping[str, KindRule], kind: str, what: str) -> KindRule:
    rule = table.get(kind)
    if rule is None:
        raise Refusal(f"the {what} {kind!r} is not known here")
    if rule.refused is not None:
        raise Refusal(rule.refused)
    return rule


def device(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-device``: copied, unless it is the handle of something that the source holds."""
    settings = bench.settings(argument, rule.implied)
    driver = settings.get("driver") or ""
    for pattern, because in DEVICES_REFUSED:
        if re.fullmatch(pattern, driver):
            raise Refusal(because)
    # A ROM's name without a slash is looked up in QEMU's data directories.
    keys = [key for key in rule.path_keys if "/" in (settings.get(key) or "")]
    return changed(argument, bench.absolute_under(settings, keys).text, "paths were made absolute")


def audio(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-audiodev`` and ``-audio``: a sound card's recording goes to a file of the destination's own."""
    settings = bench.settings(argument, rule.implied)
    if settings.get("driver") != "wav":
        return copied(argument)
    path = bench.place(settings.get("id") or f"audio{argument.ordinal}", "wav")
    return changed(argument, settings.with_value("path", path).text, _OWN)


def vnc(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-vnc``, and ``-display vnc=``."""
    settings = bench.settings(argument, rule.implied)
    where = settings.get("vnc") or "none"
    if settings.is_on("reverse"):
        raise Refusal(_CLIENT)
    if where == "none":
        return copied(argument)
    label = f"vnc{argument.ordinal}"
    if where.startswith("unix:"):
        settings = settings.with_bare("vnc", f"unix:{bench.place(label, 'sock')}")
        return changed(argument, settings.text, _OWN)
    number = where.rpartition(":")[2]
    if not number.isdigit():
        raise Refusal(f"the display {where!r} can't be read")
    bench.relocalised[label] = f"vnc:{where} or the next that is free"
    if settings.get("to") is None:
        settings = settings.with_value("to", str(int(number) + VNC_DISPLAYS_TRIED))
    if (settings.get("websocket") or "on") not in ("on", "off"):
        settings = settings.with_value("websocket", "on")
    because = "the destination takes the next display number that is free (query-vnc tells it)"
    return Outcome(Action.RELOCALISED, argument.with_value(settings.text), because)


def spice(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-spice``: its unix socket is re-localised; its ports can't be, since SPICE wants their numbers."""
    settings = bench.settings(argument, rule.implied)
    if (settings.get("port") or "0") != "0" or (settings.get("tls-port") or "0") != "0":
        raise Refusal("its port can't be in two processes", "give a replacement with another port")
    if settings.is_on("unix"):
        settings = settings.with_value("addr", bench.place("spice", "sock"))
    return changed(argument, settings.text, _OWN)


def display(argument: Argument, rule: OptionRule, bench: Bench) -> Outcome:
    """``-display`` and ``-curses``."""
    if argument.value is None:
        return Outcome(Action.RELOCALISED, ("-display", "none"), "the destination has no terminal")
    settings = bench.settings(argument, rule.implied)
    if settings.get("vnc") is not None:
        return vnc(argument, rule, bench)
    kind = settings.get("type") or ""
    if kind == "curses":
        return changed(argument, "none", "the destination has no terminal")
    if kind not in DISPLAYS_COPIED:
        raise Refusal(f"the display {kind!r} can't be given to a second process")
    return copied(argument)
