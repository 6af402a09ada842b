"""The rules for consoles, networks, objects and devices: the destination has its own, or it is refused."""

from __future__ import annotations

import pytest

from tests.support.plans import DIRECTORY, becomes, plan, refusal
from whimbrel.qmp_driver.arguments import PlanContext

UNIX = "server=on,wait=off"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-serial unix:/s,server,nowait", f"-serial unix:/run/w/serial0.sock,{UNIX}"),
        ("-serial stdio", f"-serial unix:/run/w/serial0.sock,{UNIX}"),
        ("-serial mon:stdio", f"-serial mon:unix:/run/w/serial0.sock,{UNIX}"),
        ("-serial file:/l", "-serial file:/run/w/serial0.log"),
        ("-serial tcp:127.0.0.1:4444,server=on", f"-serial tcp:127.0.0.1:0,{UNIX}"),
        ("-serial telnet::4444,server,nowait", f"-serial telnet::0,{UNIX}"),
        ("-serial tcp:[::1]:4444,server=on,to=4450,nodelay=on", "-serial tcp:[::1]:0,server=on,nodelay=on,wait=off"),
        ("-serial udp::1234", "-serial udp::1234"),
        ("-parallel file:/l", "-parallel file:/run/w/parallel0.log"),
        ("-debugcon unix:/s,server=on", f"-debugcon unix:/run/w/debugcon0.sock,{UNIX}"),
        ("-monitor stdio", f"-monitor unix:/run/w/monitor0.sock,{UNIX}"),
        ("-monitor tcp:1.2.3.4:55", f"-monitor unix:/run/w/monitor0.sock,{UNIX}"),
        ("-qmp tcp:1.2.3.4:55,server=on", f"-qmp unix:/run/w/qmp.sock,{UNIX}"),
        ("-qmp-pretty unix:/q,server", f"-qmp-pretty unix:/run/w/qmp.sock,{UNIX}"),
        ("-vnc unix:/v", "-vnc unix:/run/w/vnc0.sock"),
        ("-vnc unix:/v,id=x", "-vnc unix:/run/w/vnc0.sock,id=x"),
        ("-vnc 127.0.0.1:3,password=on", "-vnc 127.0.0.1:3,password=on,to=102"),
        ("-vnc :0,to=9,websocket=5700", "-vnc :0,to=9,websocket=on"),
        ("-display vnc=:1", "-display vnc=:1,to=100"),
        ("-display curses,charset=CP437", "-display none"),
        ("-spice unix=on,addr=/s", "-spice unix=on,addr=/run/w/spice.sock"),
        ("-audiodev wav,id=a,path=/w", "-audiodev wav,id=a,path=/run/w/a.wav"),
        ("-audio wav,model=hda", "-audio wav,model=hda,path=/run/w/audio0.wav"),
        ("-chardev file,id=l,path=/l,append=on", "-chardev file,id=l,path=/run/w/l.log,append=on"),
        ("-chardev null,id=n,logfile=/l", "-chardev null,id=n,logfile=/run/w/n-logfile.log"),
        ("-chardev stdio,id=s,signal=off,mux=on", f"-chardev socket,id=s,mux=on,path=/run/w/s.sock,{UNIX}"),
        ("-chardev socket,id=c,path=/c,server,nowait", f"-chardev socket,id=c,path=/run/w/c.sock,{UNIX}"),
        ("-chardev socket,id=c,path=c,server=on,abstract=on", f"-chardev socket,id=c,path=/run/w/c.sock,{UNIX}"),
        (
            "-chardev socket,id=c,host=::1,port=44,to=50,server=on,telnet=on",
            "-chardev socket,id=c,host=::1,port=0,server=on,telnet=on,wait=off",
        ),
        ("-chardev udp,id=u,host=h,port=9", "-chardev udp,id=u,host=h,port=9"),
        ("-netdev user,id=n,tftp=t", "-netdev user,id=n,tftp=/home/vm/t"),
        ("-object filter-dump,id=d,netdev=n,file=x", "-object filter-dump,id=d,netdev=n,file=/run/w/d.out"),
        ("-object secret,id=s,file=k", "-object secret,id=s,file=/home/vm/k"),
        ("-device e1000,romfile=r/x.rom", "-device e1000,romfile=/home/vm/r/x.rom"),
        ("-device loader,file=./i,addr=0", "-device loader,file=/home/vm/./i,addr=0"),
    ],
)
def test_relocalised(line: str, expected: str) -> None:
    """The destination gets a socket, a log, a port of its own; everything else about it stays."""
    assert becomes(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "-serial none", "-serial null", "-serial pty", "-serial vc:80Cx24C", "-serial chardev:c", "-serial msmouse",
        "-monitor none", "-monitor pty:x", "-monitor chardev:c", "-qmp none", "-mon chardev=c,mode=control",
        "-vnc none", "-display none", "-display gtk,gl=on", "-chardev pty,id=p", "-chardev ringbuf,id=r,size=64K",
        "-chardev spicevmc,id=s,name=vdagent", "-netdev user,id=n", "-netdev bridge,id=n,br=br0", "-nic none",
        "-nic user,model=e1000", "-net nic,model=rtl8139", "-netdev hubport,id=h,hubid=0",
        "-object memory-backend-ram,id=m,size=1G", "-object memory-backend-memfd,id=m,size=1G,share=on",
        "-object memory-backend-file,id=m,size=1G,mem-path=/dev/hugepages", "-object iothread,id=i",
        "-object memory-backend-file,id=m,size=1G,mem-path=/rom,share=on,readonly=on",
        "-device virtio-net-pci,netdev=n,romfile=", "-device e1000,romfile=efi-e1000.rom",
        "-device {\\\"driver\\\":\\\"virtio-rng-pci\\\"}", "-audiodev none,id=a", "-nodefaults",
    ],
)  # fmt: skip
def test_copied(line: str) -> None:
    """What each process has for itself, and what a device is, is copied."""
    assert becomes(line) == line.replace("\\", "")


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("-serial tcp:h:1", "connects to a server"),
        ("-serial unix:/s", "connects to a server"),
        ("-serial pipe:/p", "pipe"),
        ("-serial /dev/ttyS0", "port of the host"),
        ("-serial udp:h:1@:2", "UDP"),
        ("-serial braille", "braille"),
        ("-serial tcp:nonsense", "can't be read"),
        ("-serial unheard-of", "'unheard-of' is not known"),
        ("-chardev socket,id=c,path=/c", "connects to a server"),
        ("-chardev socket,id=c,fd=3,server=on", "file descriptor"),
        ("-chardev pipe,id=c,path=/p", "pipe"),
        ("-chardev udp,id=u,host=h,port=1,localport=2", "UDP"),
        ("-chardev unheard-of,id=u", "'unheard-of' is not known"),
        ("-netdev user,id=n,hostfwd=tcp::2222-:22", "hostfwd=tcp::2222-:22"),
        ("-nic user,guestfwd=tcp:1.2.3.4:1-cmd:x", "guestfwd"),
        ("-netdev tap,id=n,ifname=t", "tap"),
        ("-net tap,fd=3", "file descriptor"),
        ("-netdev vhost-user,id=n,chardev=c", "vhost-user"),
        ("-netdev socket,id=n,listen=:1", "socket"),
        ("-netdev unheard-of,id=n", "'unheard-of' is not known"),
        ("-object memory-backend-file,id=m,size=1G,mem-path=/dev/shm/m,share=on", "overwrite"),
        ("-object unheard-of,id=o", "'unheard-of' is not known"),
        ("-object sev-guest,id=s", "confidential"),
        ("-object iommufd,id=i,fd=3", "file descriptor"),
        ("-object {torn", "JSON"),
        ("-device vfio-pci,host=01:00.0", "device of the host"),
        ("-device vhost-user-fs-pci,chardev=c,tag=t", "vhost-user"),
        ("-device vhost-vsock-pci,guest-cid=3", "guest-cid"),
        ("-device usb-redir,chardev=c", "other end"),
        ("-vnc h:0,reverse=on", "connects to a server"),
        ("-vnc nonsense", "can't be read"),
        ("-spice port=5900,disable-ticketing=on", "port"),
        ("-display spice-app", "'spice-app'"),
    ],
)
def test_refused(line: str, because: str) -> None:
    """What only one process can have, or what nobody knows, is refused with its reason."""
    assert because in refusal(line)


def test_hostfwd_in_json_is_found() -> None:
    """The JSON form is no way round the rule."""
    assert "hostfwd" in refusal('-netdev \'{"type":"user","id":"n","hostfwd":[{"str":"tcp::1-:2"}]}\'')


def test_a_monitors_character_device_is_ours_to_move() -> None:
    """A monitor that was a client of some manager becomes a server; the same chardev without a monitor is refused."""
    chardev = "-chardev socket,id=c,host=h,port=9,server=off,reconnect=1"
    assert "server" in refusal(chardev)
    expected = "-chardev socket,id=c,server=on,path=/run/w/c.sock,wait=off"
    assert becomes(f"{chardev} -mon chardev=c,mode=control") == expected
    assert becomes(f"{chardev} -object monitor-qmp,id=m,chardev=c") == expected


def test_nographic_puts_the_serial_port_on_a_socket() -> None:
    """Where QEMU would use the terminal that the destination does not have."""
    assert becomes("-nographic") == f"-nographic -serial unix:/run/w/serial0.sock,{UNIX}"
    for other in ("-serial null", "-nodefaults", "-device isa-serial,chardev=c"):
        assert becomes(f"-nographic {other}") == "-nographic"


def test_own_monitors_take_the_place_of_the_sources() -> None:
    """The first two QMP monitors are the two that every destination has; a third gets a socket of its own."""
    made = plan("-qmp unix:/1,server=on -qmp stdio -qmp unix:/3,server=on")
    assert [verdict.words[1] for verdict in made.verdicts] == [
        f"unix:/run/w/qmp.sock,{UNIX}",
        f"unix:/run/w/qmp-human.sock,{UNIX}",
        f"unix:/run/w/qmp2.sock,{UNIX}",
    ]
    assert made.argv[-3:] == ("-S", "-incoming", "defer")
    assert made.argv.count("-qmp") == 3


def test_labels_lead_to_what_was_moved() -> None:
    """Each is found under QEMU's own label or the id that the user gave; a clash with ours gets a number."""
    found = plan(
        "-serial null -serial stdio -chardev socket,id=qmp,path=/c,server=on -serial tcp:h:1,server=on -vnc :2"
    ).relocalised
    assert found == {
        "qmp": "/run/w/qmp.sock",
        "qmp-human": "/run/w/qmp-human.sock",
        "serial1": "/run/w/serial1.sock",
        "qmp-2": "/run/w/qmp-2.sock",
        "serial2": "tcp:h:0",
        "vnc0": "vnc::2 or the next that is free",
    }


def test_a_comma_in_the_directory_is_doubled() -> None:
    """Or QEMU would take what follows it for an option."""
    context = PlanContext(directory=f"{DIRECTORY},x")
    chardev = "-chardev socket,id=c,path=/c,server=on"
    for line in ("-serial stdio", "-monitor stdio", "-qmp stdio", chardev, "-nographic"):
        assert f"{DIRECTORY},,x/" in becomes(line, context)
