"""Progress on a terminal, or as plain lines where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rich.console import Console
from rich.live import Live

from whimbrel.engine.report import OngoingReport
from whimbrel.render import progress_line

PLAIN_EVERY_S = 1.0
"""Without a terminal, one line per second and one per change of stage: enough to see that it lives."""


async def show(glances: AsyncIterator[OngoingReport], console: Console) -> None:
    """Show every glance until the migration ends."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=10, transient=True) as live:
            async for glance in glances:
                live.update(progress_line(glance))
        return
    shown_s, phase = -PLAIN_EVERY_S, ""
    async for glance in glances:
        if glance.phase != phase or glance.elapsed_s - shown_s >= PLAIN_EVERY_S:
            shown_s, phase = glance.elapsed_s, glance.phase
            console.print(progress_line(glance), soft_wrap=True)
