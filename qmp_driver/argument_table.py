"""Every option of QEMU's x86 command line, and what becomes of it in a destination.

The table *is* the policy; ``arguments`` only carries it out. It covers QEMU 6.2 to 11.1
(``qemu-system-x86_64 -help``, ``qemu-options.hx``, and the options that help keeps to itself); a test
holds it against the installed QEMU. What is not in a table here is refused: of an option that we do not
know, nobody can say whether two processes may have it at once.

Why "the same line again" is not enough: an argument may name something that only one process can have
(a listening socket, a tap device), something that the second process would destroy by opening it (a log
file is truncated, memory shared through a file is overwritten by the incoming RAM), or something that
says how to start rather than what the machine is (``-S``, ``-incoming``, ``-daemonize``).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Treatment(enum.Enum):
    """What is done with an option. ``arguments`` has one function for each."""

    COPY = enum.auto()
    """As it is."""
    PATH = enum.auto()
    """As it is; the value is a path, made absolute."""
    FIRMWARE = enum.auto()
    """As ``PATH``, but a name without a slash is looked up by QEMU in its data directories."""
    KEYED = enum.auto()
    """As it is, but for the paths under the rule's ``path_keys``, made absolute."""
    DROP = enum.auto()
    REFUSE = enum.auto()
    MACHINE = enum.auto()
    CPU = enum.auto()
    DISK = enum.auto()
    """The value is a writable image."""
    DISC = enum.auto()
    """The value is a read-only image."""
    DRIVE = enum.auto()
    BLOCKDEV = enum.auto()
    SHARED_FOLDER = enum.auto()
    CHARDEV = enum.auto()
    SERIAL = enum.auto()
    """The short form of a character device (``unix:…``, ``file:…``) that the guest sees."""
    MONITOR = enum.auto()
    """The short form of a character device with a human monitor on it."""
    QMP = enum.auto()
    NETDEV = enum.auto()
    OBJECT = enum.auto()
    DEVICE = enum.auto()
    AUDIO = enum.auto()
    VNC = enum.auto()
    SPICE = enum.auto()
    DISPLAY = enum.auto()
    NOGRAPHIC = enum.auto()
    LOG_FILE = enum.auto()
    PID_FILE = enum.auto()
    TRACE = enum.auto()
    ICOUNT = enum.auto()
    ACPI_TABLE = enum.auto()
    RUN_WITH = enum.auto()


@dataclass(frozen=True, slots=True)
class OptionRule:
    """One row of the table.

    Attributes:
        takes_value: whether the next argument belongs to the option.
        treatment: what is done with it.
        because: for a refused one why it is refused; for one that is dropped, why.
        implied: key of a first item without ``=``.
        path_keys: keys whose values are paths that QEMU reads.
    """

    takes_value: bool
    treatment: Treatment
    because: str = ""
    implied: str | None = None
    path_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KindRule:
    """What becomes of one kind of ``-object``, ``-netdev`` and so on.

    Attributes:
        refused: why it is refused, or ``None`` where it is copied.
        path_keys: as in ``OptionRule``.
        output_keys: keys whose values are files that QEMU writes; they move to the private directory.
    """

    refused: str | None = None
    path_keys: tuple[str, ...] = ()
    output_keys: tuple[str, ...] = ()


_VALUE, _FLAG = True, False


def _rows(
    takes_value: bool,
    treatment: Treatment,
    names: str,
    *,
    because: str = "",
    implied: str | None = None,
    path_keys: tuple[str, ...] = (),
) -> dict[str, OptionRule]:
    """The same rule for several options, whose names are separated by blanks."""
    return dict.fromkeys(names.split(), OptionRule(takes_value, treatment, because, implied, path_keys))


_REFUSED_OPTIONS: tuple[tuple[str, bool, str], ...] = (
    ("snapshot", False, "the disks' temporary overlays exist in the source's process alone"),
    ("loadvm", True, "it would load an old state into the destination"),
    ("gdb", True, "a debugger's port can't be in two processes"),
    ("s", False, "a debugger's port (tcp::1234) can't be in two processes"),
    ("add-fd", True, "a file descriptor's number means nothing in another process"),
    ("set", True, "it changes another argument behind that argument's back"),
    ("readconfig", True, "the arguments in that file are not seen here"),
    ("writeconfig", True, "it writes a file and is no part of a machine"),
    ("tpmdev", True, "a TPM, or the socket of its emulator, serves one process"),
    ("chroot", True, "the paths of the destination would mean other files once it runs"),
    ("preconfig", False, "the machine was completed through its monitor, which no argument shows"),
    ("qtest", True, "it serves QEMU's own tests"),
    ("qtest-log", True, "it serves QEMU's own tests"),
    ("xen-domid", True, "Xen guests are moved by Xen's own tools"),
    ("xen-attach", False, "Xen guests are moved by Xen's own tools"),
    ("xen-domid-restrict", False, "Xen guests are moved by Xen's own tools"),
    ("dump-vmstate", True, "QEMU would print and exit"),
    ("h", False, "QEMU would print and exit"),
    ("help", False, "QEMU would print and exit"),
    ("version", False, "QEMU would print and exit"),
    ("audio-help", False, "QEMU would print and exit"),
)

OPTIONS: Mapping[str, OptionRule] = {
    # What the machine is.
    **_rows(_VALUE, Treatment.MACHINE, "machine M", implied="type"),
    **_rows(_VALUE, Treatment.CPU, "cpu"),
    **_rows(_VALUE, Treatment.COPY, "accel smp m numa global uuid name rtc k usbdevice vga append compat msg seed"),
    **_rows(_VALUE, Treatment.COPY, "action watchdog watchdog-action soundhw overcommit sandbox d dfilter rotate"),
    **_rows(_VALUE, Treatment.COPY, "runas mon echr iscsi"),
    **_rows(_FLAG, Treatment.COPY, "enable-kvm enable-hax usb nodefaults no-user-config no-acpi no-hpet"),
    **_rows(_FLAG, Treatment.COPY, "no-fd-bootchk win2k-hack no-reboot no-shutdown only-migratable mem-prealloc"),
    **_rows(_FLAG, Treatment.COPY, "full-screen portrait alt-grab ctrl-grab no-quit sdl singlestep async-teardown"),
    **_rows(_FLAG, Treatment.COPY, "enable-sync-profile perfmap jitdump"),
    **_rows(_VALUE, Treatment.KEYED, "boot", implied="order", path_keys=("splash",)),
    **_rows(_VALUE, Treatment.KEYED, "smbios", path_keys=("file", "path")),
    **_rows(_VALUE, Treatment.KEYED, "fw_cfg", implied="name", path_keys=("file",)),
    **_rows(_VALUE, Treatment.KEYED, "plugin", implied="file", path_keys=("file",)),
    **_rows(_VALUE, Treatment.ACPI_TABLE, "acpitable"),
    **_rows(_VALUE, Treatment.ICOUNT, "icount", implied="shift"),
    **_rows(_VALUE, Treatment.PATH, "kernel initrd dtb shim L mem-path"),
    **_rows(_VALUE, Treatment.FIRMWARE, "bios option-rom"),
    # What the guest's devices are, and what stands behind them.
    **_rows(_VALUE, Treatment.DEVICE, "device", implied="driver", path_keys=("file", "romfile")),
    **_rows(_VALUE, Treatment.OBJECT, "object", implied="qom-type"),
    **_rows(_VALUE, Treatment.DISK, "fda fdb hda hdb hdc hdd mtdblock sd pflash"),
    **_rows(_VALUE, Treatment.DISC, "cdrom"),
    **_rows(_VALUE, Treatment.DRIVE, "drive"),
    **_rows(_VALUE, Treatment.BLOCKDEV, "blockdev", implied="driver"),
    **_rows(_VALUE, Treatment.SHARED_FOLDER, "fsdev virtfs", implied="fsdriver", path_keys=("path",)),
    **_rows(_VALUE, Treatment.NETDEV, "netdev nic net", implied="type"),
    **_rows(_VALUE, Treatment.AUDIO, "audiodev audio", implied="driver"),
    # What people and managers hold in their hands.
    **_rows(_VALUE, Treatment.CHARDEV, "chardev", implied="backend"),
    **_rows(_VALUE, Treatment.SERIAL, "serial parallel debugcon"),
    **_rows(_VALUE, Treatment.MONITOR, "monitor"),
    **_rows(_VALUE, Treatment.QMP, "qmp qmp-pretty"),
    **_rows(_VALUE, Treatment.VNC, "vnc", implied="vnc"),
    **_rows(_VALUE, Treatment.SPICE, "spice"),
    **_rows(_VALUE, Treatment.DISPLAY, "display", implied="type"),
    **_rows(_FLAG, Treatment.DISPLAY, "curses"),
    **_rows(_FLAG, Treatment.NOGRAPHIC, "nographic"),
    **_rows(_VALUE, Treatment.LOG_FILE, "D"),
    **_rows(_VALUE, Treatment.PID_FILE, "pidfile"),
    **_rows(_VALUE, Treatment.TRACE, "trace", implied="enable", path_keys=("events",)),
    **_rows(_VALUE, Treatment.RUN_WITH, "run-with"),
    # How to start.
    **_rows(_FLAG, Treatment.DROP, "S", because="a destination always waits for the command to run"),
    **_rows(_VALUE, Treatment.DROP, "incoming", because="a destination always has its own -incoming defer"),
    **_rows(_FLAG, Treatment.DROP, "daemonize", because="the destination runs in a session of its own anyway"),
    # What can't be taken over.
    **{name: OptionRule(takes_value, Treatment.REFUSE, why) for name, takes_value, why in _REFUSED_OPTIONS},
}
"""Every option by its name, without dashes."""

CHARDEVS_COPIED = frozenset(
    {"null", "ringbuf", "memory", "vc", "msmouse", "wctablet", "testdev", "pty", "spicevmc", "spiceport",
     "dbus", "qemu-vdagent", "hub"}
)  # fmt: skip
"""Character devices that each process has for itself. Of a ``pty`` the kernel gives each its own."""

CHARDEVS_REFUSED: Mapping[str, str] = {
    "pipe": "two processes would read from one pipe",
    "serial": "a serial port of the host serves one process",
    "tty": "a serial port of the host serves one process",
    "parallel": "a parallel port of the host serves one process",
    "parport": "a parallel port of the host serves one process",
    "braille": "a braille display serves one process",
}

NETDEVS: Mapping[str, KindRule] = {
    "none": KindRule(),
    "nic": KindRule(),
    "hubport": KindRule(),
    "user": KindRule(path_keys=("tftp", "smb")),
    "bridge": KindRule(),  # its helper makes a tap of its own for each process
    "tap": KindRule(refused="a tap device can't be in two processes"),
    "l2tpv3": KindRule(refused="the tunnel's session can't be in two processes"),
    "socket": KindRule(refused="its socket can't be in two processes"),
    "stream": KindRule(refused="its socket can't be in two processes"),
    "dgram": KindRule(refused="its socket can't be in two processes"),
    "vde": KindRule(refused="its place in the switch can't be taken twice"),
    "netmap": KindRule(refused="a netmap port can't be in two processes"),
    "af-xdp": KindRule(refused="an interface's queues can't be in two processes"),
    "passt": KindRule(refused="passt serves one process"),
    "vhost-user": KindRule(refused="a vhost-user socket serves one process"),
    "vhost-vdpa": KindRule(refused="a vDPA device can't be in two processes"),
}
"""Kinds of ``-netdev``, ``-nic`` and ``-net``."""

_SEALED = "a confidential guest's memory can't be moved by copying it"

OBJECTS: Mapping[str, KindRule] = {
    **dict.fromkeys(
        ("memory-backend-ram", "memory-backend-memfd", "memory-backend-shm", "iothread", "main-loop",
         "thread-context", "throttle-group", "rng-builtin", "rng-egd", "cryptodev-backend",
         "cryptodev-backend-builtin", "cryptodev-backend-lkcf", "secret_keyring", "tls-cipher-suites",
         "authz-list", "authz-simple", "authz-pam", "can-bus", "can-host-socketcan", "filter-buffer",
         "filter-mirror", "filter-redirector", "filter-replay", "filter-rewriter", "acpi-generic-initiator",
         "acpi-generic-port", "monitor-hmp", "monitor-qmp"),
        KindRule(),
    ),
    "memory-backend-file": KindRule(path_keys=("mem-path",)),
    "rng-random": KindRule(path_keys=("filename",)),
    "secret": KindRule(path_keys=("file",)),
    "tls-creds-anon": KindRule(path_keys=("dir",)),
    "tls-creds-psk": KindRule(path_keys=("dir",)),
    "tls-creds-x509": KindRule(path_keys=("dir",)),
    "authz-list-file": KindRule(path_keys=("filename",)),
    "pr-manager-helper": KindRule(path_keys=("path",)),
    "igvm-cfg": KindRule(path_keys=("file",)),
    "filter-dump": KindRule(output_keys=("file",)),
    "memory-backend-epc": KindRule(refused="enclave memory can't leave its processor"),
    "sev-guest": KindRule(refused=_SEALED),
    "sev-snp-guest": KindRule(refused=_SEALED),
    "tdx-guest": KindRule(refused=_SEALED),
    "iommufd": KindRule(refused="devices of the host can't be in two processes"),
    "input-linux": KindRule(refused="an input device of the host can't be grabbed by two processes"),
    "input-barrier": KindRule(refused="its server takes one client of that name"),
    "dbus-vmstate": KindRule(refused="the state of its helpers can't be found from here"),
    "cryptodev-vhost-user": KindRule(refused="a vhost-user socket serves one process"),
    "x-remote-object": KindRule(refused="the remote device serves one process"),
    "x-vfio-user-server": KindRule(refused="the remote device serves one process"),
    "colo-compare": KindRule(refused="fault tolerance by COLO can't be combined with this"),
    "qtest": KindRule(refused="it serves QEMU's own tests"),
}  # fmt: skip
"""Kinds of ``-object``."""

DEVICES_REFUSED: tuple[tuple[str, str], ...] = (
    (r"vfio-.*|usb-host|u2f-passthru|igd-passthrough.*|x-igd.*", "a device of the host can't be in two processes"),
    (r"vhost-user-.*", "a vhost-user socket serves one process"),
    (r"vhost-vsock-.*", "its guest-cid is taken by the source"),
    (r"vhost-scsi.*|vhost-vdpa-.*", "its vhost device can't be in two processes"),
    (r"scsi-block|scsi-generic", "commands to a device of the host are not held back by image locks"),
    (r"ivshmem-.*", "memory that is shared with others can't be moved"),
    (r"usb-redir|ccid-card-passthru|ccid-card-emulated", "the thing at its other end serves one process"),
    (r"x-pci-proxy-dev|x-vfio-user-pci|vfio-user-pci", "the remote device serves one process"),
    (r"xen-.*", "Xen guests are moved by Xen's own tools"),
)
"""Patterns over ``-device`` drivers (matched whole), with the reason. Any other driver is copied: what a
device *is* is copied by definition, and what stands behind it has an argument of its own."""

DISPLAYS_COPIED = frozenset({"none", "default", "gtk", "sdl", "egl-headless", "dbus", "cocoa"})
"""Displays of which each process has its own."""

FD_KEYS = frozenset({"fd", "fds", "vhostfd", "vhostfds", "sock_fd", "sockfd"})
"""Keys whose value is the number of a file descriptor: it means nothing in another process."""

BLOCK_FORMATS = frozenset(
    {"raw", "qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "luks", "parallels", "dmg", "cloop", "bochs",
     "throttle", "copy-on-read", "copy-before-write", "snapshot-access", "quorum", "preallocate", "compress",
     "blkdebug", "blkverify", "blklogwrites", "blkreplay"}
)  # fmt: skip
"""Block drivers that store nothing themselves."""

BLOCK_NETWORK = frozenset({"nbd", "rbd", "iscsi", "nfs", "ssh", "gluster", "http", "https", "ftp", "ftps"})
"""Block drivers that reach their storage through a network (or a server's socket): both ends see the same."""

BLOCK_LOCAL = frozenset({"file", "host_device", "host_cdrom", "vvfat"})
"""Block drivers that name something of this host."""

BLOCK_NULL = frozenset({"null-co", "null-aio"})

BLOCK_REFUSED: Mapping[str, str] = {
    "nvme": "a device of the host can't be in two processes",
    "nvme-io_uring": "a device of the host can't be in two processes",
    "io_uring": "QEMU can't hold back its writes with image locks",
    "virtio-blk-vhost-user": "a vhost-user socket serves one process",
    "virtio-blk-vhost-vdpa": "a vDPA device can't be in two processes",
    "virtio-blk-vfio-pci": "a device of the host can't be in two processes",
    "replication": "fault tolerance by COLO can't be combined with this",
}

NETWORK_SCHEMES: Mapping[str, str] = {
    **{scheme: scheme for scheme in BLOCK_NETWORK},
    "nbd+tcp": "nbd", "nbd+unix": "nbd", "nbds": "nbd", "gluster+tcp": "gluster", "gluster+unix": "gluster",
    "gluster+rdma": "gluster", "iser": "iscsi",
}  # fmt: skip
"""How an image's name begins, where it is no path (``nbd:…``, ``rbd:…``), and the driver that it means."""
