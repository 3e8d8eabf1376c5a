"""Full disks: how they are recognised, and the message about them."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from toxicity.core.errors import RunFailure, one_line

# On a full disk the writers of torch and safetensors raise no OSError, but errors with these texts.
FULL_DISK_TEXT = re.compile(
    r"no space left|quota exceeded|file too large|os error (27|28|122)|PytorchStreamWriter|inline_container", re.I
)


@contextmanager
def full_disk_explained(
    folder: Path, what: str, kept: Callable[[], str], needed: int = 0, cleanup: Path | None = None
) -> Iterator[None]:
    """Turn any error that means "disk full" into one message with the numbers.

    Args:
        folder: where the block writes; it need not exist yet.
        what: what it writes, for the message.
        kept: returns the end of the message: what is safely stored, and how to go on.
        needed: bytes that the block will write, about; 0 if unknown.
        cleanup: folder to remove if the block raises.

    Raises:
        RunFailure: if less than `needed` is free, or the disk fills up or a quota is reached on the way.
    """
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
    try:
        if free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield
    except Exception as error:
        if cleanup is not None:
            shutil.rmtree(cleanup, ignore_errors=True)
        if not is_full_disk(error):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        takes = f"it needs {needed / 2**20:,.1f} MiB, and " if needed else ""
        raise RunFailure(
            f"cannot write {what} in {folder}: {takes}{free / 2**20:,.1f} MiB were free ({reason}).\n{kept()}"
        ) from error


def is_full_disk(error: Exception) -> bool:
    """Whether an error means that the disk is full or a quota is reached."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return bool(FULL_DISK_TEXT.search(str(error)))
