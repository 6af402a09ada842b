"""The picture and the tables of the protocol, drawn from the tables that run it.

``python -m whimbrel.engine.diagram`` prints docs/protocol.md; a test compares the two.
"""

from __future__ import annotations

from .protocol import DEFAULT_WAITS
from .resolve import VERDICTS, DestinationClass, Intent, SourceClass, Verdicts
from .rules import Rule
from .signals import Signal
from .states import ENDS, Phase
from .tables import TABLE

HEAD = """# The protocol

*Generated from `engine/tables.py` and `engine/resolve.py` by `python -m whimbrel.engine.diagram`: do not edit.*

Every phase × every signal has an entry, {entries} in all, of which {explicit} lead somewhere. An edge below
is one change of phase; its label names the signals that cause it. The table after the picture has every
entry that leads somewhere, with its guard, its command and where the ownership token goes.
"""


RESOLVING = """## Resolving
Where an outcome is unknown both sides are asked, each answer becomes one of the classes below, and what the log
says of the migration one of six intents. For each intent there is one table.
"""


def _intent(intent: Intent) -> str:
    about = {
        Intent.BEFORE: "`migrate-continue` was never sent",
        Intent.CONTINUED: "`migrate-continue` was sent, and nothing is proven since",
        Intent.PROVEN: "the source said `completed`",
        Intent.TOLD: "the destination was told to run",
        Intent.SET_BACK: "after `migrate-continue` the source was seen running, failed or cancelled",
        Intent.POSTCOPY: "post-copy began",
    }
    return f"### {intent.value}: {about[intent]}"


def mermaid() -> str:
    """The changes of phase as a Mermaid state diagram."""
    edges: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, signal), rules in TABLE.items():
        for rule in rules:
            if rule.to is not None and rule.to is not phase:
                labels = edges.setdefault((phase, rule.to), [])
                if signal.value not in labels:
                    labels.append(signal.value)
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.PREFLIGHT.value}"]
    for (before, after), labels in sorted(edges.items(), key=lambda item: _order(item[0])):
        text = ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
        lines.append(f"    {before.value} --> {after.value}: {text}")
    lines += [f"    {end.value} --> [*]" for end in Phase if end in ENDS]
    return "\n".join(lines)


def entries() -> str:
    """Every entry that leads somewhere, as a table."""
    lines = ["| phase | signal | under | then | command | token | why |", "|---|---|---|---|---|---|---|"]
    for phase in Phase:
        for signal in Signal:
            rules = TABLE[phase, signal]
            if all(rule.is_ignored for rule in rules):
                continue
            lines += [_row(phase, signal, rule) for rule in rules]
    return "\n".join(lines)


def verdicts(table: Verdicts) -> str:
    """What follows from the classes of both sides, as a table."""
    lines = ["| source \\ destination | " + " | ".join(d.value for d in DestinationClass) + " |"]
    lines.append("|---" * (len(DestinationClass) + 1) + "|")
    for source in SourceClass:
        cells = (table[source, destination].value.removeprefix("verdict-") for destination in DestinationClass)
        lines.append(f"| {source.value} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def waits() -> str:
    """The deadline of each phase, as a table."""
    lines = ["| phase | longest wait |", "|---|---|"]
    for phase in Phase:
        wait_ns = DEFAULT_WAITS.of(phase)
        if wait_ns is not None:
            note = " until connected; then the stall detector" if phase is Phase.PRECOPY else ""
            lines.append(f"| {phase.value} | {wait_ns / 1e9:g} s{note} |")
    return "\n".join(lines)


def page() -> str:
    """The whole of docs/protocol.md."""
    explicit = sum(not all(rule.is_ignored for rule in rules) for rules in TABLE.values())
    parts = [
        HEAD.format(entries=len(TABLE), explicit=explicit),
        f"```mermaid\n{mermaid()}\n```\n",
        "## Deadlines\n",
        "Each can be set; what follows when it passes is the `deadline` line of the phase.\n",
        waits() + "\n",
        "## Entries\n",
        entries() + "\n",
        RESOLVING,
        *(f"{_intent(intent)}\n\n{verdicts(table)}\n" for intent, table in VERDICTS.items()),
    ]
    return "\n".join(parts)


def _row(phase: Phase, signal: Signal, rule: Rule) -> str:
    guard = [f"{fact.name.lower()}" for fact in sorted(rule.when, key=lambda f: f.name)]
    guard += [f"not {fact.name.lower()}" for fact in sorted(rule.unless, key=lambda f: f.name)]
    then = rule.to.value if rule.to else "stays"
    if rule.guest:
        then += f" (guest {rule.guest.value})"
    cells = (
        phase.value,
        signal.value,
        ", ".join(guard),
        then,
        rule.do.value if rule.do else "",
        rule.owner.value if rule.owner else "",
        rule.because,
    )
    return "| " + " | ".join(cells) + " |"


def _order(edge: tuple[Phase, Phase]) -> tuple[int, int]:
    phases = list(Phase)
    return phases.index(edge[0]), phases.index(edge[1])


if __name__ == "__main__":
    print(page(), end="")
