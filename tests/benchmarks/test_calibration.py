import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmarks import calibration
from benchmarks.calibration import best_point, redraw, sizes_for, worst


def scores(rows, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2.0, 3.0, rows)
    return logits, rng.random(rows) < 1 / (1 + np.exp(-2 * logits))


def test_at_most_half_of_the_rows_are_fitted_to():
    assert sizes_for(2_000) == [1_000]
    assert sizes_for(8_000) == [1_000, 2_000, 4_000]
    assert sizes_for(50_000) == [1_000, 2_000, 8_000]


def test_the_rule_before_is_the_lowest_threshold_with_that_precision():
    logits = np.arange(100.0)[::-1]
    assert best_point(logits, np.arange(100) < 40, 0.8) == 50.0  # 40 of 50
    assert best_point(logits, np.arange(100) == 99, 0.8) is None


def test_the_worst_over_the_sizes_is_told():
    figures = {"reached_0.8": 0.9, "reached_0.9": 0.95, "reached_0.95": None, "better_share": 0.7}
    other = figures | {"reached_0.8": 0.89, "better_share": None, "recall_lost_0.9": 0.05, "log_loss_change_mean": 0.1}
    found = worst([figures | {"recall_lost_0.9": 0.02, "log_loss_change_mean": -0.1}, other])
    assert found == {
        **{"reached_0.8": 0.89, "reached_0.9": 0.95, "reached_0.95": None, "better_share": 0.7},
        **{"recall_lost_0.9": 0.05, "log_loss_change_mean": 0.1},
    }


def test_precisions_are_kept_and_calibration_does_not_hurt():
    found = redraw(*scores(6_000), 1_000, 20)
    assert all(found[f"reached_{target}"] >= 0.8 for target in (0.8, 0.9))
    assert found["log_loss_change_mean"] < 0.0005
    assert 0 < found["recall_lost_0.9"] < 0.15


def test_the_last_line_has_the_keys(tmp_path, monkeypatch, capsys):
    logits, toxic = scores(400)
    (tmp_path / "report").mkdir()
    table = pa.table({"label": pa.array([*toxic[:-1].astype(np.int8), None]), "score": 1 / (1 + np.exp(-logits))})
    pyarrow.parquet.write_table(table, tmp_path / "report" / "predictions.parquet")
    row = {"metrics": {"auc": 0.99}, "probe": {"largest_shift": ["muslim", -0.2]}}
    (tmp_path / "report" / "benchmark.json").write_text(json.dumps(row))
    monkeypatch.setattr("sys.argv", ["calibration", "--model", str(tmp_path), "--redraws", "2"])
    calibration.main()
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert set(found) - {"sizes"} == {
        *("reached_0.8", "reached_0.9", "reached_0.95", "recall_lost_0.9", "log_loss_change_mean", "better_share"),
        *("largest_identity_shift", "auc"),
    }
    assert (found["largest_identity_shift"], found["auc"]) == (0.2, 0.99)
    assert list(found["sizes"]) == ["199"]
    assert pytest.approx(found["sizes"]["199"]["held_out"]) == 200
