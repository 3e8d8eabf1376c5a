"""Datasets of the Hub, local folders of that layout, and what `save_to_disk` wrote, as tables of labelled comments."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    ReadInstruction,
    concatenate_datasets,
    get_dataset_config_names,
    load_dataset,
    load_from_disk,
)
from datasets.features import LargeList, List

from toxicity.core.arguments import DataArguments
from toxicity.core.disk import is_full_disk
from toxicity.core.errors import RequestError, one_line
from toxicity.core.schema import LABEL_LISTS
from toxicity.data.readers.arrow import plain_column
from toxicity.data.readers.base import ChooseColumns

DEFAULT_TRAIN, DEFAULT_VALIDATION = "train", "validation"

logger = logging.getLogger(__name__)


class _Slice(NamedTuple):
    """Rows of a split from `start` on, up to and without `end`."""

    split: str
    start: int
    end: int

    def overlaps(self, other: _Slice) -> bool:
        return self.split == other.split and max(self.start, other.start) < min(self.end, other.end)


class NamedTable(NamedTuple):
    """A table of comments under canonical column names, and what to call it."""

    name: str
    table: pa.Table


def read_dataset(arguments: DataArguments, choose: ChooseColumns) -> list[NamedTable]:
    """The rows to train on and, if the dataset has a split for them, those to validate on, of `--dataset_name`.

    The splits may be sliced, as `datasets` has it: `train[:10%]`, `train+test[:1000]`.

    Args:
        arguments: name, configuration, revision and splits of the dataset.
        choose: picks the columns to read, as for files.

    Raises:
        RequestError: if there is no such dataset, configuration or split, naming those that there are; if it cannot
            be reached or kept; and if both splits share rows.
    """
    name = arguments.dataset_name
    splits = _load(arguments)
    train = arguments.train_split_name or DEFAULT_TRAIN
    slices = {train: _slices(name, splits, train, "--train_split_name")}
    validation = arguments.validation_split_name
    if not validation and DEFAULT_VALIDATION in splits.keys() - {part.split for part in slices[train]}:
        validation = DEFAULT_VALIDATION
    if validation:
        parts = _slices(name, splits, validation, "--validation_split_name")
        if validation == train or any(one.overlaps(other) for one in slices[train] for other in parts):
            raise RequestError(f"{name}: {train} and {validation} share rows: name splits or slices that do not.")
        slices[validation] = parts
    if unused := sorted(set(splits) - {part.split for parts in slices.values() for part in parts}):
        logger.info(
            f"{name}: not used: the splits {', '.join(unused)}. "
            f"{'' if validation else f'A part of {train} is drawn for validation. '}"
            "--train_split_name and --validation_split_name name others."
        )
    tables = []
    for asked, parts in slices.items():
        label = f"{name} ({asked})"
        rows = concatenate_datasets([splits[part.split].select(range(part.start, part.end)) for part in parts])
        tables.append(NamedTable(label, _plain_table(rows, label, choose)))
    return tables


def saved_splits(folder: Path) -> list[str]:
    """Names of the splits that `save_to_disk` wrote to a folder, the only one without a name; none for others."""
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return [""]
    if (folder / "dataset_dict.json").is_file():
        return sorted(path.parent.name for path in folder.glob("*/state.json"))
    return []


def read_saved_split(folder: Path, choose: ChooseColumns) -> pa.Table:
    """The rows of the only split that `save_to_disk` wrote to a folder, under canonical column names.

    Raises:
        RequestError: if the folder is not whole, or holds several splits.
    """
    if names := [name for name in saved_splits(folder) if name]:
        raise RequestError(
            f"{folder} holds the splits {', '.join(names)} of a dataset: "
            "give it as --dataset_name, or the folder of one of them as --train_file."
        )
    return _plain_table(_load_saved(folder), str(folder), choose)


def _plain_table(rows: Dataset, name: str, choose: ChooseColumns) -> pa.Table:
    """The columns that are to be read, as `plain_column` makes them."""
    chosen = choose(rows.column_names, name)
    table = rows.select_columns(list(dict.fromkeys(chosen.values()))).with_format("arrow")[:]
    columns = {
        canonical: plain_column(table[column], _class_names(rows.features[column]), keep_lists=canonical == LABEL_LISTS)
        for canonical, column in chosen.items()
    }
    return pa.table(columns)


def _class_names(feature: Any) -> list[str] | None:
    """The names of the classes of a feature, or of those in its lists."""
    while isinstance(feature, List | LargeList):
        feature = feature.feature
    return feature.names if isinstance(feature, ClassLabel) else None


def _load(arguments: DataArguments) -> Mapping[str, Dataset]:
    """All splits of the dataset, by name."""
    name, config = arguments.dataset_name, arguments.dataset_config_name
    folder = Path(name)
    if folder.is_file():
        raise RequestError(f"{name} is a file: give it as --train_file instead of --dataset_name.")
    if saved_splits(folder):
        if config:
            raise RequestError(f"{name} was saved without configurations: leave out --dataset_config_name {config}.")
        loaded = _load_saved(folder)
    else:
        try:
            loaded = load_dataset(name, config, revision=arguments.dataset_revision)
        except Exception as error:  # which error depends on the dataset builder, the client and the network
            raise _explained(error, arguments) from error
    return loaded if isinstance(loaded, DatasetDict) else {DEFAULT_TRAIN: loaded}


def _load_saved(folder: Path) -> Dataset | DatasetDict:
    try:
        return load_from_disk(str(folder))
    except Exception as error:  # of any library that parses what is there
        raise RequestError(
            f"cannot read {folder}, which save_to_disk wrote: {one_line(error)} Save it again, and whole."
        ) from error


def _explained(error: Exception, arguments: DataArguments) -> RequestError:
    """What to do about a dataset that cannot be loaded."""
    name, config = arguments.dataset_name, arguments.dataset_config_name
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in causes:
        if isinstance(cause, PermissionError) or is_full_disk(cause):
            place = getattr(cause, "filename", None) or datasets.config.HF_DATASETS_CACHE
            return RequestError(
                f"cannot keep the dataset {name}: {getattr(cause, 'strerror', None) or one_line(cause)}: {place}. "
                "Name a folder of your own, with room in it, in HF_DATASETS_CACHE and HF_HUB_CACHE."
            )
    configs: list[str] = []
    with suppress(Exception):  # the dataset may not exist at all
        configs = get_dataset_config_names(name, revision=arguments.dataset_revision)
    if config is None and len(configs) > 1:
        return RequestError(
            f"the dataset {name} has several configurations: {', '.join(configs)}. Choose one: --dataset_config_name."
        )
    if config is not None and configs and config not in configs:
        return RequestError(
            f"the dataset {name} has no configuration `{config}` (--dataset_config_name); it has {', '.join(configs)}."
        )
    advice = "Check --dataset_name, --dataset_revision and the network, or give a file as --train_file."
    if Path(name).is_dir():
        advice = "If it is a folder of files, give it as --train_file, with --delimiter and --encoding where they help."
    return RequestError(f"cannot load the dataset {name}: {one_line(error)} {advice}")


def _slices(name: str, splits: Mapping[str, Dataset], asked: str, flag: str) -> list[_Slice]:
    """The rows that the name of a split means, or slices of splits."""
    if asked in splits:
        return [_Slice(asked, 0, len(splits[asked]))]
    try:
        parts = ReadInstruction.from_spec(asked).to_absolute({split: len(rows) for split, rows in splits.items()})
    except (ValueError, AssertionError) as error:
        raise RequestError(
            f"the dataset {name} has no split `{asked}`; it has {', '.join(splits)}. Name one as {flag}."
        ) from error
    return [_Slice(part.splitname, part.from_, max(part.from_, part.to)) for part in parts]
