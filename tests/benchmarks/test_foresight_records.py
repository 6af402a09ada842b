"""What is on record of predictions, and of what came."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from benchmarks.foresight.records import CAME, PREDICTED, Span, Store, foretold_of, model_digest
from tests.support.foresight import came, predicted, said
from whimbrel.engine.errors import BadInput
from whimbrel.engine.estimate import Range
from whimbrel.engine.plan import Candidate, Predicted, Strategy


def test_what_is_put_on_record_is_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = said()
    store.predict(first)
    store.record(came(first, store.digest(first.case.name, 1)))
    (pair,) = Store(tmp_path).pairs(first.case.stage)
    assert pair.said == first
    assert pair.came == came(first, store.digest(first.case.name, 1))


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert (store.pairs("judged"), store.attempts("any"), store.came("any")) == ([], 0, [])


def test_a_prediction_that_was_touched_afterwards_is_found_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.predict(said())
    store.record(came(said(), store.digest(said().case.name, 1)))
    path = tmp_path / PREDICTED
    path.write_bytes(path.read_bytes().replace(b'"meets":0.9', b'"meets":0.1'))
    with pytest.raises(BadInput, match="the line that it was made with"):
        Store(tmp_path)


def test_what_came_without_a_prediction_is_refused(tmp_path: Path) -> None:
    (tmp_path / CAME).write_bytes(msgspec.json.encode(came(said(), "any")) + b"\n")
    with pytest.raises(BadInput, match=r"'none' is not allowed"):
        Store(tmp_path)


def test_what_began_before_it_was_predicted_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.predict(said())
    digest = store.digest(said().case.name, 1)
    store.record(came(said(), digest, began="2026-11-23T11:59:59.999+00:00"))
    with pytest.raises(BadInput, match=r"written before .* began"):
        Store(tmp_path)


def test_a_torn_line_was_never_on_record_and_is_in_nobodys_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.predict(said())
    with (tmp_path / PREDICTED).open("ab") as file:
        file.write(b'{"case": {"na')
    again = Store(tmp_path)
    assert again.attempts(said().case.name) == 1
    again.predict(said(attempt=2))
    assert Store(tmp_path).attempts(said().case.name) == 2


def test_of_several_attempts_the_least_disturbed_counts_and_all_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for attempt, cores in ((1, 0.9), (2, 0.2), (3, 0.6)):
        one = said(attempt=attempt)
        store.predict(one)
        store.record(came(one, store.digest(one.case.name, attempt), others_cores=cores))
    (pair,) = Store(tmp_path).pairs("judged")
    assert (pair.said.attempt, pair.came.attempt) == (2, 2)
    assert len(Store(tmp_path).came(one.case.name)) == 3


def test_a_stage_has_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.predict(said(stage="learnt"))
    store.record(came(said(stage="learnt"), store.digest(said().case.name, 1)))
    assert store.pairs("judged") == []
    assert len(store.pairs("learnt")) == 1


def test_a_prediction_that_never_came_true_or_false_counts_as_an_attempt(tmp_path: Path) -> None:
    Store(tmp_path).predict(said())
    store = Store(tmp_path)
    assert (store.attempts(said().case.name), store.pairs("judged")) == (1, [])


def test_infinity_goes_through_json() -> None:
    found = Range(1.0, 2.0, math.inf)
    assert msgspec.json.decode(msgspec.json.encode(Span.of(found)), type=Span).range == found


def test_ranges_that_say_nothing_are_left_out() -> None:
    found = foretold_of(predicted(postcopy_s=None))
    assert "postcopy_s" not in found.spans
    assert found.ranges["total_s"] == Range(3.0, 4.0, 5.0)
    assert found.components["iterations"].range == Range(2.9, 3.9, 4.9)


def test_what_can_t_be_taken_is_no_prediction() -> None:
    candidate = Candidate(policy="hybrid_after", strategy=Strategy.POSTCOPY)
    with pytest.raises(BadInput, match="no post-copy"):
        foretold_of(Predicted(candidate=candidate, excluded="the destination has no post-copy"))


def test_the_models_digest_follows_from_every_file_and_its_name(tmp_path: Path) -> None:
    digests = [model_digest(tmp_path)]
    for name, text in (("engine/a.py", "1"), ("engine/a.py", "2"), ("qmp_driver/survey.py", "2")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        digests.append(model_digest(tmp_path))
    (tmp_path / "qmp_driver/badge.py").write_text("no part of the model")
    assert model_digest(tmp_path) == digests[-1]
    (tmp_path / "engine/a.py").rename(tmp_path / "engine/z.py")
    digests.append(model_digest(tmp_path))
    assert len(set(digests)) == len(digests)
