"""People's units: what is read, what is refused, and that print and read agree."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_fraction,
    parse_rate,
    parse_size,
)

READERS = (parse_size, parse_rate, parse_duration, parse_fraction)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("2MB", 2_000_000),
        ("64MiB", 64 << 20),
        (" 64 MiB ", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("2GB", 2_000_000_000),
        ("1TiB", 1 << 40),
        ("1e3MB", 1_000_000_000),
        ("0.1KiB", 102),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    """Decimal and binary multiples, blanks, fractions rounded to whole bytes."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "rate_bytes_per_s"),
    [
        ("125000000", 125e6),
        ("1Gbit/s", 125e6),
        ("200Mbit/s", 25e6),
        ("8kbit/s", 1000.0),
        ("8bit/s", 1.0),
        ("8Kibit/s", 1024.0),
        ("1Gibit/s", 2.0**27),
        ("50MiB/s", 50 * 2.0**20),
        ("50MB/s", 50e6),
    ],
)
def test_rates(text: str, rate_bytes_per_s: float) -> None:
    """Bits are decimal, as networks count them, unless they are said not to be; bytes as sizes."""
    assert parse_rate(text) == rate_bytes_per_s


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        *(("300ms", 0.3), ("2m", 120.0), ("2min", 120.0), ("1h", 3600.0), ("1.5", 1.5)),
        *(("20us", 2e-5), ("20µs", 2e-5), ("7ns", 7e-9), ("0", 0.0), ("3 s", 3.0)),
    ],
)
def test_durations(text: str, duration_s: float) -> None:
    """From nanoseconds to hours; a bare number is seconds."""
    assert parse_duration(text) == duration_s


@pytest.mark.parametrize(("text", "part"), [("25%", 0.25), ("0.25", 0.25), ("100%", 1.0), ("0", 0.0), ("1", 1.0)])
def test_fractions(text: str, part: float) -> None:
    """Percent and plain."""
    assert parse_fraction(text) == part


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "+1", "x", "1x", "1M", "1K", "1G", "nan", "inf", "1..2", "1 2", "1,5", "0x10", "1e999", "1" * 30],
)
def test_nonsense_is_refused_by_name(read: object, text: str) -> None:
    """What is no such quantity (a bare M among it) raises BadInput with field, value and what is allowed."""
    assert callable(read)
    with pytest.raises(BadInput) as caught:
        read(text, "knob")
    assert caught.value.field == "knob"
    assert caught.value.given == text
    assert caught.value.allowed in str(caught.value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((parse_size, "1s"), (parse_size, "1MiB/s"), (parse_rate, "1MiB")),
        *((parse_duration, "1MiB"), (parse_fraction, "101%")),
    ],
)
def test_another_kind_of_quantity_is_refused(read: object, text: str) -> None:
    """A rate is no size, a size no time, more than the whole no part."""
    assert callable(read)
    with pytest.raises(BadInput):
        read(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No input raises anything but BadInput, and no result is negative or not finite."""
    for read in READERS:
        try:
            value = read(text)
        except BadInput:
            continue
        assert 0 <= value < math.inf


@given(st.integers(0, 1 << 50))
def test_sizes_read_back(size_bytes: int) -> None:
    """What is printed reads back within the three digits that are printed."""
    assert parse_size(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.0051, abs=0.51)


@given(st.floats(0, 1e15))
def test_rates_read_back(rate_bytes_per_s: float) -> None:
    """What is printed reads back within the three digits that are printed."""
    assert parse_rate(format_rate(rate_bytes_per_s)) == pytest.approx(rate_bytes_per_s, rel=0.0051, abs=0.0051)


@given(st.floats(0, 1e6))
def test_durations_read_back(duration_s: float) -> None:
    """What is printed reads back within the three digits that are printed."""
    assert parse_duration(format_duration(duration_s)) == pytest.approx(duration_s, rel=0.0051, abs=0.0051e-9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_size(0), "0B"),
        (format_size(1023), "1023B"),
        (format_size(1536), "1.5KiB"),
        (format_size((1 << 20) - 1), "1MiB"),
        (format_rate(114.1 * 2**20), "114MiB/s"),
        (format_duration(0), "0s"),
        (format_duration(0.0214), "21.4ms"),
        (format_duration(0.9999), "1s"),
        (format_duration(90), "1.5m"),
    ],
)
def test_printed(text: str, expected: str) -> None:
    """Three digits, the unit of which there is at least one."""
    assert text == expected
