"""SIGTERM, by which a machine that is about to vanish asks for an end."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from toxicity.core.errors import Interrupted
from toxicity.core.launching import is_launcher

# From linux/prctl.h.
PR_SET_PDEATHSIG = 1

_stop_requested = False
_deferred = False


@contextmanager
def sigterm_saves() -> Iterator[None]:
    """Make SIGTERM end the run in an orderly way: at once before training, after saving a checkpoint from then on.

    A launcher that is told to end passes nothing on, or dies itself; so the death of a launcher counts as SIGTERM.
    """
    global _stop_requested, _deferred
    _stop_requested = _deferred = False
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    _follow_the_launcher()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop_requested = _deferred = False


def defer_stop() -> None:
    """From now on SIGTERM is only noted, for somebody asks `stop_requested` about once a second."""
    global _deferred
    _deferred = True


def stop_requested() -> bool:
    """Whether SIGTERM has come."""
    return _stop_requested


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    global _stop_requested
    _stop_requested = True
    if not _deferred:
        raise Interrupted("Interrupted by SIGTERM before the training began: start the same command again.")


def _follow_the_launcher() -> None:
    """On Linux, get SIGTERM when the launcher dies. A shell is none: what it started may outlive it."""
    if sys.platform != "linux":
        return
    try:
        command = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):
        return
    if is_launcher(command):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
