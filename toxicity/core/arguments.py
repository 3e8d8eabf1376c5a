"""The command line and the YAML recipe of a run, parsed into dataclasses and checked."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import HfArg
from transformers.trainer_utils import HubStrategy

from toxicity.core.augmentation_arguments import AugmentationArguments
from toxicity.core.calibration_arguments import CalibrationArguments
from toxicity.core.errors import RequestError
from toxicity.core.evaluation_arguments import EvaluationArguments
from toxicity.core.files import bundled
from toxicity.core.flags import require_known
from toxicity.core.label_names import require_label_names
from toxicity.core.objective_arguments import ObjectiveArguments
from toxicity.core.text_files import delimiter_of, encoding_of
from toxicity.core.training_arguments import TrainingArguments

SAMPLE_RECIPE = bundled("recipes") / "sample.yaml"

# Keys of a recipe that describe its own data or its own model: dropped when a flag names other data or another model.
DATA_SOURCES = {"dataset_name", "train_file"}
DATA_KEYS = DATA_SOURCES | {
    "dataset_config_name",
    "dataset_revision",
    "train_split_name",
    "validation_split_name",
    "validation_file",
    "validation_labels_file",
    "text_column_name",
    "label_column_name",
    "label_column_names",
    "positive_labels",
    "delimiter",
    "encoding",
    "max_train_samples",
    "max_eval_samples",
}
LABEL_KEYS = {"label_column_name", "label_column_names"}
MODEL_KEYS = {"model_name_or_path", "model_revision", "config_overrides"}
# Values of the sample recipe that were chosen for its comments together with its model.
SAMPLE_KEYS = {"max_seq_length", "init_head_bias", "counterfactuals", "counterfactual_pairing", "identity_rows"}


@dataclass
class DataArguments(EvaluationArguments, AugmentationArguments):
    """Which comments to train and validate on, and how to tokenise them."""

    dataset_name: str | None = HfArg(
        default=None,
        help="`sample` (real comments, installed with requirements.txt), or the id of a dataset on the Hub, such as "
        "google/civil_comments.",
    )
    dataset_config_name: str | None = HfArg(
        default=None, help="Configuration of a dataset on the Hub that has several."
    )
    dataset_revision: str | None = HfArg(default=None, help="Branch, tag or commit of a dataset on the Hub.")
    train_split_name: str | None = HfArg(default=None, help="Split of the dataset to train on; by default `train`.")
    validation_split_name: str | None = HfArg(
        default=None,
        help="Split of the dataset to validate on; by default `validation`, if there is one.",
    )
    train_file: str | None = HfArg(
        default=None,
        help="Comments with their toxicity: a file (CSV, JSON, parquet or Arrow, also compressed), a folder or "
        "a pattern of such files, or an address such as hf://datasets/USER/NAME/FILE.",
    )
    validation_file: str | None = HfArg(
        default=None, help="Validation comments, in the same formats. Without it the training file is split."
    )
    validation_labels_file: str | None = HfArg(
        default=None,
        help="Labels of the validation comments, by id, where they are in a file of their own, as in the competition "
        "of 2018.",
    )
    text_column_name: str | None = HfArg(
        default=None, help="Name of the text column, if it is not one of the published names."
    )
    label_column_name: str | None = HfArg(
        default=None, help="Name of the toxicity column: numbers from 0 to 1, toxic from 0.5 on, or names of classes."
    )
    label_column_names: list[str] | None = HfArg(
        default=None,
        help="Columns of several labels, which the model learns independently of each other, the main one first; "
        "`subtypes` stands for those of toxicity that the data have. Or one column of lists of labels.",
    )
    positive_labels: list[str] | None = HfArg(
        default=None, help="Values of the toxicity column that mean toxic; all others mean civil."
    )
    delimiter: str | None = HfArg(
        default=None, help="What separates the columns of a CSV file, such as `;` or `tab`; by default it is found out."
    )
    encoding: str | None = HfArg(
        default=None,
        help="Character encoding of CSV and JSON files, such as cp1252; by default that of the byte order mark, or "
        "UTF-8.",
    )
    max_seq_length: int = HfArg(
        default=220, help="Most tokens per comment, [CLS] and [SEP] included; longer comments are truncated."
    )
    head_tail_truncation: bool = HfArg(
        default=False,
        help="Truncate long comments in the middle: keep the first 128 tokens and fill up with the last ones.",
    )
    max_train_samples: int | None = HfArg(default=None, help="Train on at most this many rows.")
    max_eval_samples: int | None = HfArg(
        default=None, help="Validate on at most this many rows. By default half as many as are trained on."
    )
    preprocessing_num_workers: int | None = HfArg(
        default=None, help="Number of tokenizer threads. By default one per core."
    )
    on_bad_rows: Literal["refuse", "drop"] = HfArg(
        default="refuse",
        help="Whether unusable rows (blank text, toxicity outside 0..1, ...) end the run or are dropped.",
    )
    keep_identical_texts_together: bool = HfArg(
        default=False, help="Split so that no text is both in the training and in the validation rows."
    )
    dry_run: bool = HfArg(default=False, help="Load, check, split and tokenise the data, print a summary, and stop.")
    overwrite_cache: bool = HfArg(default=False, help="Tokenise again, even if the tokens are cached.")

    def __post_init__(self) -> None:
        EvaluationArguments.__post_init__(self)
        AugmentationArguments.__post_init__(self)
        if self.dataset_name and self.train_file:
            raise RequestError("--dataset_name and --train_file both name the data: keep one of them.")
        if self.validation_file and not self.train_file:
            raise RequestError("--validation_file needs a --train_file beside it.")
        if self.validation_labels_file and not self.validation_file:
            raise RequestError("--validation_labels_file needs a --validation_file beside it.")
        if self.label_column_name and self.label_column_names:
            raise RequestError("--label_column_name and --label_column_names both name the labels: keep one of them.")
        if self.label_column_names is not None:
            self.label_column_names = [name.strip() for name in self.label_column_names]
            require_label_names(self.label_column_names)
        if not self.dataset_name and not self.train_file:
            raise RequestError("no data: give --train_file FILE, or --dataset_name sample.")
        # What describes other data than those that are named would be ignored without a word.
        of_the_hub = ("dataset_config_name", "dataset_revision", "train_split_name", "validation_split_name")
        of_files = () if self.eval_files else ("delimiter", "encoding")
        useless = of_the_hub if self.train_file else of_files
        if self.dataset_name == "sample":
            columns = () if self.eval_files else ("positive_labels", "text_column_name", "label_column_name")
            useless = (*of_the_hub, *of_files, *columns, "label_column_names")
        for name in useless:
            if getattr(self, name) is not None:
                beside = "--train_file" if self.train_file else f"--dataset_name {self.dataset_name}"
                raise RequestError(f"--{name} means nothing for {beside}: leave it out.")
        self.delimiter = None if self.delimiter is None else delimiter_of(self.delimiter)
        self.encoding = None if self.encoding is None else encoding_of(self.encoding)
        minima = {"max_seq_length": 3, "max_train_samples": 1, "max_eval_samples": 1, "preprocessing_num_workers": 1}
        for name, least in minima.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise RequestError(f"--{name} is {value}; the least that works is {least}.")


@dataclass
class ModelArguments:
    """Which pretrained model to start from."""

    model_name_or_path: str = HfArg(
        default="google-bert/bert-base-uncased", help="Folder or Hub id of a pretrained model."
    )
    model_revision: str = HfArg(default="main", help="Branch, tag or commit of a model on the Hub.")
    config_overrides: str | None = HfArg(
        default=None, help="Changes to the model's config, such as `hidden_dropout_prob=0,...`."
    )


@dataclass
class MachineArguments:
    """Which machine the run is meant for."""

    gpu: str | None = HfArg(
        default=None, help="Kind of machine the run is meant for: checked at the start, and the label of its results."
    )
    allow_other_gpu: bool = HfArg(
        default=False, help="Run on another GPU than --gpu names; the label of the results says so."
    )


@dataclass
class Arguments:
    """The parsed command line. `recipe` is the name of the recipe file without its ending."""

    recipe: str
    data: DataArguments
    model: ModelArguments
    machine: MachineArguments
    objective: ObjectiveArguments
    calibration: CalibrationArguments
    training: TrainingArguments

    def __post_init__(self) -> None:
        if self.objective.counterfactual_pairing and not self.data.counterfactuals:
            raise RequestError("--counterfactual_pairing is about copies: add --counterfactuals 2, or give it 0.")
        publishes_checkpoints = self.training.push_to_hub and self.training.hub_strategy == HubStrategy.EVERY_SAVE
        if publishes_checkpoints and self.objective.auxiliary_targets:
            raise RequestError(
                "a checkpoint holds logits of auxiliary targets, too; with --auxiliary_targets choose --hub_strategy "
                "end, which publishes the model itself."
            )


class _Parser(HfArgumentParser):
    def error(self, message: str) -> None:
        raise RequestError(message)


def parse_arguments(argv: list[str] | None = None) -> Arguments:
    """Parse `[RECIPE.yaml] [--flag value ...]`; flags win over the recipe, `recipes/sample.yaml` is the default.

    Args:
        argv: command line without the program's name; by default that of the process.

    Raises:
        RequestError: for a recipe that cannot be read, an unknown key or flag, a value of the wrong type, or values
            that do not go together.
        SystemExit: with code 0 after `--help`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    groups = [
        DataArguments,
        ModelArguments,
        MachineArguments,
        ObjectiveArguments,
        CalibrationArguments,
        TrainingArguments,
    ]
    parser = _Parser(groups, prog="run_toxicity.py", allow_abbrev=False)
    parser.usage = "run_toxicity.py [RECIPE.yaml] [--flag value ...]"
    known = sorted(option[2:] for option in parser._option_string_actions if re.match(r"--(?!help)[a-z0-9_]+$", option))

    recipe_path = Path(argv.pop(0)) if argv and not argv[0].startswith("-") else SAMPLE_RECIPE
    recipe = _read_recipe(recipe_path, known)
    flags = [match[1].replace("-", "_") for flag in argv if (match := re.match(r"--([^=]+)", flag))]
    require_known(flags, [*known, "help"], "unknown flag", "--")
    replaced = _replaced_keys(recipe, flags, is_sample=recipe_path.resolve() == SAMPLE_RECIPE)
    given = {key: value for key, value in recipe.items() if key not in replaced and value is not None}
    recipe_flags = _as_flags(given)

    # The recipe alone first, so that an error in it is reported as such.
    try:
        parser.parse_known_args(recipe_flags)
    except RequestError as error:
        raise RequestError(f"{recipe_path}: {error}") from error
    *arguments, unknown = parser.parse_args_into_dataclasses(
        recipe_flags + argv, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise RequestError(f"cannot place `{unknown[0]}`: the recipe comes first, then `--flag value`.")
    return Arguments(recipe_path.stem, *arguments)


def _replaced_keys(recipe: Iterable[str], flags: Iterable[str], is_sample: bool) -> set[str]:
    """Keys of the recipe that do not apply, because a flag names other data, labels or another model."""
    replaced: set[str] = set()
    if DATA_SOURCES.intersection(recipe) and DATA_SOURCES.intersection(flags):
        replaced |= DATA_KEYS
    if "model_name_or_path" in flags:
        replaced |= MODEL_KEYS
    if replaced and is_sample:
        replaced |= SAMPLE_KEYS
    # A flag may name the labels in another way than the recipe does.
    return replaced | LABEL_KEYS if LABEL_KEYS.intersection(flags) else replaced


def _read_recipe(path: Path, known: list[str]) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read the recipe {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"the recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise RequestError(f"the recipe {path} does not hold `key: value` lines.")
    require_known(recipe, known, f"{path}: unknown key")
    return recipe


def _as_flags(recipe: dict[str, Any]) -> list[str]:
    """A recipe as command-line flags, so that one parser checks the types of both."""
    flags: list[str] = []
    for key, value in recipe.items():
        values = value if isinstance(value, list) else [value]
        flags += [f"--{key}", *(json.dumps(item) if isinstance(item, dict | bool) else str(item) for item in values)]
    return flags
