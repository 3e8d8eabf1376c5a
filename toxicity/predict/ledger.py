"""The record of finished shards in an output folder, by which an interrupted job continues where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from toxicity.core.errors import RequestError
from toxicity.core.files import digest_of, write_text
from toxicity.predict.shards import Shard

MANIFEST_VERSION = 2
MANIFEST = "manifest.json"
# Hidden folder that exists while a job is unfinished. It holds JOB, the description of the job, and the folder `shards`
# with up to three files for each output: `.json`, the record that it is finished; `.lock`, locked while a process
# writes it (it stays as a sign that the output was begun); and `.tried`, which exists once a process has written the
# output, or failed to, since the job was last started.
IN_PROGRESS = ".progress"
JOB = "job.json"

JOB_KEYS = ("schema_version", "job")
RECORD_KEYS = ("input", "input_bytes", "input_version", "output", "rows", "bad_rows", "bytes", "xxh3")


class Ledger:
    """Keeps track of which outputs of a job are finished, in a folder that several processes and machines may share.

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
        self._progress = folder / IN_PROGRESS
        self._lock: FileLock | None = None
        manifest = _read(folder / MANIFEST, (*JOB_KEYS, "shards"))
        started = _read(self._progress / JOB, JOB_KEYS)
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
            self._lock = _lock(self._progress / "job.lock")
            if self._lock is None:
                raise RequestError(
                    f"another job writes to {self.folder}: wait for it, or name another folder as --output."
                )
            for mark in list(self._progress.glob("shards/**/*.tried")):
                mark.unlink()
            _write(self._progress / JOB, self._job)

    def output_of(self, shard: Shard) -> Path:
        """The output file of a shard."""
        return self.folder / self._name(shard)

    def is_done(self, shard: Shard) -> bool:
        """Whether the shard's output exists, is complete, and was made from this version of the input."""
        output, record = self.output_of(shard), self._record_of(self._name(shard))
        if record is None or shard.bytes is None or not output.is_file():
            return False
        now = _input_of(shard) | {"bytes": output.stat().st_size}
        return now.items() <= record.items()

    def wrote(self, path: Path) -> bool:
        """Whether a file is this folder's manifest, or an output that its jobs wrote or began to write."""
        folder, path = self.folder.resolve(), path.resolve()
        if not path.is_relative_to(folder):
            return False
        name = path.relative_to(folder).as_posix()
        return name == MANIFEST or self._record_of(name) is not None or self._file(name, "lock").exists()

    def claim(self, shard: Shard) -> FileLock | None:
        """Get the exclusive right to write the output of a shard, until `release` is called or the process ends.

        There is none (None) if another process has it, if the shard is done, or if any process of this job had the
        right before: what failed there would fail again.
        """
        claim = _lock(self._file(self._name(shard), "lock"))
        if claim is not None and (self._file(self._name(shard), "tried").exists() or self.is_done(shard)):
            claim.release()
            return None
        return claim

    def release(self, claim: FileLock, shard: Shard) -> None:
        """End a claim, whether the output was written or failed."""
        self._file(self._name(shard), "tried").touch()
        claim.release()

    def record(self, shard: Shard, rows: int, bad_rows: int) -> None:
        """Record that a shard is finished; call it when its output is complete under its final name."""
        name, output = self._name(shard), self.output_of(shard)
        scores = {"output": name, "rows": rows, "bad_rows": bad_rows}
        content = {"bytes": output.stat().st_size, "xxh3": digest_of(output)}
        _write(self._file(name, "json"), _input_of(shard) | scores | content)

    def forget(self, shard: Shard) -> None:
        """Remove the output and record of a shard that fails now, as they come from an earlier version of its input."""
        self._file(self._name(shard), "json").unlink(missing_ok=True)
        self.output_of(shard).unlink(missing_ok=True)

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

    def _record_of(self, name: str) -> dict[str, Any] | None:
        return _read(self._file(name, "json"), RECORD_KEYS) or self._in_manifest.get(name)

    def _records_in_progress(self) -> Iterator[dict[str, Any]]:
        return filter(None, (_read(path, RECORD_KEYS) for path in self._progress.glob("shards/**/*.json")))

    def _with_output(self, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [record for record in records if (self.folder / record["output"]).is_file()]

    def _name(self, shard: Shard) -> str:
        return f"{shard.name}.{self._job['job']['output_format']}"

    def _file(self, name: str, kind: str) -> Path:
        return self._progress / "shards" / f"{name}.{kind}"


def _input_of(shard: Shard) -> dict[str, Any]:
    return {"input": shard.address, "input_bytes": shard.bytes, "input_version": shard.version}


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
    with suppress(Timeout):
        lock.acquire(blocking=False)
    return lock if lock.is_locked else None


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


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn any `OSError` of the block into a `RequestError` about the output folder."""
    try:
        yield
    except OSError as error:
        raise RequestError(
            f"cannot write to {folder}: {error.strerror or error}. Make room there, or name another folder as --output."
        ) from error
