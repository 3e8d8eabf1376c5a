"""The checks of `benchmarks.gpu`: whether this package is right on a card, before it is measured how fast it is.

    python -m benchmarks.gpu_checks NAME TASK.json

Each check runs in a process of its own and prints one JSON line, in which `ok` says whether it was passed.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from torch import nn
from transformers import Trainer

from benchmarks.task import Task, device, run_named
from benchmarks.trainers import hf_trainer, order_of, our_trainer, rows_for_hf, stock_model
from toxicity.data.token_dataset import TokenRows
from toxicity.models.packing import Layout
from toxicity.training.monitor import all_finite

NO_DROPOUT = "hidden_dropout_prob=0,attention_probs_dropout_prob=0"
# Largest errors against fp64 of logits, and of gradients relative to the reference's. Where those of the stock model on
# the same device, padded, are large, ours may be twice as large.
TOLERANCES = {"no": (1e-4, 1e-3), "fp16": (5e-3, 2e-2), "bf16": (3e-2, 1e-1)}
# Rows whose gradients are computed in fp64 on the CPU, which takes seconds for each.
REFERENCE_ROWS = 8
# Of losses around 0.6, by precision. Adam amplifies roundings: its first steps have the size of the learning rate for
# every weight, however small its gradient.
CURVE_TOLERANCES = {"no": 2e-3, "fp16": 2e-2, "bf16": 5e-2}
CURVE_STEPS, RESUME_STEPS, OVERFLOW_STEPS = 30, 8, 24
# Of the scaled loss, as a power of two: gradients overflow in fp16, and no longer after a dozen halvings or so.
FIRST_SCALE = 30
# Two whole runs may differ where kernels add in any order; a resumed one may differ this many times as much.
RESUME_FACTOR = 10


def packed_road(task: Task) -> dict[str, Any]:
    """Logits and gradients of packed batches on the device, against the padded stock model in fp64 on the CPU.

    Model, layout and autocast are those that this package's Trainer makes; the logits of its scoring are compared, too.
    """
    # With weights as small as BERT's at first, attention hardly counts: a state of its own is many times what a
    # token gets from others, and attention to a wrong comment would be lost among the roundings of bf16.
    large = f"initializer_range={task.random_config().hidden_size ** -0.5}"
    task = dataclasses.replace(task, config_overrides=f"{NO_DROPOUT},{large}")
    comments = task.rows("train")
    by_length = np.argsort(-np.array(comments["length"][:]), kind="stable")
    comments = comments.select(by_length[np.linspace(0, len(by_length) - 1, REFERENCE_ROWS).astype(int)])
    # Of both kinds, as scoring computes an AUC.
    wanted = np.arange(REFERENCE_ROWS, dtype=np.float32) % 2
    comments = comments.remove_columns("labels").add_column("labels", wanted)
    rows, padded = TokenRows(comments), Layout(packed=False)
    tokens = rows.tokens_of(range(REFERENCE_ROWS))
    # All positive: gradients that cancel each other would leave roundings. All different: rows must not be mixed up.
    weights = torch.linspace(0.5, 1.5, REFERENCE_ROWS)[:, None]
    reference = logits_and_gradients(stock_model(task).double(), padded(tokens), weights)

    results: dict[str, Any] = {}
    for precision in precisions_of(device()):
        AcceleratorState._reset_state(reset_partial_state=True)  # which allows one precision in a process
        log = LogLines("toxicity")
        trainer = our_trainer(dataclasses.replace(task, precision=precision), comments)
        # What users of autocast have a GradScaler for.
        autocast = {"context": trainer.accelerator.autocast, "scale": 1024.0 if precision == "fp16" else 1.0}
        found = {}
        layouts = roads_of(trainer.layout)
        for road, layout in layouts.items():
            found[road] = errors(logits_and_gradients(trainer.model, layout(tokens), weights, **autocast), reference)
        stock = stock_model(task).to(device())
        found["stock"] = errors(logits_and_gradients(stock, padded(tokens), weights, **autocast), reference)
        scored = torch.from_numpy(trainer.predict(rows).predictions).double()
        found["scoring"] = {"logits": finite((scored - reference[0]).abs().max().item())}
        for road in (*layouts, "scoring"):
            found[road]["ok"] = within(found[road], found["stock"], TOLERANCES[precision])
        described = dataclasses.asdict(trainer.layout) | {"dtype": str(trainer.layout.dtype)}
        results[precision] = found | {"layout": described, "log": log.lines}
    ok = all(road["ok"] for found in results.values() for road in found.values() if "ok" in road)
    return {"ok": ok, "rows": REFERENCE_ROWS, "tokens": sum(map(len, tokens)), "precisions": results}


def precisions_of(place: torch.device) -> list[str]:
    """The precisions that a device computes in natively, and on a CPU all."""
    has_bf16 = place.type == "cpu" or torch.cuda.get_device_capability(place)[0] >= 8
    return ["no", "fp16", *["bf16"] * has_bf16]


def roads_of(layout: Layout) -> dict[str, Layout]:
    """The layout that was chosen, and the one that a device without a kernel of variable length falls back to."""
    fallback = dataclasses.replace(layout, grouping="similar")
    return {"chosen": layout} | ({} if layout == fallback else {"fallback": fallback})


def logits_and_gradients(
    model: nn.Module,
    batch: dict[str, Any],
    weights: torch.Tensor,
    context: Callable[[], AbstractContextManager] = nullcontext,
    scale: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of a model by one batch, in fp64 on the CPU.

    Args:
        model: where it shall compute; it is left without gradients.
        batch: of a `Layout`, on the CPU.
        weights: of the logits in their sum, whose gradients are computed, `(rows, 1)` in the order of the batch.
        context: makes what the forward pass is computed in, such as autocast.
        scale: of the loss; the gradients are divided by it.
    """
    place = next(model.parameters()).device
    with context():
        logits = model(**{name: value.to(place) for name, value in batch.items()}).logits
    (logits * (scale * weights).to(logits)).sum().backward()
    gradients = {
        name: parameter.grad.double().cpu() / scale
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return logits.detach().double().cpu(), gradients


def errors(
    found: tuple[torch.Tensor, dict[str, torch.Tensor]], reference: tuple[torch.Tensor, dict[str, torch.Tensor]]
) -> dict[str, Any]:
    """Differences from the reference.

    Returns:
        `logits`, the largest difference; `gradients`, the norm of the difference of all gradients over the norm of the
        reference's; `worst_gradient`, the largest such ratio of one parameter, where norms below a thousandth of that
        of all gradients count as that; and `worst_parameter`, its name. A number that is not finite is None.
    """
    logits, gradients = found
    if gradients.keys() != reference[1].keys():
        raise AssertionError(f"gradients for other parameters: {sorted(gradients.keys() ^ reference[1].keys())}")
    norms = {name: gradient.norm().item() for name, gradient in reference[1].items()}
    differences = {name: (gradients[name] - gradient).norm().item() for name, gradient in reference[1].items()}
    whole = math.hypot(*norms.values())
    ratios = {name: differences[name] / max(norms[name], whole / 1000) for name in norms}
    # max() would pass over NaN.
    worst = next((name for name, ratio in ratios.items() if not math.isfinite(ratio)), max(ratios, key=ratios.get))
    return {
        "logits": finite((logits - reference[0]).abs().max().item()),
        "gradients": finite(math.hypot(*differences.values()) / whole),
        "worst_gradient": finite(ratios[worst]),
        "worst_parameter": worst,
    }


def within(found: dict[str, Any], stock: dict[str, Any], tolerances: tuple[float, float]) -> bool:
    """Whether errors are within the tolerances of logits and gradients, or twice as large as those of the stock model.

    A single parameter's gradient may be ten times as far off as all together.
    """
    limits = {"logits": tolerances[0], "gradients": tolerances[1], "worst_gradient": 10 * tolerances[1]}
    return all(
        found[key] is not None and found[key] <= max(limit, 2 * (stock[key] or 0))
        for key, limit in limits.items()
        if key in found
    )


def finite(number: float) -> float | None:
    """The number, or None, which JSON has a word for, if it is not finite."""
    return number if math.isfinite(number) else None


def loss_curves(task: Task) -> dict[str, Any]:
    """Losses of each step of this package's Trainer and of the padded one of transformers, without dropout."""
    task = dataclasses.replace(task, config_overrides=NO_DROPOUT, limit=CURVE_STEPS * task.batch_size)
    rows = task.rows("train")
    shuffled = rows_for_hf(task, rows.select(order_of(task, rows["length"][:])), padded=True)
    log = LogLines("toxicity")
    ours = our_trainer(task, rows, logging_steps=1)
    curves = {
        "packed": losses_of(ours),
        "padded": losses_of(hf_trainer(task, shuffled, True, "sequential", logging_steps=1)),
    }
    packed, padded = map(np.array, curves.values())
    largest = float(np.abs(packed - padded).max())
    ok = len(packed) == len(padded) and largest <= CURVE_TOLERANCES[task.precision]
    result = {"ok": ok, "precision": task.precision, "steps": len(packed), "largest_difference": finite(largest)}
    return result | {"losses": curves, "log": log.lines}


def losses_of(trainer: Trainer) -> list[float]:
    """Train, and return the losses in the log."""
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def overflow(task: Task) -> dict[str, Any]:
    """fp16 that overflows: training skips such steps and goes on, and scores are refused."""
    task = dataclasses.replace(task, precision="fp16", limit=OVERFLOW_STEPS * task.batch_size)
    trainer = our_trainer(task, task.rows("train"), logging_steps=1)
    scaler = torch.amp.GradScaler(device().type, init_scale=2.0**FIRST_SCALE)
    trainer.accelerator.scaler = scaler
    losses = losses_of(trainer)
    # The scale is halved with each skipped step; it would grow after 2,000 steps.
    skipped = round(FIRST_SCALE - math.log2(scaler.get_scale()))
    refusal = refusal_of_overflow(task)
    goes_on = all_finite(trainer.model) and math.isfinite(losses[-1]) and 0 < skipped < len(losses)
    return {
        "ok": goes_on and refusal is not None,
        "steps": len(losses),
        "skipped_steps": skipped,
        "first_loss": finite(losses[0]),
        "last_loss": finite(losses[-1]),
        "weights_finite": all_finite(trainer.model),
        "scores_refused": refusal,
    }


def refusal_of_overflow(task: Task) -> str | None:
    """What the `Scorer` says to a model that overflows in fp16; None if it returns scores."""
    from toxicity.predict.scorer import Scorer

    folder = Path(task.folder) / "overflowing"
    model = stock_model(dataclasses.replace(task, model_shape="tiny"))
    with torch.no_grad():
        for layer in model.base_model.encoder.layer:
            layer.intermediate.dense.weight.mul_(1e6)
    model.save_pretrained(folder)
    task.tokenizer().save_pretrained(folder)
    scorer = Scorer(str(folder), device=device(), mixed_precision="fp16")
    rows = task.rows("validation").select(range(8)).with_format("arrow")[:]
    ids = [[token % model.config.vocab_size for token in row] for row in rows["input_ids"].to_pylist()]
    tokens = rows.set_column(rows.column_names.index("input_ids"), "input_ids", [ids])
    try:
        scorer.probabilities(tokens.select(["input_ids", "length"]))
    except Exception as error:  # its type is the Scorer's business
        return f"{type(error).__name__}: {error}"
    return None


def resume(task: Task) -> dict[str, Any]:
    """Weights of a run that was resumed in its middle, against those of two that were not interrupted."""
    # Fewer layers than BERT-base, of which all are alike, as each run writes two checkpoints.
    task = dataclasses.replace(task, limit=RESUME_STEPS * task.batch_size, config_overrides="num_hidden_layers=4")
    middle = RESUME_STEPS // 2
    saving = {"save_strategy": "steps", "save_steps": middle, "output_dir": f"{task.folder}/whole"}

    def weights(checkpoint: str | None = None) -> dict[str, torch.Tensor]:
        trainer = our_trainer(task, task.rows("train"), **saving)
        trainer.train(trainer.checkpoints.choose(checkpoint))
        return {name: value.detach().float().cpu().clone() for name, value in trainer.model.state_dict().items()}

    first = weights()
    again = weights()
    resumed = weights(f"{task.folder}/whole/checkpoint-{middle}")
    shutil.rmtree(f"{task.folder}/whole")
    repeated, difference = largest_difference(first, again), largest_difference(first, resumed)
    return {
        "ok": difference <= RESUME_FACTOR * repeated,
        "steps": RESUME_STEPS,
        "resumed_at": middle,
        "bit_by_bit": difference == 0,
        "largest_difference": finite(difference),
        "largest_difference_of_two_whole_runs": finite(repeated),
    }


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference between weights of the same names."""
    return torch.stack([(one[name] - other[name]).abs().max() for name in one]).max().item()


class LogLines(logging.Handler):
    """Keeps what is logged under a name, from INFO up, as `lines`."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


CHECKS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "packed_road": packed_road,
    "loss_curves": loss_curves,
    "overflow": overflow,
    "resume": resume,
}


if __name__ == "__main__":
    run_named(CHECKS, __doc__)
