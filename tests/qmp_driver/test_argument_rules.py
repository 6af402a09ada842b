"""The plain rules: machine and CPU are pinned, files are found again, what is written moves."""

from __future__ import annotations

import pytest

from tests.support.plans import DIRECTORY, becomes, plan, refusal, verdict
from whimbrel.qmp_driver.arguments import Action, PlanContext

PINNED = PlanContext(directory=DIRECTORY, machine="pc-q35-7.2", cpu="EPYC-v4", source_cwd="/home/vm")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-machine q35", "-machine pc-q35-7.2"),
        ("-M q35,accel=tcg,smm=off", "-M pc-q35-7.2,accel=tcg,smm=off"),
        ("--machine accel=tcg,type=q35", "--machine accel=tcg,type=pc-q35-7.2"),
        ("-cpu EPYC", "-cpu EPYC-v4"),
        ("-cpu EPYC,+avx,-sse4.2,pmu=off", "-cpu EPYC-v4,+avx,-sse4.2,pmu=off"),
    ],
)
def test_machine_and_cpu_are_pinned(line: str, expected: str) -> None:
    """A name that means another thing in another QEMU becomes the name that the running source has for it."""
    assert becomes(line, PINNED) == expected
    assert verdict(line, PINNED).action is Action.PINNED
    assert " ".join(plan(line, PINNED).argv).count(expected.split()[-1].split(",")[0]) == 1


@pytest.mark.parametrize("line", ["-machine pc-q35-7.2,accel=tcg", "-machine accel=tcg", "-cpu EPYC-v4,+avx"])
def test_what_is_pinned_already_is_copied(line: str) -> None:
    """Nothing is rewritten that need not be."""
    assert verdict(line, PINNED).action is Action.COPIED


def test_a_machine_named_by_options_alone_gets_its_type() -> None:
    """``-machine accel=tcg`` says nothing of the type, so the type is added."""
    assert "-machine accel=tcg -machine pc-q35-7.2 " in " ".join(plan("-machine accel=tcg", PINNED).argv) + " "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-kernel vmlinuz", "-kernel /home/vm/vmlinuz"),
        ("-initrd /i", "-initrd /i"),
        ("-L roms", "-L /home/vm/roms"),
        ("-bios bios-256k.bin", "-bios bios-256k.bin"),
        ("-bios ./b.bin", "-bios /home/vm/./b.bin"),
        ("-fw_cfg name=opt/x,file=f", "-fw_cfg name=opt/x,file=/home/vm/f"),
        ("-fw_cfg opt/x,string=file", "-fw_cfg opt/x,string=file"),
        ("-smbios type=1,serial=a", "-smbios type=1,serial=a"),
        ("-smbios file=s,,t", "-smbios file=/home/vm/s,,t"),
        ("-acpitable file=a:/b", "-acpitable file=/home/vm/a:/b"),
        ("-acpitable sig=X,data=a", "-acpitable sig=X,data=/home/vm/a"),
        ("-plugin p.so,arg=1", "-plugin /home/vm/p.so,arg=1"),
        ("-boot order=c,splash=s", "-boot order=c,splash=/home/vm/s"),
        ("-append 'root=/dev/vda x'", "-append root=/dev/vda x"),
        ("-D q.log", "-D /run/w/log.log"),
        ("-pidfile p", "-pidfile /run/w/pidfile.pid"),
        ("-trace 'virtio*,file=t'", "-trace virtio*,file=/run/w/trace0.trace"),
        ("-trace events=e", "-trace events=/home/vm/e"),
        ("-icount shift=auto", "-icount shift=auto"),
        ("-run-with async-teardown=on,exit-with-parent=on", "-run-with async-teardown=on,exit-with-parent=off"),
        ("-S", ""),
        ("-daemonize", ""),
        ("-incoming tcp:0:4444", ""),
    ],
)
def test_files_and_process_matters(line: str, expected: str) -> None:
    """Paths that are read become absolute, those that are written move, and how to start is decided anew."""
    assert becomes(line) == expected


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("-snapshot", "overlays"),
        ("-loadvm x", "old state"),
        ("-gdb tcp::1", "debugger"),
        ("-s", "debugger"),
        ("-add-fd fd=3,set=1", "file descriptor"),
        ("-readconfig f", "not seen"),
        ("-set drive.d0.file=x", "behind"),
        ("-tpmdev passthrough,id=t", "TPM"),
        ("-tpmdev emulator,id=t,chardev=c", "TPM"),
        ("-chroot /x", "other files"),
        ("-run-with chroot=/x", "chroot"),
        ("-icount shift=1,rr=record,rrfile=f", "recording"),
        ("--preconfig", "monitor"),
        ("-m", "value is missing"),
    ],
)
def test_refused_by_name(line: str, because: str) -> None:
    """What can't be in two processes, or can't be seen, is refused with its reason."""
    assert because in refusal(line)
