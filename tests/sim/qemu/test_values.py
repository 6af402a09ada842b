"""JSON values, narrowed."""

from __future__ import annotations

from whimbrel.sim.qemu.values import as_list, as_object


def test_objects_and_arrays_pass_and_all_else_does_not() -> None:
    """The very same value comes back."""
    row: dict[str, object] = {"a": 1}
    rows: list[object] = [row]
    assert as_object(row) is row
    assert as_list(rows) is rows
    assert [as_object(value) for value in (None, 1, "x", rows)] == [None] * 4
    assert [as_list(value) for value in (None, 1, "x", row)] == [None] * 4
