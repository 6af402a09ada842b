"""The plan chooses the level; an impossible plan has no memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.sim.memory.plans import MIXED, SEED
from whimbrel.engine.errors import BadInput
from whimbrel.sim.memory.build import memory_of
from whimbrel.sim.memory.expected import ExpectedMemory
from whimbrel.sim.memory.paged import PagedMemory


def test_the_plan_chooses_the_level() -> None:
    assert isinstance(memory_of(MIXED, seed=SEED), ExpectedMemory)
    assert isinstance(memory_of(replace(MIXED, pages=True), seed=SEED, kvm=True), PagedMemory)


@pytest.mark.parametrize("pages", [False, True])
def test_an_impossible_plan_is_refused_with_all_that_is_wrong(pages: bool) -> None:
    with pytest.raises(BadInput) as caught:
        memory_of(replace(MIXED, ram_bytes=4096, vcpus=0, pages=pages), seed=SEED)
    assert "guest.vcpus" in str(caught.value)
    assert "do not fit" in str(caught.value)


def test_expectations_need_no_numpy() -> None:
    """In a process of its own, where numpy cannot be imported."""
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from whimbrel.sim.memory.build import memory_of\n"
        "from whimbrel.sim.scenario import GuestPlan\n"
        "print(memory_of(GuestPlan(ram_bytes=4096), seed=1).total_pages)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "1\n"
