import random
import subprocess
import sys

import numpy as np
import pytest
from builders import CIVIL_WORDS, ROOT, TOXIC_WORDS
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

from toxicity.evaluation.label_errors import label_quality

ROWS = 4_000


def noisy_comments(seed):
    """Comments whose words are of their own class in four of five cases, their labels, and those that were flipped."""
    rng = random.Random(seed)
    labels = np.array([int(rng.random() < 0.2) for _ in range(ROWS)], np.int8)
    words = (CIVIL_WORDS, TOXIC_WORDS)
    texts = [
        " ".join(rng.choice(words[label if rng.random() < 0.8 else 1 - label]) for _ in range(rng.randint(5, 30)))
        for label in labels
    ]
    flipped = np.array(rng.sample(range(ROWS), ROWS // 50))
    labels[flipped] = 1 - labels[flipped]
    return texts, labels, flipped


def test_the_first_twentieth_holds_the_labels_that_were_flipped():
    pytest.importorskip("cleanlab", reason="requirements-audit.txt is not installed")
    texts, labels, flipped = noisy_comments(seed=0)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    scores = cross_val_predict(model, texts, labels, cv=4, method="predict_proba")[:, 1]
    quality, suspect = label_quality(labels, scores)
    worst = np.argsort(quality, kind="stable")[: ROWS // 20]
    assert np.isin(flipped, worst).mean() >= 0.8
    assert suspect.dtype == bool
    assert suspect[flipped].mean() > 0.6
    assert suspect.mean() < 0.05
    np.testing.assert_allclose(quality, np.where(labels == 1, scores, 1 - scores))


def test_scores_that_are_too_low_as_a_whole_do_not_make_all_of_a_class_suspect():
    pytest.importorskip("cleanlab", reason="requirements-audit.txt is not installed")
    labels = np.repeat([0, 1], [900, 100]).astype(np.int8)
    scores = np.where(labels == 1, 0.3, 0.02) + np.linspace(0, 0.01, 1_000)
    scores[899] = 0.9
    suspect = label_quality(labels, scores).suspect
    assert np.flatnonzero(suspect).tolist() == [899]


def test_without_cleanlab_the_fix_is_named(tmp_path):
    (tmp_path / "cleanlab.py").write_text("raise ModuleNotFoundError('No module', name='cleanlab')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from toxicity.core.errors import refusals_exit_cleanly\n"
        "from toxicity.evaluation.label_errors import require_cleanlab\n"
        "with refusals_exit_cleanly(): require_cleanlab()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: cleanlab is not installed: pip install -r requirements-audit.txt\n"
