"""JSON values, narrowed: what a client sent may be anything."""

from __future__ import annotations

from typing import cast


def as_object(value: object) -> dict[str, object] | None:
    """The value as a JSON object; ``None``: it is none."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object] | None:
    """The value as a JSON array; ``None``: it is none."""
    return cast("list[object]", value) if isinstance(value, list) else None
