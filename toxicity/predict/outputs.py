"""The output files of a job in its folder, and the record of each that is finished."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity.core.errors import RequestError
from toxicity.core.files import digest_of, write_text
from toxicity.predict.output_folder import put, remove, scratch_folder, writing_to
from toxicity.predict.shards import Shard

# Hidden folder that exists while a job is unfinished. It holds the description of the job, the folder `shards` with the
# record of each finished output, and, if it is on a file system, `unfinished` with outputs that are being written.
IN_PROGRESS = ".progress"

RECORD_KEYS = ("input", "input_bytes", "input_version", "output", "rows", "bad_rows", "bytes", "xxh3")


@dataclass(frozen=True)
class Outputs:
    """Writes outputs and their records; any number of processes and machines that share the folder have one each.

    Nothing is locked: an output and its record appear whole, and have the same bytes whoever wrote them.
    """

    folder: Path  # or an address of an object store, as `output_folder` returns it
    output_format: str  # the ending of their names

    def name_of(self, shard: Shard) -> str:
        """The path of a shard's output, relative to the folder."""
        return f"{shard.name}.{self.output_format}"

    def of(self, shard: Shard) -> Path:
        """The output file of a shard."""
        return self.folder / self.name_of(shard)

    @property
    def records(self) -> Path:
        """The folder of the records, in which each has the name of its output and the ending `.json`."""
        return self.folder / IN_PROGRESS / "shards"

    def record_of(self, shard: Shard) -> Path:
        """The file of the record that a shard is finished."""
        return self.records / f"{self.name_of(shard)}.json"

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of this machine for what is `put` into the folder of the outputs; what is left is removed."""
        with scratch_folder(self.folder / IN_PROGRESS / "unfinished") as folder:
            yield folder

    @contextmanager
    def unfinished(self, shard: Shard) -> Iterator[Path]:
        """A path to write a shard's output to, which no other process has; what is left there is removed at the end."""
        with self.scratch() as folder:
            yield folder / self.of(shard).name

    def keep(self, shard: Shard, unfinished: Path, rows: int, bad_rows: int) -> None:
        """Record what was written to an `unfinished` path, and give it its name.

        The record comes first: then an output never lacks one, and a record without its output counts for nothing.
        """
        name, size, xxh3 = self.name_of(shard), unfinished.stat().st_size, digest_of(unfinished)
        record, output = unfinished.parent / ".record", self.of(shard)
        scores = {"output": name, "rows": rows, "bad_rows": bad_rows}
        with writing_to(self.folder):
            write_json(record, input_of(shard) | scores | {"bytes": size, "xxh3": xxh3})
            # One from an earlier version of the input would be taken for the one of the record. The same bytes stay
            # there all the time, as others may have put them and be done with the job.
            with suppress(FileNotFoundError, NotADirectoryError):
                if output.stat().st_size != size or digest_of(output) != xxh3:
                    remove(self.folder, [name])
            put(record, self.record_of(shard))
            put(unfinished, output)

    def forget(self, shard: Shard) -> None:
        """Remove the output and record of a shard that failed, if they come from another version of its input."""
        record = read_json(self.record_of(shard), RECORD_KEYS)
        known = shard.bytes is not None and shard.version is not None
        if known and record is not None and input_of(shard).items() <= record.items():
            return
        remove(self.records, [f"{self.name_of(shard)}.json"])
        remove(self.folder, [self.name_of(shard)])


def input_of(shard: Shard) -> dict[str, Any]:
    """What a record says of the input."""
    return {"input": shard.address, "input_bytes": shard.bytes, "input_version": shard.version}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of JSON."""
    write_text(path, as_json(content) + "\n")


def as_json(content: Mapping[str, Any]) -> str:
    """JSON as records and the manifest have it."""
    return json.dumps(content, indent=1, ensure_ascii=False)


def read_json(path: Path, keys: Collection[str]) -> dict[str, Any] | None:
    """The content of a JSON file, which must have these keys; None if there is no such file.

    Raises:
        RequestError: if it cannot be read, or is none that a job wrote.
    """
    try:
        return parse_json(path.read_bytes(), path, keys)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(f"cannot read {path}: {reason}. Name another folder as --output.") from error


def parse_json(content: bytes, path: Path, keys: Collection[str]) -> dict[str, Any]:
    """What JSON says that has these keys, and was read from a path; raises `RequestError` if no job wrote it."""
    try:
        found = json.loads(content.decode())
    except ValueError:
        found = None
    if (
        _is_object(found, keys)
        and _is_object(found.get("job", {}))
        and isinstance(shards := found.get("shards", []), list)
        and all(_is_object(record, RECORD_KEYS) for record in shards)
    ):
        return found
    raise RequestError(f"{path} is damaged, or another program's: move it away, or name another folder as --output.")


def _is_object(content: Any, keys: Collection[str] = ()) -> bool:
    return isinstance(content, dict) and content.keys() >= set(keys)
