"""The record of finished shards in an output folder, by which an interrupted job continues where it stopped."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from toxicity.core.errors import RequestError
from toxicity.predict.output_folder import (
    contents_of,
    is_local,
    names_below,
    put,
    remove,
    sizes_of,
    writing_to,
)
from toxicity.predict.outputs import (
    IN_PROGRESS,
    RECORD_KEYS,
    Outputs,
    as_json,
    input_of,
    parse_json,
    read_json,
    write_json,
)
from toxicity.predict.shards import Shard

MANIFEST_VERSION = 2
MANIFEST = "manifest.json"
# The description of an unfinished job, and the file that its main process locks.
JOB, LOCK = "job.json", "job.lock"

JOB_KEYS = ("schema_version", "job")

# NFS may hide for a minute from one machine what others wrote.
SECONDS_UNTIL_SEEN = 75.0

logger = logging.getLogger(__name__)


class Ledger:
    """Keeps track of which outputs of a job are finished; the main process of the job starts and finishes it.

    At the end, the records of finished shards become `manifest.json`, with the keys `job`, `rows`, `shards` (input,
    output, rows and digest of each output) and `failed` (input and reason). The manifest does not depend on time,
    number of processes or interruptions.

    A lock keeps other jobs out of the folder. Where there is none, in object stores and on some file systems, two jobs
    at once may do work twice, and each of them writes a manifest with what both have scored.

    Args:
        folder: the output folder, as `output_folder` returns it.
        job: everything that determines the bytes of the outputs, as JSON types; among it their `output_format`.

    Raises:
        RequestError: if the folder holds scores of another job, or cannot be read.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self.folder = folder
        self._job = {"schema_version": MANIFEST_VERSION, "job": dict(job)}
        self.outputs = Outputs(folder, job["output_format"])
        self._progress = folder / IN_PROGRESS
        self._lock: FileLock | None = None
        self.read()

    def read(self) -> None:
        """Read what is finished by now; raises what making a ledger raises."""
        with writing_to(self.folder):
            in_progress = {record["output"]: record for record in self._records(self._recorded())}
            manifest, in_manifest = self._manifest()
            started = read_json(self._progress / JOB, JOB_KEYS)
            self._sizes = sizes_of(self.folder, in_manifest | in_progress)
        self._require_same_job(manifest, in_manifest, self._sizes)
        self._require_same_job(started, in_progress, self._sizes)
        self._known = {name: record for name, record in (in_manifest | in_progress).items() if name in self._sizes}

    def start(self) -> None:
        """Reserve the folder for this job; one process of the job calls it, before anything is written.

        Raises:
            RequestError: if another job is running in the folder, or it cannot be written to.
        """
        with writing_to(self.folder):
            if is_local(self.folder):
                self._take_lock()
            if self._lock:  # of processes that were killed
                shutil.rmtree(self._progress / "unfinished", ignore_errors=True)
            started = None if self._lock else read_json(self._progress / JOB, JOB_KEYS)
            if started is not None and (found := self._difference(started)):
                raise RequestError(
                    f"another job, with {found}, was started in {self.folder} and has not ended: wait for it, or "
                    f"remove {self._progress} if it was killed."
                )
            with self.outputs.scratch() as scratch:
                write_json(scratch / JOB, self._job)
                put(scratch / JOB, self._progress / JOB)

    def is_done(self, shard: Shard) -> bool:
        """Whether the shard's output was complete when it was last `read`, and made from this version of the input."""
        name = self.outputs.name_of(shard)
        if name not in self._known or shard.bytes is None:
            return False
        now = input_of(shard) | {"bytes": self._sizes[name]}
        return now.items() <= self._known[name].items()

    def wrote(self, name: str | None) -> bool:
        """Whether a file of the folder, by its path relative to it, is the manifest or an output of its jobs."""
        return name == MANIFEST or name in self._known

    def finish(self, failed: Mapping[str, str], shards: Iterable[Shard] = ()) -> tuple[int, dict[str, str]]:
        """Write the manifest; one process calls it when all of them are through.

        Args:
            failed: the reason for each shard that failed, by address.
            shards: what was to be scored. Of those that failed, scores from an earlier version of the input are
                removed; of the others, the outputs must be there.

        Returns:
            How many shards the manifest has, and `failed` with those whose outputs are not there.

        Raises:
            RequestError: if nothing can be written, or another job has written to the folder meanwhile.
        """
        names = {self.outputs.name_of(shard): shard for shard in shards}
        if failed:
            self.read()  # where no lock keeps other jobs out, they may have scored what failed here
        with writing_to(self.folder):
            outdated = {
                name: shard for name, shard in names.items() if shard.address in failed and not self.is_done(shard)
            }
            for name in sizes_of(self.folder, outdated):
                self.outputs.forget(outdated[name])
            expected = {name: shard.address for name, shard in names.items() if name not in outdated}
            self._wait_for(expected)
            # Before the manifest: a job that ends now removes records when they are in the manifest.
            recorded = {*expected, *self._recorded()}
            manifest, in_manifest = self._manifest()
            sizes = sizes_of(self.folder, recorded | in_manifest.keys())
            self._require_same_job(manifest, in_manifest, sizes)
            self._require_same_job(read_json(self._progress / JOB, JOB_KEYS), recorded, sizes)
            in_progress = sorted(recorded & sizes.keys())
            earlier = [in_manifest[name] for name in sorted(sizes.keys() - recorded)]
            records = merge(self._records(in_progress, in_manifest), earlier, key=itemgetter("output"))
            written = self._write_manifest(records, expected, failed)
            self._clean_up(in_progress)
        return written

    def _write_manifest(
        self, sorted_records: Iterable[dict[str, Any]], expected: dict[str, str], failed: Mapping[str, str]
    ) -> tuple[int, dict[str, str]]:
        """Write records one by one, as many of them would fill the memory; those that are written leave `expected`."""
        rows, count = 0, 0
        with self.outputs.scratch() as scratch:
            with (scratch / "records").open("w", encoding="utf-8", errors="backslashreplace") as file:
                for record in sorted_records:
                    file.write(",\n  " if count else "\n  ")
                    file.write(as_json(record).replace("\n", "\n  "))
                    expected.pop(record["output"], None)
                    rows, count = rows + record["rows"], count + 1
            reason = f"its output is not in {self.folder}: it was removed, or the machines do not share that folder"
            failed = dict(failed) | dict.fromkeys(expected.values(), reason)
            told = [{"input": address, "reason": reason} for address, reason in sorted(failed.items())]
            whole = as_json(self._job | {"rows": rows, "shards": [], "failed": told})
            # A name holds no line end: in JSON it would be two other characters.
            before, key, after = whole.partition('\n "shards": [')
            with (scratch / "records").open("rb") as records, (scratch / MANIFEST).open("wb") as file:
                file.write((before + key).encode(errors="backslashreplace"))
                shutil.copyfileobj(records, file)
                file.write((("\n " if count else "") + after + "\n").encode(errors="backslashreplace"))
            put(scratch / MANIFEST, self.folder / MANIFEST)
        return count, failed

    def _wait_for(self, names: Collection[str]) -> None:
        """Wait until all outputs are seen by this machine, or so long that they never will be."""
        until = time.monotonic() + SECONDS_UNTIL_SEEN
        while len(sizes_of(self.folder, names)) < len(names) and time.monotonic() < until:
            time.sleep(1)

    def _clean_up(self, recorded: Collection[str]) -> None:
        """Remove what is of no use any more. Other jobs, where no lock keeps them out, go on with what is theirs."""
        if self._lock is not None:
            # Whatever does not go, such as the locked file on NFS, does no harm.
            shutil.rmtree(self._progress, ignore_errors=True)
            self._lock.release()
        else:
            remove(self._progress, [JOB, LOCK, *(f"shards/{name}.json" for name in recorded)])
        if is_local(self.folder):
            for folder, _, _ in os.walk(self._progress, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()

    def _require_same_job(
        self, found: Mapping[str, Any] | None, records: Iterable[str], sizes: Mapping[str, int]
    ) -> None:
        """Refuse a job with another description, unless all of its outputs were removed."""
        if found is None or not any(name in sizes for name in records):
            return
        if told := self._difference(found):
            raise RequestError(
                f"{self.folder} holds scores of another job, with {told}: "
                "name another folder as --output, or remove that one."
            )

    def _difference(self, found: Mapping[str, Any]) -> str | None:
        other_job, job = ({"schema_version": some["schema_version"]} | some["job"] for some in (found, self._job))
        if (other_job.get("on_bad_rows"), job.get("on_bad_rows")) == ("refuse", "score_null"):
            # Shards that were not refused have no bad rows, and so the same scores with either setting.
            other_job["on_bad_rows"] = "score_null"
        return difference(other_job, job)

    def _take_lock(self) -> None:
        path = self._progress / LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        lock = FileLock(path, fallback_to_soft=False)
        try:
            lock.acquire(blocking=False)
            self._lock = lock
        except Timeout:
            raise RequestError(
                f"another job writes to {self.folder}: wait for it, or name another folder as --output."
            ) from None
        except (OSError, NotImplementedError) as error:
            logger.info(
                f"{self.folder} is on a file system without locks ({getattr(error, 'strerror', None) or error}), so "
                "nothing keeps a second job out: start one at a time."
            )

    def _manifest(self) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
        """The manifest, if there is one, and its records by the names of their outputs."""
        manifest = read_json(self.folder / MANIFEST, (*JOB_KEYS, "shards"))
        return manifest, {record["output"]: record for record in (manifest or {"shards": []})["shards"]}

    def _recorded(self) -> list[str]:
        """The names of the outputs that have a record in progress."""
        return [name.removesuffix(".json") for name in names_below(self.outputs.records, ".json")]

    def _records(self, names: list[str], in_manifest: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The records in progress of outputs, of those that have one, or else one in a manifest."""
        folder, files = self.outputs.records, [f"{name}.json" for name in names]
        for name, file, content in zip(names, files, contents_of(folder, files), strict=True):
            if content is not None:
                yield parse_json(content, folder / file, RECORD_KEYS)
            elif in_manifest and name in in_manifest:
                yield in_manifest[name]


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
