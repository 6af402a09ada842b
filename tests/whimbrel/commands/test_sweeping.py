"""``whimbrel sweep``: the same result as ``compare`` on a cluster, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import here, whimbrel
from whimbrel.cli import BAD_INPUT, OK

ASKED = ("--case", "d50@1g", "--policy", "fixed", "--policy", "xen_classic", "--seeds", "2", "--no-bounds")


async def test_a_sweep_keeps_the_same_bytes_as_a_comparison(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    swept = await whimbrel("sweep", *ASKED, "--workers", "1", "--out", tmp_path / "swept")
    assert (swept.code, swept.err) == (OK, "")
    compared = here(capsys, "compare", *ASKED, "--jobs", "1", "--out", tmp_path / "compared")
    assert swept.out.replace("swept", "compared") == compared.out
    one, other = (tmp_path / name / "result.parquet" for name in ("swept", "compared"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--scheduler", "somewhere"), "scheduler: 'somewhere' is not allowed; allowed: the address of a Dask"),
        (("--scheduler", "tcp://x:1", "--workers", "2"), "workers: 2 is not allowed; allowed: nothing together with"),
        (("--seeds", "x"), "seeds: 'x' is not allowed"),
        (("--policy", "nonsense"), "policy: 'nonsense' is not allowed"),
    ],
)
def test_what_can_not_be_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    ran = here(capsys, "sweep", *words)
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.sentence.startswith(sentence)
