"""What was seen of one run, and whether it may be so. Pure: nothing is asked or started here."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .plan import Run

MOVED: Final = "moved"
STAYED: Final = "stayed"
ENDED: Final = "ended by the fault itself"
VIOLATION: Final = "VIOLATION"

NOT_BEGUN: Final = ("not begun", "source", "running")
"""In the place of a report, where the manager died before the first line of its log."""

SETTLED_GUESTS: Final = frozenset({"running", "paused", "lost", "shut-down"})
"""What a report may say of the guest where there is nothing left to be settled."""


class Evidence(msgspec.Struct, kw_only=True):
    """What was seen, by eyes that are not the manager's."""

    hits: list[dict[str, Any]] = []
    """What the manager did to others or itself: ``did``, ``at``, ``sockets``."""
    died: bool = False
    """The manager was killed."""
    trouble: str = ""
    """What went wrong in the manager or the campaign itself: a traceback, a wait that took too long."""
    first: tuple[str, str, str] | None = None
    """Outcome, owner and guest by the report of the manager; ``None``: it had no time to make one."""
    final: tuple[str, str, str] | None = None
    """The same by the last report."""
    why: str = ""
    notes: list[str] = []
    resolved: int = 0
    """How often ``resolve`` was called."""
    resolving_s: float = 0.0
    in_vain: int = 0
    """How often ``resolve`` came to an end of its own and had not settled it."""
    fenced: int = 0
    """How often ``resolve`` had to be told that a side is off."""
    running: list[str] = []
    """The sides that say that the guest runs there."""
    heartbeats: str = ""
    """What is wrong with the guest's heartbeats, or with its memory by its own look; empty: nothing."""
    destination_beats: int = 0
    verified: bool = False
    """The guest has looked at all of its memory in the end, and found it whole."""
    left: list[str] = []
    """Processes, files and locks that nobody needs any more."""
    log: str = ""
    """What is wrong with the log."""
    settings: list[str] = []
    """The source's settings that are not as they were, where it keeps the guest."""
    destination_had_all: bool = False
    """The destination said that it has everything before the fault's end."""
    destination_end_heard: bool = False
    """The log says that the destination's process ended before it says that the migration is complete."""
    cont_announced: bool = False
    """The log announces the destination's ``cont``."""
    total_s: float = 0.0
    """From the manager's start until the guest's place was settled, seconds."""


class Judged(msgspec.Struct, kw_only=True):
    """A run's verdict."""

    verdict: str
    violations: list[str]


def judge(run: Run, seen: Evidence) -> Judged:
    """Say what became of the guest, and everything that may not be."""
    wrong = list(_violations(run, seen))
    if wrong:
        return Judged(verdict=VIOLATION, violations=wrong)
    assert seen.final is not None
    _outcome, owner, guest = seen.final
    if guest == "lost" or not seen.running:
        return Judged(verdict=ENDED, violations=[])
    return Judged(verdict=MOVED if owner == "destination" else STAYED, violations=[])


def _violations(run: Run, seen: Evidence) -> list[str]:
    wrong: list[str] = []
    if seen.trouble:
        wrong.append(seen.trouble)
    if run.acts and not seen.hits:
        wrong.append(f"the moment never came: {run.moment}")
    if seen.log:
        wrong.append(f"log: {seen.log}")
    if seen.final is None:
        return [*wrong, "nobody says who owns the guest"]
    _outcome, owner, guest = seen.final
    if len(seen.running) > 1:
        wrong.append("the guest runs on both sides")
    if seen.heartbeats:
        wrong.append(f"guest: {seen.heartbeats}")
    if guest not in SETTLED_GUESTS:
        wrong.append(f"not settled: {'/'.join(seen.final)}, after {seen.resolved} calls of resolve")
    elif guest == "lost":
        wrong += _of_lost(run, seen)
    elif guest != "running":
        wrong.append(f"the guest is {guest}, and nobody wanted that")
    elif _killed_meanwhile(run, seen):
        pass
    elif seen.running != [owner]:
        wrong.append(f"it is said to run on the {owner}; it runs on: {', '.join(seen.running) or 'neither'}")
    elif not seen.verified:
        wrong.append("the guest has not verified its memory")
    if seen.in_vain and not killed(seen):
        wrong.append(f"resolve could not settle it at once, though both QEMUs live: {seen.in_vain} times in vain")
    if owner == "source" and seen.destination_beats:
        wrong.append("the source keeps the guest, and it beat on the destination")
    if seen.left:
        wrong.append(f"left behind: {', '.join(seen.left)}")
    if seen.settings:
        wrong.append(f"the source's settings were not put back: {', '.join(seen.settings)}")
    return wrong


def _killed_meanwhile(run: Run, seen: Evidence) -> bool:
    """The destination was killed as it ran the guest, and the report was made before anybody could know it."""
    late = seen.final is not None and seen.final[0] == "completed" and "destination" in killed(seen)
    return late and not seen.running and not seen.destination_end_heard


def killed(seen: Evidence) -> set[str]:
    """The sides that were killed."""
    return {side for side in ("source", "destination") if any(hit["did"] == f"kill-{side}" for hit in seen.hits)}


def _of_lost(run: Run, seen: Evidence) -> list[str]:
    """A guest may only be lost with the one process that held it."""
    wrong = [f"said to be lost, and runs on the {side}" for side in seen.running]
    dead = killed(seen)
    if not dead:
        wrong.append("lost, and nobody killed the process that held it")
    if dead == {"source"} and seen.destination_had_all:
        wrong.append("lost with the source, though the destination had everything")
    if dead == {"source"} and seen.cont_announced:
        wrong.append("lost with the source, which held it no longer")
    if dead == {"destination"} and not seen.cont_announced:
        wrong.append("lost with the destination, which was never told to run it")
    return wrong
