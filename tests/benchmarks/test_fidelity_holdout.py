"""The six migrations that were predicted before they were recorded, by a model that was frozen."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from benchmarks.fidelity import holdout, plan, predict
from benchmarks.fidelity.compare import as_text, compare
from benchmarks.fidelity.records import FOLDER, load_calibration
from whimbrel.engine.errors import BadInput
from whimbrel.guest.spec import PAGE_BYTES

FROZEN = holdout.load()
RUNS = holdout.load_recorded()
HELD = ("fast path", "simulator, curve level", "simulator, page level")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The records of the tree, where they may be changed."""
    return Path(shutil.copytree(FOLDER, tmp_path / "recorded"))


# ---- what was predicted, and what came


def test_all_six_are_predicted_and_on_record_and_both_know_the_same_guests() -> None:
    recorded = {run.known.case: run.known for run in RUNS}
    assert [known.case for known in FROZEN.known] == [cell.name for cell in holdout.CELLS]
    assert set(recorded) == {known.case for known in FROZEN.known}
    for known in FROZEN.known:
        assert recorded[known.case].classes == known.classes
        assert recorded[known.case].limit_s == known.limit_s
    predict.check(FROZEN.predictions, FROZEN.known, load_calibration())


def test_the_bar_is_met_by_each_way_that_it_is_for_with_room() -> None:
    found = {comparison.by.removeprefix("hold-out, "): comparison for comparison in holdout.compared()}
    for kind in HELD:
        assert found[kind].met, as_text(found[kind])
        assert (found[kind].wrong, found[kind].far) == ((), ())
        assert found[kind].row("total time").median <= 0.02, as_text(found[kind])
        assert found[kind].row("bytes").median <= 0.02, as_text(found[kind])


def test_they_tell_the_simulator_from_the_published_recurrence() -> None:
    """By iterations, as the grid does."""
    found = {comparison.by.removeprefix("hold-out, "): comparison for comparison in holdout.compared()}
    literature = found["published model: recurrence"].row("iterations").median
    assert all(found[kind].row("iterations").median < literature / 2 for kind in HELD)


@pytest.mark.parametrize("predictor", predict.HELD[:2])
def test_the_model_of_today_does_as_well(predictor: predict.Predictor) -> None:
    """The file of predictions stays as it was; this is what the tree says of the same inputs."""
    said = predict.predict_all(FROZEN.known, load_calibration(), [predictor])
    found = compare(RUNS, said)
    assert found.met, as_text(found)
    assert found.row("total time").median <= 0.02, as_text(found)


# ---- the cells


def test_no_cell_is_one_of_the_grid_and_no_memory_is_of_a_size_that_loses_writes() -> None:
    grid = {(case.ratio, case.limit_s) for case in plan.cases()}
    assert len({cell.name for cell in holdout.CELLS}) == len(holdout.CELLS) == 6
    for cell in holdout.CELLS:
        guest = cell.guest(4e7)
        assert (cell.ratio, cell.limit_s) not in grid
        assert guest.spec.size_bytes == cell.filled_bytes < cell.ram_bytes == guest.ram_bytes
        assert guest.ram_bytes % (256 << 10)
        assert guest.spec.rate_bytes_per_s == pytest.approx(cell.ratio * 4e7, abs=2 * PAGE_BYTES)


def test_they_differ_from_each_other_in_what_they_try() -> None:
    assert {len(cell.writers) for cell in holdout.CELLS} == {1, 2}
    assert len({cell.link_rate for cell in holdout.CELLS}) == 3
    assert len({cell.ram_bytes for cell in holdout.CELLS}) == 2
    assert all(a.writers != b.writers for a, b in itertools.combinations(holdout.CELLS, 2))


# ---- the order of things


def test_what_is_on_record_is_not_predicted_any_more(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"holdout-runs\.json"):
        holdout.freeze(load_calibration(), folder)
    assert holdout.load(folder) == FROZEN


def test_records_beside_other_predictions_are_refused(folder: Path) -> None:
    path = folder / holdout.FROZEN
    path.write_text(path.read_text().replace('"iterations": 8', '"iterations": 9', 1))
    with pytest.raises(BadInput, match="before it was recorded"):
        holdout.compared(folder)


def test_nothing_is_recorded_that_was_not_predicted(folder: Path) -> None:
    assert len(holdout.record(folder, only="uniform-0.5-100ms")) == len(RUNS)  # all on record: nothing is done
    (folder / holdout.RUNS).unlink()
    assert holdout.record(folder, only="no such cell") == ()
    (folder / holdout.FROZEN).unlink()
    with pytest.raises(BadInput, match="predict --hold-out"):
        holdout.record(folder)


def test_without_records_there_is_nothing_to_compare(folder: Path) -> None:
    (folder / holdout.RUNS).unlink()
    assert holdout.compared(folder) == []


def test_what_is_saved_is_read_back(folder: Path) -> None:
    holdout.save(RUNS[:2], folder)
    assert holdout.load_recorded(folder) == RUNS[:2]


def test_the_models_digest_follows_from_every_file_and_its_name(tmp_path: Path) -> None:
    digests = [holdout.model_digest(tmp_path)]
    for name, text in (("sim/a.py", "1"), ("sim/a.py", "2"), ("sim/deep/b.py", "2"), ("engine/c.py", "")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        digests.append(holdout.model_digest(tmp_path))
    (tmp_path / "sim/notes.md").write_text("no part of the model")
    assert holdout.model_digest(tmp_path) == digests[-1]
    (tmp_path / "sim/a.py").rename(tmp_path / "sim/z.py")
    digests.append(holdout.model_digest(tmp_path))
    assert len(set(digests)) == len(digests)
