"""`report.md` and `report.html`, rendered from the Jinja templates beside this module."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateModule
from markupsafe import Markup

from toxicity.bench.runs import REFERENCE, benchmark_table, differing_keys, mean_auc, over_labels, published_rows
from toxicity.core.console import QUOTED_CHARACTERS, SHOWN_CHARACTERS, h_mm_ss, printable
from toxicity.core.markdown import UNDEFINED, code_cell, code_span, collapse_blank_lines, markdown_table
from toxicity.evaluation.calibration import HOW_MANY_WOULD_DO, LABEL_PRECISION_TARGET
from toxicity.evaluation.identity_probe import explain_probe, probe_table, summarise_probe
from toxicity.evaluation.trained_terms import explain_trained_terms
from toxicity.report import further_tables, label_tables, tables
from toxicity.report.figures import FIGURES

# Enough of a comment to see why the model scored it as it did.
SHOWN_COMMENT_CHARACTERS = 400


class Comment(NamedTuple):
    """A validation comment with its label, None where nobody said, and the model's score, 0 to 1."""

    id: Any
    text: str
    toxic: bool | None
    score: float


def report_markdown(
    benchmark: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    comments: Mapping[str, Sequence[Comment]],
    label_comments: Mapping[str, Sequence[Comment]] = MappingProxyType({}),
) -> str:
    """Render `report.md`. Names of models, data and labels, ids and comments are untrusted: they go into code spans.

    Args:
        benchmark: of `build_benchmark`; what is missing in it or None is left out or shown as undefined.
        pictures: the PNG files that were drawn, by their names in `FIGURES`.
        comments: by heading, such as `Most toxic`.
        label_comments: with several labels, those with the highest scores of each label but the main one.
    """

    def figure(name: str) -> str:
        return f"![{FIGURES[name].title}]({name})" if name in pictures else ""

    writers = {"code": code_span, "cell": code_cell, "figure": figure, "table": lambda table: markdown_table(*table)}
    texts = {"comments": comments, "label_comments": label_comments}
    return collapse_blank_lines(_render("report.md.jinja", benchmark, **texts, **writers))


def report_html(
    benchmark: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    comments: Mapping[str, Sequence[Comment]],
    label_comments: Mapping[str, Sequence[Comment]] = MappingProxyType({}),
) -> str:
    """Render `report.html`: one file, pictures and style included, that needs no script and no network.

    Jinja escapes whatever is markup in untrusted text, and `printable` shows control characters as escapes. Takes the
    arguments of `report_markdown`.
    """

    def code(text: str, width: int = SHOWN_CHARACTERS) -> Markup:
        return Markup("<code>{}</code>").format(printable(text, width))

    sources = {name: f"data:image/png;base64,{base64.b64encode(data).decode()}" for name, data in pictures.items()}
    texts = {"comments": comments, "label_comments": label_comments}
    writers = {"code": code, "cell": partial(code, width=QUOTED_CHARACTERS), "figures": FIGURES, "sources": sources}
    return _render("report.html.jinja", benchmark, **texts, **writers)


def calibration_sentences(benchmark: Mapping[str, Any], code: Callable[[str], str]) -> TemplateModule:
    """The sentences on calibration and thresholds, for the model card; `code` makes names a code span."""
    context = {
        "calibration": benchmark.get("calibration"),
        "labels": label_tables.several_labels(benchmark["metrics"]),
        "tables": tables,
        "code": code,
    }
    return _environment(autoescape=False).get_template("sentences.jinja").make_module(context)


def _environment(autoescape: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _render(template: str, benchmark: Mapping[str, Any], **context: Any) -> str:
    environment = _environment(autoescape=template == "report.html.jinja")
    published, metrics = published_rows(), benchmark["metrics"]
    return environment.get_template(template).render(
        benchmark=benchmark,
        protocol=benchmark["protocol"],
        metrics=metrics,
        labels=label_tables.several_labels(metrics),
        bias=metrics.get("bias"),
        undefined=metrics.get("undefined") or {},
        calibration=benchmark.get("calibration"),
        probe=benchmark.get("probe"),
        robustness=benchmark.get("robustness"),
        eval_files=benchmark.get("eval_files") or {},
        copies=benchmark.get("counterfactuals"),
        published=published,
        reference_model=REFERENCE["protocol"]["model"],
        same_protocol=any(not differing_keys(benchmark, row) for row in published),
        tables=tables,
        label_tables=label_tables,
        further_tables=further_tables,
        HOW_MANY_WOULD_DO=HOW_MANY_WOULD_DO,
        LABEL_PRECISION_TARGET=LABEL_PRECISION_TARGET,
        benchmark_table=benchmark_table,
        mean_auc=mean_auc,
        over_labels=over_labels,
        summarise_probe=summarise_probe,
        probe_table=probe_table,
        explain_probe=explain_probe,
        explain_trained_terms=explain_trained_terms,
        h_mm_ss=h_mm_ss,
        UNDEFINED=UNDEFINED,
        SHOWN_COMMENT_CHARACTERS=SHOWN_COMMENT_CHARACTERS,
        **context,
    )
