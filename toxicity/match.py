"""Find the thresholds of a model that flag as many comments as those of the scores before, such as Perspective's.

    python -m toxicity.match --old_scores comments.csv --model runs/sample
    python -m toxicity.match --old_scores old.csv --new_scores scores/comments.parquet

The file of old scores has a column for each attribute, called TOXICITY, INSULT and so on, or lines of JSON as
Perspective answered. With --model it has the comments, too, and these are scored; with --new_scores it has their ids,
and so has the output of toxicity.predict. Prints a table for people and, as the last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxicity.core.attributes import attributes_of
from toxicity.core.commands import CommandParser, add_model_flags
from toxicity.core.console import set_up_console
from toxicity.core.errors import RequestError, refusals_exit_cleanly

if TYPE_CHECKING:
    from toxicity.data.attribute_scores import AttributeScores

# Its name is another one where this is run as a command, and the console shows the package's lines.
logger = logging.getLogger("toxicity.match")


def main(argv: Sequence[str] | None = None) -> None:
    """Match thresholds, and print them, as JSON on the last line."""
    arguments = parse_flags(argv)
    set_up_console(is_main_process=True, progress_bars=False)
    # Imported only now, so that mistakes in the flags are reported before anything is loaded.
    from toxicity.core.text_files import encoding_of
    from toxicity.data.attribute_scores import join_scores, read_new_scores, read_old_scores

    encoding = None if arguments.encoding is None else encoding_of(arguments.encoding)
    old = read_old_scores(
        arguments.old_scores,
        arguments.new_scores is None,
        arguments.text_column_name,
        arguments.id_column_name,
        arguments.label_column_name,
        arguments.old_score_column_name,
        encoding,
    )
    if arguments.new_scores is not None:
        old, new = join_scores(old, read_new_scores(arguments.new_scores, arguments.id_column_name, encoding))
    else:
        new = _scored(arguments, old)
    results = match(arguments.thresholds, old, new, arguments.output)
    print(json.dumps({"attributes": results}), flush=True)


def parse_flags(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags.

    Raises:
        RequestError: for values that cannot be, or flags that do not go together.
    """
    parser = CommandParser("toxicity.match", __doc__)
    parser.add_argument("--old_scores", required=True, metavar="FILE", help="comments with their old scores")
    new = parser.add_mutually_exclusive_group(required=True)
    new.add_argument("--model", help="folder of a run or an export, or a model on the Hub, to score these comments")
    new.add_argument("--new_scores", metavar="FILE", help="or the scores that toxicity.predict gave them, by id")
    parser.add_argument("--thresholds", nargs="+", type=float, default=[0.7, 0.8, 0.9], help="of the old scores")
    parser.add_argument("--old_score_column_name", help="column of the old score of toxicity; else TOXICITY")
    parser.add_argument("--text_column_name", help="column of the comment; else text or comment_text")
    parser.add_argument("--id_column_name", help="column of the id; else id")
    parser.add_argument(
        "--label_column_name",
        help="column that says which comments are toxic, in all rows or some, for the precision of both thresholds and "
        "a new one of the old precision",
    )
    add_model_flags(parser)
    parser.add_argument("--encoding", help="character encoding of the files; else by their byte order mark, or UTF-8")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for thresholds.json and a picture of each attribute"
    )
    arguments = parser.parse_args(argv)
    for threshold in arguments.thresholds:
        if not 0 < threshold < 1:
            raise RequestError(f"--thresholds {threshold:g}: give scores above 0 and below 1, such as 0.8.")
    for name in ("model_revision", "toxic_label", "runtime", "text_column_name"):
        if arguments.new_scores is not None and getattr(arguments, name) != parser.get_default(name):
            raise RequestError(
                f"--{name} means nothing with --new_scores, where the comments are scored: leave it out."
            )
    if arguments.model is not None and arguments.id_column_name is not None:
        raise RequestError("--id_column_name means nothing with --model, which scores the comments: leave it out.")
    if arguments.output is not None and arguments.output.exists() and not arguments.output.is_dir():
        raise RequestError(f"--output {arguments.output} is a file: name a folder.")
    return arguments


def match(
    thresholds: Sequence[float], old: AttributeScores, new: AttributeScores, output: Path | None
) -> dict[str, dict[str, Any]]:
    """Match and print the thresholds of each attribute that both have; write them where there is an `output`.

    Args:
        thresholds: of the old scores.
        old, new: scores of the same comments, in the same order.
        output: a folder.

    Raises:
        RequestError: if they have no attribute in common.
    """
    import numpy as np

    from toxicity.evaluation.threshold_matching import describe_matches, match_thresholds

    if missing := [name for name in old.scores if name not in new.scores]:
        logger.info(f"{new.name} has no score for {', '.join(missing)}.")
    results, pairs = {}, {}
    for name in (name for name in old.scores if name in new.scores):
        rows = ~(np.isnan(old.scores[name]) | np.isnan(new.scores[name]))
        if not rows.any():
            logger.warning(f"No comment has both an old and a new score for {name}.")
            continue
        pairs[name] = old.scores[name][rows], new.scores[name][rows]
        # A label says whether a comment is toxic, not of what kind.
        toxic = old.toxic[rows] if old.toxic is not None and name == "TOXICITY" else None
        results[name] = {"label": new.columns[name]} | match_thresholds(*pairs[name], thresholds, toxic)
    if not results:
        raise RequestError(
            f"{old.name} has old scores for {', '.join(old.scores)} and {new.name} has new ones for "
            f"{', '.join(new.scores)}: give scores of the same attribute."
        )
    print(f"\n{describe_matches(results)}\n")
    if output is not None:
        from toxicity.report.threshold_matching import write_matches

        write_matches(output, results, pairs)
        print(f"The thresholds and a picture of each attribute are in {output}\n")
    return results


def _scored(arguments: argparse.Namespace, old: AttributeScores) -> AttributeScores:
    """The scores that the model gives the comments."""
    from toxicity.data.attribute_scores import AttributeScores
    from toxicity.predict.scorer import Scorer

    scorer = Scorer(
        arguments.model, arguments.model_revision, toxic_label=arguments.toxic_label, runtime=arguments.runtime
    )
    logger.info(f"Scoring the {len(old):,} comments of {old.name}.")
    found = scorer.by_label(old.texts)
    labels = attributes_of([*found])
    return AttributeScores(arguments.model, {name: found[label] for name, label in labels.items()}, labels)


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
