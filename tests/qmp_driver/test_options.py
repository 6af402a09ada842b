"""What a migration can be told: what can't be used is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.parties import MemoryLock
from whimbrel.engine.errors import BadInput
from whimbrel.engine.policies import LeastDowntime
from whimbrel.engine.policy import Decision, Objectives, Observation
from whimbrel.engine.protocol import SECOND_NS, Waits
from whimbrel.qmp_driver.hooks import HookContext, Hooks
from whimbrel.qmp_driver.options import ALL_ADDRESSES, Options


async def never(_: HookContext) -> None:
    """A hook that is never asked here."""


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("downtime", {"objectives": Objectives(downtime_s=0.0009)}),
        ("downtime", {"objectives": Objectives(downtime_s=2000.1)}),
        ("downtime", {"objectives": Objectives(downtime_s=float("nan"))}),
        ("deadline", {"objectives": Objectives(deadline_s=0)}),
        ("deadline", {"objectives": Objectives(deadline_s=float("nan"))}),
        ("bandwidth", {"objectives": Objectives(bandwidth_bytes_per_s=0)}),
        ("throttle", {"objectives": Objectives(greatest_throttle=1.0)}),
        ("throttle", {"objectives": Objectives(greatest_throttle=-0.1)}),
        ("throttle", {"objectives": Objectives(greatest_throttle=float("nan"))}),
        ("port", {"port": -1}),
        ("port", {"port": 65536}),
        ("stall", {"stall_s": 0}),
        ("stall", {"stall_s": float("nan")}),
        ("stall", {"stall_s": float("inf")}),
        ("deadline", {"objectives": Objectives(deadline_s=float("inf"))}),
        ("reconnect", {"reconnect_s": -1}),
        ("reconnect", {"reconnect_s": float("nan")}),
        ("lock_within_s", {"lock_within_s": 0}),
        ("lock_within_s", {"lock_within_s": float("inf")}),
        ("lock_within_s", {"lock_within_s": float("nan")}),
        ("lock_within_s", {"locks": MemoryLock(), "lock_within_s": 30}),
        ("before_resume_within_s", {"hooks": Hooks(before_resume=never, before_resume_within_s=30)}),
        (
            "before_resume_within_s",
            {"hooks": Hooks(before_resume=never, before_resume_within_s=25), "locks": MemoryLock()},
        ),
        ("before_resume_within_s", {"hooks": Hooks(before_resume=never), "waits": Waits(activating_ns=SECOND_NS)}),
        *(("host", {"host": host}) for host in sorted(ALL_ADDRESSES)),
    ],
)
def test_what_cannot_be_used_is_refused(field: str, wanted: dict[str, Any]) -> None:
    """Naming the field."""
    with pytest.raises(BadInput) as caught:
        Options(**wanted)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "wanted",
    [
        {"objectives": Objectives(downtime_s=0.001)},
        {"objectives": Objectives(downtime_s=2000)},
        {"objectives": Objectives(deadline_s=0.1, bandwidth_bytes_per_s=1, greatest_throttle=0.99)},
        {"port": 65535},
        {"host": "::1"},
        {"hooks": Hooks(before_resume_within_s=60), "lock_within_s": 60},
        {"hooks": Hooks(before_resume=never, before_resume_within_s=24.9), "locks": MemoryLock()},
    ],
)
def test_the_edges_are_allowed(wanted: dict[str, Any]) -> None:
    """As they are documented."""
    assert Options(**wanted)


def test_the_stall_in_the_engines_unit() -> None:
    """Seconds in, nanoseconds out."""
    assert Options(stall_s=0.5).stall_ns == 500_000_000


def test_the_policy_is_the_one_given_or_a_fresh_default() -> None:
    """The default has state, so two migrations never share one."""

    def mine(seen: Observation) -> Decision:
        return Decision()

    assert Options(policy=mine).fresh_policy() is mine
    options = Options()
    first, second = options.fresh_policy(), options.fresh_policy()
    assert isinstance(first, LeastDowntime)
    assert first is not second
