import numpy as np
import pytest

from toxicity.core.errors import RequestError
from toxicity.training.best_metric import require_measurable

NAN = np.nan
NAMES = ("toxic", "insult", "threat", "obscene")
# Of the first and the last both classes; of the second none with it; of the third nobody said anything.
LABELS = np.array([[1, NAN, NAN, 0], [0, 0, NAN, 1], [0, 0, NAN, NAN]], np.float32)


@pytest.mark.parametrize(
    ("metric", "names", "message"),
    [
        ("auc_sarcasm", NAMES, "has the labels toxic, insult, .* what it measures is loss, auc, mean_auc, auc_toxic,"),
        ("auc_insult", NAMES, "all 2 validation rows that `insult` is known of are civil"),
        ("eval_auc_threat", NAMES, "there are no validation rows that `threat` is known of"),
        ("auc", NAMES[1:3], "all 2 validation rows that `insult` is known of are civil"),
        ("mean_auc", NAMES[1:3], "all 2 validation rows are civil"),
        ("auc", NAMES[1:2], "all 2 validation rows are civil"),
        # The only label has no name to choose by.
        ("auc_toxic", NAMES[:1], "this run has no label but toxic; what it measures is loss, auc[.]"),
        ("mean_auc", NAMES[:1], "this run has no label but toxic; what it measures is loss, auc[.]"),
    ],
)
def test_what_cannot_choose_is_refused(metric, names, message):
    labels = LABELS[:, [NAMES.index(name) for name in names]]
    with pytest.raises(RequestError, match=message) as refusal:
        require_measurable(metric, names, labels)
    assert metric not in ("auc", "mean_auc") or "--metric_for_best_model" in str(refusal.value)


@pytest.mark.parametrize("metric", [None, "loss", "eval_loss", "auc", "eval_auc", "auc_obscene", "mean_auc"])
def test_what_is_measured_can_choose(metric):
    require_measurable(metric, NAMES, LABELS)


def test_every_metric_of_an_evaluation_can_choose(make_trainer):
    trainer = make_trainer()
    names = {name.removeprefix("eval_") for name in trainer.evaluate() if name.startswith("eval_")}
    for name in names - {"runtime", "samples_per_second", "steps_per_second"}:
        require_measurable(name, trainer.names_of_labels, trainer.eval_dataset.labels)
