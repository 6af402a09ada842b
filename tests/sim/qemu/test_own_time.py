"""A process's own time."""

from __future__ import annotations

from functools import partial

from whimbrel.sim.clock import Clock
from whimbrel.sim.qemu.own_time import OwnTime
from whimbrel.sim.seeds import stream


def test_what_falls_due_while_it_is_frozen_happens_at_thaw_in_its_order() -> None:
    """Even where the world shuffles what is due at one instant."""
    for seed in range(5):
        clock = Clock(order=stream(seed, "order"))
        own = OwnTime(clock)
        done: list[int] = []
        for number in range(1, 6):
            own.after(number * 10, partial(done.append, number))
        own.freeze()
        clock.advance_to(100)
        assert done == []
        assert own.frozen
        own.thaw()
        clock.advance_to(101)
        assert done == [1, 2, 3, 4, 5]


def test_nothing_happens_after_its_end() -> None:
    """Neither what was due before a thaw nor what comes later."""
    clock = Clock()
    own = OwnTime(clock)
    done: list[str] = []
    own.after(10, lambda: done.append("late"))
    own.freeze()
    clock.advance_to(20)
    own.after(10, lambda: done.append("later"))
    own.end()
    own.thaw()
    clock.advance_to(100)
    assert done == []


def test_a_cancelled_timer_does_not_keep_the_world_waiting() -> None:
    """The world's own timer is cancelled with it, also while the process is frozen."""
    clock = Clock()
    own = OwnTime(clock)
    done: list[str] = []
    timer = own.after(10, lambda: done.append("never"))
    assert timer.pending
    timer.cancel()
    assert clock.next_ns() is None
    frozen = own.at(20, lambda: done.append("never"))
    own.freeze()
    clock.advance_to(30)
    frozen.cancel()
    own.thaw()
    clock.advance_to(40)
    assert done == []
    assert own.now_ns == 40
