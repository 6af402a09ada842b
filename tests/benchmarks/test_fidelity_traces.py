"""What is read out of QEMU's trace events."""

from __future__ import annotations

import pytest

from benchmarks.fidelity import record, traces

LINES = """\
13412@1795412127.641576:migrate_set_state new state setup
13427@1795412127.642000:migration_bitmap_sync_start
qemu-system-x86_64: warning: something else
13427@1795412127.702000:migration_bitmap_sync_end dirty_pages 0
13427@1795412127.702678:migrate_set_state new state active
13427@1795412127.702704:migration_thread_setup_complete
13427@1795412127.702707:migrate_pending pending size 268902400 max 0 (pre = 268902400 compat=0 post=0)
13427@1795412132.100000:migration_bitmap_sync_start
13427@1795412132.123000:migration_bitmap_sync_end dirty_pages 11487
13427@1795412132.123100:migrate_pending pending size 737280 max 2400000 (pre = 737280 compat=0 post=0)
13427@1795412132.123200:migration_thread_low_pending 737280
13427@1795412132.124000:migration_completion_vm_stop ret 0
13412@1795412132.127000:migrate_set_state new state device
13427@1795412132.128000:migration_bitmap_sync_start
13427@1795412132.130000:migration_bitmap_sync_end dirty_pages 3
13427@1795412132.134000:savevm_section_end ram, section_id 2 -> 0
13427@1795412132.136000:migration_return_path_end_before
13427@1795412132.144000:migration_return_path_end_after 0
""".splitlines()


def test_every_sync_has_its_length_and_what_was_pending_right_after_it() -> None:
    found = traces.syncs(list(traces.read(LINES)))
    assert [round(sync.took_s, 6) for sync in found] == [0.06, 0.023, 0.002]
    assert [sync.pending_bytes for sync in found] == [268902400, 737280, -1]
    assert found[1].at_s == pytest.approx(1795412132.1)


def test_what_is_no_trace_line_is_passed_over() -> None:
    assert len(list(traces.read(LINES))) == len(LINES) - 1
    assert list(traces.read(["", "qemu: @ is no trace"])) == []


def test_a_moment_is_the_first_or_the_last_of_its_kind() -> None:
    trace = list(traces.read(LINES))
    assert traces.moment_s(trace, "migrate_set_state") == pytest.approx(1795412127.641576)
    assert traces.moment_s(trace, "migrate_set_state", last=True) == pytest.approx(1795412132.127)
    assert traces.moment_s(trace, "migrate_set_state", "active") == pytest.approx(1795412127.702678)
    assert traces.moment_s(trace, "no_such_event") is None


def test_the_switchover_is_split_where_qemu_stamps_it() -> None:
    parts = record.switchover(list(traces.read(LINES)))
    milliseconds = {name: round(seconds * 1e3, 1) for name, seconds in parts.items()}
    assert milliseconds == {"stop": 0.8, "pause": 3.0, "last_ram": 7.0, "devices": 2.0, "answer": 8.0}


def test_a_part_whose_events_lack_is_left_out() -> None:
    trace = [line for line in traces.read(LINES) if line.event != "migration_return_path_end_after"]
    assert "answer" not in record.switchover(trace)


def test_every_event_that_is_read_is_asked_for() -> None:
    words = traces.options("/tmp/x")
    assert words[words.index("-D") + 1] == "/tmp/x"
    assert {line.event for line in traces.read(LINES)} <= {words[i + 1] for i, w in enumerate(words) if w == "-trace"}
