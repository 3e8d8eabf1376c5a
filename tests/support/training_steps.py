"""Small datasets for the Trainer, and what one step of it comes to."""

import copy
from dataclasses import replace

import numpy as np
import torch
from builders import make_comments
from datasets import Dataset, concatenate_datasets
from families import model_of
from sklearn.metrics import roc_auc_score
from torch.nn.parallel import DistributedDataParallel

from toxicity.core.arguments import ModelArguments
from toxicity.core.training_arguments import TrainingArguments
from toxicity.data.token_dataset import TokenRows
from toxicity.hardware.timing import PhaseClock
from toxicity.models.classifier import load_model, load_tokenizer, with_labels
from toxicity.models.half_weights import cast_once
from toxicity.training.targets import Objective
from toxicity.training.trainer import ToxicityTrainer

ONE_STEP = {
    "max_steps": 1,
    "learning_rate": 0.0,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "logging_steps": 1,
    "train_sampling_strategy": "random",
}


def dataset_of(tokenizer, comments=None):
    """Comments and their labels as the Trainer takes them, by default 64 of very different lengths."""
    texts, labels = zip(*(make_comments(64) if comments is None else comments), strict=True)
    ids = tokenizer(list(texts), truncation=True, max_length=64)["input_ids"]
    return Dataset.from_dict(
        {"input_ids": ids, "length": list(map(len, ids)), "labels": [float(label) for label in labels]}
    )


def objective_with(dataset, auxiliary):
    """Weights that differ and auxiliary targets, of which the last one is known of four rows in five."""
    labels = np.array(dataset["labels"][:], np.float32)
    targets = np.tile(labels[:, None], len(auxiliary))
    targets[::5, -1] = np.nan
    coefficients = np.array([1, *np.linspace(0.5, 1, len(auxiliary))], dtype=np.float32)
    return Objective(labels, np.linspace(0.5, 1.5, len(labels), dtype=np.float32), auxiliary, targets, coefficients)


# Two that mean the same, each unknown of other rows, and one that means the opposite.
LABELS = ("toxic", "insult", "threat")


def objective_with_labels(dataset, auxiliary=("male",)):
    """Three labels, weights of rows and of positive classes, a focal loss, and auxiliary targets."""
    toxic = np.array(dataset["labels"][:], np.float32)
    rows = np.arange(len(toxic))
    labels = np.stack([toxic, np.where(rows % 3, toxic, np.nan), 1 - toxic], axis=1)
    labels[::7, 0] = np.nan
    of_labels = 1 / 3 / (1 - np.isnan(labels).mean(0))
    one = objective_with(dataset, auxiliary)
    return replace(
        one,
        labels=labels.astype(np.float32),
        coefficients=np.concatenate([of_labels, one.coefficients[1:]]).astype(np.float32),
        positive_weights=np.array([1, 2, 3], np.float32),
        focal_gamma=0.5,
    )


def with_copies(dataset, copies=16):
    """The rows, and after them other rows as "copies" of the first ones, of row 0 two, and what these are of."""
    originals = np.array([0, *range(copies - 1)])
    others = dataset.select(range(len(dataset) - copies, len(dataset)))
    return concatenate_datasets([dataset, others]), originals


def loss_and_gradient(trainer):
    """Loss of the first step and gradient of the last."""
    seen = {}

    def keep(optimizer, *_):
        seen["gradient"] = torch.cat(
            [p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        )

    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(lambda *args: keep(*args))
    trainer.train()
    return trainer.state.log_history[0]["loss"], seen["gradient"].clone()


def steps_of_this_process(checkpoint, folder, batch_size, unused_weights=False):
    """Loss, gradient and scores of a step of a label, with auxiliary targets, of several, with copies beside them.

    The first rank saves them.
    """
    arguments = ModelArguments(str(checkpoint))
    config, tokenizer = load_tokenizer(arguments, 64)
    dataset = dataset_of(tokenizer)
    tokens, steps = dataset.remove_columns("labels"), []
    both, originals = with_copies(tokens)
    several = objective_with_labels(dataset)
    for labels, objective in (
        (LABELS[:1], None),
        (LABELS[:1], objective_with(dataset, ("insult", "male"))),
        (LABELS, several),
        (LABELS, replace(several, originals=originals, pairing=0.5)),
    ):
        originals = None if objective is None else objective.originals
        train_dataset = dataset if objective is None else objective.add_targets(tokens if originals is None else both)
        eval_dataset = several.add_targets(tokens) if len(labels) > 1 else dataset
        torch.manual_seed(0)
        model = load_model(arguments, with_labels(config, labels), () if objective is None else objective.names)
        if unused_weights:
            model.unused = torch.nn.Linear(2, 2)
        trainer = ToxicityTrainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(folder),
                use_cpu=True,
                disable_tqdm=True,
                save_strategy="no",
                per_device_train_batch_size=batch_size,
                **ONE_STEP,
            ),
            processing_class=tokenizer,
            train_dataset=TokenRows(train_dataset, originals),
            eval_dataset=TokenRows(eval_dataset),
            clock=PhaseClock(),
            loss_options=None if objective is None else objective.loss_options,
        )
        steps.append((*loss_and_gradient(trainer), torch.from_numpy(trainer.score(trainer.eval_dataset))))
    if trainer.args.process_index == 0:
        torch.save((steps, trainer.args.world_size), folder / "steps.pt")


def ids_of(rows):
    """Token ids of `TokenRows`, a list for each row."""
    return [ids.tolist() for ids in rows.tokens_of(range(len(rows)))]


def weights_of(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def auc_of(trainer):
    return roc_auc_score(trainer.eval_dataset.targets["labels"], trainer.score(trainer.eval_dataset).ravel())


def losses_and_gradients(model, parts, dtype=torch.bfloat16):
    """The loss of parts of a step, each under an autocast of its own, and what they leave as gradients."""
    torch.manual_seed(2)
    losses = []
    for part in parts:
        with torch.autocast("cpu", dtype):
            loss = model(**part).logits.float().square().mean()
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses), {name: weight.grad for name, weight in model.named_parameters()}


def gradients_with_half_weights(folder):
    """Save what autocast gives in this process of several, by itself and with weights that are cast once."""
    plain = model_of("bert")
    cast = copy.deepcopy(plain)
    cast_once(cast, torch.bfloat16)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    parts = [{"input_ids": torch.randint(0, 99, (3, 12))} for _ in range(4)][2 * rank : 2 * rank + 2]
    results = [losses_and_gradients(DistributedDataParallel(model), parts) for model in (plain, cast)]
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
