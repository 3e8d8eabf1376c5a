import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from builders import write_csv
from datasets import Dataset

from toxicity.core.arguments import DataArguments, ObjectiveArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import IDENTITIES, NAMES, SUBTYPES
from toxicity.data.sources import load_splits
from toxicity.evaluation.metrics import ToxicityMetric
from toxicity.training.losses import training_loss
from toxicity.training.targets import Objective, identity_weights, objective_of, smoothed

# civil and toxic, each with no identity, one of two, and both; at exactly one half something is the case.
TARGET = np.array([0.0, 0.0, 0.49, 1.0, 0.5, 0.9])
MENTIONED = np.array([[0.0, 0.4], [1.0, 0.0], [0.5, 1.0], [0.0, np.nan], [np.nan, 0.5], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("variant", "quarters"),
    [
        # 1 + [any] + [toxic and not all] + [civil and any]
        ("any", [1, 3, 3, 2, 3, 2]),
        # 1 + share + [toxic and not all] + [civil and any]
        ("share", [1, 2.5, 3, 2, 2.5, 2]),
        # 1 + [any] + [(toxic and none) or (civil and any)]
        ("detoxify", [1, 3, 3, 2, 2, 2]),
    ],
)
def test_identity_weights_worked_by_hand(variant, quarters):
    weights = identity_weights(TARGET, MENTIONED, variant)
    np.testing.assert_allclose(weights, np.array(quarters) / np.mean(quarters), rtol=1e-6)
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1)


def test_the_mean_is_over_rows_whose_label_is_known():
    target = np.where([True, False, True, False, True, True], TARGET, np.nan)
    weights = identity_weights(target, MENTIONED, "any")
    assert weights[~np.isnan(target)].mean() == pytest.approx(1)


def test_smoothing_worked_by_hand():
    # (0 * 10 + 1) / 12, (1 * 1 + 1) / 3, (0.5 * 4 + 1) / 6
    drawn = smoothed(np.array([0.0, 1.0, 0.5, 0.25]), np.array([10.0, 1.0, 4.0, np.nan]))
    np.testing.assert_allclose(drawn, [1 / 12, 2 / 3, 1 / 2, 0.25])


def comments(rows=8, **columns):
    """Rows with the columns of `data.Splits`, null where they are not given."""
    everything = {"id": range(rows), "text": ["words"] * rows, "target": np.linspace(0, 1, rows)} | columns
    for name in NAMES:
        everything.setdefault(name, pa.nulls(rows, pa.float32()))
    return Dataset(pa.table(everything))


def test_the_default_is_the_hard_label_alone():
    objective = objective_of(comments(), ObjectiveArguments())
    assert objective.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert objective.weights is objective.auxiliary is None
    assert objective.names == ()


def test_soft_targets_are_the_share_of_annotators():
    assert objective_of(comments(3), ObjectiveArguments(targets="soft")).labels.tolist() == [0, 0.5, 1]


def test_smoothed_targets_take_the_number_of_annotators():
    split = comments(3, toxicity_annotator_count=pa.array([4, None, 8], pa.int32()))
    labels = objective_of(split, ObjectiveArguments(targets="smoothed")).labels
    np.testing.assert_allclose(labels, [1 / 6, 0.5, 9 / 10])


def test_an_auxiliary_mean_is_over_those_that_were_annotated():
    values = pa.array([1.0, 0.0, None, None], pa.float32())
    split = comments(4, **dict.fromkeys(IDENTITIES, values), **dict.fromkeys(SUBTYPES, pa.array([1.0, 0, 0, 0])))
    objective = objective_of(split, ObjectiveArguments(auxiliary_targets=["identities", "subtypes"]))
    assert objective.names == (*SUBTYPES, *IDENTITIES)
    assert objective.auxiliary.shape == (4, 15)
    # Half of the rows tell of identities: each counts twice, a quarter over nine of them.
    np.testing.assert_allclose(objective.coefficients, [1] + [1 / 6] * 6 + [0.25 / 9 * 2] * 9, rtol=1e-6)
    np.testing.assert_allclose(objective.base_rates, [0.5] + [0.25] * 6 + [0.5] * 9)


def test_base_rates_have_log_odds():
    rates = Objective(np.zeros(3, np.float32), None, (), None, np.empty(0, np.float32)).base_rates
    assert math.isfinite(math.log(rates[0] / (1 - rates[0])))


def test_it_stands_beside_the_tokens():
    tokens = Dataset.from_dict({"input_ids": [[1, 2], [3]], "length": [2, 1]})
    auxiliary = np.array([[0.5, np.nan], [1, 0]], np.float32)
    objective = Objective(
        np.array([1, 0], np.float32), np.array([1.5, 0.5], np.float32), ("a", "b"), auxiliary, np.ones(3, np.float32)
    )
    table = objective.add_targets(tokens).with_format("arrow")[:]
    assert table.column_names == ["input_ids", "length", "labels", "weights", "auxiliary"]
    assert table["weights"].to_pylist() == [1.5, 0.5]
    np.testing.assert_array_equal(table["auxiliary"].to_pylist(), auxiliary)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"targets": "smoothed"}, "toxicity_annotator_count"),
        ({"identity_weights": "any"}, "male, female"),
        ({"auxiliary_targets": ["subtypes"]}, "severe_toxicity, obscene"),
        ({"auxiliary_targets": ["identities"]}, "psychiatric_or_mental_illness"),
    ],
)
def test_what_the_data_do_not_have_is_refused_by_name(tmp_path, asked, named):
    path = write_csv(tmp_path / "c.csv", ["text", "target"], [[f"comment {row}", row % 2] for row in range(12)])
    splits = load_splits(DataArguments(train_file=str(path)))
    with pytest.raises(RequestError, match=named):
        objective_of(splits.train, ObjectiveArguments(**asked))


def test_one_missing_column_of_several_is_named_alone():
    split = comments(2, **dict.fromkeys(IDENTITIES[1:], pa.array([0.0, 1.0])))
    with pytest.raises(RequestError, match="do not have: male[.]"):
        objective_of(split, ObjectiveArguments(identity_weights="share"))


def test_a_column_that_could_not_be_read_is_refused_with_the_reason():
    columns = dict.fromkeys(SUBTYPES, pa.array([0.0, 1.0])) | {"insult": pa.nulls(2, pa.float32())}
    absent = {"insult": "`maybe` in row 3 is not a share from 0 to 1", "male": "not asked for"}
    with pytest.raises(RequestError, match="--auxiliary_targets subtypes .* insult [(]`maybe` in row 3 is not a share"):
        objective_of(comments(2, **columns), ObjectiveArguments(auxiliary_targets=["subtypes"]), absent)
    objective_of(comments(2, **columns), ObjectiveArguments(), absent)


def test_unknown_auxiliary_targets_are_refused():
    with pytest.raises(RequestError, match="subtypes and identities, and not irony"):
        ObjectiveArguments(auxiliary_targets=["irony"])


def biased_comments(rows, seed):
    """Comments as two numbers: whether a man is mentioned, and how mean the words are; of the former more are toxic."""
    rng = np.random.default_rng(seed)
    mentioned = (rng.random(rows) < 0.3).astype(float)
    toxic = (rng.random(rows) < np.where(mentioned, 0.6, 0.15)).astype(float)
    return np.column_stack([mentioned, rng.normal(toxic)]), toxic, mentioned


def bias_after_training(variant):
    """AUCs over the comments that mention a man, after a logistic regression on others with these weights."""
    features, toxic, mentioned = biased_comments(20_000, seed=0)
    identities = np.column_stack([mentioned, np.zeros(len(toxic))])
    weights = identity_weights(toxic, identities, variant) if variant else np.ones(len(toxic), np.float32)
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1).double()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=50)

    def step():
        optimizer.zero_grad()
        logits = model(torch.from_numpy(features))
        loss = training_loss(logits, torch.tensor(toxic)[:, None], weights=torch.tensor(weights)[:, None])
        loss.backward()
        return loss

    optimizer.step(step)
    features, toxic, mentioned = biased_comments(20_000, seed=1)
    logits = model(torch.from_numpy(features)).detach().numpy().ravel()
    bias = ToxicityMetric().compute(predictions=logits, references=toxic, identities={"male": mentioned})["bias"]
    return bias["identities"]["male"]


@pytest.mark.parametrize("variant", ["any", "share", "detoxify"])
def test_weights_take_the_mention_itself_out_of_the_score(variant):
    before, after = bias_after_training(None), bias_after_training(variant)
    # Where a mention alone raises scores, civil comments with it are ranked too high, and so are the toxic ones.
    assert after["bpsn_auc"] > before["bpsn_auc"] + 0.05
    assert before["bnsp_auc"] - 0.01 > after["bnsp_auc"] > after["bpsn_auc"]
    assert after["bpsn_auc"] - before["bpsn_auc"] > before["bnsp_auc"] - after["bnsp_auc"]
