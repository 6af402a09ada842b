"""Parameters of a policy that make no sense are refused when it is made, by name."""

from __future__ import annotations

import math
from collections.abc import Collection

from whimbrel.engine.errors import BadInput


def above_zero(**given: float) -> None:
    """Make sure that each is above 0, and finite.

    Raises:
        BadInput: naming the first one that is not.
    """
    for field, value in given.items():
        if not 0 < value < math.inf:
            raise BadInput(field, value, "above 0, and finite")


def not_negative(**given: float) -> None:
    """Make sure that each is 0 or more, and finite.

    Raises:
        BadInput: naming the first one that is not.
    """
    for field, value in given.items():
        if not 0 <= value < math.inf:
            raise BadInput(field, value, "0 or more, and finite")


def share(**given: float) -> None:
    """Make sure that each is a share of something, 0 to 1.

    Raises:
        BadInput: naming the first one that is not.
    """
    for field, value in given.items():
        if not 0 <= value <= 1:
            raise BadInput(field, value, "from 0 to 1")


def one_of(field: str, value: str, allowed: Collection[str]) -> None:
    """Make sure that a word is one of those that are known.

    Raises:
        BadInput: naming the field, and all words that are.
    """
    if value not in allowed:
        raise BadInput(field, value, f"one of {', '.join(allowed)}")
