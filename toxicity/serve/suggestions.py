"""Scores that users suggest, kept in a file that the package trains on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from toxicity.core.errors import RequestError, one_line

# Of another worker that writes, which takes milliseconds.
LOCK_SECONDS = 10


def require_writable(path: Path) -> None:
    """Check that lines can be appended to a file, and create it if it is not there, for its owner alone.

    Raises:
        RequestError: if they cannot.
    """
    try:
        os.close(_opened(path))
        with _locked(path):
            pass
    except OSError as error:
        raise RequestError(
            f"--suggestions {path} cannot be written to ({one_line(error)}): name a file in a folder of your own."
        ) from error


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows as JSON lines, all of them or none, and flush them to the disk.

    Several processes and threads may do so at a time.

    Raises:
        OSError: if the disk is full, the file cannot be written, or another process holds it for too long.
    """
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()
    with _locked(path):
        descriptor = _opened(path)
        try:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            # What was cut off by a power failure becomes a line of its own, which readers report.
            os.lseek(descriptor, max(0, size - 1), os.SEEK_SET)
            if os.read(descriptor, 1) not in (b"", b"\n"):
                lines = b"\n" + lines
            try:
                while lines:
                    lines = lines[os.write(descriptor, lines) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)


def _locked(path: Path) -> FileLock:
    return FileLock(path.with_name(f"{path.name}.lock"), timeout=LOCK_SECONDS)
