"""Several labels in the Trainer: what is learned, measured, chosen by, saved and gone on with."""

import copy

import numpy as np
import pyarrow as pa
import pytest
import torch
from builders import make_comments
from datasets import Dataset
from sklearn.metrics import log_loss, roc_auc_score
from training_steps import LABELS, dataset_of, ids_of, objective_with_labels, weights_of
from transformers import AutoModelForSequenceClassification, pipeline

from toxicity.core.errors import RequestError
from toxicity.core.objective_arguments import ObjectiveArguments
from toxicity.core.schema import NAMES, SUBTYPES, label_column
from toxicity.training.targets import objective_of, validation_labels

NAN = np.nan


@pytest.fixture
def objective(tokenizer):
    return objective_with_labels(dataset_of(tokenizer))


def comments(**columns):
    """Rows with the columns of `data.sources.Splits`, null where they are not given."""
    rows = len(next(iter(columns.values())))
    everything = {"id": range(rows), "text": ["words"] * rows} | columns
    for name in NAMES:
        everything.setdefault(name, pa.nulls(rows, pa.float32()))
    return Dataset(pa.table(everything))


def shares(*values):
    return pa.array(values, pa.float64())


TAUGHT = {"target": shares(0.6, None, 0.2, 0), label_column("insult"): shares(0.4, 1, None, None)}


def test_labels_are_read_where_somebody_said_something():
    split, names = comments(**TAUGHT), ("toxicity", "insult")
    hard = objective_of(split, ObjectiveArguments(), names_of_labels=names)
    np.testing.assert_array_equal(hard.labels, [[1, 0], [NAN, 1], [0, NAN], [0, NAN]])
    np.testing.assert_array_equal(hard.labels, validation_labels(split, names))
    assert hard.labels.dtype == np.float32
    soft = objective_of(split, ObjectiveArguments(targets="soft"), names_of_labels=names)
    np.testing.assert_allclose(soft.labels, [[0.6, 0.4], [NAN, 1], [0.2, NAN], [0, NAN]])
    # Half of the loss each, over three quarters and half of the rows.
    np.testing.assert_allclose(hard.coefficients, [0.5 / 0.75, 0.5 / 0.5])
    np.testing.assert_allclose(hard.base_rates, [1 / 3, 1 / 2])


def test_annotators_smooth_every_label():
    split = comments(**TAUGHT, toxicity_annotator_count=pa.array([3, 4, 8, None], pa.int32()))
    labels = objective_of(split, ObjectiveArguments(targets="smoothed"), names_of_labels=("toxicity", "insult")).labels
    np.testing.assert_allclose(labels, [[2.8 / 5, 2.2 / 5], [NAN, 5 / 6], [2.6 / 10, NAN], [0, NAN]], rtol=1e-6)


@pytest.mark.parametrize(
    ("label", "taught"), [("insult", "insult"), ("Insult", "insult"), ("identity hate", "identity_attack")]
)
def test_a_label_is_no_auxiliary_target_besides(caplog, label, taught):
    # Not asked for either, as a column of it may be what could not be read.
    subtypes = dict.fromkeys(SUBTYPES, pa.array([0, 1, 0, 1], pa.float32())) | {taught: pa.nulls(4, pa.float32())}
    columns = {"target": TAUGHT["target"], label_column(label): TAUGHT[label_column("insult")]}
    with caplog.at_level("INFO", logger="toxicity"):
        objective = objective_of(
            comments(**columns, **subtypes),
            ObjectiveArguments(auxiliary_targets=["subtypes"]),
            names_of_labels=("toxicity", label),
        )
    assert objective.names == tuple(name for name in SUBTYPES if name != taught)
    assert len(objective.coefficients) == 2 + 5
    assert f"as they are labels: {taught}" in caplog.text


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, None),
        # Two negatives and a positive; one of each.
        (["balanced"], [2, 1]),
        (["3"], [3, 3]),
        (["0.5", "balanced"], [0.5, 1]),
    ],
)
def test_weights_of_the_positive_classes(asked, expected):
    arguments = ObjectiveArguments(positive_class_weight=asked)
    weights = objective_of(comments(**TAUGHT), arguments, names_of_labels=("toxicity", "insult")).positive_weights
    assert (None if weights is None else weights.tolist()) == expected


def test_a_label_of_one_class_keeps_its_weight():
    split = comments(target=shares(0, 1, 0), **{label_column("threat"): shares(0, 0, 0)})
    arguments = ObjectiveArguments(positive_class_weight=["balanced"])
    assert objective_of(split, arguments, names_of_labels=("toxic", "threat")).positive_weights.tolist() == [2, 1]


def test_other_numbers_of_weights_than_labels_are_refused():
    arguments = ObjectiveArguments(positive_class_weight=["1", "2", "3"])
    with pytest.raises(RequestError, match="has 3 values, and there are 2 labels"):
        objective_of(comments(**TAUGHT), arguments, names_of_labels=("toxicity", "insult"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positive_class_weight": ["0"]}, "--positive_class_weight 0: give a number above 0"),
        ({"positive_class_weight": ["nan"]}, "--positive_class_weight nan: give"),
        ({"positive_class_weight": ["equal"]}, "--positive_class_weight equal: give .* `balanced`"),
        ({"focal_gamma": -1.0}, "--focal_gamma is -1"),
        ({"focal_gamma": float("inf")}, "--focal_gamma is inf"),
    ],
)
def test_weights_that_mean_nothing_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        ObjectiveArguments(**options)


def test_each_label_is_learned_from_the_rows_where_it_is_known(make_trainer, model_of_labels, objective):
    options = {"num_train_epochs": 12, "learning_rate": 3e-3}
    trainer = make_trainer(model_of_labels, objective=objective, **options)
    trainer.train()
    logits = trainer.score(trainer.eval_dataset)
    assert logits.shape == (64, 3)
    toxic = [label for _, label in make_comments(64)]
    # Known of all rows here, though not when it learned.
    assert roc_auc_score(toxic, logits[:, 0]) > 0.95
    assert roc_auc_score(toxic, logits[:, 1]) > 0.95
    assert roc_auc_score(toxic, -logits[:, 2]) > 0.95


def test_an_evaluation_measures_each_label_where_it_is_known(make_trainer, model_of_labels, objective):
    trainer = make_trainer(model_of_labels, objective=objective)
    found = trainer.evaluate()
    logits, labels = trainer.score(trainer.eval_dataset), trainer.eval_dataset.labels
    aucs, losses = [], []
    for column, name in enumerate(LABELS):
        rows = ~np.isnan(labels[:, column])
        aucs.append(roc_auc_score(labels[rows, column], logits[rows, column]))
        losses.append(log_loss(labels[rows, column], 1 / (1 + np.exp(-logits[rows, column].astype(float)))))
        assert found[f"eval_auc_{name}"] == pytest.approx(aucs[-1], abs=1e-9)
    assert found["eval_auc"] == found["eval_auc_toxic"]
    assert found["eval_mean_auc"] == pytest.approx(np.mean(aucs), abs=1e-9)
    assert found["eval_loss"] == pytest.approx(np.mean(losses), abs=1e-6)


def test_what_is_saved_has_the_labels_alone(make_trainer, model_of_labels, objective, tmp_path):
    trainer = make_trainer(model_of_labels, objective=objective)
    trainer.train()
    assert trainer.model.config.num_labels == 4
    trainer.save_model()
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    assert saved.config.id2label == dict(enumerate(LABELS))
    with torch.no_grad():
        alone = np.stack([saved(torch.tensor([ids])).logits[0].numpy() for ids in ids_of(trainer.eval_dataset)])
    np.testing.assert_allclose(trainer.score(trainer.eval_dataset), alone, atol=1e-5)
    classify = pipeline("text-classification", str(tmp_path / "run"), top_k=None)
    scores = {result["label"]: result["score"] for result in classify(["some words"])[0]}
    assert scores.keys() == set(LABELS)
    assert sum(scores.values()) != pytest.approx(1), "probabilities of their own, no softmax"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_several_labels_are_learned_in_half_precision(make_trainer, model_of_labels, objective, precision):
    options = {"num_train_epochs": 12, "learning_rate": 3e-3}
    trainer = make_trainer(model_of_labels, precision=precision, objective=objective, **options)
    trainer.train()
    logits, toxic = trainer.score(trainer.eval_dataset), [label for _, label in make_comments(64)]
    assert all(roc_auc_score(toxic, sign * logits[:, place]) > 0.9 for place, sign in enumerate((1, 1, -1)))


@pytest.mark.parametrize("metric", ["auc_insult", "eval_mean_auc", "auc_threat"])
def test_the_best_weights_are_those_of_the_metric_that_is_named(make_trainer, model_of_labels, objective, metric):
    trainer = make_trainer(
        model_of_labels,
        objective=objective,
        num_train_epochs=4,
        early_stopping_patience=4,
        metric_for_best_model=metric,
    )
    trainer.train()
    name = f"eval_{metric.removeprefix('eval_')}"
    values = [entry[name] for entry in trainer.state.log_history if name in entry]
    assert len(values) == 4
    assert trainer.state.best_metric == max(values)


def test_a_label_whose_name_ends_like_a_loss_is_better_when_it_is_greater(make_trainer, tiny_config, objective):
    from packed_models import packed_bert

    from toxicity.models.classifier import with_labels

    model = packed_bert(with_labels(tiny_config, ("toxic", "data loss", "threat", "male")))
    trainer = make_trainer(model, objective=objective, metric_for_best_model="auc_data loss")
    assert trainer.args.greater_is_better is True


def test_training_goes_on_where_it_was(make_trainer, model_of_labels, objective, tmp_path):
    options = {"objective": objective, "later_negatives": 0.5, "num_train_epochs": 3, "save_strategy": "steps"}
    whole = make_trainer(copy.deepcopy(model_of_labels), **options, save_steps=3)
    whole.train()
    again = make_trainer(copy.deepcopy(model_of_labels), **options, save_steps=100)
    again.train(str(tmp_path / "run" / "checkpoint-3"))
    assert torch.equal(weights_of(whole), weights_of(again))


def test_later_epochs_leave_out_comments_without_any_label(make_trainer, model_of_labels, objective):
    """Every comment here has a label or is known to lack one of them: those of no label are the civil ones."""
    objective.labels[:, 2] = np.where(np.arange(64) < 16, 0, 1)
    trainer = make_trainer(model_of_labels, objective=objective, later_negatives=0.5, num_train_epochs=2)
    highest = np.nanmax(objective.labels, axis=1)
    sampler = trainer._get_train_sampler(trainer.train_dataset)
    np.testing.assert_array_equal(sampler.sparse, np.flatnonzero(highest < 0.5))
