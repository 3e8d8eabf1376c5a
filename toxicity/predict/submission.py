"""The columns of a submission to a competition: those of its `sample_submission.csv`, or of 2018, or of 2019."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.label_names import LABELS_2018
from toxicity.core.schema import ID
from toxicity.data.addresses import DataFile, list_data_files
from toxicity.data.copies import local_copy
from toxicity.data.readers.files import read_windows
from toxicity.data.readers.names import is_readable, stem_of
from toxicity.predict.columns import label_called

SAMPLE = "sample_submission"
PREDICTION = "prediction"  # the score of the main label
# Column → what it holds, as `submission_columns` returns it.
FORM_OF_2019 = {ID: 0, PREDICTION: 1}
# A label of 2019 that 2018 did not have, so that a model with it was made for 2019.
OF_2019 = "sexual_explicit"

File = TypeVar("File", bound=DataFile)


class Sample(NamedTuple):
    """What a `sample_submission.csv` asks for."""

    address: str
    columns: tuple[str, ...]


def without_sample(files: Sequence[File], named: str | None) -> tuple[list[File], Sample | None]:
    """The input files without the competition's `sample_submission.csv`, and what that asks for.

    Args:
        files: the input files.
        named: address of the file; by default the one of that name, packed or not, that is among the input files, or
            in the folder of one on this machine.

    Returns:
        The other files, and None where no such file is found.

    Raises:
        RequestError: if it cannot be read, if files of that name ask for different columns, or if nothing else is left.
    """
    if named is None:
        samples = [file for file in files if _is_sample(file.name)]
        folders = {Path(file.address).parent: None for file in files if file.location is None}
        samples += [found for folder in folders for found in _samples_in(folder)]
    else:
        samples = list_data_files(named, "--submission")
        if len(samples) > 1:
            raise RequestError(f"--submission {named} names {len(samples):,} files: name one.")
    addresses = {sample.address: sample for sample in samples}
    found = [Sample(address, _columns_of(sample)) for address, sample in addresses.items()]
    for other in found[1:]:
        if other.columns != found[0].columns:
            raise RequestError(
                f"{found[0].address} and {other.address} ask for different columns: name the right one as "
                "--submission FILE."
            )
    others = [file for file in files if file.address not in addresses]
    if not others:
        raise RequestError(f"{found[0].address} says how a submission looks: name the comments as --input, too.")
    return others, found[0] if found else None


def _is_sample(name: str) -> bool:
    return PurePosixPath(stem_of(name)).name.casefold() == SAMPLE


def _samples_in(folder: Path) -> Iterator[DataFile]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _is_sample(path.name) and is_readable(path.name) and path.is_file():
            yield from list_data_files(str(path), "--submission")


def _columns_of(file: DataFile) -> tuple[str, ...]:
    names: list[str] = []

    def choose(found: list[str], _: str) -> dict[str, str]:
        names.extend(found)
        return {name: name for name in found}

    with local_copy(file) as path, closing(read_windows(path, choose, 1, 1)) as parts:
        next(parts)
    return tuple(names)


def submission_columns(
    sample: Sample | None, labels: Sequence[str], id_name: str | None = None
) -> tuple[dict[str, int], str]:
    """Which columns to write in which order, and a sentence for the log.

    Args:
        sample: what asks for columns. Without one they are `id` and `LABELS_2018` if the model has these six and none
            that only 2019 had, else those of `FORM_OF_2019`.
        labels: names of the model's labels, the main one first. A label may have its name of either year.
        id_name: the column of the ids, if it is not called `id`.

    Returns:
        For each column the number of what it holds: 0 for the id, then the scores in the order of `labels`.

    Raises:
        RequestError: if the sample has no column of ids, or others that the model has no label for.
    """
    has_all = all(label_called(name, labels) is not None for name in LABELS_2018)
    of_2018 = has_all and label_called(OF_2019, labels) is None
    asked = sample.columns if sample else (ID, *LABELS_2018) if of_2018 else tuple(FORM_OF_2019)
    ids = [name for name in asked if name.casefold() in {ID, (id_name or ID).casefold()}][:1]
    places = {name: label_called(name, labels) for name in asked if name not in ids}
    if places.get(PREDICTION, 0) is None:
        places[PREDICTION] = 0
    if sample and not ids:
        shown = ", ".join(map(quoted, asked))
        raise RequestError(f"{sample.address} has the columns {shown}, and none of ids, {quoted(id_name or ID)}.")
    if missing := [name for name, place in places.items() if place is None]:
        raise RequestError(
            f"{sample.address} asks for {', '.join(map(quoted, missing))}, which the model has no label for; it has "
            f"{', '.join(map(quoted, labels))}. Take a model that has them, or name another file as --submission FILE."
        )
    columns = {name: 0 if name in ids else 1 + places[name] for name in asked}
    told = [
        quoted(name) if name in (*ids, labels[place - 1]) else f"{quoted(name)} (the label {quoted(labels[place - 1])})"
        for name, place in columns.items()
    ]
    if of_2018:
        reason = "the model has the six labels of the competition of 2018"
    else:
        reason = f"the model has {OF_2019}, as in 2019" if has_all else "the model lacks some of the six labels of 2018"
    why = f"{reason}. A competition's own {SAMPLE}.csv can be named as --submission FILE"
    why = f"{sample.address} asks for" if sample else why
    return columns, f"The submission has the columns {', '.join(told)}, as {why}."
