"""One run: a guest, a manager that is told what to do to whom, and a look at what is left in the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.support.guests import Guest, World, is_there, lives, run_state, until
from tests.support.mortal_manager import ROOT, Orders, Said, command_for
from whimbrel.engine.errors import WhimbrelError
from whimbrel.qmp_driver import journal

from .judge import NOT_BEGUN, SETTLED_GUESTS, Evidence, killed
from .plan import BANDWIDTH_BYTES_PER_S, Run

LONGEST_S: Final = 60.0
"""No manager may take so long, whatever is done to it: a multiple of all the waits of the protocol together."""
MOST_RESOLVES: Final = 4
"""So often ``resolve`` is called at most."""
RESOLVES_WITHOUT_A_WORD: Final = 1
"""So often it is called before somebody vouches that a QEMU which was killed is off."""
RESOLVE_PAUSE_S: Final = 0.3
"""Between two calls of resolve, where the first could not settle it yet."""
GONE_WITHIN_S: Final = 2.0
"""A process whose end somebody has seen may be there for others a little longer."""

KNOWN_FILES: Final = frozenset(
    {"successor", "s0", "q0", "r0", "e0", "log", "moments", "run", "state", "cache", "tmp", "said"}
)
"""What a run's folder holds by right: the source's sockets and standard error, the log, and what is the campaign's."""

_SOURCE_STAYS: Final = "the source process is still there"
_KEEPS_SETTINGS: Final = "keeps this migration's settings"


@dataclass
class Conduct:
    """One run, under way."""

    run: Run
    world: World
    moments: bool = False
    """Have the managers write down the moments that they pass."""
    seen: Evidence = field(default_factory=Evidence)
    _stopped: set[int] = field(default_factory=set[int])
    _heard: bool = False
    _destination: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def log(self) -> Path:
        """The migration's log."""
        return self.world.folder / "log"

    async def go(self) -> Evidence:
        """Do it; what was started is left for `World.end`."""
        try:
            source = await self.world.boot()
            before = source.settings()
        except (AssertionError, OSError, WhimbrelError) as error:
            self.seen.trouble = f"the guest did not come up: {error}"
            return self.seen
        began_s = time.monotonic()
        await self._manage(source)
        self._go_on()
        await self._settle()
        self.seen.total_s = round(time.monotonic() - began_s, 3)
        try:
            await self._look(source, before)
        except (AssertionError, OSError, WhimbrelError) as error:
            self._trouble(f"one side can't be looked at: {error}")
        return self.seen

    # ---- the managers

    async def _manage(self, source: Guest) -> None:
        run = self.run
        orders = Orders(
            log=str(self.log),
            source=str(source.qmp),
            source_pid=source.pid,
            acts=run.acts,
            die_at=run.die_at,
            moments=str(self.world.folder / "moments") if self.moments else "",
            bandwidth_bytes_per_s=BANDWIDTH_BYTES_PER_S,
            own_stream=run.own_stream,
        )
        code = await self._start(orders)
        self.seen.died = code == -signal.SIGKILL
        self.seen.first = self._report()
        if self.seen.died and run.meanwhile:
            destination_pid = int(self._destination.get("destination_pid") or 0)
            await self._kill(run.meanwhile, source.pid if run.meanwhile == "source" else destination_pid)

    async def _kill(self, side: str, pid: int) -> None:
        """Kill a QEMU that nobody watches, and wait until it is dead."""
        if pid:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not lives(pid), f"the {side} is dead")
        self.seen.hits.append({"did": f"kill-{side}", "at": "nobody watched", "sockets": int(bool(pid))})

    async def _settle(self) -> None:
        """Call resolve where the manager died, until there is nothing left to be settled."""
        if not self._lines():
            if self.seen.died and not self.seen.log:
                self.seen.final = NOT_BEGUN  # it died before the first line: nothing was touched
            return
        began_s = time.monotonic()
        wanted = self.seen.died or not self._is_settled()
        while wanted and self.seen.resolved < MOST_RESOLVES:
            if self.seen.resolved > 1:
                await asyncio.sleep(RESOLVE_PAUSE_S)  # the side that was out of reach may need a moment
            die_at = self.run.successor_dies_at if self.seen.resolved == 0 else 0
            moments = str(self.world.folder / "successor") if self.moments else ""
            self.seen.resolved += 1
            # Of a QEMU that died unwatched nobody knows its last words: a person has to vouch that it is off.
            fenced = tuple(sorted(killed(self.seen))) if self.seen.resolved > RESOLVES_WITHOUT_A_WORD else ()
            orders = Orders(log=str(self.log), die_at=die_at, moments=moments, fenced=fenced)
            self.seen.fenced += bool(fenced)
            code = await self._start(orders)
            again = code == -signal.SIGKILL
            wanted = again or not self._is_settled()
            self.seen.in_vain += wanted and not again
        self.seen.final = self._report()
        if self.seen.resolved:
            self.seen.resolving_s = round(time.monotonic() - began_s, 3)

    async def _start(self, orders: Orders) -> int | None:
        """Run a manager to its end; its exit code, or ``None`` if it had to be ended."""
        folder = self.world.folder
        places = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp"}
        for name in places.values():
            (folder / name).mkdir(exist_ok=True)
        environment = {**os.environ, **{key: str(folder / name) for key, name in places.items()}}
        with (folder / "said").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command_for(orders), cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=errors
            )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(LONGEST_S):
                while line := await process.stdout.readline():
                    self._hear(msgspec.json.decode(line, type=Said))
                code = await process.wait()
        except TimeoutError:
            self._trouble(f"the manager did not end within {LONGEST_S:g} s")
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code not in (0, -signal.SIGKILL):
            said = (folder / "said").read_text(errors="replace").strip().splitlines()
            self._trouble(f"the manager ended with code {code}: {said[-1] if said else ''}")
        return code

    def _hear(self, said: Said) -> None:
        """What the manager did, and where the destination is."""
        if said.destination:
            self._listen(said.destination)
        if not said.did:
            return
        self.seen.hits.append({"did": said.did, "at": said.at, "sockets": said.sockets})
        if said.did.startswith("stop-"):
            pid = self.world.guests[0].pid if said.did == "stop-source" else int(self._destination["destination_pid"])
            self._stopped.add(pid)
            if self.run.stopped_s:
                asyncio.get_running_loop().call_later(self.run.stopped_s, self._go_on)

    def _listen(self, facts: dict[str, Any]) -> None:
        self._destination = facts
        if not self._heard:
            self._heard = True
            self.world.hear(facts)

    def _go_on(self) -> None:
        """SIGCONT to whoever is stopped."""
        while self._stopped:
            with contextlib.suppress(ProcessLookupError):  # it was killed as it stood
                os.kill(self._stopped.pop(), signal.SIGCONT)

    def _trouble(self, text: str) -> None:
        self.seen.trouble = f"{self.seen.trouble}; {text}" if self.seen.trouble else text

    # ---- the log

    def _lines(self) -> list[dict[str, Any]]:
        """The lines of the log as they stand; whole ones only."""
        if not is_there(str(self.log)) or not self.log.stat().st_size:
            return []
        try:
            return list(journal.read(self.log))
        except WhimbrelError as error:
            self.seen.log = str(error)
            return []

    def _report(self) -> tuple[str, str, str] | None:
        """Outcome, owner and guest, if the log ends with a report."""
        lines = self._lines()
        for line in lines:
            if line["kind"] == "learnt" and "destination_pid" in line["facts"]:
                self._listen(line["facts"])
        if not lines or lines[-1]["kind"] != "end":
            return None
        report = lines[-1]["report"]
        self.seen.why, self.seen.notes = report["why"], list(report["notes"])
        return report["outcome"], report["owner"], report["guest"]

    def _is_settled(self) -> bool:
        report = self._report()
        return report is not None and report[2] in SETTLED_GUESTS

    def _read_log(self) -> None:
        lines = self._lines()
        if not lines:
            self.seen.log = self.seen.log or ("" if self.seen.final == NOT_BEGUN else "there is none")
            return
        if [line["n"] for line in lines] != list(range(1, len(lines) + 1)):
            self.seen.log = "its lines are not numbered one after the other"
        elif lines[-1]["kind"] != "end":
            self.seen.log = "it has no end"
        elif any(before["t_ns"] > after["t_ns"] for before, after in itertools.pairwise(lines)):
            self.seen.log = "its clock goes back"
        elif journal.is_held(self.log):
            self.seen.log = "it is still locked"
        self.seen.destination_had_all = any(
            line["kind"] == "qmp" and line["side"] == "destination" and line["data"].get("status") == "completed"
            for line in lines
        )
        self.seen.destination_end_heard = any(
            line["kind"] == "signal" and line["signal"] == "destination-ended" and line["phase"] != "completed"
            for line in lines
        )
        self.seen.cont_announced = any(
            line["kind"] == "command" and line["command"] == "resume-destination" for line in lines
        )

    # ---- what is left

    async def _look(self, source: Guest, before: dict[str, Any]) -> None:
        self._read_log()
        seen = self.seen
        outcome, owner, guest = seen.final or ("", "", "")
        if outcome == "completed":
            await self._until_gone(source)
        states = {"source": await asyncio.to_thread(source.status), "destination": await self._destination_status()}
        seen.running = [side for side, state in states.items() if state == "running"]
        seen.destination_beats = len(self.world.monitor.beats("destination"))
        if guest == "running" and seen.running == [owner]:
            try:
                await self.world.check_beats(owner)
                seen.verified = True
            except (AssertionError, WhimbrelError) as error:
                seen.heartbeats = str(error).splitlines()[0]
        elif guest == "lost":
            await self._see_silence()
        if owner == "source" and states["source"] and not any(_KEEPS_SETTINGS in note for note in seen.notes):
            now = await asyncio.to_thread(source.settings)
            seen.settings = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        self._look_for_leftovers(owner, outcome)

    async def _see_silence(self) -> None:
        """A guest that is lost beats nowhere."""
        last = self.world.monitor.last_beat()
        await asyncio.sleep(0.1)  # twenty heartbeats' worth
        if self.world.monitor.last_beat() is not last:
            self.seen.heartbeats = "it is said to be lost, and beats"

    async def _until_gone(self, source: Guest) -> None:
        deadline_s = time.monotonic() + GONE_WITHIN_S
        while source.alive and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)  # others are told of its end

    async def _destination_status(self) -> str:
        pid, monitor = self._destination.get("destination_pid"), self._destination.get("destination_qmp")
        if not pid or not monitor:
            return ""
        return await asyncio.to_thread(run_state, int(pid), Path(monitor))

    def _look_for_leftovers(self, owner: str, outcome: str) -> None:
        folder, left = self.world.folder, self.seen.left
        source = self.world.guests[0]
        destination_pid = int(self._destination.get("destination_pid") or 0) if owner == "destination" else 0
        allowed = {destination_pid}
        if outcome != "completed" or any(_SOURCE_STAYS in note for note in self.seen.notes):
            allowed.add(source.pid)
        for pid, words in processes_of(folder).items():
            if pid not in allowed and lives(pid):
                self.world.pids.add(pid)
                left.append(f"process {pid} ({words})")
        known = KNOWN_FILES | ({"log.control"} if self.seen.final == NOT_BEGUN else set[str]())
        left += sorted(path.name for path in folder.iterdir() if path.name not in known)
        directory = self._destination.get("destination_directory", "") if owner == "destination" else ""
        for name in ("run", "tmp"):
            if (folder / name).is_dir():
                left += sorted(f"{name}/{path.name}" for path in (folder / name).iterdir() if str(path) != directory)


def processes_of(folder: Path) -> dict[int, str]:
    """The processes whose command line names a folder, each with the beginning of that line."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue  # it has ended meanwhile
        if f"{folder}/" in words:
            found[int(entry.name)] = words[:80]
    return found


@dataclass(frozen=True)
class Seen:
    """What came of a run."""

    evidence: Evidence
    moments: list[str]
    """Those that the manager passed, where they were asked for."""
    successor_moments: list[str]


async def conduct(run: Run, folder: Path, *, moments: bool = False) -> Seen:
    """Do one run in a folder of its own; nothing that was started outlives it.

    Args:
        run: what is done.
        folder: an empty folder with a short name: sockets are made in it.
        moments: have the managers write down the moments that they pass.
    """
    world = World(folder)
    try:
        evidence = await Conduct(run, world, moments=moments).go()
    finally:
        world.end()
        for pid in processes_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return Seen(evidence, _lines_of(folder / "moments"), _lines_of(folder / "successor"))


def _lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if is_there(str(path)) else []
