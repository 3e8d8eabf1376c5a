"""Small datasets for the Trainer, and what one step of it comes to."""

import numpy as np
import torch
from builders import make_comments
from datasets import Dataset

from toxicity.training.targets import Objective

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
    coefficients = np.linspace(0.5, 1, len(auxiliary), dtype=np.float32)
    return Objective(labels, np.linspace(0.5, 1.5, len(labels), dtype=np.float32), auxiliary, targets, coefficients)


def loss_and_gradient(trainer):
    """Loss of the first step and gradient of the last."""
    seen = {}

    def keep(optimizer, *_):
        seen["gradient"] = torch.cat([p.grad.flatten() for group in optimizer.param_groups for p in group["params"]])

    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(lambda *args: keep(*args))
    trainer.train()
    return trainer.state.log_history[0]["loss"], seen["gradient"].clone()
