"""One QEMU process: its life, its run state, its signals."""

from __future__ import annotations

import pytest

from tests.sim.qemu.pair import PLAIN, WAITING, Pair, Seat, guest
from whimbrel.sim.clock import Clock
from whimbrel.sim.link.local import LocalNetwork
from whimbrel.sim.qemu.contract import Costs, QemuProcess, Version
from whimbrel.sim.qemu.images import Images
from whimbrel.sim.qemu.process import Qemu
from whimbrel.sim.scenario import LinkPlan

V7, V10, V11 = Version.V7_2, Version.V10_0, Version.V11_1


def _start(line: str, version: Version = V7, images: Images | None = None, pid: int = 50) -> Qemu:
    clock = Clock()
    network = LocalNetwork(clock, LinkPlan(), 1)
    memory = None if "-incoming" in line else guest()
    return Qemu(clock, version, network, line.split(), memory, Costs(), 1, pid, 1e9, images=images, cpu_threads=(901,))


def test_it_is_what_the_contract_asks_for() -> None:
    """By type, and by what it says of itself."""
    process: QemuProcess = _start(PLAIN)
    assert (process.alive, process.exit_code, process.stderr) == (True, None, [])


@pytest.mark.parametrize(
    ("line", "state"),
    [(PLAIN, "running"), (f"{PLAIN} -S", "prelaunch"), (WAITING, "inmigrate"), (f"{WAITING} -S", "inmigrate")],
)
def test_how_it_begins(line: str, state: str) -> None:
    """By its command line."""
    qemu = _start(line)
    assert qemu.run_state == state
    assert qemu.guest_runs == (state == "running")
    assert qemu.migration_status == "none"
    assert qemu.monitors == ["a.sock", "b.sock"]


def test_its_vcpus_have_the_threads_that_it_was_given_and_some_more() -> None:
    """So that a process of the real host can stand for it."""
    assert _start(f"{PLAIN} -smp 3").cpu_threads == [901, 52, 53]


@pytest.mark.parametrize(
    ("version", "words"),
    [(V7, "unsupported machine type"), (V10, 'unsupported machine type: "pc-q35-99.0"')],
)
def test_a_machine_that_it_does_not_know_ends_it_at_once(version: Version, words: str) -> None:
    """With code 1, and the reason on standard error."""
    qemu = _start(PLAIN.replace("q35", "pc-q35-99.0"), version)
    assert (qemu.alive, qemu.exit_code) == (False, 1)
    assert qemu.stderr == [f"qemu-system-x86_64: {words}", "Use -machine help to list supported machines"]
    assert qemu.connect(lambda message: None, lambda: None) is None


def test_an_address_that_it_can_t_listen_at_ends_it() -> None:
    """Where the command line names it."""
    qemu = _start(WAITING.replace("defer", "bogus:1"))
    assert qemu.exit_code == 1
    assert qemu.stderr == ["qemu-system-x86_64: -incoming bogus:1: unknown migration protocol: bogus:1"]


def test_a_disk_that_another_has_ends_it() -> None:
    """The first one is not disturbed."""
    images, disk = Images(), "-blockdev driver=file,node-name=f0,filename=s.img"
    first, second = (_start(f"{PLAIN} {disk}", images=images, pid=pid) for pid in (1, 2))
    assert (first.alive, second.exit_code) == (True, 1)
    assert second.stderr[0].endswith('Failed to get "write" lock')


def test_an_old_machine_is_warned_of() -> None:
    """By 11; it runs all the same."""
    qemu = _start(PLAIN.replace("q35", "pc-q35-7.2"), V11)
    assert qemu.alive
    assert qemu.stderr[0].startswith("qemu-system-x86_64: warning: Machine type 'pc-q35-7.2' is deprecated")


def test_quit_and_sigterm() -> None:
    """Both end it with 0; the event says which it was."""
    pair = Pair()
    assert pair.source.ask("quit") == {}
    pair.destination.qemu.signal(15)
    pair.go(0.1)
    assert [seat.qemu.exit_code for seat in (pair.source, pair.destination)] == [0, 0]
    reasons = [seat.heard[-1].get("data") for seat in (pair.source, pair.destination)]
    assert {"guest": False, "reason": "host-signal"} in reasons


def test_quit_calls_a_migration_off_without_waiting_for_it() -> None:
    """``cancelling`` is its last word; the destination fails."""
    pair = Pair()
    pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
    pair.migrate()
    pair.source.wait_for("active")
    pair.source.ask("quit")
    pair.destination.wait_for("failed")
    pair.go(0.1)
    assert pair.source.events[-2:] == ["SHUTDOWN", "cancelling"]
    assert (pair.source.qemu.exit_code, pair.destination.qemu.exit_code) == (0, 1)


def test_a_killed_process_says_nothing_more() -> None:
    """Whoever waits for its end is told once; what it held is free."""
    pair = Pair()
    told: list[int | None] = []
    pair.source.qemu.on_exit(lambda: told.append(pair.source.qemu.exit_code))
    number = pair.source.say("query-status")
    pair.source.qemu.kill()
    pair.source.qemu.kill()
    pair.source.qemu.signal(9)
    pair.go(1)
    assert told == [-9]
    assert pair.source.closed
    assert all(message.get("id") != number for message in pair.source.heard)
    assert not pair.source.qemu.guest_runs
    pair.source.qemu.freeze()
    pair.source.qemu.thaw()
    assert not pair.source.qemu.frozen


def test_a_frozen_process_is_silent_and_its_guest_stands_still() -> None:
    """When it goes on, it answers what was asked meanwhile."""
    pair = Pair(V10, rate_bytes_per_s=8 * (1 << 20))
    pair.memory.begin(pair.clock.now_ns)
    pair.memory.sync(pair.clock.now_ns)
    qemu = pair.source.qemu
    qemu.freeze()
    qemu.freeze()
    assert (qemu.frozen, qemu.guest_runs, qemu.alive) == (True, False, True)
    number = pair.source.say("query-status")
    pair.go(5)
    assert all(message.get("id") != number for message in pair.source.heard)
    assert pair.memory.sync(pair.clock.now_ns) == 0
    qemu.thaw()
    qemu.thaw()
    assert pair.source.answer(number) == {"status": "running", "running": True}
    assert qemu.guest_runs


def test_commands_in_band_wait_for_the_big_lock() -> None:
    """Out of band they don't."""
    pair = Pair()
    pair.source.qemu.lock(True)
    waits = pair.source.say("query-status")
    urgent = pair.source.say("query-yank", oob=True)
    pair.go(0.5)
    assert [message["id"] for message in pair.source.heard if message.get("id") in (waits, urgent)] == [urgent]
    pair.source.qemu.lock(False)
    assert pair.source.answer(waits)["running"]


def test_two_monitors_take_turns() -> None:
    """Neither waits for all of the other's."""
    pair = Pair()
    other = Seat(pair.source.qemu, pair.clock).sit(1)
    order: list[str] = []
    for name, seat in (("a", pair.source), ("b", other)):
        count = len(seat.heard)
        for _ in range(4):
            seat.say("query-status")
        seat.heard = _Watched(order, name, seat.heard)
        assert len(seat.heard) == count
        assert seat.client is not None
        seat.client.deliver = seat.heard.append
    pair.go(0.01)
    assert sorted(order) == ["a"] * 4 + ["b"] * 4
    assert order[:4] in (["a", "b", "a", "b"], ["b", "a", "b", "a"])


class _Watched(list[dict[str, object]]):
    """A list that tells who appended to it."""

    def __init__(self, order: list[str], name: str, before: list[dict[str, object]]) -> None:
        super().__init__(before)
        self._order, self._name = order, name

    def append(self, item: dict[str, object], /) -> None:
        self._order.append(self._name)
        super().append(item)


def test_a_process_without_a_memory_can_t_be_a_source() -> None:
    """That is a mistake of whoever made it, not QEMU's."""
    pair = Pair()
    pair.source.qemu.memory = None
    pair.migrate()
    with pytest.raises(ValueError, match="without a memory"):
        pair.go(1)


def test_the_same_seed_gives_the_same_events_to_the_microsecond() -> None:
    """Cancelling draws from it."""

    def run() -> list[object]:
        pair = Pair(V10)
        pair.source.ask("migrate-set-parameters", max_bandwidth=1 << 20)
        pair.migrate()
        pair.go(0.5)
        pair.source.ask("migrate_cancel")
        pair.source.wait_for("cancelled")
        return [pair.source.heard, pair.destination.heard]

    assert run() == run()
