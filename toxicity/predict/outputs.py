"""The output files of a job in its folder, and the record of each that is finished."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxicity.core.errors import RequestError
from toxicity.core.files import digest_of, write_text
from toxicity.predict.shards import Shard

# Hidden folder that exists while a job is unfinished. It holds the description of the job, the folder `shards` with the
# record of each finished output, and the folder `unfinished` with outputs that are being written.
IN_PROGRESS = ".progress"

RECORD_KEYS = ("input", "input_bytes", "input_version", "output", "rows", "bad_rows", "bytes", "xxh3")


@dataclass(frozen=True)
class Outputs:
    """Writes outputs and their records; any number of processes and machines that share the folder have one each.

    Nothing is locked: an output and its record appear whole, and have the same bytes whoever wrote them.
    """

    folder: Path
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
    def unfinished(self, shard: Shard) -> Iterator[Path]:
        """A path to write a shard's output to, which no other process has; what is left there is removed at the end."""
        folder = self.folder / IN_PROGRESS / "unfinished" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder / self.of(shard).name
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, shard: Shard, unfinished: Path, rows: int, bad_rows: int) -> None:
        """Record what was written to an `unfinished` path, and give it its name.

        The record comes first: then an output never lacks one, and a record without its output counts for nothing.
        """
        output = self.of(shard)
        output.parent.mkdir(parents=True, exist_ok=True)
        scores = {"output": self.name_of(shard), "rows": rows, "bad_rows": bad_rows}
        content = {"bytes": unfinished.stat().st_size, "xxh3": digest_of(unfinished)}
        # One from an earlier version of the input would be taken for the one of the record, if it had its size.
        output.unlink(missing_ok=True)
        write_json(self.record_of(shard), input_of(shard) | scores | content)
        unfinished.replace(output)

    def forget(self, shard: Shard) -> None:
        """Remove the output and record of a shard that fails now, if they come from another version of its input."""
        record = read_json(self.record_of(shard), RECORD_KEYS)
        known = shard.bytes is not None and shard.version is not None
        if known and record is not None and input_of(shard).items() <= record.items():
            return
        self.record_of(shard).unlink(missing_ok=True)
        self.of(shard).unlink(missing_ok=True)


def input_of(shard: Shard) -> dict[str, Any]:
    """What a record says of the input."""
    return {"input": shard.address, "input_bytes": shard.bytes, "input_version": shard.version}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of JSON, whole or not at all, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, keys: Collection[str]) -> dict[str, Any] | None:
    """The content of a JSON file, which must have these keys; None if there is no such file.

    Raises:
        RequestError: if it cannot be read, or is none that a job wrote.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        content = None
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}. Name another folder as --output.") from error
    if (
        _is_object(content, keys)
        and _is_object(content.get("job", {}))
        and isinstance(shards := content.get("shards", []), list)
        and all(_is_object(record, RECORD_KEYS) for record in shards)
    ):
        return content
    raise RequestError(f"{path} is damaged, or another program's: move it away, or name another folder as --output.")


def _is_object(content: Any, keys: Collection[str] = ()) -> bool:
    return isinstance(content, dict) and content.keys() >= set(keys)
