"""Predictions against records: errors, verdicts, and the bar."""

from __future__ import annotations

import pytest

from benchmarks.fidelity import compare
from benchmarks.fidelity.records import Known, Outcome, Prediction, Run


def known(case: str) -> Known:
    return Known(
        case=case,
        pattern="uniform",
        ratio=0.3,
        limit_s=0.05,
        cut_off_s=25.0,
        classes=("w:size=4096",),
        ram_bytes=1 << 28,
        beat_hz=200,
        guest_seed=1,
        link_rate="400mbit",
        goodput_bytes_per_s=5e7,
        pipe_bytes=260_000,
        qemu="QEMU",
        accelerator="tcg",
        policy="fixed",
        kernel="6",
        load_cores=0.0,
    )


def run(case: str, total_s: float = 10.0, size: int = 1000, verdict: str = "converged") -> Run:
    moved = verdict == "converged"
    items = {"total": 0.1, "stop": 0.001, "drain": 0.001, "last_ram": 0.05, "device_state": 0.045, "load": 0.002}
    outcome = Outcome(
        verdict=verdict,
        iterations=5,
        total_s=total_s,
        migrated_s=total_s if moved else None,
        bytes=size,
        normal_pages=1,
        duplicate_pages=1,
        downtime=items | {"resume": 0.001} if moved else {},
        traced={},
        outage_s=0.1 if moved else None,
        work=1.0,
        longest_stall_s=0.1,
        others_cores=0.0,
        repeated=0,
        rows=(),
    )
    return Run(known=known(case), outcome=outcome)


def said(case: str, total_s: float = 10.0, size: int = 1000, verdict: str = "converged", by: str = "x") -> Prediction:
    downtime = {"total": 0.11, "last_ram": 0.06, "device_state": 0.0401} if verdict == "converged" else {}
    return Prediction(
        case=case, by=by, inputs="", verdict=verdict, iterations=6, total_s=total_s, bytes=size, downtime=downtime
    )


def test_errors_are_relative_to_what_came_and_keep_their_sign() -> None:
    row = compare.compare([run("a")], [said("a", 9.0)]).row("total time")
    assert row.pairs == (compare.Pair("a", 10.0, 9.0),)
    assert row.bias == pytest.approx(-0.1)
    assert row.median == pytest.approx(0.1)
    assert row.off == pytest.approx(1.0)


def test_the_time_of_a_migration_that_was_called_off_is_not_compared_but_its_bytes_are() -> None:
    runs = [run("a"), run("b", verdict="cut off")]
    found = compare.compare(runs, [said("a"), said("b", size=1100, verdict="cut off")])
    assert [pair.case for pair in found.row("total time").pairs] == ["a"]
    assert found.row("bytes").pairs[1].error == pytest.approx(0.1)
    assert [pair.case for pair in found.row("downtime").pairs] == ["a"]


def test_last_ram_and_device_state_are_compared_together_and_what_was_not_predicted_not_at_all() -> None:
    found = compare.compare([run("a")], [said("a")])
    assert found.row("downtime: last RAM, device state").pairs == (compare.Pair("a", 0.095, 0.1001),)
    with pytest.raises(KeyError, match="drain"):
        found.row("downtime: drain")


def test_the_bar_allows_one_run_to_be_missed() -> None:
    runs = [run(case) for case in "abcdefgh"]
    right = [said(case) for case in "abcdef"]
    assert compare.compare(runs, [*right, said("g"), said("h")]).met
    one = compare.compare(runs, [*right, said("g"), said("h", verdict="cut off")])
    assert (one.met, one.wrong, one.far) == (True, ("h",), ())
    two = compare.compare(runs, [*right, said("g", total_s=13.0), said("h", verdict="cut off")])
    assert (two.met, two.wrong, two.far) == (False, ("h",), ("g",))


@pytest.mark.parametrize(("total_s", "size"), [(10.7, 1000), (10.0, 930)])
def test_the_bar_is_missed_by_the_median_of_time_or_of_bytes(total_s: float, size: int) -> None:
    assert not compare.compare([run("a"), run("b")], [said(case, total_s, size) for case in "ab"]).met


def test_a_wrong_verdict_is_counted_once() -> None:
    found = compare.compare([run("a")], [said("a", size=5000, verdict="cut off")])
    assert (found.wrong, found.far) == (("a",), ())


def test_a_run_without_a_prediction_is_named() -> None:
    with pytest.raises(ValueError, match="no prediction for b"):
        compare.compare([run("a"), run("b")], [said("a")])


def test_predictions_of_two_kinds_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="one kind"):
        compare.compare([run("a"), run("b")], [said("a"), said("b", by="y")])


def test_reality_is_held_against_itself_like_a_predictor() -> None:
    runs = [run("a"), run("b", verdict="cut off"), run("c")]
    found = compare.itself(runs, [run("a", 10.5), run("b", verdict="cut off")])
    assert found.row("total time").median == pytest.approx(0.05)
    assert (found.cases, found.met) == (2, True)


def test_a_percentile_lies_between_neighbours_in_proportion() -> None:
    assert compare.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert compare.percentile([1.0, 2.0], 0.95) == pytest.approx(1.95)
    assert compare.percentile([7.0], 0.95) == 7.0
    with pytest.raises(ValueError, match="no values"):
        compare.percentile([], 0.5)


def test_the_table_says_what_is_asked_and_whether_it_is_met() -> None:
    text = compare.as_text(compare.compare([run("a")], [said("a", 12.6)]))
    assert "total time" in text
    assert "26.0%" in text
    assert "more than 25% off: a" in text
    assert "MISSED median at most 6% for total time and bytes" in text


def test_as_json_every_pair_is_there() -> None:
    found = compare.as_json(compare.compare([run("a")], [said("a", 9.0)]))
    assert found["met"] is False
    quantities = found["quantities"]
    assert isinstance(quantities, dict)
    assert quantities["total time"]["pairs"] == {"a": [10.0, 9.0]}
