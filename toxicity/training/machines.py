"""Several machines that work on one run: whether they share the folder of its checkpoints, and whether one is gone."""

from __future__ import annotations

import platform
import secrets
import time
from contextlib import suppress
from pathlib import Path

from torch.distributed import DistBackendError
from transformers.trainer_utils import SaveStrategy

from toxicity.core import distributed
from toxicity.core.errors import RequestError
from toxicity.core.training_arguments import TrainingArguments

# Mounted object stores may show a file a moment after it was written.
TRIES, SECONDS_BETWEEN_TRIES = 5, 1.0


def require_shared_output(args: TrainingArguments) -> None:
    """Check, where several machines work on a run, that all of them find its checkpoints; every process calls it.

    Raises:
        RequestError: if they do not share `--output_dir`, unless no checkpoints are asked for; if it cannot be written
            to; or if each machine is to write checkpoints of its own, which transformers does without the weights.
    """
    here = distributed.gather((args.local_process_index, platform.node()))
    if sum(local == 0 for local, _ in here) == 1:
        return
    if args.save_on_each_node:
        raise RequestError(
            "with --save_on_each_node transformers writes the weights on the first machine alone, and nothing goes on "
            "from what the others write: leave it out, and put --output_dir in a folder that the machines share."
        )
    if args.save_strategy == SaveStrategy.NO and not args.save_minutes:
        return
    seen = _seen_by(Path(args.output_dir))
    if not all(seen):
        rank = seen.index(False)
        raise RequestError(
            f"{here[rank][1]}, the machine of process {rank}, does not see what the first one writes into "
            f"--output_dir {args.output_dir}, and would find no checkpoint there: name a folder that the machines "
            "share, or ask for no checkpoints, by --save_strategy no --save_minutes 0."
        )


def is_lost_process(error: RuntimeError) -> bool:
    """Whether an exchange failed because another process of the run, or its machine, is gone."""
    # NCCL's errors have a class of their own; those of gloo do not.
    return isinstance(error, DistBackendError) or ("gloo" in str(error) and "peer" in str(error))


def _seen_by(folder: Path) -> list[bool]:
    """Whether each process sees what the first one writes into a folder; leaves nothing there."""
    probe, made = distributed.run_on_main(lambda: _write_probe(folder))
    if distributed.rank() != 0:
        made = False
        # For up to a minute NFS remembers that a folder was not there, and asks the server only to make it.
        with suppress(OSError):
            made = _made(folder)
    try:
        return distributed.gather(_appears(probe))
    finally:
        with suppress(OSError):
            if distributed.rank() == 0:
                probe.unlink()
            if made:
                folder.rmdir()


def _write_probe(folder: Path) -> tuple[Path, bool]:
    # A name that no machine has asked for before.
    probe = folder / f".probe-{secrets.token_hex(8)}"
    try:
        made = _made(folder)
        probe.touch()
    except OSError as error:
        raise RequestError(f"cannot write to --output_dir {folder}: {error.strerror or error}.") from error
    return probe, made


def _made(folder: Path) -> bool:
    """Whether the folder was not there; now it is."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _appears(path: Path) -> bool:
    for _ in range(TRIES):
        if path.exists():
            return True
        time.sleep(SECONDS_BETWEEN_TRIES)
    return False
