"""How large XBZRLE's deltas are: against an encoder written down byte by byte, and its own decoder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.engine.deltas import HEADER_BYTES, encoded_bytes, wire_ratio

PAGE = 4096


def uleb(value: int) -> bytes:
    """A length as the format has it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def encoded(old: bytes, new: bytes) -> bytes | None:
    """The delta itself, or ``None`` where it outgrows the page: QEMU's steps, a byte at a time."""
    size, at, out = len(new), 0, b""
    while at < size:
        if len(out) + 2 > size:
            return None
        begin = at
        while at < size and old[at] == new[at]:
            at += 1
        if at == size:
            return out
        out += uleb(at - begin)
        if len(out) + 2 > size:
            return None
        begin = at
        while at < size and old[at] != new[at]:
            at += 1
        out += uleb(at - begin) + new[begin:at]
        if len(out) > size:
            return None
    return out


def decoded(old: bytes, delta: bytes) -> bytes:
    """The new page."""
    page, at, place = bytearray(old), 0, 0

    def length() -> int:
        nonlocal at
        value = delta[at] & 127
        if delta[at] & 128:
            at += 1
            value |= delta[at] << 7
        at += 1
        return value

    while at < len(delta):
        place += length()
        count = length()
        page[place : place + count] = delta[at : at + count]
        at, place = at + count, place + count
    return bytes(page)


changes = st.lists(st.tuples(st.integers(0, PAGE - 1), st.binary(min_size=1, max_size=700)), max_size=30)


@given(st.binary(min_size=1, max_size=64), changes)
def test_the_size_is_that_of_the_delta_which_leads_to_the_new_page(
    pattern: bytes, made: list[tuple[int, bytes]]
) -> None:
    old = (pattern * PAGE)[:PAGE]
    page = bytearray(old)
    for place, words in made:
        page[place : place + len(words)] = words[: PAGE - place]
    new = bytes(page)
    delta = encoded(old, new)
    assert encoded_bytes(old, new) == (None if delta is None else len(delta))
    if delta is not None:
        assert decoded(old, delta) == new


def test_a_page_that_did_not_change_has_an_empty_delta() -> None:
    assert encoded_bytes(bytes(PAGE), bytes(PAGE)) == 0
    assert wire_ratio(bytes(PAGE), bytes(PAGE)) == HEADER_BYTES / PAGE


def test_a_page_that_changed_all_over_goes_in_full() -> None:
    """Its length needs two bytes, and there is no room left for them."""
    assert encoded_bytes(b"\x01" * PAGE, b"\x02" * PAGE) is None
    assert wire_ratio(b"\x01" * PAGE, b"\x02" * PAGE) == 1.0


@pytest.mark.parametrize("every", [2, 3])
def test_changes_all_over_the_page_cost_more_than_they_save(every: int) -> None:
    """Each one byte costs two of lengths: from every third byte on there is no room, also not for a length alone."""
    new = bytes(1 if place % every == 0 else 0 for place in range(PAGE))
    assert encoded_bytes(bytes(PAGE), new) is None


@pytest.mark.parametrize(("equal", "size"), [(0, None), (3, None), (4, None), (5, 4094), (6, 4093)])
def test_qemu_wants_two_bytes_of_room_before_it_looks_at_what_is_left(equal: int, size: int | None) -> None:
    """A delta that is a byte shorter than the page would fit, and is given up: more might have come."""
    new = (b"\x01" * (PAGE - equal)).ljust(PAGE, b"\x00")
    assert encoded_bytes(bytes(PAGE), new) == size
    delta = encoded(bytes(PAGE), new)
    assert size == (None if delta is None else len(delta))


def test_one_word_of_a_page_is_a_few_bytes() -> None:
    new = bytes(200) + b"\x07" * 8 + bytes(PAGE - 208)
    assert encoded_bytes(bytes(PAGE), new) == 2 + 1 + 8
    assert wire_ratio(bytes(PAGE), new) == (11 + HEADER_BYTES) / PAGE
