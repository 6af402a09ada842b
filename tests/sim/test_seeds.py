"""Streams of chance: by name, and the same on every machine."""

from __future__ import annotations

from whimbrel.sim.seeds import number, stream


def test_a_stream_is_the_same_everywhere_and_always() -> None:
    """Worked out once; another hash, or another version of Python, would give other numbers."""
    assert number(1, "link") == 0x9494649100610424
    dice = stream(1, "link")
    assert [dice.getrandbits(8) for _ in range(3)] == [38, 239, 91]


def test_names_and_seeds_have_streams_of_their_own() -> None:
    drawn = [stream(seed, name).random() for seed in (0, 1, -1) for name in ("link", "guest", "")]
    assert len(set(drawn)) == len(drawn)


def test_one_stream_does_not_disturb_another() -> None:
    alone = stream(5, "a").random()
    first, other = stream(5, "a"), stream(5, "b")
    other.random()
    assert first.random() == alone
