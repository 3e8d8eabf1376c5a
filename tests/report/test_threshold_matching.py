import json

import numpy as np
import pytest

from toxicity.evaluation.threshold_matching import match_thresholds
from toxicity.report.threshold_matching import draw_match, write_matches

SCORES = np.linspace(0, 1, 200), np.linspace(0, 0.5, 200)


def test_a_picture_of_each_attribute_and_the_thresholds(tmp_path):
    results = {name: match_thresholds(*SCORES, [0.7, 0.8]) for name in ("TOXICITY", "THREAT")}
    write_matches(tmp_path / "out", results, dict.fromkeys(results, SCORES))
    assert json.loads((tmp_path / "out" / "thresholds.json").read_text()) == results
    assert sorted(path.name for path in tmp_path.glob("out/*")) == ["THREAT.png", "TOXICITY.png", "thresholds.json"]
    assert (tmp_path / "out" / "THREAT.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("thresholds", "lines"), [([0.7, 0.8], 2), ([0.99], 0)])
def test_the_picture_has_a_corner_for_each_threshold(thresholds, lines):
    result = match_thresholds(*SCORES, thresholds)
    figure = draw_match("TOXICITY", *SCORES, result)
    axes = figure.axes[0]
    corners = [line.get_xydata()[1].tolist() for line in axes.lines]
    matched = [(float(old), found["threshold"]) for old, found in result["thresholds"].items() if "threshold" in found]
    assert len(matched) == lines
    assert corners == [[*corner] for corner in matched]
    assert len(figure.legends) == bool(lines)


def test_scores_that_are_all_equal_are_drawn():
    scores = np.full(100, 0.5), np.full(100, 0.5)
    figure = draw_match("TOXICITY", *scores, match_thresholds(*scores, [0.5]))
    assert "rank correlation" not in figure.get_suptitle()


@pytest.mark.filterwarnings("error")
def test_a_square_with_one_comment_is_drawn():
    scores = np.array([0.5, 0.9]), np.array([0.9, 0.5])
    figure = draw_match("TOXICITY", *scores, match_thresholds(*scores, [0.5]))
    low, high = figure.axes[1].get_ylim()
    assert low == 1 < high
