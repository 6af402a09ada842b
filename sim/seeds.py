"""One seed for everything: each part of the world draws from its own stream, named, so that none disturbs another."""

from __future__ import annotations

from hashlib import sha256
from random import Random


def number(seed: int, name: str) -> int:
    """A number of 64 bits that follows from the seed and the name alone, on every machine and version."""
    return int.from_bytes(sha256(f"{seed}/{name}".encode()).digest()[:8], "big")


def stream(seed: int, name: str) -> Random:
    """The stream of this name."""
    return Random(number(seed, name))
