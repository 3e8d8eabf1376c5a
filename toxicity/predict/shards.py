"""List the input files of a job, local or remote, in a fixed order, and fetch remote ones one at a time."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
from datasets.data_files import FILES_TO_IGNORE
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from toxicity.core.errors import RequestError, one_line
from toxicity.data.readers.files import ENDINGS, is_readable, stem_of

STANDARD_INPUT = "-"
# Names under which file systems report a digest of a file's content, and the time of its last change.
DIGEST_KEYS = ("blob_id", "ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest")
TIME_KEYS = ("mtime", "LastModified", "Last-Modified", "last_modified", "modified")


@dataclass(frozen=True)
class Shard:
    """An input file of comments."""

    address: str  # path or URL, as `fsspec` opens it
    name: str  # path of its output relative to the output folder, without an ending
    bytes: int | None  # its size; None if unknown, as for a stream
    version: str | None  # changes when the content changes; None if the file system reports nothing of the kind


def list_shards(addresses: Sequence[str], output: Path | None = None) -> list[Shard]:
    """List the input files; those of a folder or a pattern are sorted by name.

    Args:
        addresses: files, folders and patterns with `*`, each a path or a URL that `fsspec` knows, such as
            `hf://datasets/USER/NAME/FILE`; or only `-`, for lines on standard input.
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
def local_copy(shard: Shard) -> Iterator[Path]:
    """The path of a local file, or of a temporary copy of a remote one.

    The copy is complete because reading parquet and zip files needs random access, and CSV files are read twice.

    Raises:
        RequestError: if the file cannot be fetched completely.
    """
    files, path = fsspec.url_to_fs(shard.address)
    if isinstance(files, LocalFileSystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(path).name
        with _access_errors_explained(shard.address):
            files.get_file(path, str(copy))
        if shard.bytes is not None and copy.stat().st_size != shard.bytes:
            raise RequestError(
                f"{shard.address} was cut off: {copy.stat().st_size:,} of {shard.bytes:,} bytes came. Run this again."
            )
        yield copy


def _shards_at(address: str, output: Path | None) -> list[Shard]:
    with _access_errors_explained(address):
        files, path = fsspec.url_to_fs(address)
        folder, pattern = path, re.search(r"[*?\[]", path)
        # Checked before `isdir`, as fsspec takes any page with links on a web server for a folder.
        if is_readable(path) and files.isfile(path):
            return [_shard(files, path, Path(path).name)]
        if files.isdir(path):
            is_local = isinstance(files, LocalFileSystem)
            if is_local and output is not None and output.resolve().is_relative_to(Path(path).resolve()):
                raise RequestError(
                    f"--output {output} is in the folder {address}, of which all files are input: name one outside."
                )
            paths = files.find(path)
        elif files.exists(path):
            raise RequestError(f"cannot read {address}: its name should end in one of {ENDINGS}.")
        elif pattern:
            paths = [found for found in files.glob(path) if files.isfile(found)]
            folder = path[: pattern.start()].rpartition("/")[0]
        else:
            raise RequestError(f"there is no file {address}.")
        names = {found: found.removeprefix(folder).lstrip("/") for found in sorted(paths)}
        data = [
            found
            for found, name in names.items()
            if is_readable(name, in_folder=not pattern) and not _is_metadata(name)
        ]
        if not data:
            raise RequestError(f"{address} holds no data: no file ends in {ENDINGS}.")
        return [_shard(files, found, names[found]) for found in data]


def _is_metadata(name: str) -> bool:
    # Spark and Hive ignore names like `_SUCCESS` and `_delta_log/`, and `datasets` files like `dataset_infos.json`.
    *_, file = parts = name.split("/")
    return file in FILES_TO_IGNORE or any(part.startswith((".", "_")) for part in parts)


def _shard(files: AbstractFileSystem, path: str, name: str) -> Shard:
    info = files.info(path)
    version = next((str(info[key]) for key in (*DIGEST_KEYS, *TIME_KEYS) if info.get(key)), None)
    address = path if isinstance(files, LocalFileSystem) else files.unstrip_protocol(path)
    return Shard(address, stem_of(name), info.get("size"), version)


@contextmanager
def _access_errors_explained(address: str) -> Iterator[None]:
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # the type depends on the file system, its client and the network
        raise RequestError(
            f"cannot reach {address}: {type(error).__name__}: {one_line(error)} Check the address and the network."
        ) from error
