"""What a scoring job reads and writes, and from which scores on it gives labels."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError
from toxicity.core.wanted import Wanted, wanted_threshold
from toxicity.data.readers.base import Layout
from toxicity.predict.scorer import Scorer
from toxicity.predict.submission import FORM_OF_2019, Sample, submission_columns

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What is read and written; the manifest lists these fields, so that a job with other options is told apart."""

    threshold: float  # the score from which the label is 1
    output_format: str  # `parquet`, `csv` or `jsonl`
    # Of each other label that has a column for its label; none for models of others, and of one label.
    label_thresholds: Mapping[str, float] = field(default_factory=dict)
    submission: bool = False  # whether the outputs only have the columns that a competition asks for
    # They, as `submission_columns` tells; `id` and `prediction` if there are none.
    submission_columns: Mapping[str, int] = field(default_factory=dict)
    on_bad_rows: str = "refuse"  # or `score_null`
    text_column_name: str | None = None  # by default `text` or `comment_text`
    id_column_name: str | None = None  # by default `id`; without one, rows are numbered
    delimiter: str | None = None  # of CSV files; by default it is found out
    encoding: str | None = None  # of CSV and JSON files; by default it is found out
    explain: int = 0  # how many words are told that push the score of a toxic comment up most

    @property
    def layout(self) -> Layout:
        """How the inputs are laid out; unless a delimiter makes it a table, a `.txt` file is one comment a line."""
        return Layout(self.delimiter, self.encoding, txt_holds_lines=self.delimiter is None)


def options_for(arguments: argparse.Namespace, scorer: Scorer, sample: Sample | None) -> Options:
    """What the flags ask for, with the thresholds and the columns of this model.

    Raises:
        RequestError: for a threshold that the model does not have, or columns of a submission that it cannot fill.
    """
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
