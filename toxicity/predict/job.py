"""A job of `python -m toxicity.predict`: processes share the input files, and skip those that are already scored."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from toxicity.core import distributed
from toxicity.core.console import h_mm_ss, set_up_console
from toxicity.core.errors import EXIT_FAILED, RequestError
from toxicity.core.files import name_as_text
from toxicity.hardware.process import prepare_process
from toxicity.predict.ledger import MANIFEST, Ledger
from toxicity.predict.output_folder import is_local, name_within, sizes_of, writing_to
from toxicity.predict.outputs import Outputs
from toxicity.predict.processes import Processes, launched_processes
from toxicity.predict.progress import progress_shown
from toxicity.predict.ray_actors import RayActors, ray_actors
from toxicity.predict.score_shards import Failure
from toxicity.predict.shards import STANDARD_INPUT, Shard, list_shards
from toxicity.predict.submission import Sample, without_sample

logger = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> None:
    """Score or export, together with the other processes that the launcher started.

    Raises:
        RequestError: if the request cannot be fulfilled.
        SystemExit: with exit code 1 if some shards could not be scored.
    """
    if STANDARD_INPUT in (arguments.input or []) and distributed.world_size() > 1:
        raise RequestError(
            "--input - is read by one process alone: start it with python -m, or write the lines to a file."
        )
    prepare_process(scoring=True)
    set_up_console(distributed.rank() == 0, progress_bars=sys.stderr.isatty())
    with distributed.process_group():
        if arguments.export:
            distributed.run_on_main(lambda: _export(arguments))
        elif failed := score_files(arguments):
            logger.error(f"Failed: {len(failed):,} shards. Run this again when they are mended: the others are kept.")
            sys.exit(EXIT_FAILED)


def _export(arguments: argparse.Namespace) -> None:
    from toxicity.core.arguments import DataArguments
    from toxicity.predict.export.comments import SAMPLE
    from toxicity.predict.export.compare import export_and_compare

    names = ("text_column_name", "label_column_name", "label_column_names", "delimiter", "encoding")
    given = {name: getattr(arguments, name) for name in names}
    labelled = DataArguments(train_file=arguments.input[0], **given) if arguments.input else SAMPLE
    toxic_label = arguments.toxic_label or ()
    export_and_compare(
        arguments.model, arguments.model_revision, arguments.output, labelled, toxic_label, arguments.export
    )


def score_files(arguments: argparse.Namespace) -> dict[str, Failure]:
    """Score the inputs, together with the other processes of the job; returns failed shards, by address.

    Raises:
        RequestError: if no shard could be scored because of the request itself.
    """
    shards, sample = distributed.run_on_main(lambda: _inputs(arguments))
    engine = ray_actors if arguments.engine == "ray" else launched_processes
    with engine(arguments, sample) as workers:
        return _score(shards, workers, arguments.output)


def _score(shards: Sequence[Shard], workers: Processes | RayActors, output: Path) -> dict[str, Failure]:
    is_main = distributed.rank() == 0
    ledger = distributed.run_on_all(lambda: Ledger(output, workers.job) if is_main else None)
    distributed.run_on_main(lambda: _require_safe_to_write(shards, ledger))
    distributed.run_on_main(lambda: ledger.start())

    to_do = distributed.run_on_main(lambda: [shard for shard in shards if not ledger.is_done(shard)])
    if len(to_do) < len(shards):
        logger.info(f"Done before, and skipped: {len(shards) - len(to_do):,} of {len(shards):,} shards.")
    total = sum(shard.bytes or 0 for shard in to_do)
    with progress_shown(total, distributed.world_size(), is_main) as progress:
        try:
            failed = workers.score(to_do, Outputs(output, workers.job["output_format"]), progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(shards, ledger) if is_main else "") from None

    rows, seconds = sum(distributed.gather(progress.rows)), max(distributed.gather(progress.seconds))
    reasons = {address: failure.reason for address, failure in failed.items()}
    kept, reasons = distributed.run_on_main(lambda: ledger.finish(reasons, to_do))
    for address in reasons.keys() - failed:
        failed[address] = Failure(reasons[address], refused=False)
        logger.error(f"Failed: {address}: {reasons[address]}")
    if failed and not kept and all(failure.refused for failure in failed.values()):
        first, *others = failed.values()
        raise RequestError(first.reason + (f" {len(others):,} other shards could not be scored." if others else ""))
    logger.info(
        f"Scored {rows:,} rows of {len(to_do) - len(failed):,} shards in {h_mm_ss(seconds)}, "
        f"{rows / max(seconds, 1e-9):,.0f} rows/s; details are in {output / MANIFEST}"
    )
    return failed


def _kept(shards: Sequence[Shard], ledger: Ledger) -> str:
    """What is said when the job is stopped."""
    ledger.read()
    kept = sum(ledger.is_done(shard) for shard in shards)
    return (
        f"stopped: {kept:,} of {len(shards):,} shards are scored and kept in {ledger.folder}; the same command goes on "
        "with the others."
    )


def _inputs(arguments: argparse.Namespace) -> tuple[list[Shard], Sample | None]:
    shards = list_shards(arguments.input, arguments.output)
    if not arguments.submission:
        return shards, None
    return without_sample(shards, None if arguments.submission is True else arguments.submission)


def _require_safe_to_write(shards: Sequence[Shard], ledger: Ledger) -> None:
    """Refuse to overwrite an input or a file that this command did not write, and to score an output."""
    outputs = {ledger.outputs.name_of(shard) for shard in shards}
    for shard in shards:
        if not is_local(ledger.folder) and shard.name != name_as_text(shard.name):
            raise RequestError(
                f"the name of {name_as_text(shard.address)} is not in UTF-8, as names in an object store are: rename "
                "it, or name a folder of this machine as --output."
            )
        name = name_within(ledger.folder, shard.address)
        if name in outputs:
            raise RequestError(
                f"the scores would be written over the input {shard.address}: name another folder as --output."
            )
        if ledger.wrote(name):
            raise RequestError(
                f"the input {shard.address} was written by this command: name another --output, or other inputs."
            )
    with writing_to(ledger.folder):
        there = sizes_of(ledger.folder, outputs)
    for name in sorted(there):
        if not ledger.wrote(name):
            raise RequestError(
                f"{ledger.folder / name} is there, and no {MANIFEST} says that it holds scores: move it away, or name "
                "another folder as --output."
            )
