"""Checkpoints on disk: written whole or not at all, recognised as whole, and thrown away only when others are there.

A checkpoint is a folder `checkpoint-STEP` with what the Trainer saves and an index, `checkpoint.json`, of all its files
with their sizes and digests. It is made under a hidden name, flushed to the disk, and renamed when its index is there,
so that whatever stops the machine leaves either the whole folder or none.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from toxicity.errors import RunFailure
from toxicity.files import digest_of, flush

logger = logging.getLogger(__name__)

INDEX = "checkpoint.json"
FORMAT = 1
NAME = re.compile(r"checkpoint-(\d+)")
UNFINISHED = re.compile(r"\.(checkpoint-\d+)\.unfinished")
REPLACED = re.compile(r"\.(checkpoint-\d+)\.replaced")
# What the writers of torch and safetensors say where the disk is full, for they raise no OSError.
DISK_TROUBLE = re.compile(
    r"no space left|quota exceeded|file too large|os error (27|28|122)|PytorchStreamWriter|inline_container", re.I
)


def unfinished_path(output_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step is made."""
    return output_dir / f".checkpoint-{step}.unfinished"


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Write the index of a folder that holds all files of a checkpoint, and flush all of it to the disk.

    Args:
        folder: the checkpoint, under its unfinished name.
        facts: what else the index tells, as JSON.
    """
    files = {}
    for path in _files_in(folder):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "xxh3": digest_of(path)}
        flush(path)
    index = {"format": FORMAT, "written_at": time.time(), **facts, "files": files}
    (folder / INDEX).write_text(json.dumps(index | {"xxh3": _digest_of(index)}, indent=1), encoding="utf-8")
    flush(folder / INDEX)
    flush(folder)


def publish(unfinished: Path) -> Path:
    """Give a sealed checkpoint its name, in place of one of the same step that may be there; returns its path."""
    name = UNFINISHED.fullmatch(unfinished.name)[1]
    folder = unfinished.with_name(name)
    replaced = unfinished.with_name(f".{name}.replaced")
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    flush(folder.parent)
    return folder


def fault_of(folder: Path) -> str | None:
    """Why a checkpoint is not whole, None if it is. Reads every byte of it."""
    try:
        index = read_index(folder)
    except FileNotFoundError:
        return f"it has no {INDEX}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"its {INDEX} is damaged"
    for name, known in index["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"its {INDEX} names a file outside of it"
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != known["bytes"]:
            return f"{name} has {path.stat().st_size:,} bytes instead of {known['bytes']:,}"
        if digest_of(path) != known["xxh3"]:
            return f"{name} is not what was written"
    return None


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a checkpoint.

    Raises:
        OSError, ValueError, KeyError, TypeError or AttributeError: where it is missing or damaged.
    """
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if index["format"] != FORMAT or index.pop("xxh3") != _digest_of(index):
        raise ValueError
    return index


def checkpoints_in(output_dir: Path) -> list[Path]:
    """All checkpoint folders, whole or torn: runs in the order in which they last wrote one, each by its steps."""
    if not output_dir.is_dir():
        return []
    # Within a run steps are surer than clocks: the machine may be another one each time.
    folders = {path: _run_and_time(path) for path in output_dir.iterdir() if NAME.fullmatch(path.name)}
    last_of_run: dict[str, float] = {}
    for run, written_at in folders.values():
        last_of_run[run] = max(written_at, last_of_run.get(run, 0.0))
    return sorted(folders, key=lambda path: (last_of_run[folders[path][0]], int(NAME.fullmatch(path.name)[1])))


def newest_whole(output_dir: Path) -> Path | None:
    """The checkpoint that was written last and is whole; newer ones that are torn are named in the log."""
    for folder in reversed(checkpoints_in(output_dir)):
        fault = fault_of(folder)
        if fault is None:
            return folder
        logger.warning(f"Passed over {folder}: it is torn: {fault}.")
    return None


def clear_leftovers(output_dir: Path) -> None:
    """Remove what an interrupted save left, and put back a checkpoint that was about to be replaced."""
    for path in list(output_dir.iterdir()) if output_dir.is_dir() else []:
        if match := REPLACED.fullmatch(path.name):
            if not path.with_name(match[1]).exists():
                path.rename(path.with_name(match[1]))
            else:
                shutil.rmtree(path, ignore_errors=True)
        elif match := UNFINISHED.fullmatch(path.name):
            logger.warning(f"Passed over {output_dir / match[1]}: it was being written when the run stopped.")
            shutil.rmtree(path, ignore_errors=True)


def rotate(output_dir: Path, limit: int | None, newest: Path, best: str | None = None) -> None:
    """Delete the oldest checkpoints beyond a limit, never the newest nor the best, and a torn one before a whole one.

    Args:
        output_dir: where they are.
        limit: how many to keep, all if None or below 1.
        newest: the one just written, known to be whole.
        best: path of the one with the best metric.
    """
    if limit is None or limit < 1:
        return
    kept = {newest.resolve(), Path(best or newest).resolve()}
    others = [folder for folder in checkpoints_in(output_dir) if folder.resolve() not in kept]
    others.sort(key=_seems_whole)
    for folder in others[: max(0, len(others) + len(kept) - limit)]:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def full_disk_explained(folder: Path, needed: int, what: str, cleanup: Path | None = None) -> Iterator[None]:
    """Turn the many ways to say that a disk is full into one message with the numbers.

    Args:
        folder: where something is written.
        needed: bytes that it takes, about.
        what: it is called in the message.
        cleanup: folder to remove if it could not be finished.

    Raises:
        RunFailure: if the disk is, or would get, full, or a quota is used up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    try:
        if free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except Exception as error:
        if cleanup is not None:
            shutil.rmtree(cleanup, ignore_errors=True)
        if not _is_disk_trouble(error):
            raise
        good = next((f.name for f in reversed(checkpoints_in(folder)) if _seems_whole(f)), None)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise RunFailure(
            f"cannot write {what} in {folder}: it needs {_mebibytes(needed)}, and {_mebibytes(free)} were free "
            f"({reason}).\n"
            + (f"The last good checkpoint, {good}, is whole. " if good else "")
            + "Make room, or raise the quota, and start again with --resume_from_checkpoint auto."
        ) from error


def _is_disk_trouble(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return bool(DISK_TROUBLE.search(str(error)))


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def _run_and_time(folder: Path) -> tuple[str, float]:
    """Which run a checkpoint is of, and when it was written, in seconds since 1970."""
    try:
        index = read_index(folder)
        return str(index["run_id"]), float(index["written_at"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return folder.name, folder.stat().st_mtime


def _seems_whole(folder: Path) -> bool:
    """Whether all files are there in their sizes: a look at the index, not at every byte."""
    try:
        files = read_index(folder)["files"]
        return all((folder / name).stat().st_size == known["bytes"] for name, known in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / INDEX)


def _digest_of(index: dict[str, Any]) -> str:
    return xxhash.xxh3_128(json.dumps(index, sort_keys=True).encode()).hexdigest()
