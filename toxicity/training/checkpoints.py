"""Checkpoint folders on disk: written whole or not at all, verified by an index of digests, rotated.

A checkpoint is a folder `checkpoint-STEP` with the files of the Trainer and `checkpoint.json`, an index of all these
files with their sizes and digests. It is written under a hidden name, flushed to the disk, and renamed after its index
is written: whatever stops the machine, the folder is whole or not there.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from pathlib import Path
from typing import Any

from toxicity.core.files import digest, digest_of, flush, give_usual_modes
from toxicity.core.run_folder import RunFolder

logger = logging.getLogger(__name__)

INDEX = "checkpoint.json"
FORMAT = 1
NAME = re.compile(r"checkpoint-(\d+)")
UNFINISHED = re.compile(r"\.(checkpoint-\d+)\.unfinished")
REPLACED = re.compile(r"\.(checkpoint-\d+)\.replaced")
# Raised by reading a damaged index; RecursionError by one that is nested very deeply.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def unfinished_path(output_dir: Path, step: int) -> Path:
    """Hidden name under which the checkpoint of a step is written."""
    folder = RunFolder(output_dir).checkpoint(step)
    return folder.with_name(f".{folder.name}.unfinished")


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Write the index of a folder that holds all files of a checkpoint, with `facts` besides; flush all to the disk."""
    give_usual_modes(folder)
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / INDEX):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "xxh3": digest_of(path)}
        flush(path)
    index = {"format": FORMAT, "written_at": time.time(), **facts, "files": files}
    (folder / INDEX).write_text(json.dumps(index | {"xxh3": _digest_of(index)}, indent=1), encoding="utf-8")
    flush(folder / INDEX)
    flush(folder)


def put_in_place(unfinished: Path) -> Path:
    """Rename a sealed checkpoint to its final name, replacing an earlier one of the same step; returns its path."""
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
    """Why a checkpoint is torn, None if it is whole. Reads every byte of it."""
    try:
        index = read_index(folder)
    except FileNotFoundError:
        return f"it has no {INDEX}"
    except DAMAGE:
        return f"its {INDEX} is damaged"
    for name, known in index["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"its {INDEX} names a file outside of it"
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != known["bytes"]:
            return f"{name} has {path.stat().st_size:,} bytes instead of {known['bytes']:,}"
        try:
            found = digest_of(path)
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if found != known["xxh3"]:
            return f"{name} is not what was written"
    return None


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a checkpoint; raises any of `DAMAGE` if it is missing or damaged."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if index["format"] != FORMAT or index.pop("xxh3") != _digest_of(index):
        raise ValueError
    for name, known in index["files"].items():
        if "\0" in name or not isinstance(known["bytes"], int):
            raise ValueError
    return index


def checkpoints_in(output_dir: Path) -> list[Path]:
    """All checkpoint folders, whole or torn: ordered by when their run last saved, then by step."""
    if not output_dir.is_dir():
        return []
    # Within a run steps are more reliable than clocks: each part of it may have run on another machine.
    folders = {path: _run_and_time(path) for path in output_dir.iterdir() if NAME.fullmatch(path.name)}
    last_of_run: dict[str, float] = {}
    for run, written_at in folders.values():
        last_of_run[run] = max(written_at, last_of_run.get(run, 0.0))
    return sorted(folders, key=lambda path: (last_of_run[folders[path][0]], int(NAME.fullmatch(path.name)[1])))


def newest_whole(output_dir: Path) -> Path | None:
    """The whole checkpoint that was saved last; newer ones that are torn are named in the log."""
    for folder in reversed(checkpoints_in(output_dir)):
        if (fault := fault_of(folder)) is None:
            return folder
        logger.warning(f"Passed over {folder}: it is torn: {fault}.")
    return None


def clear_leftovers(output_dir: Path) -> None:
    """Remove what an interrupted save left behind, and restore a checkpoint that it was about to replace."""
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
    """Delete the oldest checkpoints beyond a limit, torn ones first, and never the newest, which is whole, or the best.

    Args:
        limit: number of checkpoints to keep; None or below 1 for all.
        best: path of the one with the best metric, if known.
    """
    if limit is None or limit < 1:
        return
    kept = {newest.resolve(), Path(best or newest).resolve()}
    others = sorted((path for path in checkpoints_in(output_dir) if path.resolve() not in kept), key=seems_whole)
    for folder in others[: max(0, len(others) + len(kept) - limit)]:
        shutil.rmtree(folder, ignore_errors=True)


def _run_and_time(folder: Path) -> tuple[str, float]:
    """Id of a checkpoint's run, and when the checkpoint was written, in seconds since 1970."""
    try:
        index = read_index(folder)
        return str(index["run_id"]), float(index["written_at"])
    except DAMAGE:
        return folder.name, folder.stat().st_mtime


def seems_whole(folder: Path) -> bool:
    """Whether all files of the index are there with their sizes; their contents are not read."""
    try:
        files = read_index(folder)["files"]
        return all((folder / name).stat().st_size == known["bytes"] for name, known in files.items())
    except DAMAGE:
        return False


def _digest_of(index: dict[str, Any]) -> str:
    return digest([json.dumps(index, sort_keys=True).encode()])
