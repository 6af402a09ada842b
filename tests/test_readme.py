"""What the README shows runs as it stands."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.support.guests import World, read_log
from tests.support.scenes import MIB, Scene, run
from whimbrel.engine.policy import Policy

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
EXAMPLE, POLICY = BLOCKS


async def test_the_example_moves_a_guest(world: World, tmp_path: Path) -> None:
    """About fifteen lines, given the socket of a running guest: it is moved, and the program says so."""
    script = tmp_path / "example.py"
    script.write_text(EXAMPLE)
    source = await world.boot()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(source.qmp), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    text = output.decode()
    (log,) = (Path(os.environ["XDG_STATE_HOME"]) / "whimbrel" / "log").glob("*.jsonl")
    for line in read_log(log):
        if line["kind"] == "learnt":
            world.hear(line["facts"])  # so that the destination, which outlives the example, ends with the test
    assert process.returncode == 0, text
    assert "transfer: " in text
    assert "completed, owner: destination" in text


def test_the_policy_is_one() -> None:
    names: dict[str, Policy] = {}
    exec(compile(POLICY, "README.md", "exec"), names)
    course = run(Scene(link_bytes_per_s=50 * MIB, pipe_bytes=MIB, ram_bytes=100 * MIB), names["patient"])
    assert course.outage_s < 0.1


def test_the_example_is_short() -> None:
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 16
