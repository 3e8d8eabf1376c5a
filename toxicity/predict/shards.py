"""List the input files of a job, local or remote, in a fixed order, and name their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from toxicity.core.errors import RequestError
from toxicity.data.addresses import DataFile, list_data_files, local_folder
from toxicity.data.readers.names import stem_of
from toxicity.data.storage import access_errors_explained, located, without_credentials
from toxicity.predict.output_folder import is_local

STANDARD_INPUT = "-"


class Shard(DataFile):
    """An input file of comments; `name` is the path of its output relative to the output folder, without an ending."""


def list_shards(addresses: Sequence[str], output: Path | None = None) -> list[Shard]:
    """List the input files; those of a folder or a pattern are sorted by name.

    Args:
        addresses: files, folders and patterns as `list_data_files` takes them; or only `-`, for lines on standard
            input.
        output: the output folder, which must not be within an input folder: outputs would be inputs of the next job.

    Raises:
        RequestError: for files that do not exist, cannot be reached or are of an unknown format, and for two files
            whose outputs would have the same name.
    """
    if STANDARD_INPUT in addresses:
        if len(addresses) > 1:
            raise RequestError("--input - reads standard input, and nothing beside it: leave the other inputs out.")
        return [Shard(STANDARD_INPUT, "stdin", None, None)]
    shards: dict[str, Shard] = {}
    for address in addresses:
        _require_outside(output, address)
        for file in list_data_files(address, "--input"):
            # Archives and object stores have names such as ../a.csv and b//a.csv.
            name = PurePosixPath(stem_of(file.name))
            if ".." in name.parts:
                raise RequestError(
                    f"{file.address} has .. in its name, and its output would not be in --output: rename it."
                )
            shard = Shard(file.address, name.as_posix(), file.bytes, file.version, file.location)
            other = shards.setdefault(shard.name, shard)
            if other.address == shard.address and other is not shard:
                raise RequestError(f"--input names {shard.address} twice.")
            if other is not shard:
                raise RequestError(
                    f"{other.address} and {shard.address} would be written to one output, {shard.name}: "
                    "score them into two folders."
                )
    return list(shards.values())


def _require_outside(output: Path | None, address: str) -> None:
    if not address or output is None:
        return
    if is_local(output):
        folder = local_folder(address)
        inside = folder is not None and output.resolve().is_relative_to(folder.resolve())
    else:
        with access_errors_explained(address):
            files, path = located(address)
        inside = f"{output}/".startswith(f"{files.unstrip_protocol(path).rstrip('/')}/")
    if inside:
        raise RequestError(
            f"--output {output} is in the folder {without_credentials(address)}, of which all files are input: name "
            "one outside."
        )
