"""A guest, a stream and a process around the migration thread, as plain as they can be, for its tests."""

from __future__ import annotations

from collections.abc import Callable

from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS, Clock
from whimbrel.sim.memory.contract import PAGE_BYTES, PAGE_HEADER_BYTES, ZERO_PAGE_BYTES, Sent
from whimbrel.sim.qemu.contract import Costs, Settings, Version
from whimbrel.sim.qemu.thread import Thread

MIB = 1 << 20
WIRE_BYTES = PAGE_BYTES + PAGE_HEADER_BYTES
NEVER_NS = 1 << 62


class FakeMemory:
    """Pages in address order: some that are written all the time, in turn; then still ones; then zero ones.

    Attributes:
        calls: of those that change the guest.
        slowed: by the throttle.
        limited_bytes_per_s: by the dirty limit.
        faults: how many more pages the guest will miss in post-copy.
        caches: sizes that were asked for.
    """

    def __init__(
        self,
        hot: int,
        still: int = 0,
        zero: int = 0,
        *,
        hot_pages_per_s: float = 1e6,
        faults: int = 0,
        wire_bytes: int = WIRE_BYTES,
    ) -> None:
        """Halted, with nothing in the bitmap; a page that is not zero comes to so many bytes."""
        self.hot = hot
        self.still = still
        self.zero = zero
        self.rate = hot_pages_per_s
        self.wire_bytes = wire_bytes
        self.running = True
        self.calls: list[str] = []
        self.slowed = 0.0
        self.limited_bytes_per_s: float | None = None
        self.faults = faults
        self.caches: list[int | None] = []
        self.compressed = False
        self._marked = bytearray(hot + still + zero)
        self._left = self._logged = 0
        self._next = 0
        self._at_ns = 0
        self._written = 0.0
        self._logging = False
        self._waits = False

    @property
    def total_pages(self) -> int:
        return self.hot + self.still + self.zero

    @property
    def remaining_pages(self) -> int:
        return self._left

    @property
    def logged_pages(self) -> int:
        return self._logged

    def count_work(self, now_ns: int) -> None:
        self._live(now_ns)

    def done_work(self, now_ns: int) -> float:
        self._live(now_ns)
        return 1.0 - self.slowed

    def vcpu_s(self, now_ns: int) -> tuple[float, ...]:
        self._live(now_ns)
        return (now_ns / 1e9 * (1.0 - self.slowed),)

    @property
    def most_slowed(self) -> float:
        return self.slowed

    def _live(self, now_ns: int) -> None:
        assert now_ns >= self._at_ns, "time went back"
        if self.running and self._logging:
            rate = self.rate * (1.0 - self.slowed)
            if self.limited_bytes_per_s is not None:
                rate = min(rate, self.limited_bytes_per_s / PAGE_BYTES)
            self._written += rate * (now_ns - self._at_ns) / SECOND_NS
        self._at_ns = now_ns

    def run(self, now_ns: int) -> None:
        self._live(now_ns)
        self.running = True
        self.calls.append("run")
        self._waits = False

    def halt(self, now_ns: int) -> None:
        self._live(now_ns)
        self.running = False
        self.calls.append("halt")

    def throttle(self, now_ns: int, fraction: float) -> None:
        self._live(now_ns)
        self.slowed = fraction

    def throttle_from_outside(self, now_ns: int, fraction: float) -> None:
        raise AssertionError("no thread of a migration does this")

    def limit(self, now_ns: int, bytes_per_s: float | None) -> None:
        self._live(now_ns)
        self.limited_bytes_per_s = bytes_per_s

    def begin(self, now_ns: int) -> None:
        self._live(now_ns)
        self._marked = bytearray(b"\1") * self.total_pages
        self._left = self.total_pages
        self._logging = True
        self.calls.append("begin")

    def end(self, now_ns: int) -> None:
        self._live(now_ns)
        self._logging = False
        self.calls.append("end")

    def sync(self, now_ns: int) -> int:
        self._live(now_ns)
        touched = min(self.hot, int(self._written))
        self._written = 0.0
        self._logged = touched
        found = touched - self._marked.count(1, 0, touched)
        self._marked[:touched] = b"\1" * touched
        self._left += found
        return found

    def send(self, now_ns: int, most_bytes: int, most_pages: int | None = None) -> Sent:
        self._live(now_ns)
        normal = zero = size = 0
        edge = self.hot + self.still
        while self._left and (most_pages is None or normal + zero < most_pages):
            page = self._marked.find(1, self._next)
            if page < 0:
                self._next = 0
                continue
            cost = self.wire_bytes if page < edge else ZERO_PAGE_BYTES
            if size + cost > most_bytes and normal + zero:
                break
            self._marked[page] = 0
            self._next = page + 1
            self._left -= 1
            size += cost
            if page < edge:
                normal += 1
            else:
                zero += 1
        return Sent(normal=normal, zero=zero, bytes=size)

    def cache(self, size_bytes: int | None) -> None:
        self.caches.append(size_bytes)

    def compress(self, active: bool) -> None:
        self.compressed = active

    def arrive(self, now_ns: int) -> None:
        self._live(now_ns)
        self._logging = False
        self.calls.append("arrive")

    def fault(self, now_ns: int) -> int | None:
        self._live(now_ns)
        if not self.faults or not self._left:
            return None
        if self._waits:
            return 0
        self._waits = True
        return MILLISECOND_NS

    def serve(self, now_ns: int) -> Sent:
        self._live(now_ns)
        self.faults -= 1
        return self.send(now_ns, self.wire_bytes, 1)


class FakeStream:
    """A pipe that drains at a steady rate, which the test changes.

    Attributes:
        put_bytes: all that was put in.
        pushes: (when, how much).
    """

    def __init__(self, clock: Clock, rate: float = 1e10, pipe_bytes: int = 1_000_000) -> None:
        """Empty."""
        self.clock = clock
        self.rate = rate
        self.size = pipe_bytes
        self.put_bytes = 0
        self.pushes: list[tuple[int, int]] = []
        self._level = 0.0
        self._at_ns = clock.now_ns
        self._pushed = (0, 0, 1.0)
        self._broken = False
        self._told: list[Callable[[], None]] = []

    def _drain(self, now_ns: int) -> None:
        self._level = max(0.0, self._level - self.rate * (now_ns - self._at_ns) / SECOND_NS)
        self._at_ns = now_ns

    @property
    def broken(self) -> bool:
        return self._broken

    def level_bytes(self, now_ns: int) -> int:
        self._drain(now_ns)
        return int(self._level)

    def rate_bytes_per_s(self, now_ns: int) -> float:
        return self.rate

    def room_bytes(self, now_ns: int, until_ns: int, fastest_bytes_per_s: float) -> int:
        self._drain(now_ns)
        span_s = (until_ns - now_ns) / SECOND_NS
        return int(max(0.0, min(fastest_bytes_per_s * span_s, self.size - self._level + self.rate * span_s)))

    def push(self, now_ns: int, size_bytes: int, fastest_bytes_per_s: float) -> int:
        self._drain(now_ns)
        self._level += size_bytes
        self.put_bytes += size_bytes
        if size_bytes:
            self.pushes.append((now_ns, size_bytes))
            self._pushed = (now_ns, size_bytes, fastest_bytes_per_s)
        over = self._level - self.size
        if over <= 0:
            return now_ns + int(size_bytes / fastest_bytes_per_s * SECOND_NS)
        if self.rate <= 0:
            return NEVER_NS
        return now_ns + int(max(over / self.rate, size_bytes / fastest_bytes_per_s) * SECOND_NS)

    def waiting_bytes(self, now_ns: int) -> int:
        self._drain(now_ns)
        at_ns, size_bytes, speed = self._pushed
        return int(max(0.0, self._level - self.size, size_bytes - speed * (now_ns - at_ns) / SECOND_NS))

    def message(self, now_ns: int, size_bytes: int, arrived: Callable[[], None]) -> None:
        self._drain(now_ns)
        self._level += size_bytes
        if not self._broken and self.rate > 0:
            self.clock.after(int(self._level / self.rate * SECOND_NS) + 100_000, arrived)

    def on_change(self, changed: Callable[[], None]) -> None:
        self._told.append(changed)

    def close(self, now_ns: int) -> None:
        self._broken = True

    def change(self, rate: float) -> None:
        """The link becomes another."""
        self._drain(self.clock.now_ns)
        self.rate = rate
        for told in self._told:
            told()

    def reset(self) -> None:
        """It breaks."""
        self._broken = True
        self._level = 0.0
        for told in self._told:
            told()


class Bench:
    """One migration thread with all that it needs; a `ThreadListener` that writes everything down.

    Attributes:
        said: (milliseconds, what): ``pass 2``, ``STOP``, ``active``, ``lock``, ``unlock``, ``state precopy``, ``sent``.
    """

    def __init__(
        self,
        memory: FakeMemory,
        version: Version = Version.V7_2,
        *,
        rate: float = 1e10,
        pipe_bytes: int = 1_000_000,
        capabilities: dict[str, bool] | None = None,
        costs: Costs | None = None,
        urgent: bool = False,
        **parameters: object,
    ) -> None:
        """Make it; parameters are QEMU's, with underscores."""
        self.clock = Clock()
        self.memory = memory
        self.stream = FakeStream(self.clock, rate, pipe_bytes)
        self.urgent = FakeStream(self.clock, rate, pipe_bytes) if urgent else None
        given: dict[str, object] = {"max-bandwidth": 0, "downtime-limit": 300}
        given.update({name.replace("_", "-"): value for name, value in parameters.items()})
        self.settings = Settings(capabilities=capabilities or {}, parameters=given)
        self.said: list[tuple[float, str]] = []
        self.thread = Thread(
            self.clock,
            version,
            memory,
            self.stream,
            self.settings,
            costs or Costs(cpu_bytes_per_s=3e9),
            self,
            urgent=self.urgent,
        )

    # ---- contract.ThreadListener

    def _say(self, what: str) -> None:
        self.said.append((round(self.clock.now_ns / MILLISECOND_NS, 3), what))

    def passed(self, number: int) -> None:
        self._say(f"pass {number}")

    def stops_guest(self) -> None:
        self.memory.halt(self.clock.now_ns)
        self._say("STOP")

    def reached(self, status: str) -> None:
        self._say(status)

    def holds_lock(self, held: bool) -> None:
        self._say("lock" if held else "unlock")

    def sends_state(self, size_bytes: int, kind: str) -> None:
        self._say(f"state {kind}")
        self.stream.message(self.clock.now_ns, size_bytes, lambda: self._say("state arrived"))

    def all_sent(self) -> None:
        self._say("sent")

    # ---- for tests

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.clock.advance_to(self.clock.now_ns + int(seconds * SECOND_NS))

    def until(self, what: str, limit_s: float = 60.0) -> float:
        """Go on until it has been said; give the milliseconds at which it was."""
        assert self.clock.run(lambda: bool(self.times(what)), int(limit_s * SECOND_NS)), (what, self.said[-5:])
        return self.times(what)[0]

    def times(self, what: str) -> list[float]:
        """When it was said, milliseconds."""
        return [at_ms for at_ms, said in self.said if said == what]

    @property
    def words(self) -> list[str]:
        """What was said, without the lock."""
        return [said for _, said in self.said if "lock" not in said]

    def set(self, **parameters: object) -> None:
        """Set parameters, as over QMP."""
        self.settings.parameters.update({name.replace("_", "-"): value for name, value in parameters.items()})
        self.thread.settings_changed()

    def ram(self) -> dict[str, object]:
        """``ram`` of ``query-migrate`` now."""
        ram = self.thread.figures()["ram"]
        assert isinstance(ram, dict)
        return ram  # pyright: ignore[reportUnknownVariableType]


def recorded_guest() -> FakeMemory:
    """See the module."""
    return FakeMemory(31_745, 120, 33_801, hot_pages_per_s=500_000)


def series(bench: Bench, seconds: float, every_s: float = 0.1013) -> list[dict[str, object]]:
    """``query-migrate`` at a steady pace: each answer with ``ram`` beside the rest."""
    answers: list[dict[str, object]] = []
    for _ in range(int(seconds / every_s)):
        bench.run(every_s)
        answer = bench.thread.figures()
        answers.append({**answer, **bench.ram()})
    return answers
