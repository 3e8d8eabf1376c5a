"""`report/report.md`: what a run found, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from toxicity.bench.runs import REFERENCE, benchmark_table, by_protocol, published_rows
from toxicity.core.markdown import code_span
from toxicity.evaluation.identity_probe import describe_probe
from toxicity.report.tables import (
    bias_table,
    calibration_table,
    final_score_name,
    metrics_table,
    number,
    thresholds_table,
)

# Enough of a comment to see why the model took it for what it did.
SHOWN_CHARACTERS = 400


class Comment(NamedTuple):
    """A validation comment: what its row calls it, what people thought of it, and what the model does."""

    id: Any
    text: str
    toxic: bool
    score: float


class Picture(NamedTuple):
    """A file beside the page, and what to read where it cannot be seen."""

    name: str
    shows: str


def report_page(
    benchmark: Mapping[str, Any], pictures: Sequence[Picture], comments: Mapping[str, Sequence[Comment]]
) -> str:
    """Write the page.

    Names of models and data, ids and comments come from strangers: they go into code spans, outside of tables.

    Args:
        benchmark: of `report.build_benchmark`; what it does not hold or holds as None is left out or `n/a`.
        pictures: those that were drawn.
        comments: by heading, such as `Most toxic`.

    Returns:
        Markdown.
    """
    drawn = {picture.name: f"![{picture.shows}]({picture.name})" for picture in pictures}
    calibration, bias, probe = (
        benchmark.get("calibration"),
        benchmark["metrics"].get("bias"),
        benchmark.get("probe"),
    )
    parts = [
        "# Report of a run",
        *_run(benchmark),
        drawn.get("timing.png"),
        drawn.get("training.png"),
        "## How good it is",
        metrics_table(benchmark["metrics"]),
        drawn.get("roc.png"),
        drawn.get("precision_recall.png"),
        "## Where to set the threshold",
        *_thresholds(calibration),
        drawn.get("reliability.png"),
        "## Bias against identities",
        *(_bias(bias) if bias else [f"Not measured: {_why(benchmark, 'bias', 'the data have no identity columns')}."]),
        drawn.get("bias.png"),
        *(["## The same sentences about different people", describe_probe(probe)] if probe else []),
        drawn.get("probe.png"),
        *_undefined(benchmark),
        "## Comments",
        "Written by strangers, shown as they are, and cut where they are long. The score is that of the `pipeline`.",
        *(part for heading, group in comments.items() for part in (f"### {heading}", _list(group))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _run(benchmark: Mapping[str, Any]) -> list[str]:
    protocol = benchmark["protocol"]
    published = published_rows()
    same = any(len(by_protocol([dict(benchmark), row])) == 1 for row in published)
    told = (
        "It is the protocol of the published runs."
        if same
        else "The protocol is another than that of the published runs, so that neither times nor AUCs compare."
    )
    return [
        "\n".join(
            [
                f"- Model: {code_span(protocol['model'])}",
                f"- Data: {code_span(protocol['dataset'])}, {protocol['train_rows']:,} comments to train on and "
                f"{protocol['validation_rows']:,} to validate, {protocol['max_seq_length']} tokens",
                f"- Recipe: {code_span(protocol['recipe'])}, seed {protocol['seed']}, "
                f"precision {protocol['mixed_precision']}",
            ]
        ),
        benchmark_table([benchmark, *published]),
        f"The published runs are of {REFERENCE['protocol']['model']} on 1,000,000 comments. {told}",
    ]


def _thresholds(calibration: Mapping[str, Any] | None) -> list[str]:
    if not calibration:
        return ["Neither thresholds nor a temperature were fitted; the log of the run says why."]
    missed = [
        f"- {row['precision_target']:g}: {row['reason']}." for row in calibration["thresholds"] if row.get("reason")
    ]
    target = calibration["precision_target"]
    labelled = "" if target is None else f", the one for a precision of {target:g}"
    return [
        f"Fitted on {calibration['fitted_rows']:,} of the validation comments; precision, recall and the share of "
        f"comments flagged are those of the other {calibration['held_out_rows']:,}. `Threshold` is for the scores of "
        "`toxicity.predict`, which divides by the temperature, `For the pipeline` for those of "
        f'`pipeline("text-classification")`. A comment is labelled toxic from {calibration["threshold"]:.4f} on'
        f"{labelled}.",
        thresholds_table(calibration),
        "\n".join(missed),
        f"The temperature is {calibration['temperature']:.4f}. On the comments it was not fitted on:",
        calibration_table(calibration),
    ]


def _bias(bias: Mapping[str, Any]) -> list[str]:
    return [
        "Subgroup AUC: among the comments that mention the identity. BPSN: civil comments that mention it against "
        "toxic ones that do not; low where the mention alone makes a comment look toxic. BNSP: toxic comments that "
        "mention it against civil ones that do not; low where the mention makes it look civil. The final score is a "
        "quarter each of the AUC and the three power means (p = −5). "
        f"{final_score_name(bias)}: {number(bias['final_score'])}.",
        bias_table(bias),
    ]


def _undefined(benchmark: Mapping[str, Any]) -> list[str]:
    reasons = benchmark["metrics"].get("undefined") or {}
    if not reasons:
        return []
    return ["## What is not defined", "\n".join(f"- `{path}`: {reason}" for path, reason in reasons.items())]


def _why(benchmark: Mapping[str, Any], path: str, otherwise: str) -> str:
    return (benchmark["metrics"].get("undefined") or {}).get(path, otherwise)


def _list(comments: Sequence[Comment]) -> str:
    return (
        "\n".join(
            f"{number}. {comment.score:.6f}, {'toxic' if comment.toxic else 'civil'}, id {code_span(str(comment.id))}: "
            f"{code_span(comment.text, SHOWN_CHARACTERS)}"
            for number, comment in enumerate(comments, start=1)
        )
        or "None."
    )
