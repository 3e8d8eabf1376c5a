"""The output folder's memory of what is done, by which model, so that a job that was killed goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from toxicity.errors import RequestError
from toxicity.files import digest_of, write_text
from toxicity.shards import Shard

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
# While a job goes on: what it is, a record of each shard that is done, and the locks of those in work.
PROGRESS = ".progress"
JOB = "job.json"


class Ledger:
    """What is done of a job in an output folder that several processes, on several machines, may share.

    While the job goes on there is a record of every finished shard in a hidden folder; at its end they become
    `manifest.json`: the `job`, the `shards` with input, output, rows and the digest of the output, and the `failed`
    ones with the reason. Nothing in it hangs on the time, the number of processes, or on how often they were killed.

    Args:
        folder: of the outputs.
        job: what decides the bytes of the outputs, in JSON's types.

    Raises:
        RequestError: if the folder holds the results of another job.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self.folder = folder
        self._job = dict(job)
        self._progress = folder / PROGRESS
        self._lock: FileLock | None = None
        manifest = _read(folder / MANIFEST) or {}
        for known in (manifest.get("job"), _read(self._progress / JOB)):
            self._require_same_job(known)
        self._in_manifest = {record["output"]: record for record in manifest.get("shards", [])}

    def start(self) -> None:
        """Say whose the folder is, before anything is in it; one process does so, and keeps other jobs out.

        Raises:
            RequestError: if another job is at work in the folder.
        """
        self._lock = _lock(self._progress / "job.lock")
        if self._lock is None:
            raise RequestError(f"another job writes to {self.folder}: wait for it, or name another folder as --output.")
        _write(self._progress / JOB, self._job)

    def is_done(self, shard: Shard, output: Path) -> bool:
        """Whether the shard's output is there, whole, and of this version of the input."""
        record = _read(self._record_of(output)) or self._in_manifest.get(self._name(output))
        return (
            record is not None
            and shard.bytes is not None
            and (record["input"], record["input_bytes"], record["input_version"])
            == (shard.address, shard.bytes, shard.version)
            and output.is_file()
            and output.stat().st_size == record["bytes"]
        )

    def claim(self, output: Path) -> FileLock | None:
        """The right to write an output, to be released; None while another process has it. It ends with a process."""
        return _lock(self._record_of(output).with_suffix(".lock"))

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
        _write(self._record_of(output), content)

    def finish(self, failed: Mapping[str, str]) -> dict[str, Any]:
        """Write the manifest, when all processes are through.

        Args:
            failed: address of each shard that failed, and why.

        Returns:
            The manifest.
        """
        records = dict(self._in_manifest)
        for path in self._progress.rglob("*.json"):
            if path != self._progress / JOB:
                record = _read(path)
                records[record["output"]] = record
        done = [records[name] for name in sorted(records) if records[name]["input"] not in failed]
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "job": self._job,
            "rows": sum(record["rows"] for record in done),
            "shards": done,
            "failed": [{"input": address, "reason": reason} for address, reason in sorted(failed.items())],
        }
        _write(self.folder / MANIFEST, manifest)
        shutil.rmtree(self._progress)
        self._lock.release()
        return manifest

    def _require_same_job(self, known: Mapping[str, Any] | None) -> None:
        for key in known or ():
            if known[key] != self._job.get(key) and key != "model":
                raise RequestError(
                    f"{self.folder} holds scores of another job, with {key} {known[key]} instead of "
                    f"{self._job.get(key)}: name another folder as --output, or remove that one."
                )

    def _name(self, output: Path) -> str:
        return output.relative_to(self.folder).as_posix()

    def _record_of(self, output: Path) -> Path:
        return self._progress / "shards" / f"{self._name(output)}.json"


def _lock(path: Path) -> FileLock | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The thread that reads a shard takes its lock, the one that writes gives it back.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def _read(path: Path) -> dict[str, Any] | None:
    """What a file holds, None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RequestError(f"{path} is damaged: remove it, and what it tells of is done again.") from error


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
