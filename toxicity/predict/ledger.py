"""The record of finished shards in an output folder, by which an interrupted job continues where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from toxicity.core.errors import RequestError
from toxicity.core.files import digest_of, write_text
from toxicity.predict.shards import Shard

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
# Hidden folder that exists while a job is unfinished. It holds JOB, the description of the job; the folder `shards`,
# with a record of each finished output; and the folder `claims`, with two files for each output: `.lock`, locked while
# a process writes the output (it stays as a sign that the output was begun), and `.tried`, which exists once a process
# has written the output, or failed to, since the job was last started.
PROGRESS = ".progress"
JOB = "job.json"

JOB_KEYS = ("schema_version", "job")
RECORD_KEYS = ("input", "input_bytes", "input_version", "output", "rows", "bad_rows", "bytes", "xxh3")


class Ledger:
    """Keeps track of which outputs of a job are finished, in a folder that several processes and machines may share.

    While the job runs, a hidden folder holds a record of every finished shard. At the end these records become
    `manifest.json`, with the keys `job`, `rows`, `shards` (input, output, rows and digest of each output) and `failed`
    (input and reason). The manifest does not depend on time, number of processes or interruptions.

    Args:
        folder: the output folder.
        job: everything that determines the bytes of the outputs, as JSON types.

    Raises:
        RequestError: if the folder holds scores of another job, or cannot be read.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self.folder = folder
        self._job = {"schema_version": SCHEMA_VERSION, "job": dict(job)}
        self._progress = folder / PROGRESS
        self._lock: FileLock | None = None
        manifest = _read(folder / MANIFEST, (*JOB_KEYS, "shards"))
        started = _read(self._progress / JOB, JOB_KEYS)
        in_manifest = [] if manifest is None else _records_in(manifest, folder / MANIFEST)
        # A job whose outputs were all removed does not matter.
        for other_job, records in ((manifest, in_manifest), (started, self._records_in_progress())):
            if other_job is not None and any((folder / record["output"]).is_file() for record in records):
                self._require_same_job(other_job)
        self._in_manifest = {
            record["output"]: record for record in in_manifest if (folder / record["output"]).is_file()
        }

    def start(self) -> None:
        """Reserve the folder for this job; one process of the job calls it, before anything is written.

        Raises:
            RequestError: if another job is running in the folder, or it cannot be written to.
        """
        with _writing_to(self.folder):
            self._lock = _lock(self._progress / "job.lock")
            if self._lock is None:
                raise RequestError(
                    f"another job writes to {self.folder}: wait for it, or name another folder as --output."
                )
            for mark in list((self._progress / "claims").rglob("*.tried")):
                mark.unlink()
            _write(self._progress / JOB, self._job)

    def is_done(self, shard: Shard, output: Path) -> bool:
        """Whether the shard's output exists, is complete, and was made from this version of the input."""
        record = self._record_of(output)
        return (
            record is not None
            and shard.bytes is not None
            and (record["input"], record["input_bytes"], record["input_version"])
            == (shard.address, shard.bytes, shard.version)
            and output.is_file()
            and output.stat().st_size == record["bytes"]
        )

    def wrote(self, path: Path) -> bool:
        """Whether a file is this folder's manifest, or an output that its jobs wrote or began to write."""
        if not path.resolve().is_relative_to(self.folder.resolve()):
            return False
        path = self.folder / path.resolve().relative_to(self.folder.resolve())
        begun = self._claim_file(path, "lock").exists()
        return path == self.folder / MANIFEST or self._record_of(path) is not None or begun

    def claim(self, output: Path) -> FileLock | None:
        """Get the exclusive right to write an output, until `release` is called or the process ends.

        Returns:
            The claim; None if another process has one, or any process of this job had one before: what failed there
            would fail again.
        """
        claim = _lock(self._claim_file(output, "lock"))
        if claim is not None and self._claim_file(output, "tried").exists():
            claim.release()
            return None
        return claim

    def release(self, claim: FileLock, output: Path) -> None:
        """End a claim, whether the output was written or failed."""
        self._claim_file(output, "tried").touch()
        claim.release()

    def record(self, shard: Shard, output: Path, rows: int, bad_rows: int) -> None:
        """Record that a shard is finished; call it when its output is complete under its final name."""
        content = {
            "input": shard.address,
            "input_bytes": shard.bytes,
            "input_version": shard.version,
            "output": self._name(output),
            "rows": rows,
            "bad_rows": bad_rows,
            "bytes": output.stat().st_size,
            "xxh3": digest_of(output),
        }
        _write(self._record_file(output), content)

    def forget(self, output: Path) -> None:
        """Remove the output and record of a shard that fails now, as they come from an earlier version of its input."""
        self._record_file(output).unlink(missing_ok=True)
        output.unlink(missing_ok=True)

    def finish(self, failed: Mapping[str, str]) -> dict[str, Any]:
        """Write the manifest; one process calls it when all of them are through.

        Args:
            failed: the reason for each shard that failed, by address.

        Returns:
            The manifest.

        Raises:
            RequestError: if it cannot be written.
        """
        records = self._in_manifest | {record["output"]: record for record in self._records_in_progress()}
        done = [records[name] for name in sorted(records) if (self.folder / name).is_file()]
        manifest = self._job | {
            "rows": sum(record["rows"] for record in done),
            "shards": done,
            "failed": [{"input": address, "reason": reason} for address, reason in sorted(failed.items())],
        }
        with _writing_to(self.folder):
            _write(self.folder / MANIFEST, manifest)
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

    def _record_of(self, output: Path) -> dict[str, Any] | None:
        return _read(self._record_file(output), RECORD_KEYS) or self._in_manifest.get(self._name(output))

    def _records_in_progress(self) -> Iterator[dict[str, Any]]:
        found = (_read(path, RECORD_KEYS) for path in self._progress.glob("shards/**/*.json"))
        return (record for record in found if record is not None)

    def _name(self, output: Path) -> str:
        return output.relative_to(self.folder).as_posix()

    def _record_file(self, output: Path) -> Path:
        return self._progress / "shards" / f"{self._name(output)}.json"

    def _claim_file(self, output: Path, kind: str) -> Path:
        return self._progress / "claims" / f"{self._name(output)}.{kind}"


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
    # Not bound to a thread: one thread claims a shard and reads it, another one writes its output and releases it.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def _records_in(manifest: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    return [_checked(record, RECORD_KEYS, path) for record in _checked(manifest["shards"], (), path, list)]


def _read(path: Path, keys: Collection[str]) -> dict[str, Any] | None:
    """The content of a JSON file, which must have these keys; None if there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        content = None
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}. Name another folder as --output.") from error
    content = _checked(content, keys, path)
    if "job" in content:
        _checked(content["job"], (), path)
    return content


def _checked(content: Any, keys: Collection[str], path: Path, kind: type = dict) -> Any:
    if not isinstance(content, kind) or any(key not in content for key in keys):
        raise RequestError(
            f"{path} is damaged, or another program's: move it away, or name another folder as --output."
        )
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RequestError(
            f"cannot write to {folder}: {error.strerror or error}. Make room there, or name another folder as --output."
        ) from error
