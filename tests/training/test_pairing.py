"""Counterfactual logit pairing: a copy and what it is of in one part, and the same loss however a step is cut."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from training_steps import ONE_STEP, dataset_of, ids_of, loss_and_gradient, objective_with_labels, with_copies

from toxicity.core.arguments import ObjectiveArguments, parse_arguments
from toxicity.core.errors import RequestError
from toxicity.data.counterfactuals import Counterfactuals
from toxicity.data.token_dataset import IGNORED, TokenRows
from toxicity.models.packing import Layout
from toxicity.training.batching import Collator
from toxicity.training.losses import LossOptions, training_loss
from toxicity.training.targets import Objective, objective_of

PADDED, PACKED = Layout(packed=False), Layout(packed=True)


def trainer_with_pairs(make_trainer, tokenizer, weight=0.5, objective=None, **options):
    dataset = dataset_of(tokenizer)
    objective = objective(dataset) if objective else plain_objective(dataset)
    both, originals = with_copies(dataset)
    objective = replace(objective, originals=originals, pairing=weight)
    return make_trainer(dataset=both, objective=objective, **ONE_STEP | options)


def plain_objective(dataset):
    return Objective(np.array(dataset["labels"][:], np.float32), None, (), None, np.ones(1, np.float32))


def test_the_loss_worked_by_hand():
    logits = torch.tensor([[1.0, 5.0], [0.0, 2.0], [-2.0, 9.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [IGNORED, IGNORED]])
    without = training_loss(logits, labels)
    options = LossOptions(pairing=3.0)
    loss = training_loss(logits, labels, options=options, pairs=torch.tensor([[0, 2]]))
    # Two rows count; (1 + 2)² and (5 - 9)² in the mean over the labels.
    assert (loss - without).item() == pytest.approx(3.0 * (9 + 16) / 2 / 2)
    # Of a row with two copies, the mean.
    loss = training_loss(logits, labels, options=options, pairs=torch.tensor([[0, 2], [0, 0], [1, 2]]))
    assert (loss - without).item() == pytest.approx(3.0 * ((9 + 16) / 2 / 2 + (4 + 49) / 2) / 2)
    none = training_loss(logits, labels, options=options, pairs=torch.empty(0, 2, dtype=torch.int64))
    assert none.item() == pytest.approx(without.item())


@pytest.mark.parametrize("layout", [PADDED, PACKED], ids=["padded", "packed"])
@pytest.mark.parametrize("max_tokens", [None, 40])
@pytest.mark.parametrize("threads", [1, 2])
def test_pairs_share_a_part_and_a_share(tokenizer, layout, max_tokens, threads, monkeypatch):
    monkeypatch.setattr("toxicity.training.shares.TOKENS_OF_SHARE", 8)
    dataset, originals = with_copies(dataset_of(tokenizer))
    rows = TokenRows(dataset, originals)
    tokens = ids_of(TokenRows(dataset))
    assert (len(rows), len(tokens)) == (64, 80)
    chosen, copies = [33, 3, 0, 14, 20], {3: [68], 0: [64, 65], 14: [79]}
    batch = Collator(layout, max_tokens, threads)(rows.__getitems__(chosen))
    assert batch["labels"].shape == (5, 1)
    assert batch["rows"] == 5
    assert batch["tokens"] == sum(len(tokens[row]) for row in sum(copies.values(), chosen))
    found, labelled = [], []
    for part in (share for whole in batch["parts"] for share in whole.get("shares", [whole])):
        labels, texts = part["labels"]["labels"], texts_of(part, layout)
        assert [len(text) for text in texts] == sorted(map(len, texts), reverse=True)
        assert len(labels) == len(texts)
        labelled += [tuple(text) for text, label in zip(texts, labels, strict=True) if label != IGNORED]
        for row, copy_of_it in part["labels"].get("pairs", torch.empty(0, 2, dtype=int)).tolist():
            assert labels[copy_of_it] == IGNORED
            found.append((texts[row], texts[copy_of_it]))
    assert sorted(labelled) == sorted(tuple(tokens[row]) for row in chosen)
    assert sorted(found) == sorted((tokens[row], tokens[copy]) for row, of_row in copies.items() for copy in of_row)


def test_padded_parts_stay_within_the_budget():
    # Of the comments in rows 1 to 8 there are four copies each, a token longer.
    lengths = [40, *[5] * 8, *[6] * 32]
    ids = [[1] * length for length in lengths]
    dataset = Dataset.from_dict({"input_ids": ids, "length": lengths, "labels": [0.0] * len(lengths)})
    rows = TokenRows(dataset, np.repeat(np.arange(1, 9), 4))
    parts = Collator(PADDED, 80)(rows.__getitems__(list(range(9))))["parts"]
    assert [part["input_ids"].numel() for part in parts] == [40, 60, 60, 60, 60]
    assert sum((part["labels"]["labels"] != IGNORED).sum().item() for part in parts) == 9


def texts_of(part, layout):
    """The token ids of each row of a part."""
    if not layout.packed:
        mask = part.get("attention_mask", torch.ones_like(part["input_ids"])).bool()
        return [ids[kept].tolist() for ids, kept in zip(part["input_ids"], mask, strict=True)]
    starts = part["packing"].first_tokens.tolist()
    ids = part["input_ids"][0].tolist()
    return [ids[start:stop] for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True)]


def test_fillers_have_no_pairs(tokenizer):
    dataset, originals = with_copies(dataset_of(tokenizer))
    rows = TokenRows(dataset, originals)
    assert rows.__getitems__([-1, -1]).copies == {}
    assert list(rows.__getitems__([25, -1, 5]).copies) == [1]
    assert TokenRows(dataset).__getitems__([5]).copies == {}


SHAPES = [
    {"per_device_train_batch_size": 64},
    {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4},
    {"per_device_train_batch_size": 64, "max_tokens_per_batch": "100"},
    {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 2, "train_sampling_strategy": "group_by_length"},
]


@pytest.mark.parametrize("objective", [None, objective_with_labels], ids=["one label", "three"])
def test_loss_and_gradient_are_the_same_however_a_step_is_cut(
    make_trainer, tokenizer, tiny_model, model_of_labels, objective
):
    model = tiny_model if objective is None else model_of_labels

    def step(**options):
        trainer = trainer_with_pairs(
            make_trainer, tokenizer, objective=objective, model=copy.deepcopy(model), **options
        )
        return loss_and_gradient(trainer)

    whole, gradient = step(**SHAPES[0])
    without, _ = step(**SHAPES[0], weight=0.0)
    assert whole > without + 1e-3
    for shape in SHAPES[1:]:
        loss, other = step(**shape)
        assert loss == pytest.approx(whole, rel=1e-5)
        torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-5)


def test_the_loss_of_a_step_is_that_of_the_logits(make_trainer, tokenizer, model_of_either_kind):
    trainer = trainer_with_pairs(make_trainer, tokenizer, model=model_of_either_kind, per_device_train_batch_size=64)
    logits = trainer.score(trainer.eval_dataset)[:, 0]
    labels = trainer.train_dataset.labels[:, 0]
    entropy = np.mean(np.logaddexp(0, logits[:64]) - labels * logits[:64])
    distances = (logits[64:] - logits[with_copies(dataset_of(tokenizer))[1]]) ** 2
    # The two copies of the first row count as one.
    expected = entropy + 0.5 * (distances[:2].mean() + distances[2:].sum()) / 64
    loss, _ = loss_and_gradient(trainer)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_training_brings_the_logits_of_pairs_together(make_trainer, tokenizer):
    def distance(weight):
        options = {"max_steps": 60, "learning_rate": 3e-3, "weight_decay": 0.0, "max_grad_norm": 1.0}
        trainer = trainer_with_pairs(make_trainer, tokenizer, weight, **options)
        trainer.train()
        logits = trainer.score(trainer.eval_dataset)[:, 0]
        return np.abs(logits[64:] - logits[with_copies(dataset_of(tokenizer))[1]]).mean()

    assert distance(20.0) < 0.5 * distance(0.0)


@pytest.mark.parametrize("value", [-1, math.inf, math.nan])
def test_a_weight_that_cannot_be_meant_is_refused(value):
    with pytest.raises(RequestError, match="--counterfactual_pairing is .* it is 0 or more"):
        ObjectiveArguments(counterfactual_pairing=value)


def test_pairs_need_copies():
    with pytest.raises(RequestError, match="is about copies: add --counterfactuals 2, or give it 0"):
        parse_arguments(["--train_file", "a.csv", "--counterfactual_pairing", "0.1"])
    with pytest.raises(RequestError, match="or give it 0"):
        parse_arguments(["--counterfactuals", "0"])
    parsed = parse_arguments(["--train_file", "a.csv", "--counterfactual_pairing", "0.1", "--counterfactuals", "2"])
    assert (parsed.objective.counterfactual_pairing, parsed.data.counterfactuals) == (0.1, 2)


def test_the_copies_of_the_sample_recipe_are_for_its_own_comments_and_model():
    for flags in (["--train_file", "a.csv"], ["--model_name_or_path", "other"]):
        parsed = parse_arguments(flags)
        assert (parsed.objective.counterfactual_pairing, parsed.data.counterfactuals) == (0, 0)
    parsed = parse_arguments(["--counterfactuals", "0", "--counterfactual_pairing", "0"])
    assert (parsed.objective.counterfactual_pairing, parsed.data.counterfactuals) == (0, 0)
    assert parse_arguments([]).data.counterfactuals > 0


def test_copies_are_no_rows_where_pairs_are_asked_for():
    comments = Dataset.from_dict({"target": [0.0, 1.0, 0.0, 1.0, 0.0]})
    copies = Counterfactuals(np.array([1, 0]), 2, {"gay": 2})
    objective = objective_of(comments, ObjectiveArguments(), counterfactuals=copies)
    assert (objective.originals, len(objective.labels)) == (None, 5)
    objective = objective_of(comments, ObjectiveArguments(counterfactual_pairing=0.5), counterfactuals=copies)
    assert objective.loss_options.pairing == 0.5
    assert objective.base_rates.tolist() == [pytest.approx(1 / 3)]
    columns = objective.add_targets(Dataset.from_dict({"length": [1, 2, 3, 4, 5]}))
    assert columns["labels"][:3] == [0.0, 1.0, 0.0]
    rows = TokenRows(columns.add_column("input_ids", [[1], [2], [3], [4], [5]]), objective.originals)
    # The comment in row 1 is toxic.
    assert (len(rows), rows.copies) == (3, 1)
    assert {place: [ids.tolist() for ids in of] for place, of in rows.__getitems__([2, 1, 0]).copies.items()} == {
        2: [[5]]
    }


def test_pairs_need_a_civil_comment():
    comments = Dataset.from_dict({"target": [0.0, 1.0, 1.0]})
    copies = Counterfactuals(np.array([1]), 1, {"gay": 1})
    with pytest.raises(RequestError, match="no training comment is one"):
        objective_of(comments, ObjectiveArguments(counterfactual_pairing=0.5), counterfactuals=copies)
