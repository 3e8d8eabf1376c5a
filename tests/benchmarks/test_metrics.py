import json

import pytest

from benchmarks import label_metrics
from benchmarks.label_metrics import own_figures, random_labels, sklearn_figures
from benchmarks.metrics import describe_labels
from toxicity.evaluation.label_metrics import judge_labels


def test_both_contenders_compute_the_same_figures():
    logits, targets, identities = random_labels(20_000, 3)
    found, _ = judge_labels(logits, targets, "abc", identities, 0)
    own, other = own_figures(found["labels"]), sklearn_figures(logits, targets, identities)
    assert len(own) == len(other) == 3 * (4 + 27)
    defined = [pair for pair in zip(own, other, strict=True) if pair[0] is not None]
    assert len(defined) > 3 * 20
    assert [pair[0] for pair in defined] == pytest.approx([pair[1] for pair in defined], rel=0, abs=1e-12)


def test_the_result_is_a_line_that_the_other_benchmark_prints(monkeypatch, capsys):
    monkeypatch.setattr(label_metrics, "stay_on_one_core", lambda: "one core")  # the tests after this one need more
    monkeypatch.setattr("sys.argv", ["label_metrics", "--rows", "3000", "--labels", "2", "--rounds", "1"])
    monkeypatch.setattr(label_metrics, "sklearn_figures", lambda *rows: own_figures(judged(*rows)))
    label_metrics.main()
    sentence, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert set(found) == {"labels", "labels_seconds_one_core", "labels_vs_sklearn", "labels_largest_difference"}
    assert sentence == describe_labels(found)
    assert "2 labels" in sentence
    assert found["labels_largest_difference"] == 0


def judged(logits, targets, identities):
    return judge_labels(logits, targets, ["label 1", "label 2"], identities, 0)[0]["labels"]
