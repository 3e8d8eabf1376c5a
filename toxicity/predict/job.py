"""A job of `python -m toxicity.predict`: processes share the input files, and skip those that are already scored."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toxicity.core import distributed
from toxicity.core.console import h_mm_ss, quoted, set_up_console
from toxicity.core.errors import EXIT_FAILED, RequestError
from toxicity.core.wanted import Wanted, wanted_threshold
from toxicity.evaluation.calibration import Calibration
from toxicity.evaluation.calibration_maps import RAW, TEMPERATURE
from toxicity.hardware.process import prepare_process
from toxicity.predict.exported import exported_file
from toxicity.predict.ledger import MANIFEST, Ledger, difference
from toxicity.predict.progress import progress_shown
from toxicity.predict.score_shards import BYTES_PER_WINDOW, ROWS_PER_WINDOW, Failure, Options, score_shards
from toxicity.predict.scorer import Scorer
from toxicity.predict.shards import STANDARD_INPUT, Shard, list_shards
from toxicity.predict.submission import FORM_OF_2019, Sample, submission_columns, without_sample

SCORING_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")
LOCKED_BY_ANOTHER = Failure("another process holds it, perhaps of a job that was killed: run this again", False)

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
    # An export is computed on the CPU, even if there is a GPU, and so is all that OpenVINO computes.
    on_cpu = arguments.runtime not in (None, "torch") or exported_file(arguments.model)
    device = None if on_cpu else distributed.device()
    scorer = distributed.run_on_all(
        lambda: Scorer(
            arguments.model,
            arguments.model_revision,
            device,
            arguments.mixed_precision,
            arguments.toxic_label or (),
            arguments.runtime,
            arguments.prior,
        )
    )
    options = _options(arguments, scorer, sample)
    job = describe_job(arguments.model, scorer, options)
    _require_same_scores(distributed.gather(job))
    ledger = distributed.run_on_all(lambda: Ledger(arguments.output, job))
    distributed.run_on_main(lambda: _require_safe_to_write(shards, ledger))
    distributed.run_on_main(ledger.start)

    to_do = distributed.run_on_main(lambda: [shard for shard in shards if not ledger.is_done(shard)])
    if len(to_do) < len(shards):
        logger.info(f"Done before, and skipped: {len(shards) - len(to_do):,} of {len(shards):,} shards.")
    total = sum(shard.bytes or 0 for shard in to_do)
    with progress_shown(total, distributed.world_size(), distributed.rank() == 0) as progress:
        try:
            outcomes = score_shards(to_do, scorer, ledger, options, progress)
        except KeyboardInterrupt:
            kept = sum(ledger.is_done(shard) for shard in shards)
            raise KeyboardInterrupt(
                f"stopped: {kept:,} of {len(shards):,} shards are scored and kept in {arguments.output}; the same "
                "command goes on with the others."
            ) from None

    failed = _failures_of_all_processes(to_do, outcomes, ledger)
    rows, seconds = sum(distributed.gather(progress.rows)), max(distributed.gather(progress.seconds))
    reasons = {address: failure.reason for address, failure in failed.items()}
    manifest = distributed.run_on_main(lambda: ledger.finish(reasons))
    if failed and not manifest["shards"] and all(failure.refused for failure in failed.values()):
        first, *others = failed.values()
        raise RequestError(first.reason + (f" {len(others):,} other shards could not be scored." if others else ""))
    logger.info(
        f"Scored {rows:,} rows of {len(to_do) - len(failed):,} shards in {h_mm_ss(seconds)}, "
        f"{rows / max(seconds, 1e-9):,.0f} rows/s; details are in {arguments.output / MANIFEST}"
    )
    return failed


def _inputs(arguments: argparse.Namespace) -> tuple[list[Shard], Sample | None]:
    shards = list_shards(arguments.input, arguments.output)
    if not arguments.submission:
        return shards, None
    return without_sample(shards, None if arguments.submission is True else arguments.submission)


def _options(arguments: argparse.Namespace, scorer: Scorer, sample: Sample | None) -> Options:
    main, *_ = scorer.calibrations
    columns = {}
    if arguments.submission:
        columns, told = submission_columns(sample, (main, *scorer.subtypes), arguments.id_column_name)
        logger.info(told)
    threshold, label_thresholds = _thresholds(scorer, arguments)
    return Options(
        threshold=threshold,
        output_format="csv" if arguments.submission else arguments.output_format or "parquet",
        label_thresholds=label_thresholds,
        submission=bool(arguments.submission),
        submission_columns={} if list(columns.items()) == list(FORM_OF_2019.items()) else columns,
        on_bad_rows=arguments.on_bad_rows,
        text_column_name=arguments.text_column_name,
        id_column_name=arguments.id_column_name,
        delimiter=arguments.delimiter,
        encoding=arguments.encoding,
        explain=arguments.explain or 0,
    )


def _thresholds(scorer: Scorer, arguments: argparse.Namespace) -> tuple[float, dict[str, float]]:
    """The threshold of the main label, and those of the others by name, for what is asked for."""
    main, *_ = scorer.calibrations
    flag, target = "--precision_target", arguments.precision_target
    if arguments.threshold_for is not None:
        flag, target = "--threshold_for", wanted_threshold(arguments.threshold_for).name
    if target is not None and target not in scorer.thresholds:
        raise RequestError(
            f"{flag} {target}: the model's config.json has thresholds for "
            f"{', '.join(scorer.thresholds) or 'no precision'}. Leave it out to label at {scorer.threshold:g}."
        )
    if arguments.prior:
        told = f"Scores and thresholds are for {scorer.calibration.prior:.2%} toxic comments; "
        if target is None and scorer.calibration.precision_target is None:
            told += f"labels are given from {scorer.threshold:g} on, as before, though it labels other comments now."
        else:
            told += (
                "the thresholds label the same comments as before. Their precision, which was chosen for another "
                "share, differs there."
            )
        logger.info(told)
    found = {name: fitted.thresholds.get(target, fitted.threshold) for name, fitted in scorer.calibrations.items()}
    lacking = [name for name, fitted in scorer.calibrations.items() if target not in (None, *fitted.thresholds)]
    if lacking:
        told = ", ".join(f"{quoted(name)} at {found[name]:g}" for name in lacking)
        logger.info(
            f"Without a threshold for {Wanted.from_name(target).told}, these are labelled at their own: {told}."
        )
    return found.pop(main), found


def _require_same_scores(jobs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse processes whose scores for the same comment would differ; `jobs` are their descriptions of the job."""
    for process, job in enumerate(jobs):
        if found := difference(job, jobs[0]):
            raise RequestError(
                f"the processes would not give the same scores: process {process} has {found}. Use one kind of device, "
                "the same packages and the same model everywhere, and name the precision with --mixed_precision and "
                "what computes it with --runtime."
            )


def _require_safe_to_write(shards: Sequence[Shard], ledger: Ledger) -> None:
    """Refuse to overwrite an input or a file that this command did not write, and to score an output."""
    outputs = {ledger.output_of(shard).resolve() for shard in shards}
    for shard in shards:
        # A remote address is not a path, and so never equals that of an output.
        path, output = Path(shard.address), ledger.output_of(shard)
        if path.resolve() in outputs:
            raise RequestError(f"the scores would be written over the input {path}: name another folder as --output.")
        if ledger.wrote(path):
            raise RequestError(f"the input {path} was written by this command: name another --output, or other inputs.")
        if output.exists() and not ledger.wrote(output):
            raise RequestError(
                f"{output} is there, and no {MANIFEST} says that it holds scores: move it away, or name another folder "
                "as --output."
            )


def _failures_of_all_processes(
    to_do: Sequence[Shard], outcomes: Mapping[str, Failure | None], ledger: Ledger
) -> dict[str, Failure]:
    """Failed shards by address: those that failed in any process, and those that no process could lock."""
    outcomes = {address: outcome for part in distributed.gather(outcomes) for address, outcome in part.items()}
    skipped = [shard for shard in to_do if shard.address not in outcomes]
    locked = distributed.run_on_main(lambda: [shard for shard in skipped if not ledger.is_done(shard)])
    outcomes |= {shard.address: LOCKED_BY_ANOTHER for shard in locked}
    return {shard.address: failure for shard in to_do if (failure := outcomes.get(shard.address)) is not None}


def _beyond_temperature(calibration: Calibration) -> dict[str, Any]:
    """What makes scores of logits, where that is more than a temperature."""
    if calibration.method in (RAW, TEMPERATURE) and calibration.prior is None:
        return {}
    return {name: getattr(calibration, name) for name in ("method", "base_rate", "prior")} | {
        "parameters": list(calibration.parameters)
    }


def describe_job(model: str, scorer: Scorer, options: Options) -> dict[str, Any]:
    """Everything that determines the bytes of the outputs, for the manifest: model, settings and package versions."""
    packages = dict.fromkeys((*SCORING_PACKAGES, scorer.runtime))
    versions = {package: importlib.metadata.version(package) for package in packages}
    job = {
        "model": model,
        "revision": scorer.revision,
        "weights_xxh3": scorer.weights_digest,
        "tokenizer_xxh3": scorer.tokenizer_digest,
        "labels": {
            "toxic": list(scorer.labels.toxic),
            "civil": list(scorer.labels.civil),
            "subtypes": scorer.labels.subtypes,
        },
        "runtime": scorer.runtime,
        "device": scorer.device.type,
        "mixed_precision": scorer.mixed_precision,
        "max_seq_length": scorer.max_seq_length,
        "head_tail_truncation": scorer.head_tail_truncation,
        "temperature": scorer.temperature,
        "label_temperatures": {name: fitted.temperature for name, fitted in [*scorer.calibrations.items()][1:]},
        "calibrations": {
            name: told for name, found in scorer.calibrations.items() if (told := _beyond_temperature(found))
        },
        **dataclasses.asdict(options),
        "rows_per_window": ROWS_PER_WINDOW,
        "bytes_per_window": BYTES_PER_WINDOW,
        "tokens_per_batch": scorer.tokens_per_batch,
        "max_padding": scorer.max_padding,
        "versions": {"python": platform.python_version(), **versions},
    }
    # A job without other labels, explanations or a limit of padding is described as it was before there were any, so
    # that it can be gone on with.
    unused = {"explain": 0, "max_padding": None}
    return {name: value for name, value in job.items() if value != {} and (name not in unused or value != unused[name])}
