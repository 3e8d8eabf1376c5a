"""The record of finished shards in an output folder, by which an interrupted job continues where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from toxicity.core.errors import RequestError
from toxicity.predict.outputs import IN_PROGRESS, RECORD_KEYS, Outputs, input_of, read_json, write_json
from toxicity.predict.shards import Shard

MANIFEST_VERSION = 2
MANIFEST = "manifest.json"
# The description of an unfinished job, and the file that its main process locks.
JOB, LOCK = "job.json", "job.lock"

JOB_KEYS = ("schema_version", "job")


class Ledger:
    """Keeps track of which outputs of a job are finished; the main process of the job starts and finishes it.

    At the end, the records of finished shards become `manifest.json`, with the keys `job`, `rows`, `shards` (input,
    output, rows and digest of each output) and `failed` (input and reason). The manifest does not depend on time,
    number of processes or interruptions.

    Args:
        folder: the output folder.
        job: everything that determines the bytes of the outputs, as JSON types; among it their `output_format`.

    Raises:
        RequestError: if the folder holds scores of another job, or cannot be read.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self.folder = folder
        self._job = {"schema_version": MANIFEST_VERSION, "job": dict(job)}
        self.outputs = Outputs(folder, job["output_format"])
        self._progress = folder / IN_PROGRESS
        self._records = self.outputs.records
        self._lock: FileLock | None = None
        manifest = read_json(folder / MANIFEST, (*JOB_KEYS, "shards"))
        started = read_json(self._progress / JOB, JOB_KEYS)
        in_manifest = self._with_output([] if manifest is None else manifest["shards"])
        # A job whose outputs were all removed does not matter.
        if in_manifest:
            self._require_same_job(manifest)
        if started is not None and self._with_output(self._records_in_progress()):
            self._require_same_job(started)
        self._in_manifest = {record["output"]: record for record in in_manifest}

    def start(self) -> None:
        """Reserve the folder for this job; one process of the job calls it, before anything is written.

        Raises:
            RequestError: if another job is running in the folder, or it cannot be written to.
        """
        with writing_to(self.folder):
            self._lock = _lock(self._progress / LOCK)
            if self._lock is None:
                raise RequestError(
                    f"another job writes to {self.folder}: wait for it, or name another folder as --output."
                )
            write_json(self._progress / JOB, self._job)

    def is_done(self, shard: Shard) -> bool:
        """Whether the shard's output exists, is complete, and was made from this version of the input."""
        output, record = self.outputs.of(shard), self._record_of(self.outputs.name_of(shard))
        if record is None or shard.bytes is None or not output.is_file():
            return False
        now = input_of(shard) | {"bytes": output.stat().st_size}
        return now.items() <= record.items()

    def wrote(self, path: Path) -> bool:
        """Whether a file is this folder's manifest, or an output that its jobs wrote."""
        folder, path = self.folder.resolve(), path.resolve()
        if not path.is_relative_to(folder):
            return False
        name = path.relative_to(folder).as_posix()
        return name == MANIFEST or self._record_of(name) is not None

    def finish(self, failed: Mapping[str, str]) -> dict[str, Any]:
        """Write the manifest and return it; one process calls it when all of them are through.

        `failed` has the reason for each shard that failed, by address. Raises `RequestError` if nothing can be written.
        """
        records = self._in_manifest | {record["output"]: record for record in self._records_in_progress()}
        done = self._with_output(records[name] for name in sorted(records))
        manifest = self._job | {
            "rows": sum(record["rows"] for record in done),
            "shards": done,
            "failed": [{"input": address, "reason": reason} for address, reason in sorted(failed.items())],
        }
        with writing_to(self.folder):
            write_json(self.folder / MANIFEST, manifest)
            shutil.rmtree(self._progress)
        self._lock.release()
        return manifest

    def _require_same_job(self, other: Mapping[str, Any]) -> None:
        other_job, job = ({"schema_version": some["schema_version"]} | some["job"] for some in (other, self._job))
        if (other_job.get("on_bad_rows"), job.get("on_bad_rows")) == ("refuse", "score_null"):
            # Shards that were not refused have no bad rows, and so the same scores with either setting.
            other_job["on_bad_rows"] = "score_null"
        if found := difference(other_job, job):
            raise RequestError(
                f"{self.folder} holds scores of another job, with {found}: "
                "name another folder as --output, or remove that one."
            )

    def _record_of(self, name: str) -> dict[str, Any] | None:
        return read_json(self._records / f"{name}.json", RECORD_KEYS) or self._in_manifest.get(name)

    def _records_in_progress(self) -> Iterator[dict[str, Any]]:
        return filter(None, (read_json(path, RECORD_KEYS) for path in self._records.rglob("*.json")))

    def _with_output(self, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [record for record in records if (self.folder / record["output"]).is_file()]


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first difference between two jobs, such as `threshold 0.5 instead of 0.7`; None if there is none.

    The name of the model is not compared, as the same model may have several (a folder and a repo).
    """
    for key in one | other:
        value, other_value = one.get(key), other.get(key)
        if isinstance(value, Mapping) and isinstance(other_value, Mapping):
            if found := difference(value, other_value):
                return f"{key}.{found}"
        elif value != other_value and key != "model":
            return f"{key} {value} instead of {other_value}"
    return None


def _lock(path: Path) -> FileLock | None:
    """Lock a file; None if another process has locked it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with suppress(Timeout):
        lock.acquire(blocking=False)
    return lock if lock.is_locked else None


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn any `OSError` of the block into a `RequestError` about the output folder."""
    try:
        yield
    except OSError as error:
        raise RequestError(
            f"cannot write to {folder}: {error.strerror or error}. Make room there, or name another folder as --output."
        ) from error
