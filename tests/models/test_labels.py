"""Which logits are taken for toxicity: from the labels in a config, and from what is asked for."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from transformers import BertConfig

from toxicity.core.errors import RequestError
from toxicity.evaluation.calibration import Calibration
from toxicity.models.labels import Labels, calibrations_in, labels_in

MULTI = "multi_label_classification"
DAVIDSON = ["hate", "offensive", "neither"]


def config(labels, problem_type=None, **options):
    id2label = dict(enumerate(labels))
    return BertConfig(id2label=id2label, label2id={}, problem_type=problem_type, **options)


@pytest.mark.parametrize(
    ("labels", "problem_type", "expected"),
    [
        (["LABEL_0"], None, Labels((0,), (), {})),
        (["LABEL_0"], "regression", Labels((0,), (), {})),
        (["x", "Toxic"], None, Labels((1,), (0,), {})),
        ([" toxicity ", "x"], None, Labels((0,), (1,), {})),
        (["x", "toxic"], MULTI, Labels((1,), (), {})),
        (["toxic", "severe_toxic", "Insult"], MULTI, Labels((0,), (), {"severe_toxicity": 1, "insult": 2})),
        (["toxic", "severe_toxic", "insult"], None, Labels((0,), (), {"severe_toxicity": 1, "insult": 2})),
        (["neutral", "toxic", "spam"], None, Labels((1,), (0, 2), {})),
        (["nothate", "hate"], None, Labels((1,), (0,), {})),
        (["OFF", "NOT"], "single_label_classification", Labels((0,), (1,), {})),
        (["non-toxic", "toxic"], None, Labels((1,), (0,), {})),
        (["not offensive", "offensive"], None, Labels((1,), (0,), {})),
    ],
)
def test_names_that_say_which_label_is_toxic(labels, problem_type, expected):
    assert labels_in(config(labels, problem_type), "m") == expected


@pytest.mark.parametrize(
    ("labels", "problem_type"),
    [
        (["LABEL_0", "LABEL_1"], None),
        (["neutral", "hate"], None),
        (["0", "1"], None),
        (["negative", "positive"], None),
        (["toxic", "hate"], None),
        (["toxic", "hate", "neutral"], None),
        (DAVIDSON, None),
        (["nothate", "hate"], MULTI),
        (["obscene", "threat"], MULTI),
    ],
)
def test_names_that_leave_it_open_are_refused(labels, problem_type):
    with pytest.raises(RequestError, match=f"m has the labels {', '.join(labels)}, .* --toxic_label NAME"):
        labels_in(config(labels, problem_type), "m")


@pytest.mark.parametrize(
    ("labels", "problem_type", "wanted", "expected"),
    [
        (["LABEL_0", "LABEL_1"], None, ["LABEL_1"], Labels((1,), (0,), {})),
        (["LABEL_0", "LABEL_1"], None, ["1"], Labels((1,), (0,), {})),
        (["no", "Yes"], None, [" yes"], Labels((1,), (0,), {})),
        (["no", "yes"], None, ["label_0"], Labels((0,), (1,), {})),
        (["1", "0"], None, ["1"], Labels((0,), (1,), {})),
        (DAVIDSON, None, ["offensive", "hate"], Labels((0, 1), (2,), {})),
        (DAVIDSON, None, ["hate"], Labels((0,), (1, 2), {})),
        (["toxic", "civil"], None, ["civil"], Labels((1,), (0,), {})),
        (["obscene", "threat"], MULTI, ["threat"], Labels((1,), (), {"obscene": 0, "threat": 1})),
        (["LABEL_0"], MULTI, ["0"], Labels((0,), (), {})),
    ],
)
def test_labels_that_are_asked_for(labels, problem_type, wanted, expected):
    asked = labels_in(config(labels, problem_type), "m", wanted)
    assert asked == expected
    # As an export keeps them.
    kept = config(labels, problem_type, toxicity={"toxic_label": wanted})
    assert labels_in(kept, "m") == expected


@pytest.mark.parametrize(
    ("labels", "problem_type", "wanted", "message"),
    [
        (DAVIDSON, None, ["toxic"], "--toxic_label toxic: m has no such label; it has hate, offensive, neither"),
        (DAVIDSON, None, ["3"], "--toxic_label 3: m has no such label"),
        (DAVIDSON, None, DAVIDSON, "leave one out of --toxic_label"),
        (["obscene", "threat"], MULTI, ["0", "1"], "independent of each other, .*: name one as --toxic_label"),
    ],
)
def test_labels_that_cannot_be_meant(labels, problem_type, wanted, message):
    with pytest.raises(RequestError, match=message):
        labels_in(config(labels, problem_type), "m", wanted)


def test_what_is_asked_for_wins_over_what_an_export_keeps():
    kept = config(DAVIDSON, toxicity={"toxic_label": ["hate"]})
    assert labels_in(kept, "m", ["offensive"]).toxic == (1,)


def test_probabilities_of_exclusive_classes_add_up():
    logits = np.random.default_rng(0).normal(scale=30, size=(50, 3)).astype(np.float32)
    picked = Labels((0, 1), (2,), {}).pick(logits)
    assert picked.shape == (50, 1)
    assert expit(picked[:, 0]) == pytest.approx(softmax(logits.astype(np.float64), axis=1)[:, :2].sum(axis=1))
    assert np.isfinite(Labels((0, 1), (2,), {}).pick(1e4 * logits)).all()
    other_way = Labels((2,), (0, 1), {}).pick(logits)
    assert other_way.tolist() == (-picked).tolist()


def test_single_labels_are_picked_to_the_last_bit():
    logits = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    wide = logits.astype(np.float64)
    assert Labels((1,), (0,), {}).pick(logits)[:, 0].tolist() == (wide[:, 1] - wide[:, 0]).tolist()
    assert Labels((2,), (), {"insult": 0}).pick(logits).tolist() == wide[:, [2, 0]].tolist()


def test_which_label_is_scored_is_logged_where_it_is_not_called_toxic(caplog):
    with caplog.at_level("INFO", logger="toxicity"):
        labels_in(config(["non-toxic", "toxic"]), "m")
        assert caplog.text == ""
        labels_in(config(DAVIDSON), "m", ["hate", "offensive"])
    assert "m has the labels hate, offensive, neither; the score is the probability of `hate` and `offensive`." in (
        caplog.text
    )


SECTION = {"toxic_label": "hate", "labels": {name: {"temperature": 2.0} for name in ("hate", "Threat", "obscene")}}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], Labels((0,), (), {"Threat": 1, "obscene": 2})),
        (["THREAT"], Labels((1,), (), {"hate": 0, "obscene": 2})),
        (["2"], Labels((2,), (), {"hate": 0, "Threat": 1})),
    ],
)
def test_of_several_labels_of_a_run_all_are_there_under_their_own_names(wanted, expected):
    assert labels_in(config(SECTION["labels"], MULTI, toxicity=SECTION), "m", wanted) == expected


def test_several_labels_of_a_run_are_not_added_up():
    with pytest.raises(RequestError, match="independent of each other"):
        labels_in(config(SECTION["labels"], MULTI, toxicity=SECTION), "m", ["hate", "obscene"])


def test_a_name_as_it_is_written_comes_before_one_in_other_letters():
    twins = config(["Hate", "hate"], MULTI, toxicity={"toxic_label": "hate", "labels": {"hate": {}, "Hate": {}}})
    assert labels_in(twins, "m") == Labels((1,), (), {"Hate": 0})
    assert labels_in(twins, "m", ["Hate"]).toxic == (0,)
    with pytest.raises(RequestError, match="independent of each other"):
        labels_in(twins, "m", ["HATE"])


def test_calibrations_are_in_the_order_of_the_logits_and_none_for_other_models():
    labels = dict(sorted(SECTION["labels"].items(), reverse=True))
    found = calibrations_in(config(["hate", "Threat", "obscene"], MULTI, toxicity=SECTION | {"labels": labels}))
    assert list(found) == ["hate", "Threat", "obscene"]
    assert found["Threat"] == Calibration(temperature=2.0)
    for section in (None, {}, {"temperature": 2.0, "toxic_label": ["hate"]}, {"labels": None}):
        assert calibrations_in(config(["hate", "Threat"], MULTI, toxicity=section)) == {}


DAMAGES = [
    {"labels": "hate"},
    {"labels": ["hate", "Threat", "obscene"]},
    {"labels": 3},
    {"labels": {}},
    {"labels": {"hate": {}, "Threat": {}}},
    {"labels": {"hate": {}, "Threat": {}, "obscene": {}, "insult": {}}},
    {"labels": {"hate": {}, "Threat": {}, "obscene": "high"}},
    {"labels": {"hate": {}, "Threat": {}, "obscene": {"temperature": "warm"}}},
    {"labels": {"hate": {}, "Threat": {}, "obscene": {"thresholds": [0.5]}}},
    {"toxic_label": "toxic"},
    {"toxic_label": 3},
    {"toxic_label": [["hate"]]},
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_a_damaged_section_is_found_out(damage):
    with pytest.raises((AttributeError, TypeError, ValueError)):
        calibrations_in(config(["hate", "Threat", "obscene"], MULTI, toxicity=SECTION | damage))


def test_a_name_that_is_no_text_is_found_out():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        calibrations_in(config(["hate", "\ud800"], MULTI, toxicity={"labels": {"hate": {}, "\ud800": {}}}))
