"""People's units, parsed and printed at the edge.

Inside Whimbrel sizes are bytes, times are seconds and rates are bytes per second; their names say so. What a
person types (``300ms``, ``1Gbit/s``, ``2GiB``) passes through here and nowhere else. A bare number means bytes,
bytes per second or seconds. ``k``, ``M``, ``G`` are powers of 1000 and ``Ki``, ``Mi``, ``Gi`` powers of 1024 (IEC
80000-13); a bare ``M`` is refused, since QEMU and networks mean different things by it.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from whimbrel.engine.errors import BadInput

__all__ = [
    "format_duration",
    "format_rate",
    "format_size",
    "parse_duration",
    "parse_fraction",
    "parse_rate",
    "parse_size",
]

_SIZE_UNITS: Final[dict[str, Fraction]] = {
    "": Fraction(1),
    "B": Fraction(1),
    **{f"{prefix}B": Fraction(1000**power) for power, prefix in enumerate("kMGT", 1)},
    **{f"{prefix}iB": Fraction(1024**power) for power, prefix in enumerate("KMGT", 1)},
}
_RATE_UNITS: Final[dict[str, Fraction]] = {
    "": Fraction(1),
    **{f"{unit}/s": factor for unit, factor in _SIZE_UNITS.items() if unit},
    "bit/s": Fraction(1, 8),
    **{f"{prefix}bit/s": Fraction(1000**power, 8) for power, prefix in enumerate("kMGT", 1)},
    **{f"{prefix}ibit/s": Fraction(1024**power, 8) for power, prefix in enumerate("KMGT", 1)},
}
_TIME_UNITS: Final[dict[str, Fraction]] = {
    "": Fraction(1),
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
}
_FRACTION_UNITS: Final[dict[str, Fraction]] = {"": Fraction(1), "%": Fraction(1, 100)}

# Bounded digits: no input makes the arithmetic slow, and no result overflows a float.
_QUANTITY: Final = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?)\s*([^\s0-9.]*)\s*")


def _parse(text: str, field: str, units: dict[str, Fraction], allowed: str) -> Fraction:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise BadInput(field, text, allowed)
    return Fraction(match[1]) * units[match[2]]


def parse_size(text: str, field: str = "size") -> int:
    """Reads a size.

    Args:
        text: a number with ``B``, ``kB``, ``MB``, ``GB``, ``TB``, ``KiB``, ``MiB``, ``GiB`` or ``TiB``; bare: bytes.
        field: the name of the option, for the error.

    Returns:
        Bytes, rounded to the nearest whole one; never negative.

    Raises:
        BadInput: the text is no such size.
    """
    return round(_parse(text, field, _SIZE_UNITS, "a size such as 4096, 64MiB or 2GB"))


def parse_rate(text: str, field: str = "rate") -> float:
    """Reads a rate.

    Args:
        text: a number with a unit of size and ``/s``, or with ``bit/s``, ``kbit/s``, ``Mbit/s`` or ``Gbit/s``, or their
            powers of 1024 (``Gibit/s``); bare: bytes per second.
        field: the name of the option, for the error.

    Returns:
        Bytes per second; never negative.

    Raises:
        BadInput: the text is no such rate.
    """
    return float(_parse(text, field, _RATE_UNITS, "a rate such as 50MiB/s, 1Gbit/s or 125000000"))


def parse_duration(text: str, field: str = "duration") -> float:
    """Reads a time.

    Args:
        text: a number with ``ns``, ``us``, ``ms``, ``s``, ``m`` (or ``min``) or ``h``; bare: seconds.
        field: the name of the option, for the error.

    Returns:
        Seconds; never negative.

    Raises:
        BadInput: the text is no such time.
    """
    return float(_parse(text, field, _TIME_UNITS, "a time such as 300ms, 2m or 1.5"))


def parse_fraction(text: str, field: str = "fraction") -> float:
    """Reads a part of a whole: ``25%`` or ``0.25``.

    Args:
        text: a number from 0 to 1, or from 0 % to 100 %.
        field: the name of the option, for the error.

    Returns:
        0.0 to 1.0.

    Raises:
        BadInput: the text is no such part.
    """
    allowed = "a part such as 25% or 0.25, at most the whole"
    value = _parse(text, field, _FRACTION_UNITS, allowed)
    if value > 1:
        raise BadInput(field, text, allowed)
    return float(value)


def _significant(value: float) -> str:
    """Three significant digits, without an exponent and without trailing zeros."""
    if value >= 100:
        return f"{value:.0f}"
    text = f"{value:.{1 if value >= 10 else 2}f}"
    return text.rstrip("0").rstrip(".")


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """The largest unit of which there is at least one, after rounding to three digits."""
    for factor, unit in units[:-1]:
        if value >= factor * 0.9995:
            return f"{_significant(value / factor)}{unit}"
    factor, unit = units[-1]
    return f"{_significant(value / factor)}{unit}"


_SIZES: Final = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_TIMES: Final = ((3600.0, "h"), (60.0, "m"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def format_size(size_bytes: float) -> str:
    """Prints bytes to three significant digits (``1.5GiB``); :func:`parse_size` reads it back."""
    return _scaled(size_bytes, _SIZES)


def format_rate(rate_bytes_per_s: float) -> str:
    """Prints bytes per second to three significant digits (``114MiB/s``); :func:`parse_rate` reads it back."""
    return _scaled(rate_bytes_per_s, _SIZES) + "/s"


def format_duration(duration_s: float) -> str:
    """Prints seconds to three significant digits (``21.4ms``); :func:`parse_duration` reads it back."""
    return "0s" if duration_s == 0 else _scaled(duration_s, _TIMES)
