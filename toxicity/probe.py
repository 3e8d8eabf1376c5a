"""Run the identity swap probe (`evaluation.identity_probe`) on any model, or judge it on a challenge set.

python -m toxicity.probe --model runs/sample
python -m toxicity.probe --model runs/sample --hatecheck hatecheck.csv
python -m toxicity.probe --model runs/sample --templates madlibs.csv
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from toxicity.core.commands import add_model_flags
from toxicity.core.console import set_up_console
from toxicity.core.errors import EXIT_FAILED, RequestError, refusals_exit_cleanly
from toxicity.core.markdown import code_span, markdown_table
from toxicity.evaluation.hatecheck import describe_hatecheck, hate_labels, hatecheck
from toxicity.evaluation.identity_probe import describe_probe, label_table, probe_labels
from toxicity.evaluation.roc import why_undefined
from toxicity.evaluation.template_sets import describe_templates, named_terms, template_metrics, terms_in

if TYPE_CHECKING:
    from toxicity.data.challenge_sets import Texts
    from toxicity.predict.scorer import Scorer

# Its name is another one where this is run as a command, and the console shows the package's lines.
logger = logging.getLogger("toxicity.probe")


def main(argv: list[str] | None = None) -> None:
    """Probe a model and print the result, as JSON on the last line."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.probe", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="folder of a run or an export, or a model on the Hub")
    add_model_flags(parser)
    parser.add_argument(
        "--hatecheck",
        metavar="FILE",
        help="in place of the identity swap probe: accuracy on the cases of HateCheck by functionality and target "
        "group, at each threshold; the file as published, or any with the columns functionality, test_case, label_gold "
        "and perhaps target_ident. Of several labels the main one is judged, and identity_attack or identity_hate",
    )
    parser.add_argument(
        "--templates",
        metavar="FILE",
        help="in place of the probe, also beside --hatecheck: AUCs of subgroup, BPSN and BNSP by term, pinned AUC and "
        "equality differences on a template set such as the madlibs of Dixon et al.; a file with the columns text (or "
        "phrase), label (or toxicity; BAD and NOT_BAD, toxic and nontoxic, 1 and 0) and perhaps term. Without term, "
        "known terms are looked for in the texts. Of several labels the main one is judged",
    )
    parser.add_argument("--encoding", help="character encoding of these files; else by their byte order mark, or UTF-8")
    arguments = parser.parse_args(argv)
    set_up_console(is_main_process=True, progress_bars=False)
    # Imported only now, so that mistakes in flags and files are reported before torch is loaded, which takes seconds.
    cases = sentences = None
    if arguments.hatecheck is not None or arguments.templates is not None:
        from toxicity.core.text_files import encoding_of
        from toxicity.data.challenge_sets import HATECHECK, TEMPLATES, read_texts

        encoding = None if arguments.encoding is None else encoding_of(arguments.encoding)
        if arguments.hatecheck is not None:
            cases = read_texts(arguments.hatecheck, "--hatecheck", HATECHECK, encoding)
        if arguments.templates is not None:
            sentences = read_texts(arguments.templates, "--templates", TEMPLATES, encoding)
            terms = _terms(sentences)
    elif arguments.encoding is not None:
        raise RequestError("--encoding is that of a file of --hatecheck or --templates: name one, or leave it out.")
    from toxicity.predict.scorer import Scorer

    scorer = Scorer(
        arguments.model, arguments.model_revision, toxic_label=arguments.toxic_label, runtime=arguments.runtime
    )
    result: dict[str, Any] = {}
    if cases is not None:
        result["hatecheck"] = _judge_cases(scorer, cases)
    if sentences is not None:
        result["templates"] = _judge_templates(scorer, sentences, terms)
    print(json.dumps(result or _probe(scorer)), flush=True)


def _probe(scorer: Scorer) -> dict[str, Any]:
    def score(texts: list[str]) -> np.ndarray:
        found = scorer.by_label(texts)
        return np.stack([found[name] for name in scorer.calibrations], axis=1)

    result = probe_labels(score, {name: fitted.thresholds for name, fitted in scorer.calibrations.items()})
    if result is None:
        sys.exit(EXIT_FAILED)
    print(f"\n{describe_probe(result)}\n")
    if "labels" in result:
        print(f"Shifts of the scores of all labels:\n\n{markdown_table(*label_table(result))}\n")
    return result


def _judge_cases(scorer: Scorer, cases: Texts) -> dict[str, Any]:
    logger.info(f"Scoring the {len(cases.texts):,} cases of {cases.name}.")
    scores = scorer.by_label(cases.texts)
    thresholds = {name: fitted.thresholds for name, fitted in scorer.calibrations.items()}
    judged = {name: scores[name] for name in hate_labels([*scores])}
    words = cases.words
    result = hatecheck(judged, thresholds, cases.toxic, words["functionality"], words.get("target_group"))
    print(f"\nHateCheck, {code_span(cases.name)}:\n\n{describe_hatecheck(result)}\n")
    return result


def _terms(sentences: Texts) -> dict[str, np.ndarray]:
    """The rows of each term, bool `(rows,)`."""
    if reason := why_undefined(sentences.toxic, ~sentences.toxic):
        raise RequestError(f"{sentences.name}: {reason}; a template set needs toxic and civil sentences.")
    try:
        if "term" in sentences.words:
            return named_terms(sentences.words["term"])
        terms = terms_in(sentences.texts)
    except RequestError as error:
        raise RequestError(f"{sentences.name}: {error}") from error
    logger.info(f"{sentences.name} has no column `term`: {len(terms)} known terms were found in the sentences.")
    return terms


def _judge_templates(scorer: Scorer, sentences: Texts, terms: dict[str, np.ndarray]) -> dict[str, Any]:
    logger.info(f"Scoring the {len(sentences.texts):,} sentences of {sentences.name}.")
    result = template_metrics(scorer(sentences.texts), sentences.toxic, terms, scorer.thresholds)
    print(f"\nTemplates, {code_span(sentences.name)}:\n\n{describe_templates(result)}\n")
    return result


def command() -> None:
    """Entry point of the console script `toxicity-probe`."""
    with refusals_exit_cleanly():
        main()


if __name__ == "__main__":
    command()
