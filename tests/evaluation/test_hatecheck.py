import json

import numpy as np
import pytest

from toxicity.evaluation.hatecheck import MOST_ROWS_SHOWN, describe_hatecheck, hate_labels, hatecheck

THRESHOLDS = {"0.5": 0.3, "0.9": 0.6}
#                 flagged at 0.3:  no   yes   yes | yes  yes | yes
SCORES = np.array([0.1, 0.5, 0.7, 0.6, 0.3, 0.9], dtype=np.float32)
HATEFUL = np.array([False, False, False, True, True, True])
FUNCTIONALITIES = ["greet_nh", "greet_nh", "chair_nh", "order_h", "order_h", "joke_h"]
TARGETS = ["bakers", "cooks", "", "bakers", "cooks", "bakers"]


def judged(scores=SCORES, thresholds=THRESHOLDS, **options):
    values = {"hateful": HATEFUL, "functionalities": FUNCTIONALITIES, "targets": TARGETS} | options
    return hatecheck({"toxic": scores}, {"toxic": thresholds}, **values)


def test_accuracies_worked_by_hand():
    found = judged()
    assert found["thresholds"] == THRESHOLDS
    assert (found["cases"], found["hateful_cases"]) == (6, 3)
    # At 0.6 the float32 0.6 is just above it; 0.3 just above 0.3.
    assert found["accuracy"] == pytest.approx({"0.5": 4 / 6, "0.9": 4 / 6})
    assert found["hateful_accuracy"] == pytest.approx({"0.5": 1.0, "0.9": 2 / 3})
    assert found["non_hateful_accuracy"] == pytest.approx({"0.5": 1 / 3, "0.9": 2 / 3})
    by_name = {name: row["accuracy"] for name, row in found["functionalities"].items()}
    assert by_name == {
        "greet_nh": {"0.5": 0.5, "0.9": 1.0},
        "chair_nh": {"0.5": 0.0, "0.9": 0.0},
        "order_h": {"0.5": 1.0, "0.9": 0.5},
        "joke_h": {"0.5": 1.0, "0.9": 1.0},
    }
    assert found["functionalities"]["order_h"]["non_hateful_accuracy"] == {"0.5": None, "0.9": None}
    assert [*found["targets"]] == ["bakers", "cooks"]  # a case without a group is of none
    bakers, cooks = found["targets"].values()
    assert (bakers["cases"], bakers["hateful_cases"], bakers["accuracy"]) == (3, 2, {"0.5": 1.0, "0.9": 1.0})
    assert cooks["accuracy"] == {"0.5": 0.5, "0.9": 0.5}
    assert cooks["hateful_accuracy"] == {"0.5": 1.0, "0.9": 0.0}
    json.dumps(found, allow_nan=False)


def test_a_score_at_the_threshold_is_flagged_and_without_thresholds_it_is_at_a_half():
    found = judged(np.array([0.4999, 0.5, 0.4999, 0.5, 0.4999, 0.5]), {})
    assert found["thresholds"] == {"default": 0.5}
    assert found["accuracy"] == {"default": 4 / 6}
    assert "| Right" in describe_hatecheck(found)


def test_the_labels_that_are_judged():
    assert hate_labels(["toxic"]) == ["toxic"]
    assert hate_labels(["toxic", "insult", "identity_hate", "threat"]) == ["toxic", "identity_hate"]
    assert hate_labels(["toxicity", "Identity-Attack"]) == ["toxicity", "Identity-Attack"]
    assert hate_labels(["identity_attack", "toxicity"]) == ["identity_attack"]


def test_several_labels_each_at_its_own_thresholds():
    scores = {"toxic": SCORES, "identity_hate": SCORES / 10}
    thresholds = {"toxic": THRESHOLDS, "identity_hate": {"0.9": 0.06}}
    found = hatecheck(scores, thresholds, HATEFUL, FUNCTIONALITIES, TARGETS)
    assert found == judged() | {"labels": {"toxic": judged(), "identity_hate": found["labels"]["identity_hate"]}}
    assert found["labels"]["identity_hate"]["accuracy"] == {"0.9": judged()["accuracy"]["0.9"]}
    described = describe_hatecheck(found)
    assert described.index("By the label `toxic`:") < described.index("By the label `identity_hate`:")


def test_the_tables_show_the_worst_first():
    described = describe_hatecheck(judged())
    names = [line.split("`")[1] for line in described.splitlines() if line.startswith("| `")]
    # By the accuracy at the threshold for 0.9, and within it in the order of the file.
    assert names == ["chair_nh", "order_h", "greet_nh", "joke_h", "cooks", "bakers"]
    assert "| not hateful | 3      | 33.3 %      | 66.7 %      |" in described
    assert "at 0.300 for precision 0.5, 0.600 for precision 0.9." in described
    assert "abuse that is about no protected group" in described


def test_without_targets_there_is_no_table_of_them():
    found = judged(targets=None)
    assert found["targets"] == {}
    assert "Target group" not in describe_hatecheck(found)


def test_names_cannot_break_the_tables_and_long_tables_are_cut():
    names = [f"a|b`{number}\x1b" for number in range(100)]
    found = hatecheck(
        {"toxic": np.arange(100) / 100}, {}, np.arange(100) >= 90, functionalities=names, targets=["cooks"] * 100
    )
    described = describe_hatecheck(found)
    assert "\x1b" not in described
    rows = [line for line in described.splitlines() if line.startswith("| `a¦b'")]
    assert len(rows) == MOST_ROWS_SHOWN
    assert f"The worst {MOST_ROWS_SHOWN} of 100." in described
    assert all(row.endswith("0.0 % |") for row in rows)
    assert len(found["functionalities"]) == 100
