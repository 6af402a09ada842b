"""The image can be built anew, and is what the sources say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest.laboratory import Laboratory
from whimbrel.engine.errors import WhimbrelError
from whimbrel.guest import build
from whimbrel.guest.boot import image_path
from whimbrel.guest.spec import WorkloadSpec


async def test_the_shipped_image_is_what_the_sources_give(laboratory: Laboratory, tmp_path: Path) -> None:
    """With the reference tools the same bytes; with any others an image that boots and verifies."""
    fresh = tmp_path / "guest.elf"
    build.build_image(fresh)
    if build.tool_versions() == build.REFERENCE_TOOLS:
        assert fresh.read_bytes() == image_path().read_bytes(), "run python -m whimbrel.guest.build"
    await laboratory.start(WorkloadSpec.uniform(1 << 20, 1 << 20, 1e6), extra=("-kernel", str(fresh)))
    await laboratory.monitor.wait_beats(20)
    assert (await laboratory.monitor.verify("source")).passed


def test_two_builds_are_equal(tmp_path: Path) -> None:
    """Nothing of the place or the time gets into the image."""
    first, second = tmp_path / "a", tmp_path / "b" / "c"
    second.parent.mkdir()
    build.build_image(first)
    build.build_image(second)
    assert first.read_bytes() == second.read_bytes()


def test_check_compares_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Its exit code says whether the image is up to date for the tools at hand."""
    before = image_path().read_bytes()
    code = build.main(["--check"])
    assert image_path().read_bytes() == before
    assert code == (1 if "NOT" in capsys.readouterr().out else 0)
    if build.tool_versions() == build.REFERENCE_TOOLS:
        assert code == 0


def test_without_a_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One sentence with the packages, no traceback of the tool."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WhimbrelError, match="gcc is not installed; install gcc and binutils"):
        build.build_image(tmp_path / "x")
