"""What a run is asked to do: a YAML recipe first, then the flags on top, parsed once and validated once."""

from __future__ import annotations

import difflib
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import HfArgumentParser
from transformers.trainer_utils import HubStrategy

from toxicity.core.errors import RequestError
from toxicity.core.files import bundled
from toxicity.core.training_arguments import TrainingArguments

SAMPLE_RECIPE = bundled("recipes") / "sample.yaml"

# What a recipe says of its own data or model does not hold for those that a flag names instead.
SOURCES = ("dataset_name", "train_file")
OF_THE_SOURCE = (
    *SOURCES,
    *("dataset_revision", "validation_file", "text_column_name", "label_column_name"),
    *("max_train_samples", "max_eval_samples"),
)
OF_THE_MODEL = ("model_name_or_path", "model_revision", "config_overrides")
# Chosen for its comments and its model together; other recipes were written by those who run them.
OF_THE_SAMPLE = ("max_seq_length", "init_head_bias")


@dataclass
class DataArguments:
    """Which comments to train and validate on, and how to cut them into tokens."""

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "`sample`, the real comments that requirements.txt installs, or the id of a dataset on the Hub, "
            "such as google/civil_comments."
        },
    )
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a dataset on the Hub."}
    )
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Comments with their toxicity: CSV (also .gz, .zip), JSON lines (also .gz) or parquet, a file or a "
            "folder of shards."
        },
    )
    validation_file: str | None = field(
        default=None, metadata={"help": "The same for validation. Without it the train file is split."}
    )
    text_column_name: str | None = field(
        default=None, metadata={"help": "Column of the comment, where its name is not one of the published ones."}
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": "Column of the toxicity, a number from 0 to 1; toxic from 0.5 on."}
    )
    max_seq_length: int = field(
        default=220, metadata={"help": "Tokens a comment is cut to, [CLS] and [SEP] counted in."}
    )
    head_tail_truncation: bool = field(
        default=False,
        metadata={"help": "Of comments that are too long keep the first 128 tokens and, to fill up, the last ones."},
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on this many rows at most."})
    max_eval_samples: int | None = field(
        default=None,
        metadata={"help": "Validate on this many rows at most. By default half as many as are trained on."},
    )
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Threads of the tokenizer. By default one a core."}
    )
    on_bad_rows: Literal["refuse", "drop"] = field(
        default="refuse",
        metadata={"help": "What to do about rows with blank text, targets outside 0..1 and the like."},
    )
    keep_identical_texts_together: bool = field(
        default=False, metadata={"help": "Split so that no comment of the validation rows was also trained on."}
    )
    dry_run: bool = field(
        default=False, metadata={"help": "Load, check, split and tokenise, tell what was found, and stop."}
    )
    overwrite_cache: bool = field(default=False, metadata={"help": "Tokenise again, even where the cache has it."})

    def __post_init__(self) -> None:
        if self.dataset_name and self.train_file:
            raise RequestError("--dataset_name and --train_file both name the data: keep one of them.")
        if self.validation_file and not self.train_file:
            raise RequestError("--validation_file needs a --train_file beside it.")
        if not self.dataset_name and not self.train_file:
            raise RequestError("no data: give --train_file FILE, or --dataset_name sample.")
        for name, least in (
            ("max_seq_length", 3),
            ("max_train_samples", 1),
            ("max_eval_samples", 1),
            ("preprocessing_num_workers", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise RequestError(f"--{name} is {value}; the least that works is {least}.")


@dataclass
class ModelArguments:
    """Which pretrained checkpoint to start from."""

    model_name_or_path: str = field(
        default="google-bert/bert-base-uncased", metadata={"help": "Folder or Hub id of a pretrained checkpoint."}
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of a checkpoint on the Hub."})
    config_overrides: str | None = field(
        default=None, metadata={"help": "Changes to the model's config: `hidden_dropout_prob=0,...`."}
    )


@dataclass
class MachineArguments:
    """Which machine the run is meant for."""

    gpu: str | None = field(
        default=None,
        metadata={"help": "Kind of machine asked for, checked before anything is read, and the label of the row."},
    )
    allow_other_gpu: bool = field(
        default=False, metadata={"help": "Run on another GPU than --gpu names; the label says so."}
    )


@dataclass
class ObjectiveArguments:
    """What training minimises."""

    targets: Literal["hard", "soft", "smoothed"] = field(
        default="hard",
        metadata={
            "help": "Toxicity as training sees it: 0 or 1, the share of annotators who said toxic, or that share drawn "
            "to one half the more the fewer they were."
        },
    )
    identity_weights: Literal["none", "any", "share", "detoxify"] = field(
        default="none",
        metadata={"help": "Let civil comments that mention an identity, and toxic ones that mention none, count more."},
    )
    auxiliary_targets: list[str] = field(
        default_factory=list,
        metadata={"help": "Learn the six `subtypes`, the nine `identities` or both beside toxicity, or `none`."},
    )
    init_head_bias: bool = field(
        default=False, metadata={"help": "Start from the log odds of the base rate instead of from one half."}
    )

    def __post_init__(self) -> None:
        if unknown := set(self.auxiliary_targets) - {"subtypes", "identities", "none"}:
            raise RequestError(
                f"--auxiliary_targets knows subtypes and identities, and not {', '.join(sorted(unknown))}."
            )
        self.auxiliary_targets = sorted(set(self.auxiliary_targets) - {"none"}, reverse=True)


@dataclass
class Arguments:
    """The parsed request. `recipe` is the name of the recipe file without its ending."""

    recipe: str
    data: DataArguments
    model: ModelArguments
    machine: MachineArguments
    objective: ObjectiveArguments
    training: TrainingArguments


class _Parser(HfArgumentParser):
    def error(self, message: str) -> None:
        raise RequestError(message)


def parse_arguments(argv: list[str] | None = None) -> Arguments:
    """Parse `[RECIPE.yaml] [--flag value ...]`; flags win over the recipe, `recipes/sample.yaml` is the default.

    Args:
        argv: command line without the program's name; by default that of the process.

    Raises:
        RequestError: for a recipe that cannot be read, a key or flag that is not known, a value of the wrong
            type, or values that do not go together.
        SystemExit: with code 0 after `--help`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    groups = [DataArguments, ModelArguments, MachineArguments, ObjectiveArguments, TrainingArguments]
    parser = _Parser(groups, prog="run_toxicity.py", allow_abbrev=False)
    parser.usage = "run_toxicity.py [RECIPE.yaml] [--flag value ...]"
    known = sorted(option[2:] for option in parser._option_string_actions if re.match(r"--(?!help)[a-z0-9_]+$", option))

    recipe_path = Path(argv.pop(0)) if argv and not argv[0].startswith("-") else SAMPLE_RECIPE
    recipe = _read_recipe(recipe_path, known)
    flags = [match[1].replace("-", "_") for flag in argv if (match := re.match(r"--([^=]+)", flag))]
    for flag in flags:
        if flag not in (*known, "help"):
            raise RequestError(_unknown_message("flag", f"--{flag}", known))
    left_out: tuple[str, ...] = ()
    if recipe.keys() & set(SOURCES) and set(flags) & set(SOURCES):
        left_out += OF_THE_SOURCE
    if "model_name_or_path" in flags:
        left_out += OF_THE_MODEL
    if left_out and recipe_path.resolve() == SAMPLE_RECIPE:
        left_out += OF_THE_SAMPLE
    recipe = {key: value for key, value in recipe.items() if key not in left_out}

    try:
        parser.parse_known_args(_as_flags(recipe))
    except RequestError as error:
        raise RequestError(f"{recipe_path}: {error}") from error
    *arguments, unknown = parser.parse_args_into_dataclasses(
        _as_flags(recipe) + argv, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise RequestError(f"cannot place `{unknown[0]}`: the recipe comes first, then `--flag value`.")
    parsed = Arguments(recipe_path.stem, *arguments)
    every_save = parsed.training.push_to_hub and parsed.training.hub_strategy == HubStrategy.EVERY_SAVE
    if every_save and parsed.objective.auxiliary_targets:
        raise RequestError(
            "a checkpoint holds logits of auxiliary targets, too; with --auxiliary_targets choose --hub_strategy end, "
            "which publishes the model itself."
        )
    return parsed


def _read_recipe(path: Path, known: list[str]) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read the recipe {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"the recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise RequestError(f"the recipe {path} does not hold `key: value` lines.")
    for key in recipe:
        if key not in known:
            raise RequestError(f"{path}: {_unknown_message('key', str(key), known)}")
    return recipe


def _as_flags(recipe: dict[str, Any]) -> list[str]:
    """Recipe values as a command line, so that one parser checks the types of both."""
    flags: list[str] = []
    for key, value in recipe.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        flags += [f"--{key}", *(json.dumps(item) if isinstance(item, dict | bool) else str(item) for item in values)]
    return flags


def _unknown_message(kind: str, name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name.lstrip("-"), known, n=1, cutoff=0)[0]
    prefix = "--" if kind == "flag" else ""
    return f"unknown {kind} `{name}`; the nearest known one is `{prefix}{nearest}`. All of them: run_toxicity.py --help"
