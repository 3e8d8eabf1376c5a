"""SIGTERM and the death of the launcher: the run saves a checkpoint and ends with exit code 75; Ctrl-C: it says what
is kept.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from toxicity.core.errors import EXIT_CTRL_C, Interrupted

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
LAUNCHERS = (
    *("accelerate", "accelerate-launch", "accelerate.commands.launch", "toxicity.launch"),
    *("torchrun", "torch.distributed.run"),
)

BEFORE_TRAINING = "before the training began: start the same command again."

_stop_requested = False
_deferred = False
_what_is_kept: Callable[[], str] | None = None


@contextmanager
def sigterm_saves() -> Iterator[None]:
    """Make SIGTERM end the run in an orderly way: at once before training, after saving a checkpoint from then on.

    Launchers do not forward SIGTERM, or die of it themselves, so the death of a launcher counts as SIGTERM. Ctrl-C ends
    the run at once, always; its `KeyboardInterrupt` leaves here with a message that says what is kept.
    """
    global _stop_requested, _deferred, _what_is_kept
    _stop_requested, _deferred, _what_is_kept = False, False, None
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    before_ctrl_c = signal.getsignal(signal.SIGINT)
    if before_ctrl_c is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_ctrl_c)
    _follow_the_launcher()
    try:
        yield
    except KeyboardInterrupt as stop:
        kept = BEFORE_TRAINING if _what_is_kept is None else _what_is_kept()
        raise KeyboardInterrupt(f"Interrupted by Ctrl-C {kept}") from stop
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, before_ctrl_c)
        _stop_requested, _deferred, _what_is_kept = False, False, None


def defer_stop(what_is_kept: Callable[[], str] | None = None) -> None:
    """From now on only note a SIGTERM: the caller checks `stop_requested` about once a second.

    Args:
        what_is_kept: after a Ctrl-C, returns the rest of the message that begins with "Interrupted by Ctrl-C".
    """
    global _deferred, _what_is_kept
    _deferred, _what_is_kept = True, what_is_kept


def stop_requested() -> bool:
    """Whether SIGTERM has come."""
    return _stop_requested


def is_launcher(command: Sequence[str]) -> bool:
    """Whether a process with this command line is Accelerate's or torch's launcher, not one that mentions it."""
    programs = [part for part in command if not part.startswith("-")]
    if programs and Path(programs[0]).name.startswith("python"):
        del programs[0]
    return bool(programs) and Path(programs[0]).name in LAUNCHERS


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    global _stop_requested
    _stop_requested = True
    if not _deferred:
        raise Interrupted("Interrupted by SIGTERM before the training began: start the same command again.")


def _on_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, or end the process where the exception might be lost and nothing needs closing."""
    while not _deferred and frame is not None:
        # Modules are being imported. Finalizers and C code that run then drop exceptions, and the run would go on.
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            print(f"Interrupted by Ctrl-C {BEFORE_TRAINING}", file=sys.stderr, flush=True)
            os._exit(EXIT_CTRL_C)
        frame = frame.f_back
    raise KeyboardInterrupt


def _follow_the_launcher() -> None:
    """On Linux, ask the kernel for SIGTERM when the launcher dies; other parents, such as shells, do not count."""
    if sys.platform != "linux":
        return
    try:
        command = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):
        return
    if is_launcher(command):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
