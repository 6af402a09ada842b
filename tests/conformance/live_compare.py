"""Where the real QEMU and the simulated one say different things, and how fresh what they say is."""

from __future__ import annotations

from collections.abc import Container
from itertools import pairwise

from tests.conformance.live_stage import Record
from tests.conformance.live_watch import Look

MANY_LOOKS = 25
"""A status that was seen so often lasts: then it is no chance if it is never seen on the other one."""


LEAST_WINDOW_MS = 99
"""A window of 100 ms, and both ends of it rounded."""
LONGEST_SYNC_S = 0.2
"""On a busy host."""
COMPARED = ("verdict", "error", "phases", "commands", "source", "destination", "run_states", "errors", "constants")
"""Fields of `Record`."""


def differences(real: Record, simulated: Record, chance: Container[str] = ()) -> list[str]:
    """Everything in which two records of one course differ, in words; nothing, if the model is right.

    Args:
        real: of the real QEMU.
        simulated: of the model.
        chance: names of what is not compared, for on the real one alone it comes out now so, now so.
    """
    found: list[str] = []
    for name in (
        "verdict",
        "error",
        "phases",
        "commands",
        "source",
        "destination",
        "run_states",
        "errors",
        "constants",
    ):
        one, other = getattr(real, name), getattr(simulated, name)
        if one != other and name not in chance:
            found.append(f"{name}: real {one!r}, simulated {other!r}")
    for side in ("source", "destination"):
        if side in chance:
            continue
        one, other = real.looks[side], simulated.looks[side]
        seldom = [each for each in one.keys() | other.keys() if not (one[each] and other[each])]
        found += [
            f"status {each} of the {side}: seen {one[each]} times on the real one, {other[each]} on the simulated"
            for each in sorted(seldom)
            if max(one[each], other[each]) >= MANY_LOOKS
        ]
    for place in sorted(real.fields.keys() & simulated.fields.keys()):
        if real.fields[place] != simulated.fields[place]:
            missing = sorted(real.fields[place] - simulated.fields[place])
            surplus = sorted(simulated.fields[place] - real.fields[place])
            found.append(f"fields of {place}: missing {missing}, surplus {surplus}")
    return found


def freshness(looks: list[Look]) -> dict[str, bool]:
    """What holds of a source's figures while it is ``active``: how old they may be, and when they change.

    Args:
        looks: in order, all of one migration while it was ``active``.
    """
    pairs = list(pairwise(looks))
    rate = [look.ram["dirty-pages-rate"] for look in looks]
    first = next((number for number, each in enumerate(rate) if each > 0), len(rate))
    # A change lies somewhere between two looks: the one that did not show it yet, and the one that did.
    changes = [(a.time_ms, b.time_ms) for a, b in pairs if b.ram["mbps"] != a.ram["mbps"]]
    # QEMU counts the sync first and the pages after it: a look may fall between the two.
    passed = {
        id(look)
        for number, look in enumerate(looks)
        for before in looks[:number]
        if look.at_s - before.at_s < LONGEST_SYNC_S and before.ram["dirty-sync-count"] < look.ram["dirty-sync-count"]
    }
    return {
        "the dirty rate is 0 for the first second": all(
            look.migrate["total-time"] > 1000 for look, each in zip(looks, rate, strict=True) if each > 0
        ),
        "the dirty rate comes with a pass": all(
            id(b) in passed for a, b in pairs if b.ram["dirty-pages-rate"] != a.ram["dirty-pages-rate"]
        ),
        "the expected downtime is the limit until there is a dirty rate": all(
            look.migrate["expected-downtime"] == looks[0].migrate["expected-downtime"] for look in looks[:first]
        ),
        "what remains rises at a pass only": all(
            id(b) in passed for a, b in pairs if b.ram["remaining"] > a.ram["remaining"]
        ),
        "the bandwidth changes once in 100 ms at most": all(
            shown_ms - not_yet_ms >= LEAST_WINDOW_MS for (not_yet_ms, _), (_, shown_ms) in pairwise(changes)
        ),
        "the bandwidth does change": len(changes) > 5,
        "there was a dirty rate": first < len(rate),
        "what was sent never falls": all(b.ram["transferred"] >= a.ram["transferred"] for a, b in pairs),
        "the total stands": len({look.ram["total"] for look in looks}) == 1,
        "time goes on": all(b.migrate["total-time"] >= a.migrate["total-time"] for a, b in pairs),
    }
