"""A prediction comes from a plan or from the first iteration, and out of a log as it went in."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given

from tests.support.predictions import PREDICTION, PREDICTIONS, around
from whimbrel.engine import records
from whimbrel.engine.belief import Belief, CurvePoint
from whimbrel.engine.estimate import Estimate, Range
from whimbrel.engine.foresight import Outlook
from whimbrel.engine.plan import Candidate, Predicted, Strategy
from whimbrel.engine.prediction import FIRST_ITERATION, PLAN, Prediction, of_outlook, of_predicted, prediction_of

BELIEF = Belief(
    total_bytes=1 << 28,
    zero_bytes=Estimate(0.0),
    points=(CurvePoint(1.0, 1e6, 1e4),),
    bandwidth_bytes_per_s=Estimate(1e8),
    pipe_bytes=Estimate(0.0),
    fixed_s=Estimate(0.02),
    preparation_s=Estimate(0.1),
    model_time=Estimate(1.1, 0.05, "from 3 migrations"),
)
PREDICTED = Predicted(
    candidate=Candidate(policy="fixed", strategy=Strategy.PLAIN),
    moves=1.0,
    meets=0.93,
    total_s=around(10.0),
    downtime_s=around(0.2),
    transferred_bytes=around(1e9),
    iterations=Range(3, 4, 5),
    components={"iterations": around(9.8)},
)


def test_the_candidate_of_a_plan_is_predicted_as_it_stands_there_with_what_the_model_was_thought_to_be_off_by() -> None:
    made = of_predicted(PREDICTED, BELIEF)
    assert made is not None
    assert (made.basis, made.policy, made.meets, made.made_at_s) == (PLAN, "fixed", 0.93, 0.0)
    assert (made.total_s, made.downtime_s) == (PREDICTED.total_s, PREDICTED.downtime_s)
    assert (made.transferred_bytes, made.iterations) == (PREDICTED.transferred_bytes, Range(3, 4, 5))
    assert made.components == {"iterations": around(9.8)}
    assert made.model["time"] == BELIEF.model_time
    assert set(made.model) == {"time", "bytes", "downtime"}


@pytest.mark.parametrize(
    "nothing",
    [
        replace(PREDICTED, total_s=None),
        replace(PREDICTED, downtime_s=None),
        replace(PREDICTED, transferred_bytes=None),
    ],
)
def test_of_a_candidate_that_moves_nothing_nothing_is_predicted(nothing: Predicted) -> None:
    assert of_predicted(nothing, BELIEF) is None


def test_after_the_first_iteration_the_live_forecast_is_the_prediction() -> None:
    outlook = Outlook(
        at_s=5.0,
        iteration=2,
        ends_s=Range(9.0, 10.0, math.inf),
        downtime_s=Range(0.1, 0.2, 0.3),
        transferred_bytes=around(1e9),
        meets=0.7,
    )
    made = of_outlook(outlook, "fixed")
    assert (made.basis, made.policy, made.meets, made.made_at_s) == (FIRST_ITERATION, "fixed", 0.7, 5.0)
    assert (made.total_s, made.downtime_s, made.iterations) == (outlook.ends_s, outlook.downtime_s, None)
    assert made.components == {"iterations": Range(8.8, 9.8, math.inf)}, "up to the guest's stop"


@given(PREDICTIONS)
def test_a_prediction_comes_back_out_of_its_line_as_it_was(made: Prediction) -> None:
    kind, fields = records.of_prediction(made)
    assert kind == "prediction"
    line = json.loads(json.dumps(fields, allow_nan=False))
    assert prediction_of({"n": 7, "t_ns": 1, "kind": kind, **line}) == made


def test_a_line_that_lacks_what_it_should_have_is_refused() -> None:
    _, fields = records.of_prediction(PREDICTION)
    for name in fields:
        if name != "iterations":  # where nothing could be said of them, nothing is missing
            with pytest.raises((KeyError, TypeError)):
                prediction_of({key: value for key, value in fields.items() if key != name})
