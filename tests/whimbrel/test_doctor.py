"""What a host can do, and binaries that are no QEMU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bare_qemu import QEMU
from whimbrel.doctor import binary, check_qemu, examine
from whimbrel.engine._version import __version__
from whimbrel.engine.errors import BadInput

BOTH_LOOPS = True


def program(folder: Path, text: str) -> str:
    """An executable file with this text."""
    path = folder / "program"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


async def test_everything_is_one_line_of_text(short_folder: Path) -> None:
    found = await examine()
    assert found["whimbrel"] == __version__
    assert "QEMU emulator version" in found["qemu-system-x86_64"]
    assert found["logs"] == str(short_folder / "state" / "whimbrel" / "log")
    assert found["outside throttle"].startswith(("by ", "not here: "))
    assert all(value and "\n" not in value for value in found.values())


async def test_a_look_changes_nothing(short_folder: Path) -> None:
    await examine()
    assert list((short_folder / "state").iterdir()) == []


async def test_a_binary_that_is_missing_silent_or_broken_is_one_line(tmp_path: Path) -> None:
    """Whatever is wrong with it: a doctor does not fail, and leaves nothing running."""
    assert "missing" in await binary("no-such-qemu")
    assert "does not answer" in await binary(program(tmp_path, "#!/bin/sh\nexec sleep 1000\n"), timeout_s=0.2)
    assert "cannot be run" in await binary(program(tmp_path, "#!/nowhere/interpreter\n"))
    assert "QEMU emulator version" in await binary(QEMU)


async def test_a_qemu_is_checked_before_it_is_waited_for(tmp_path: Path) -> None:
    """The machine type may be a versioned one, with options behind it."""
    await check_qemu("source-qemu", QEMU)
    for machine in ("q35", "pc-i440fx-7.2", "q35,smm=off"):
        await check_qemu("source-qemu", QEMU, machine)
    with pytest.raises(BadInput, match=r"machine: 'toaster' is not allowed; .* q35"):
        await check_qemu("source-qemu", QEMU, "toaster")
    for wrong in ("/bin/true", "no-such-qemu", program(tmp_path, "#!/nowhere/interpreter\n")):
        with pytest.raises(BadInput) as caught:
            await check_qemu("source-qemu", wrong)
        assert (caught.value.field, caught.value.given) == ("source-qemu", wrong)
