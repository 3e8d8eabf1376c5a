import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from toxicity.core.errors import RequestError
from toxicity.core.run_folder import RunFolder
from toxicity.report.predictions import read_predictions, require_same_rows

COLUMNS = {
    "id": pa.array([7, 8]),
    "label": pa.array([0, 1], pa.int8()),
    "score": [0.25, 0.75],
    "label_insult": pa.array([None, 1], pa.int8()),
    "score_insult": [0.5, 0.125],
}


def run_with(tmp_path, **changed):
    run = RunFolder(tmp_path / "run")
    run.report.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table(COLUMNS | changed), run.report / "predictions.parquet")
    return run


def test_labels_and_scores_of_the_labels_asked_for(tmp_path):
    found = read_predictions(run_with(tmp_path), ("toxic", "insult"))
    assert found.ids.to_pylist() == [7, 8]
    assert found.labels.tolist() == [[0, -1], [1, 1]]
    assert found.scores.tolist() == [[0.25, 0.5], [0.75, 0.125]]
    assert read_predictions(run_with(tmp_path), ("toxicity",)).scores.tolist() == [[0.25], [0.75]]


@pytest.mark.parametrize(
    ("labels", "changed", "message"),
    [
        (("toxic", "threat"), {}, "did not learn the label `threat`"),
        (("toxic",), {"score": [0.5, np.nan]}, "are no numbers: train with a lower --learning_rate"),
    ],
)
def test_what_says_nothing_is_refused(tmp_path, labels, changed, message):
    with pytest.raises(RequestError, match=message):
        read_predictions(run_with(tmp_path, **changed), labels)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 nonsense"])
def test_a_folder_without_predictions_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "predictions.parquet").write_bytes(content)
    with pytest.raises(RequestError, match=r"predictions.parquet: name the folder of a finished run"):
        read_predictions(RunFolder(tmp_path), ("toxic",))


def test_other_rows_are_refused_and_other_labels_told(tmp_path, caplog):
    run = run_with(tmp_path)
    found = read_predictions(run, ("toxic",))
    require_same_rows(run, found, pa.chunked_array([["7"], ["8"]], pa.large_string()), found.labels)
    assert caplog.text == ""
    ten = found._replace(ids=pa.chunked_array([range(10)]), labels=np.zeros((10, 1), np.int8))
    mended = ten.labels.copy()
    mended[3:5] = 1
    require_same_rows(run, ten, ten.ids, mended)
    assert "Labels of 2 rows are not those that" in caplog.text
    # Rows of a file without ids are numbered, whichever file it is.
    mended[5] = 1
    with pytest.raises(RequestError, match="was validated on other rows"):
        require_same_rows(run, ten, ten.ids, mended)
    for ids in ([7, 9], [8, 7], [7]):
        with pytest.raises(RequestError, match="was validated on other rows"):
            require_same_rows(run, found, pa.chunked_array([ids]), found.labels)
