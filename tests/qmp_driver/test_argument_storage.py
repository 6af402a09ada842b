"""The rules for disks: only what both ends are known to share may be written by either."""

from __future__ import annotations

import json
from typing import cast

import pytest

from tests.support.plans import CONTEXT, SHARED, becomes, refusal
from whimbrel.qmp_driver.arguments import PlanContext, plan_arguments


def blockdev(document: dict[str, object], context: PlanContext = CONTEXT) -> tuple[dict[str, object], str]:
    """What becomes of a JSON ``-blockdev``: the document (empty if refused), and why."""
    made = plan_arguments(("qemu", "-blockdev", json.dumps(document)), context=context).verdicts[0]
    return cast("dict[str, object]", json.loads(made.words[1]) if made.words else {}), made.because


WRITABLE = [
    "-drive file=/d.raw,if=virtio",
    "-drive file=/d.raw,if=virtio,readonly=off",
    "-drive driver=qcow2,file.driver=file,file.filename=/d.qcow2",
    "-drive file=host_device:/dev/sdb",
    "-drive file=file:/d.raw",
    "-hda /d.raw",
    "-pflash /vars.fd",
    "/d.raw",
    "-blockdev driver=file,node-name=f,filename=/d.raw",
    "-blockdev driver=raw,node-name=r,file.driver=host_device,file.filename=/dev/sdb",
    '-drive \'file=json:{"driver":"file",,"filename":"/d.raw"}\'',
    "-fsdev local,id=f,path=/srv,security_model=none",
    "-virtfs local,path=/srv,mount_tag=t,security_model=none",
]


@pytest.mark.parametrize("line", WRITABLE)
def test_writable_and_perhaps_not_shared_is_refused(line: str) -> None:
    """Nobody vouches that the other end finds the same storage under this name."""
    assert "share" in refusal(line)


@pytest.mark.parametrize("line", WRITABLE)
def test_writable_and_shared_is_copied(line: str) -> None:
    """The caller vouches for it; image locks do the rest."""
    assert becomes(line, SHARED).startswith(line.split()[0] if line.startswith("-") else line)


@pytest.mark.parametrize(
    "line",
    [
        "-drive file=/d.raw,readonly=on",
        "-drive file=/d.raw,read-only=on",
        "-drive file=/cd.iso,media=cdrom",
        "-cdrom /cd.iso",
        "-drive if=ide,media=cdrom",
        "-drive driver=null-co,id=n",
        "-drive file=null-co://,format=raw",
        "-drive file=nbd:unix:/n.sock:exportname=x",
        "-drive file=nbd+unix:///x?socket=/n.sock",
        "-drive file=rbd:pool/image",
        "-drive file=fat:/srv",
        "-blockdev driver=nbd,node-name=n,server.type=unix,server.path=/n.sock",
        "-blockdev driver=file,node-name=f,filename=/d.raw,read-only=on",
        "-blockdev driver=host_cdrom,node-name=f,filename=/dev/cdrom",
        "-blockdev driver=qcow2,node-name=q,file=f",
        "-fsdev local,id=f,path=/srv,security_model=none,readonly=on",
        "-fsdev synth,id=f",
    ],
)
def test_what_is_read_only_or_reached_through_a_server_is_copied(line: str) -> None:
    """Two readers do no harm, and a server is the same one for both ends."""
    assert becomes(line) == line


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("-drive file=/d.raw,snapshot=on", "overlay"),
        ("-drive file=/d.raw,file.locking=off", "locking=off"),
        ("-blockdev driver=file,node-name=f,filename=/d.raw,locking=off", "locking=off"),
        ("-drive file=/dev/fdset/1", "file descriptors"),
        ("-drive file=nvme://0000:44:00.0/1", "device of the host"),
        ("-blockdev driver=nvme,node-name=n,device=0000:44:00.0,namespace=1", "device of the host"),
        ("-blockdev driver=virtio-blk-vhost-user,node-name=n,path=/s", "vhost-user"),
        ("-blockdev driver=unheard-of,node-name=n", "'unheard-of' is not known"),
        ("-drive file=unheard-of:x", "'unheard-of' is not known"),
        ("-drive file=fat:rw:/srv", "writable FAT"),
        ("-drive file=json:torn", "no JSON object"),
        ("-drive file=json:{torn", "JSON cannot be read"),
        ("-fsdev proxy,id=f,socket=/s", "serves one process"),
        ("-fsdev proxy,id=f,sock_fd=3", "file descriptor"),
    ],
)
def test_refused_even_if_shared(line: str, because: str) -> None:
    """What two processes can't have, or what nobody can judge."""
    assert because in refusal(line, SHARED)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-drive file=d.raw,id=d", "-drive file=/home/vm/d.raw,id=d"),
        ("-drive file=sub/a,,b.raw", "-drive file=/home/vm/sub/a,,b.raw"),
        ("-drive file.filename=d.raw,format=raw", "-drive file.filename=/home/vm/d.raw,format=raw"),
        ("-hda d.raw", "-hda /home/vm/d.raw"),
        ("d.raw", "/home/vm/d.raw"),
        ("-cdrom cd.iso", "-cdrom /home/vm/cd.iso"),
        ("-drive file=fat:floppy:dir,readonly=on", "-drive file=fat:floppy:/home/vm/dir,readonly=on"),
        ("-fsdev local,id=f,path=srv", "-fsdev local,id=f,path=/home/vm/srv"),
        (
            "-blockdev driver=nbd,node-name=n,server.type=unix,server.path=n.sock",
            "-blockdev driver=nbd,node-name=n,server.type=unix,server.path=/home/vm/n.sock",
        ),
    ],
)
def test_relative_names_are_made_absolute(line: str, expected: str) -> None:
    """The destination need not be started where the source was."""
    assert becomes(line, SHARED) == expected


def test_json_graphs_are_read_to_their_leaves() -> None:
    """Nested nodes are judged one by one: a backing image is read only, and a lock switched off is found."""
    leaf: dict[str, object] = {"driver": "file", "filename": "top.qcow2"}
    base: dict[str, object] = {"driver": "qcow2", "file": {"driver": "file", "filename": "base.qcow2"}}
    graph: dict[str, object] = {"driver": "qcow2", "node-name": "q", "file": leaf, "backing": base}
    made, _ = blockdev(graph, SHARED)
    assert made["file"] == {"driver": "file", "filename": "/home/vm/top.qcow2"}
    assert made["backing"] == {"driver": "qcow2", "file": {"driver": "file", "filename": "/home/vm/base.qcow2"}}
    assert "top.qcow2" in blockdev(graph)[1]
    assert blockdev({**graph, "read-only": True})[1] != ""
    assert blockdev({**graph, "read-only": True})[0]["read-only"] is True
    assert "locking=off" in blockdev({**graph, "file": {**leaf, "locking": "off"}}, SHARED)[1]


def test_a_remote_file_name_is_no_path_of_this_host() -> None:
    """A driver of the network may have a ``filename``-like key; it is left alone, and its writability too."""
    made, because = blockdev({"driver": "http", "url": "http://h/x", "node-name": "w"})
    assert made["url"] == "http://h/x"
    assert because == ""
