"""The output folder's memory of what is done, by which model, so that a job that was killed goes on where it was."""

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
# While a job goes on: what it is, and by the name of an output the record that it is done, the lock of who works on
# it, a mark that it was begun (by any start of this job), and one that it was tried (by this start).
PROGRESS = ".progress"
JOB = "job.json"

JOB_KEYS = ("schema_version", "job")
RECORD_KEYS = ("input", "input_bytes", "input_version", "output", "rows", "bad_rows", "bytes", "xxh3")


class Ledger:
    """What is done of a job in an output folder that several processes, on several machines, may share.

    While the job goes on there is a record of every finished shard in a hidden folder; at its end they become
    `manifest.json`: the `job`, the `shards` with input, output, rows and the digest of the output, and the `failed`
    ones with the reason. Nothing in it hangs on the time, the number of processes, or on how often they were killed.

    Args:
        folder: of the outputs.
        job: what decides the bytes of the outputs, in JSON's types.

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
        for known, records in ((manifest, in_manifest), (started, self._records_in_progress())):
            if known is not None and any((folder / record["output"]).is_file() for record in records):
                self._require_same_job(known)
        # Where no output is left, whose they were is no matter.
        self._in_manifest = {
            record["output"]: record for record in in_manifest if (folder / record["output"]).is_file()
        }

    def start(self) -> None:
        """Say whose the folder is, before anything is in it; one process does so, and keeps other jobs out.

        Raises:
            RequestError: if another job is at work in the folder, or it cannot be written to.
        """
        with _writing_to(self.folder):
            self._lock = _lock(self._progress / "job.lock")
            if self._lock is None:
                raise RequestError(
                    f"another job writes to {self.folder}: wait for it, or name another folder as --output."
                )
            shutil.rmtree(self._progress / "tried", ignore_errors=True)
            _write(self._progress / JOB, self._job)

    def is_done(self, shard: Shard, output: Path) -> bool:
        """Whether the shard's output is there, whole, and of this version of the input."""
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
        """Whether a file is the manifest of this folder, or an output that was written or begun by its jobs."""
        if not path.resolve().is_relative_to(self.folder.resolve()):
            return False
        path = self.folder / path.resolve().relative_to(self.folder.resolve())
        return path == self.folder / MANIFEST or self._record_of(path) is not None or self._note("begun", path).exists()

    def claim(self, output: Path) -> FileLock | None:
        """The right to write an output, to be given back; None while another process has it. It ends with a process.

        None too where a process of this job had it before: what failed there would fail again.
        """
        claim = _lock(self._note("locks", output))
        if claim is not None and self._note("tried", output).exists():
            claim.release()
            return None
        if claim is not None:
            _touch(self._note("begun", output))
        return claim

    def give_back(self, claim: FileLock, output: Path) -> None:
        """End a claim, done or failed."""
        _touch(self._note("tried", output))
        claim.release()

    def record(self, shard: Shard, output: Path, rows: int, bad_rows: int) -> None:
        """Note that a shard is done; call it after its output has its name."""
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
        _write(self._note("shards", output), content)

    def forget(self, output: Path) -> None:
        """Take away what is left of an earlier version of an input that fails now."""
        self._note("shards", output).unlink(missing_ok=True)
        output.unlink(missing_ok=True)

    def finish(self, failed: Mapping[str, str]) -> dict[str, Any]:
        """Write the manifest, when all processes are through.

        Args:
            failed: address of each shard that failed, and why.

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

    def _require_same_job(self, known: Mapping[str, Any]) -> None:
        known_job, job = ({"schema_version": some["schema_version"]} | some["job"] for some in (known, self._job))
        if (known_job.get("on_bad_rows"), job.get("on_bad_rows")) == ("refuse", "score_null"):
            # What was not refused has no bad rows, and the same scores either way.
            known_job["on_bad_rows"] = "score_null"
        if found := difference(known_job, job):
            raise RequestError(
                f"{self.folder} holds scores of another job, with {found}: "
                "name another folder as --output, or remove that one."
            )

    def _record_of(self, output: Path) -> dict[str, Any] | None:
        return _read(self._note("shards", output), RECORD_KEYS) or self._in_manifest.get(self._name(output))

    def _records_in_progress(self) -> Iterator[dict[str, Any]]:
        found = (_read(path, RECORD_KEYS) for path in self._progress.glob("shards/**/*.json"))
        return (record for record in found if record is not None)

    def _name(self, output: Path) -> str:
        return output.relative_to(self.folder).as_posix()

    def _note(self, kind: str, output: Path) -> Path:
        return self._progress / kind / f"{self._name(output)}.json"


def difference(known: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first thing that two jobs have not alike, such as `threshold 0.5 instead of 0.7`; None if there is none.

    The name of the model is left out, as the same model may go by two.
    """
    for key in known | other:
        one, another = known.get(key), other.get(key)
        if isinstance(one, Mapping) and isinstance(another, Mapping):
            if found := difference(one, another):
                return f"{key}.{found}"
        elif one != another and key != "model":
            return f"{key} {one} instead of {another}"
    return None


def _lock(path: Path) -> FileLock | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The thread that reads a shard takes its lock, the one that writes gives it back.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def _records_in(manifest: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    return [_checked(record, RECORD_KEYS, path) for record in _checked(manifest["shards"], (), path, list)]


def _read(path: Path, keys: Collection[str]) -> dict[str, Any] | None:
    """What a file holds, None where there is none."""
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


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


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
