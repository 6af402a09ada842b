"""Making predictions, and keeping them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.fidelity import predict
from benchmarks.fidelity.records import Known, load_calibration, load_runs
from whimbrel.engine.errors import BadInput

CALIBRATION = load_calibration()


def known(case: str) -> Known:
    return next(run.known for run in load_runs() if run.known.case == case)


def test_the_same_inputs_give_the_same_prediction() -> None:
    one = known("hotspot-0.3-50ms")
    assert predict.by_pages(one, CALIBRATION, (1,)) == predict.by_pages(one, CALIBRATION, (1,))


def test_every_predictor_says_which_inputs_it_had() -> None:
    one = known("uniform-0.3-300ms")
    said = predict.predict_all([one], CALIBRATION)
    assert len({prediction.by for prediction in said}) == len(predict.PREDICTORS)
    assert {prediction.case for prediction in said} == {one.case}
    predict.check(said, [one], CALIBRATION)


def test_predictions_from_other_inputs_are_refused_by_name() -> None:
    one, other = known("uniform-0.3-300ms"), known("zipf-0.3-50ms")
    said = [predict.fast(one, CALIBRATION), predict.fast(other, CALIBRATION)]
    changed = msgspec.structs.replace(other, goodput_bytes_per_s=other.goodput_bytes_per_s * 1.01)
    with pytest.raises(BadInput, match=r"zipf-0\.3-50ms") as refused:
        predict.check(said, [one, changed], CALIBRATION)
    assert "uniform" not in str(refused.value)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    said = [predict.fast(known("zipf-0.3-50ms"), CALIBRATION)]
    predict.save(said, tmp_path)
    assert list(predict.load(tmp_path)) == said


def test_a_folder_without_predictions_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fidelity predict"):
        predict.load(tmp_path)


def test_a_guest_that_does_not_converge_is_called_off_when_it_was_in_reality() -> None:
    one = known("sweep-1.5-50ms")
    for predictor in predict.HELD:
        said = predictor(one, CALIBRATION)
        assert (said.verdict, said.total_s, said.downtime) == (predict.CUT_OFF, one.cut_off_s, {})


def test_a_model_that_has_no_word_for_something_says_none() -> None:
    said = predict.published("recurrence")(known("sweep-1.5-50ms"), CALIBRATION)
    assert (said.verdict, said.bytes, said.downtime) == (predict.CUT_OFF, None, {})
