"""When things happened in a real migration, out of its log."""

from __future__ import annotations

from typing import Any


class Moments:
    """When things happened, out of a migration's log; the first time counts."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        """Take the lines, the header first."""
        self._lines = lines
        self._zero_ns: int = lines[0]["monotonic_ns"]

    def command_ns(self, command: str) -> int:
        """Moment at which a command of the engine was sent out, monotonic ns."""
        return self._ns("command", command)

    def signal_ns(self, signal: str) -> int:
        """Moment at which we learnt something, monotonic ns."""
        return self._ns("signal", signal)

    def had_command(self, command: str) -> bool:
        """Whether a command of the engine was sent out."""
        return any(line["kind"] == "command" and line["command"] == command for line in self._lines)

    def had_signal(self, signal: str) -> bool:
        """Whether something was learnt."""
        return any(line["kind"] == "signal" and line["signal"] == signal for line in self._lines)

    def last_signal_ns(self, *signals: str) -> int | None:
        """Moment at which one of these was learnt last, monotonic ns; ``None``: never."""
        found = [int(line["t_ns"]) for line in self._lines if line["kind"] == "signal" and line["signal"] in signals]
        return self._zero_ns + found[-1] if found else None

    def qmp_s(self, side: str, event: str, status: str = "") -> float:
        """Moment at which QEMU says that an event happened, wall-clock seconds."""
        for line in self._lines:
            if line["kind"] != "qmp" or line["data"].get("status", "") != status:
                continue
            if (line["side"], line["event"]) == (side, event):
                return float(line["at_s"])
        raise LookupError(f"the log has no {event} {status} of the {side}")

    def mark_s(self, mark: str) -> float:
        """Moment of a mark, wall-clock seconds."""
        for line in self._lines:
            if line["kind"] == "mark" and line["mark"] == mark:
                return float(line["at_s"])
        raise LookupError(f"the log has no mark {mark}")

    def wall_s(self, monotonic_ns: int) -> float:
        """The wall-clock second of a moment, by the clocks as they stood when the log began."""
        return float(self._lines[0]["started_wall_s"]) + (monotonic_ns - self._zero_ns) / 1e9

    def _ns(self, kind: str, value: str) -> int:
        for line in self._lines:
            if line["kind"] == kind and line[kind] == value:
                return self._zero_ns + int(line["t_ns"])
        raise LookupError(f"the log has no {kind} {value}")
