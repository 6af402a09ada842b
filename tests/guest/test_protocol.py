"""The serial protocol: whole lines are read, everything else is skipped and counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.guest.protocol import (
    TAUS_S,
    Banner,
    ClassState,
    DirtyRow,
    GuestFailure,
    Heartbeat,
    LineParser,
    Record,
    Verification,
    checksum,
    parse_line,
)

BEAT = b"H 2a 3d090 1f40 12 0 7d0 0"
SAMPLES: tuple[tuple[bytes, Record], ...] = (
    (BEAT, Heartbeat(42, 250000, 8000, 18, 0, 2000, 0)),
    (b"B 1 1ffd0 200 10 2 c8 1 7d0 1 279d51 5", Banner(1, 0x1FFD0, 512, 16, 2, 200, 1, 2000, 1, 0x279D51, 5)),
    (b"C 0 hot 200 10 3e8 r fd 0 0 0 1 7 0", ClassState(0, "hot", 512, 16, 1000, "r", 253, 0, 0, 0, 1, 7, 0)),
    (b"V 1 10 0 0 0 0 0 0 7 64", Verification(1, 16, 0, 0, 0, 0, 0, 0, 7, 100)),
    (b"D 3 ff 0" + b" 1" * len(TAUS_S), DirtyRow(3, 255, 0, (1,) * len(TAUS_S))),
    (b"E the page classes do not fit", GuestFailure("the page classes do not fit")),
)


def sealed(body: bytes) -> bytes:
    """The line with its checksum."""
    return body + b"*%04x" % checksum(body)


@pytest.mark.parametrize(("body", "record"), SAMPLES, ids=[body[:1].decode() for body, _ in SAMPLES])
def test_each_kind_is_read(body: bytes, record: Record) -> None:
    """Fields are hexadecimal, names and messages are words."""
    assert parse_line(sealed(body)) == record


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"*",
        BEAT,
        BEAT + b"*0000",
        sealed(BEAT)[:-1],
        sealed(BEAT)[1:],
        sealed(b"Z 1 2 3"),
        sealed(b"H 1 2 3"),
        sealed(b"H 1 2 3 4 5 6 7 8"),
        sealed(b"H 1 2 3 4 5 6 x"),
        sealed(b"C 0"),
        sealed(b"D 1 2 3 4"),
        sealed(b"\xff\xfe"),
    ],
    ids=repr,
)
def test_what_is_not_whole_is_no_record(line: bytes) -> None:
    """Torn, of unknown kind, with a wrong sum or a wrong number of fields."""
    assert parse_line(line) is None


@given(st.binary(max_size=80))
def test_garbage_never_raises(line: bytes) -> None:
    """Neither as it is nor with a checksum that fits."""
    parse_line(line)
    parse_line(sealed(line))


@given(st.integers(0, len(sealed(BEAT)) - 1), st.integers(0, 7))
def test_no_flipped_bit_passes(at: int, bit: int) -> None:
    """A beat with any one bit wrong is refused."""
    line = bytearray(sealed(BEAT))
    line[at] ^= 1 << bit
    assert parse_line(bytes(line)) is None


@given(st.lists(st.sampled_from(SAMPLES), max_size=8), st.data())
def test_the_cuts_of_the_stream_do_not_matter(samples: list[tuple[bytes, Record]], data: st.DataObject) -> None:
    """However the bytes are split over reads, the same records come out in order, after a torn first line."""
    stream = sealed(BEAT)[7:] + b"\n" + b"".join(sealed(body) + b"\n" for body, _record in samples) + BEAT
    parser, records = LineParser(), list[Record]()
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        records += parser.feed(stream[:count])
        stream = stream[count:]
    assert records == [record for _body, record in samples]
    assert parser.damaged == 1


def test_a_stream_without_ends_stays_small() -> None:
    """A peer that never ends its line costs bounded memory, and the next line is read."""
    parser = LineParser()
    for _ in range(1000):
        assert parser.feed(b"x" * 1000) == []
    assert parser.feed(b"\n" + sealed(BEAT) + b"\n") == [SAMPLES[0][1]]
    assert parser.damaged == 1001


@pytest.mark.parametrize("field", ["torn", "stale_groups", "flags", "rewound", "bad"])
def test_any_finding_fails_a_verification(field: str) -> None:
    """Passed means that nothing at all was found; the sentence says which."""
    clean: dict[str, int] = dict.fromkeys(("torn", "stale_groups", "flags", "rewound", "bad", "first_bad_page"), 0)
    common = {"number": 1, "pages": 16, "writes": 7, "took_us": 1}
    assert Verification(**clean, **common).passed
    damaged = Verification(**clean | {field: 1}, **common)
    assert not damaged.passed
    assert "DAMAGED" in str(damaged)
    assert "none lost" in str(Verification(**clean, **common))
