import numpy as np
import pytest

from benchmarks.random_rows import random_rows
from benchmarks.speed import LABELS, ratios, summarise
from benchmarks.task import Task
from benchmarks.trainers import our_trainer
from toxicity.models.flops import Encoder


def run(train, score, auc=0.9, **more):
    return {
        "training_seconds": train,
        "scoring_seconds": score,
        "trained_rows": 100,
        "scored_rows": 100,
        "peak_memory_bytes": 2**30,
        "auc": auc,
        "peak": 1e6,
        **more,
    }


def test_ratios_are_of_medians():
    ours = [
        run(seconds, 1.0, auc, padding_linear=0.0, padding_attention=0.02)
        for seconds, auc in ((1.0, 0.91), (2.0, 0.92), (9.0, 0.93))
    ]
    results = {
        "ours": ours,
        "hf_padded": [run(8.0, 4.0, auc) for auc in (0.9, 0.92, 0.91)],
        "hf_best": [run(3.0, 1.5)] * 3,
        "ours_labels": [run(2.5, 0.5)] * 3,
        "published": [{"training_seconds": 10.0, "trained_rows": 50, "peak_memory_bytes": 1, "peak": 1e6}],
        "pipeline": [{"scoring_seconds": 6.0, "scored_rows": 100, "peak_memory_bytes": 1, "peak": 1e6}],
    }
    tokens = {"train": 1000, "validation": 1000, "tokenizer_seconds": 0.5}
    table = summarise(results, tokens, Encoder(weights=100, layers=0, width=0))
    got = ratios(table)
    assert got["training_vs_hf_padded"] == pytest.approx(4.0)
    assert got["training_vs_hf_best"] == pytest.approx(1.5)
    assert got["training_vs_hf_dynamic"] is None
    assert got["training_vs_published"] == pytest.approx(10.0)
    assert got["scoring_vs_hf_padded"] == pytest.approx(4.0)
    assert got["scoring_vs_pipeline"] == pytest.approx(6.0 / 1.5), "tokenising is part of ours"
    assert got["training_labels_vs_one"] == pytest.approx(0.8)
    assert got["scoring_labels_vs_one"] == pytest.approx(2.0)
    assert got["training_mfu"] == pytest.approx(3 * 2 * 100 * 1000 / 2.0 / 1e6)
    assert got["scoring_mfu"] == pytest.approx(2 * 100 * 1000 / 1.0 / 1e6)
    assert got["padding_share"] == 0.02
    assert got["auc_difference"] == pytest.approx(0.92 - 0.91)
    assert results.keys() <= LABELS.keys()


def test_a_contender_trains_as_many_labels_as_asked_for(tmp_path):
    random_rows(64, 2048, seed=0).save_to_disk(tmp_path / "validation")
    task = Task(str(tmp_path), 1, "no", "tiny", random_tokens=True, labels=3)
    rows = task.rows("validation")
    trainer = our_trainer(task, rows)
    first, *others = trainer.train_dataset.labels.T
    assert first.tolist() == rows["labels"][:]
    for label in others:
        assert 0 < np.isnan(label).sum() < 20
        assert 0 < (~np.isnan(label) & (label != first)).sum() < 20
    trainer.train()
    scored = trainer.predict(trainer.eval_dataset)
    assert scored.predictions.shape == (64, 3)
    assert scored.metrics["test_mean_auc"] is not None
    assert our_trainer(Task(str(tmp_path), 1, "no", "tiny", random_tokens=True), rows).model.config.num_labels == 1
