"""Tiny models with several independent labels, as a run saves them, or as others do."""

from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerBase

LABELS_2018 = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def save_label_model(
    folder: Path,
    tiny_config: BertConfig,
    tokenizer: PreTrainedTokenizerBase,
    names: tuple[str, ...] = LABELS_2018,
    calibrated: bool = True,
    **settings: object,
) -> Path:
    """Save an untrained classifier with labels of these names, the main one first.

    With `calibrated` the config has the section `toxicity` that a run writes: the label of number n has the temperature
    1 + n / 4, the threshold 0.4 + n / 20, and thresholds for two precisions; `settings` replace or add keys of it.
    """
    ids = {name: number for number, name in enumerate(names)}
    changes = {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": ids}
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**tiny_config.to_dict() | changes))
    if calibrated:
        sections = {name: calibration_of(number) for name, number in ids.items()}
        several = {"toxic_label": names[0], "labels": sections} if len(names) > 1 else {}
        model.config.toxicity = sections[names[0]] | several | settings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def calibration_of(number: int) -> dict[str, object]:
    """The calibration of the label of that number."""
    threshold = 0.4 + number / 20
    thresholds = {"0.8": threshold - 0.1, "0.9": threshold}
    return {"temperature": 1 + number / 4, "threshold": threshold, "precision_target": 0.9, "thresholds": thresholds}
