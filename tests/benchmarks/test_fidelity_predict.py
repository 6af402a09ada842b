"""Making predictions, and keeping them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.fidelity import predict
from benchmarks.fidelity.records import Known, Prediction, load_calibration, load_runs
from whimbrel.engine.errors import BadInput

CALIBRATION = load_calibration()


def known(case: str) -> Known:
    return next(run.known for run in load_runs() if run.known.case == case)


def test_the_same_inputs_give_the_same_prediction() -> None:
    one = known("hotspot-0.3-50ms")
    assert predict.by_pages(one, CALIBRATION, (1,)) == predict.by_pages(one, CALIBRATION, (1,))


def figures(said: Prediction) -> dict[str, float]:
    """All that is said in numbers."""
    named = {"iterations": said.iterations, "total": said.total_s, "bytes": said.bytes, "outage": said.outage_s}
    return {name: value for name, value in named.items() if value is not None} | {
        f"downtime: {name}": value for name, value in said.downtime.items()
    }


def in_the_tree(said: Prediction) -> Prediction:
    return next(each for each in predict.load() if (each.case, each.by) == (said.case, said.by))


RENEW = (
    "the model foretells something else than the predictions in the tree: if that is meant, renew them with "
    "`python -m benchmarks fidelity predict`, and say in benchmarks/README.md what changed"
)


def test_the_fast_paths_predictions_in_the_tree_are_those_of_the_tree() -> None:
    """To the last digits, which are the mathematics library's."""
    for run in load_runs():
        said = predict.fast(run.known, CALIBRATION)
        assert said.verdict == in_the_tree(said).verdict, RENEW
        assert figures(said) == pytest.approx(figures(in_the_tree(said)), rel=1e-9), RENEW


@pytest.mark.parametrize("case", ["zipf-0.8-300ms", "sweep-0.3-50ms"])
@pytest.mark.parametrize("predictor", [predict.by_curve, predict.by_pages])
def test_the_simulators_predictions_in_the_tree_are_those_of_the_tree(predictor: predict.Predictor, case: str) -> None:
    """Two cells for the others: one that follows from a law, one that depends on chance."""
    said = predictor(known(case), CALIBRATION)
    assert said.verdict == in_the_tree(said).verdict, RENEW
    assert figures(said) == pytest.approx(figures(in_the_tree(said)), rel=1e-6), RENEW


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
