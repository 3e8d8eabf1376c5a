"""Score any number of comments with a trained model.

    python -m toxicity.predict --model runs/sample --input comments.csv --output scores
    python -m toxicity.predict --model runs/sample --input test.csv --output kaggle --submission
    accelerate launch -m toxicity.predict --model USER/MODEL --input hf://datasets/USER/NAME --output scores
    python -m toxicity.predict --model runs/sample --export onnx --output exported
    python -m toxicity.predict --model exported/int8 --input comments.csv --output scores

Inputs are CSV (also .gz and .zip), JSON lines (also .gz) or parquet: files, folders, patterns, addresses that
`fsspec` knows, or `-` for lines on standard input. Every input file becomes one output file with the id, score, label
and subtypes of its comments in their order. What is done is skipped when the same job is run again. Of a folder all
files are taken but those that begin with `.` or `_`, and `dataset_infos.json` and the like; `--output` lies outside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from toxicity.core import distributed
from toxicity.core.console import h_mm_ss, set_up_console
from toxicity.core.errors import EXIT_FAILED, RequestError, refusals_exit_cleanly
from toxicity.hardware.cpu import prepare_cpu
from toxicity.predict.ledger import MANIFEST, Ledger, difference
from toxicity.predict.onnx_runtime import exported_file
from toxicity.predict.progress import progress_shown
from toxicity.predict.score_shards import (
    BYTES_PER_WINDOW,
    ROWS_PER_WINDOW,
    Failure,
    Options,
    output_of,
    score_shards,
)
from toxicity.predict.scorer import Scorer
from toxicity.predict.shards import STANDARD_INPUT, Shard, list_shards

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")
# Flags that mean nothing to the other of the two things that this command does.
ONLY_FOR_SCORES = (
    "output_format",
    "submission",
    "id_column_name",
    "precision_target",
    "mixed_precision",
    "on_bad_rows",
)
ONLY_FOR_EXPORTS = ("label_column_name",)

HELD = Failure("another process holds it, perhaps of a job that was killed: run this again", False)

# Run as a program this module is called `__main__`, which the console does not listen to.
logger = logging.getLogger("toxicity.predict")


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    prepare_cpu(scoring=True)
    arguments = parse_arguments(argv)
    set_up_console(distributed.rank() == 0, progress_bars=sys.stderr.isatty())
    with distributed.process_group():
        if arguments.export:
            from toxicity.predict.export.onnx import export_and_compare

            distributed.run_on_main(
                lambda: export_and_compare(
                    arguments.model,
                    arguments.model_revision,
                    arguments.output,
                    arguments.input[0] if arguments.input else None,
                    arguments.text_column_name,
                    arguments.label_column_name,
                )
            )
        elif failed := score_files(arguments):
            logger.error(f"Failed: {len(failed):,} shards. Run this again when they are mended: the others are kept.")
            sys.exit(EXIT_FAILED)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}. All flags: python -m toxicity.predict --help")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line, by default that of the process.

    Raises:
        RequestError: for flags that are not known or do not go together.
    """
    parser = _Parser(
        prog="python -m toxicity.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True, help="folder of a run or an export, or a model on the Hub")
    parser.add_argument("--model_revision", default="main", help="branch, tag or commit on the Hub")
    parser.add_argument("--input", nargs="+", help="files, folders, patterns, addresses; or - for standard input")
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument("--output_format", choices=("parquet", "csv", "jsonl"), help="parquet, if nothing is said")
    parser.add_argument("--submission", action="store_true", help="write the competition's CSV: id,prediction")
    parser.add_argument("--text_column_name", help="column of the comment; else text or comment_text")
    parser.add_argument("--id_column_name", help="column of the id; else id, or rows are numbered from 0")
    parser.add_argument("--label_column_name", help="column of the toxicity that an export is measured on")
    parser.add_argument("--precision_target", help="label at the model's threshold for this precision, such as 0.9")
    parser.add_argument("--mixed_precision", choices=("no", "bf16", "fp16"), help="by default the device's fastest")
    parser.add_argument(
        "--on_bad_rows",
        choices=("refuse", "score_null"),
        default="refuse",
        help="where a row is broken or has no text: fail its file, or leave its score empty",
    )
    parser.add_argument("--export", choices=("onnx",), help="write the model for ONNX Runtime, in fp32 and in int8")
    arguments = parser.parse_args(argv)
    if not arguments.export and not arguments.input:
        raise RequestError("nothing to score: name files as --input, or - for lines on standard input.")
    if arguments.export and len(arguments.input or []) > 1:
        raise RequestError("an export is measured on one --input: a file or folder of comments with their toxicity.")
    if STANDARD_INPUT in (arguments.input or []) and distributed.world_size() > 1:
        raise RequestError(
            "--input - is read by one process alone: start it with python -m, or write the lines to a file."
        )
    if arguments.submission and arguments.output_format not in (None, "csv"):
        raise RequestError("a submission is a CSV file: leave out --output_format.")
    for name in ONLY_FOR_SCORES if arguments.export else ONLY_FOR_EXPORTS:
        if getattr(arguments, name) != parser.get_default(name):
            raise RequestError(
                f"--{name} means nothing {'with' if arguments.export else 'without'} --export: leave it out."
            )
    if arguments.output.exists() and not arguments.output.is_dir():
        raise RequestError(f"--output {arguments.output} is a file: name a folder.")
    return arguments


def score_files(arguments: argparse.Namespace) -> dict[str, Failure]:
    """Score what the arguments name, together with the other processes of the job.

    Returns:
        Address of each shard that failed, and why.

    Raises:
        RequestError: if nothing could start.
    """
    shards = distributed.run_on_main(lambda: list_shards(arguments.input, arguments.output))
    scorer = distributed.run_on_all(lambda: _scorer(arguments))
    options = _options(arguments, scorer)
    ledger = _started_ledger(arguments.output, describe_job(arguments.model, scorer, options), shards, options)

    waiting = distributed.run_on_main(lambda: _not_done(shards, ledger, options))
    if len(waiting) < len(shards):
        logger.info(f"Done before, and skipped: {len(shards) - len(waiting):,} of {len(shards):,} shards.")
    total = sum(shard.bytes or 0 for shard in waiting)
    with progress_shown(total, distributed.world_size(), distributed.rank() == 0) as progress:
        taken = score_shards(waiting, scorer, ledger, options, progress)

    failed = _failures_of_all(waiting, taken, ledger, options)
    rows, seconds = sum(distributed.gather(progress.rows)), max(distributed.gather(progress.seconds))
    manifest = distributed.run_on_main(
        lambda: ledger.finish({address: failure.reason for address, failure in failed.items()})
    )
    if failed and not manifest["shards"] and all(failure.refused for failure in failed.values()):
        first, *others = failed.values()
        raise RequestError(first.reason + (f" {len(others):,} other shards could not be scored." if others else ""))
    logger.info(
        f"Scored {rows:,} rows of {len(waiting) - len(failed):,} shards in {h_mm_ss(seconds)}, "
        f"{rows / max(seconds, 1e-9):,.0f} rows/s; all is told in {arguments.output / MANIFEST}"
    )
    return failed


def _scorer(arguments: argparse.Namespace) -> Scorer:
    # An export is computed on the CPU, whatever else is there.
    device = None if exported_file(arguments.model) else distributed.device()
    return Scorer(arguments.model, arguments.model_revision, device, arguments.mixed_precision)


def _options(arguments: argparse.Namespace, scorer: Scorer) -> Options:
    return Options(
        format="csv" if arguments.submission else arguments.output_format or "parquet",
        threshold=_threshold(scorer, arguments.precision_target),
        submission=arguments.submission,
        on_bad_rows=arguments.on_bad_rows,
        text_column_name=arguments.text_column_name,
        id_column_name=arguments.id_column_name,
    )


def _started_ledger(folder: Path, job: dict[str, Any], shards: Sequence[Shard], options: Options) -> Ledger:
    """The output folder, when it is sure that the job may write to it."""
    _require_alike(distributed.gather(job))
    ledger = distributed.run_on_all(lambda: Ledger(folder, job))
    distributed.run_on_main(lambda: _require_safe_to_write(shards, ledger, options))
    distributed.run_on_main(ledger.start)
    return ledger


def _require_alike(jobs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse processes that would give a comment different scores."""
    for process, job in enumerate(jobs):
        if found := difference(job, jobs[0]):
            raise RequestError(
                f"the processes would not give the same scores: process {process} has {found}. Use one kind of device, "
                "the same packages and the same model everywhere, and name the precision with --mixed_precision."
            )


def _require_safe_to_write(shards: Sequence[Shard], ledger: Ledger, options: Options) -> None:
    """Refuse to write over an input, or over a file that is not an output of ours, and to read an output."""
    outputs = {output_of(shard, ledger.folder, options) for shard in shards}
    taken = {output.resolve() for output in outputs}
    for shard in shards:
        # Of an address elsewhere this is no path, and so that of no output.
        path = Path(shard.address)
        if path.resolve() in taken:
            raise RequestError(f"the scores would be written over the input {path}: name another folder as --output.")
        if ledger.wrote(path):
            raise RequestError(f"the input {path} was written by this command: name another --output, or other inputs.")
    for output in sorted(outputs):
        if output.exists() and not ledger.wrote(output):
            raise RequestError(
                f"{output} is there, and no {MANIFEST} says that it holds scores: move it away, or name another folder "
                "as --output."
            )


def _not_done(shards: Sequence[Shard], ledger: Ledger, options: Options) -> list[Shard]:
    return [shard for shard in shards if not ledger.is_done(shard, output_of(shard, ledger.folder, options))]


def _failures_of_all(
    waiting: Sequence[Shard], taken: Mapping[str, Failure | None], ledger: Ledger, options: Options
) -> dict[str, Failure]:
    """What failed, by address: in any of the processes, or because none of them came to it."""
    outcomes = {address: outcome for part in distributed.gather(taken) for address, outcome in part.items()}
    untaken = [shard for shard in waiting if shard.address not in outcomes]
    held = distributed.run_on_main(lambda: _not_done(untaken, ledger, options))
    outcomes |= {shard.address: HELD for shard in held}
    return {shard.address: failure for shard in waiting if (failure := outcomes.get(shard.address)) is not None}


def describe_job(model: str, scorer: Scorer, options: Options) -> dict[str, Any]:
    """What decides the bytes of the outputs, for the manifest: model, settings, and the versions that compute."""
    packages = (*PACKAGES, "onnxruntime") if scorer.runtime == "onnxruntime" else PACKAGES
    versions: Mapping[str, str] = {package: importlib.metadata.version(package) for package in packages}
    return {
        "model": model,
        "revision": scorer.revision,
        "weights_xxh3": scorer.weights_digest,
        "tokenizer_xxh3": scorer.tokenizer_digest,
        "labels": dataclasses.asdict(scorer.labels),
        "runtime": scorer.runtime,
        "device": scorer.device.type,
        "mixed_precision": scorer.mixed_precision,
        "max_seq_length": scorer.max_seq_length,
        "head_tail_truncation": scorer.head_tail_truncation,
        "temperature": scorer.temperature,
        "threshold": options.threshold,
        "output_format": options.format,
        "submission": options.submission,
        "on_bad_rows": options.on_bad_rows,
        "text_column_name": options.text_column_name,
        "id_column_name": options.id_column_name,
        "rows_per_window": ROWS_PER_WINDOW,
        "bytes_per_window": BYTES_PER_WINDOW,
        "tokens_per_batch": scorer.tokens_per_batch,
        "versions": {"python": platform.python_version(), **versions},
    }


def _threshold(scorer: Scorer, precision_target: str | None) -> float:
    if precision_target is None:
        return scorer.threshold
    for target, threshold in scorer.thresholds.items():
        if precision_target == target:
            return threshold
    raise RequestError(
        f"--precision_target {precision_target}: the model's config.json has thresholds for "
        f"{', '.join(scorer.thresholds) or 'no precision'}. Leave it out to label at {scorer.threshold:g}."
    )


def command() -> None:
    """What `toxicity-predict` runs."""
    with refusals_exit_cleanly():
        main()
