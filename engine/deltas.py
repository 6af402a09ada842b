"""How large a changed page is as a delta of QEMU's XBZRLE, without making one.

The format, from QEMU's docs/xbzrle.txt and migration/xbzrle.c: the old and the new page are compared byte by byte. What
follows is the length of a run of equal bytes, the length of a run of different ones, and those bytes themselves, over
and over; equal bytes at the end are left out. Lengths are ULEB128: one byte up to 127, two up to 16383. A delta that
does not fit into a page is not sent: the page goes in full. On the wire a flag and its length come before it.
"""

from __future__ import annotations

import re
from typing import Final

from .curve import PAGE_BYTES

HEADER_BYTES: Final = 3
"""A flag and a length of two bytes (``save_xbzrle_page``)."""
_LONG: Final = 0x80
_DIFFERENT = re.compile(rb"[^\x00]+")


def encoded_bytes(old: bytes, new: bytes) -> int | None:
    """The length of the delta that leads from one page to another.

    Args:
        old: as it was sent last.
        new: as it is now; as long, at most 16383 bytes.

    Returns:
        0 where nothing differs; ``None`` where it would not fit into a page.
    """
    length = len(new)
    # One large number: the bytes of a page are compared in a microsecond, not in a loop.
    different = (int.from_bytes(old, "little") ^ int.from_bytes(new, "little")).to_bytes(length, "little")
    size = end = 0
    for run in _DIFFERENT.finditer(different):
        begin, after = run.span()
        size += _prefix_bytes(begin - end) + _prefix_bytes(after - begin) + after - begin
        if size > length:
            return None
        end = after
    # QEMU wants room for two bytes more before it looks whether anything else differs.
    return None if end < length < size + 2 else size


def wire_ratio(old: bytes, new: bytes) -> float:
    """What a page that changed comes to on the wire with XBZRLE, as a part of a page sent in full: 0 to 1."""
    encoded = encoded_bytes(old, new)
    return 1.0 if encoded is None else min(1.0, (encoded + HEADER_BYTES) / PAGE_BYTES)


def _prefix_bytes(count: int) -> int:
    return 1 if count < _LONG else 2
