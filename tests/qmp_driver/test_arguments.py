"""The plan as a whole: every argument has one verdict, and nothing of the source's is opened twice."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.plans import CONTEXT, DIRECTORY, SHARED, plan
from whimbrel.engine.errors import BadInput, WhimbrelError
from whimbrel.qmp_driver.argument_table import OPTIONS
from whimbrel.qmp_driver.arguments import (
    Action,
    PlanContext,
    plan_arguments,
    split_arguments,
)

MARK = "/source-only"
"""In every name of the lines below that belongs to the source alone."""

LINES = [
    f"-serial unix:{MARK}/s,server=on,wait=off -monitor unix:{MARK}/m,server,nowait -qmp unix:{MARK}/q,server=on",
    f"-chardev socket,id=c0,path={MARK}/c,server=on -chardev file,id=c1,path={MARK}/l,logfile={MARK}/ll",
    f"-chardev stdio,id=c2,logfile={MARK}/ll -D {MARK}/log -pidfile {MARK}/pid -trace enable=x,file={MARK}/t",
    f"-serial file:{MARK}/f -parallel mon:file:{MARK}/g -debugcon file:{MARK}/h -vnc unix:{MARK}/v,share=ignore",
    f"-spice unix=on,addr={MARK}/spice -object filter-dump,id=d,netdev=n,file={MARK}/d",
    f"-audiodev wav,id=a,path={MARK}/w -audio wav,model=hda,path={MARK}/w -nographic",
    "-M q35,accel=tcg -cpu host,+avx -smp 2 -m 524224K -append -dash -nodefaults --display none -S -daemonize",
    "-netdev user,id=n0 -device virtio-net-pci,netdev=n0 -rtc base=utc -incoming defer",
]

options = st.sampled_from(sorted(OPTIONS))
words = st.one_of(
    st.text(alphabet="abz019=,:./-{}\"'+@", max_size=14),
    options.map(lambda name: f"-{name}"),
    options.map(lambda name: f"--{name}"),
    st.sampled_from([word for line in LINES for word in shlex.split(line)]),
)


@given(st.lists(words, max_size=12))
def test_every_argument_has_exactly_one_verdict(arguments: list[str]) -> None:
    """Whatever the vector is: the arguments' words, in order, are the vector; and each has one verdict."""
    split = split_arguments(arguments)
    assert [word for argument in split for word in argument.words] == arguments
    verdicts = plan_arguments(("qemu", *arguments), context=CONTEXT).verdicts
    assert [verdict.index for verdict in verdicts] == [argument.index for argument in split]


@given(st.lists(words, max_size=12))
def test_copied_means_word_for_word(arguments: list[str]) -> None:
    """A copied argument stands in the destination's vector as it stood in the source's; a refused one does not."""
    made = plan_arguments(("qemu", *arguments), context=CONTEXT)
    for verdict, argument in zip(made.verdicts, split_arguments(arguments), strict=True):
        if verdict.action is Action.COPIED:
            assert verdict.words == argument.words
        if verdict.action in (Action.REFUSED, Action.DROPPED):
            assert verdict.words == ()
    assert made.argv[1:][: sum(len(each.words) for each in made.verdicts)] == tuple(
        word for verdict in made.verdicts for word in verdict.words
    )


@given(st.from_regex(r"[a-z][a-z-]{2,12}", fullmatch=True).filter(lambda name: name not in OPTIONS), st.booleans())
def test_an_unknown_option_is_always_refused(name: str, with_value: bool) -> None:
    """Of an option that nobody knows nothing is guessed; its value, if it has one, goes with it."""
    made = plan_arguments(("qemu", f"-{name}", *(["value"] if with_value else []), "-S"), context=CONTEXT)
    assert [verdict.action for verdict in made.verdicts] == [Action.REFUSED, Action.DROPPED]
    assert made.verdicts[0].value == ("value" if with_value else None)


@pytest.mark.parametrize("line", LINES)
def test_nothing_of_the_sources_own_remains(line: str) -> None:
    """No socket and no log of the source is named in the destination's vector, nor where its things are found."""
    made = plan(line, SHARED)
    assert made.refused == (), made.explain()
    assert not [word for word in (*made.argv, *made.relocalised.values()) if MARK in word]


@pytest.mark.parametrize("line", LINES)
def test_a_second_move_needs_no_more_than_the_first(line: str) -> None:
    """The destination is the next move's source: its vector keeps its length, and only the directory changes."""
    first = plan(line, SHARED)
    again = PlanContext(directory="/run/w2", source_cwd="/home/vm", disks_shared=True)
    second = plan_arguments(first.argv, context=again)
    assert second.refused == (), second.explain()
    assert [word.replace("/run/w2", DIRECTORY) for word in second.argv] == list(first.argv)
    assert second.relocalised.keys() == first.relocalised.keys()


def test_what_a_destination_needs_is_added() -> None:
    """It starts paused and deferred, with two monitors, and with what the running source says that it is."""
    context = PlanContext(
        directory=DIRECTORY, binary="/opt/qemu", machine="pc-q35-7.2", cpu="qemu64", accelerator="tcg"
    )
    assert plan("-m 64", context).argv == (
        "/opt/qemu", "-m", "64", "-machine", "pc-q35-7.2", "-cpu", "qemu64", "-accel", "tcg",
        "-qmp", "unix:/run/w/qmp.sock,server=on,wait=off",
        "-qmp", "unix:/run/w/qmp-human.sock,server=on,wait=off",
        "-S", "-incoming", "defer",
    )  # fmt: skip


@pytest.mark.parametrize("line", ["-accel kvm", "-enable-kvm", "-M pc,accel=kvm", "-machine accel=kvm:tcg"])
def test_a_named_accelerator_is_not_named_again(line: str) -> None:
    """The source's own choice stands."""
    assert "-accel tcg" not in " ".join(plan(line, PlanContext(directory=DIRECTORY, accelerator="tcg")).argv)


def test_a_loader_called_by_name_stays() -> None:
    """A QEMU that is run out of a directory of its own is run so again."""
    launcher = ("/r/ld-linux-x86-64.so.2", "--library-path", "/r/lib", "/r/qemu-system-x86_64")
    made = plan_arguments((*launcher, "-m", "64"), context=CONTEXT)
    assert made.argv[: len(launcher)] == launcher
    assert [verdict.text for verdict in made.verdicts] == ["-m 64"]


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("netdev:n0", "-netdev tap,id=n0,fd=3"),
        ("chardev:c0", "-chardev pipe,id=c0,path=/p"),
        ("drive:d0", "-drive id=d0,file=/x,snapshot=on"),
        ("blockdev:b0", '-blockdev {\\"driver\\":\\"nvme\\",\\"node-name\\":\\"b0\\"}'),
        ("object:m0", "-object memory-backend-file,id=m0,mem-path=/s,share=on"),
        ("-gdb#0", "-gdb tcp::1"),
        ("-gdb", "-gdb tcp::1"),
        ("-unheard-of#0", "-unheard-of thing"),
        ("disk", "/d.raw"),
    ],
)
def test_a_caller_can_replace_or_leave_out_anything(key: str, line: str) -> None:
    """Each form of a key finds its argument; an empty text leaves it out."""
    assert plan(line).refused
    replaced = plan(line, PlanContext(directory=DIRECTORY, replacements={key: "instead"})).verdicts[0]
    assert (replaced.action, replaced.words[-1]) == (Action.REPLACED, "instead")
    left_out = plan(line, PlanContext(directory=DIRECTORY, replacements={key: ""})).verdicts[0]
    assert (left_out.action, left_out.words) == (Action.REPLACED, ())


def test_a_replacement_of_one_of_several() -> None:
    """``#1`` means the second of an option, and only that one."""
    context = PlanContext(directory=DIRECTORY, replacements={"-serial#1": "null"})
    made = plan("-serial vc -serial pipe:/p -serial pty", context)
    assert [" ".join(verdict.words) for verdict in made.verdicts] == ["-serial vc", "-serial null", "-serial pty"]


def test_a_replacement_that_fits_nothing_is_an_error() -> None:
    """A slip of the pen must not go unseen; the error lists what there is."""
    with pytest.raises(BadInput, match="netdev:n0"):
        plan("-netdev user,id=n0", PlanContext(directory=DIRECTORY, replacements={"netdev:n1": "user,id=n1"}))
    with pytest.raises(BadInput, match="takes no value"):
        plan("-snapshot", PlanContext(directory=DIRECTORY, replacements={"-snapshot": "on"}))


@pytest.mark.parametrize("directory", ["relative", "/" + "x" * 100])
def test_a_directory_that_holds_no_sockets_is_an_error(directory: str) -> None:
    """Relative, or so long that a socket's path would not fit."""
    with pytest.raises(BadInput, match="directory"):
        plan("-m 64", PlanContext(directory=directory))


def test_no_program_is_an_error() -> None:
    """An empty vector is nobody's command line."""
    with pytest.raises(WhimbrelError, match="no program"):
        plan_arguments((), context=CONTEXT)


def test_the_plan_explains_itself() -> None:
    """A line per argument with what was done and why, and where things are found."""
    text = plan("-m 64 -serial stdio -gdb tcp::1").explain()
    assert "copied  -m 64" in text
    assert "-serial stdio  ->  -serial unix:/run/w/serial0.sock,server=on,wait=off" in text
    assert "refused  -gdb tcp::1  (a debugger's port can't be in two processes; give a replacement for -gdb#0" in text
    assert "found at  serial0: /run/w/serial0.sock" in text
