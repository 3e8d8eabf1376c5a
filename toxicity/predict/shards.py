"""Input shards, wherever they are: listed in a fixed order, brought here one at a time."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from datasets.data_files import FILES_TO_IGNORE
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from toxicity.core.errors import RequestError, one_line
from toxicity.data.readers.files import READERS, is_readable

STANDARD_INPUT = "-"
# What file systems call that which changes with a file's content, the surest first.
VERSION_KEYS = (
    "blob_id",
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "Content-MD5",
    "Digest",
    "mtime",
    "LastModified",
    "Last-Modified",
    "last_modified",
    "modified",
)


@dataclass(frozen=True)
class Shard:
    """A file of comments.

    `address` is what `fsspec` opens, `name` the path of its output below the output folder, without an ending, `bytes`
    its size (None of a stream), and `version` what tells its content from what was there before, if anything does.
    """

    address: str
    name: str
    bytes: int | None
    version: str | None


def list_shards(addresses: Sequence[str], output: Path | None = None) -> list[Shard]:
    """Find the files behind the addresses, those of a folder or a pattern in the order of their names.

    Args:
        addresses: files, folders, patterns with `*`, each a path or an address that `fsspec` knows, such as
            `hf://datasets/USER/NAME/FILE`; or `-` alone, for lines on standard input.
        output: folder that must not be in one of those, where its files would be input the next time.

    Raises:
        RequestError: for what is not there, cannot be reached or cannot be read, and for two files of one name.
    """
    if STANDARD_INPUT in addresses:
        if len(addresses) > 1:
            raise RequestError("--input - reads standard input, and nothing beside it: leave the other inputs out.")
        return [Shard(STANDARD_INPUT, "stdin", None, None)]
    shards: dict[str, Shard] = {}
    for address in addresses:
        for shard in _shards_at(address, output):
            other = shards.setdefault(shard.name, shard)
            if other.address == shard.address and other is not shard:
                raise RequestError(f"--input names {shard.address} twice.")
            if other is not shard:
                raise RequestError(
                    f"{other.address} and {shard.address} would be written to one output, {shard.name}: "
                    "score them into two folders."
                )
    return list(shards.values())


@contextmanager
def brought_here(shard: Shard) -> Iterator[Path]:
    """The shard as a local file: itself, or a copy that is gone afterwards.

    Parquet and zip files are jumped about in, and a CSV file is looked through twice, so a copy is fetched whole.

    Raises:
        RequestError: if it cannot be fetched, or not all of it.
    """
    files, path = fsspec.url_to_fs(shard.address)
    if isinstance(files, LocalFileSystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        with _refusing(shard.address):
            files.get_file(path, str(copy))
        if shard.bytes is not None and copy.stat().st_size != shard.bytes:
            raise RequestError(
                f"{shard.address} was cut off: {copy.stat().st_size:,} of {shard.bytes:,} bytes came. Run this again."
            )
        yield copy


def _shards_at(address: str, output: Path | None) -> list[Shard]:
    with _refusing(address):
        files, path = fsspec.url_to_fs(address)
        folder, pattern = path, re.search(r"[*?\[]", path)
        # Asked first, as a web server takes any file for a folder if there are links in it.
        if is_readable(path) and files.isfile(path):
            return [_shard(files, path, Path(path).name)]
        if files.isdir(path):
            here = isinstance(files, LocalFileSystem) and output is not None
            if here and output.resolve().is_relative_to(Path(path).resolve()):
                raise RequestError(
                    f"--output {output} is in the folder {address}, of which all files are input: name one outside."
                )
            paths = files.find(path)
        elif files.exists(path):
            raise RequestError(f"cannot read {address}: its name should end in one of {', '.join(READERS)}.")
        elif pattern:
            paths = [found for found in files.glob(path) if files.isfile(found)]
            folder = path[: pattern.start()].rpartition("/")[0]
        else:
            raise RequestError(f"there is no file {address}.")
        names = {found: found.removeprefix(folder).lstrip("/") for found in sorted(paths)}
        shown = [found for found, name in names.items() if is_readable(name) and not _is_no_data(name)]
        if not shown:
            raise RequestError(f"{address} holds no data: no file ends in {', '.join(READERS)}.")
        return [_shard(files, found, names[found]) for found in shown]


def _is_no_data(name: str) -> bool:
    # As Spark and Hive see it: `_SUCCESS`, `_delta_log/` and the like are not data. As `datasets` sees it:
    # `dataset_infos.json`, `config.json` and the like are not either.
    *_, file = parts = name.split("/")
    return file in FILES_TO_IGNORE or any(part.startswith((".", "_")) for part in parts)


def _shard(files: AbstractFileSystem, path: str, name: str) -> Shard:
    info: dict[str, Any] = files.info(path)
    version = next((str(info[key]) for key in VERSION_KEYS if info.get(key)), None)
    address = path if isinstance(files, LocalFileSystem) else files.unstrip_protocol(path)
    ending = next(ending for ending in sorted(READERS, key=len, reverse=True) if name.lower().endswith(ending))
    stem = name[: -len(ending)]
    # `train.csv.zip` holds `train.csv`.
    return Shard(address, stem.removesuffix(".csv") if ending == ".zip" else stem, info.get("size"), version)


@contextmanager
def _refusing(address: str) -> Iterator[None]:
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # what is raised depends on the file system, the client and the network
        raise RequestError(
            f"cannot reach {address}: {type(error).__name__}: {one_line(error)} Check the address and the network."
        ) from error
