"""`report.md` and `report.html`, rendered from the Jinja templates beside this module."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from toxicity.bench.runs import REFERENCE, benchmark_table, differing_keys, published_rows
from toxicity.core.console import SHOWN_CHARACTERS, h_mm_ss, printable
from toxicity.core.markdown import UNDEFINED, code_span, collapse_blank_lines, markdown_table
from toxicity.evaluation.identity_probe import explain_probe, probe_table, summarise_probe
from toxicity.report import tables
from toxicity.report.figures import FIGURES

# Enough of a comment to see why the model scored it as it did.
SHOWN_COMMENT_CHARACTERS = 400


class Comment(NamedTuple):
    """A validation comment with its label and the model's score, 0 to 1."""

    id: Any
    text: str
    toxic: bool
    score: float


def report_markdown(
    benchmark: Mapping[str, Any], pictures: Mapping[str, bytes], comments: Mapping[str, Sequence[Comment]]
) -> str:
    """Render `report.md`. Names of models and data, ids and comments are untrusted: they go into code spans.

    Args:
        benchmark: of `build_benchmark`; what is missing in it or None is left out or shown as undefined.
        pictures: the PNG files that were drawn, by their names in `FIGURES`.
        comments: by heading, such as `Most toxic`.
    """

    def figure(name: str) -> str:
        return f"![{FIGURES[name].title}]({name})" if name in pictures else ""

    writers = {"code": code_span, "figure": figure, "table": lambda table: markdown_table(*table)}
    return collapse_blank_lines(_render("report.md.jinja", benchmark, comments=comments, **writers))


def report_html(
    benchmark: Mapping[str, Any], pictures: Mapping[str, bytes], comments: Mapping[str, Sequence[Comment]]
) -> str:
    """Render `report.html`: one file, pictures and style included, that needs no script and no network.

    Jinja escapes whatever is markup in untrusted text, and `printable` shows control characters as escapes. Takes the
    arguments of `report_markdown`.
    """

    def code(text: str, width: int = SHOWN_CHARACTERS) -> Markup:
        return Markup("<code>{}</code>").format(printable(text, width))

    sources = {name: f"data:image/png;base64,{base64.b64encode(data).decode()}" for name, data in pictures.items()}
    return _render("report.html.jinja", benchmark, comments=comments, code=code, figures=FIGURES, sources=sources)


def _render(template: str, benchmark: Mapping[str, Any], **context: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template == "report.html.jinja",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    published, metrics = published_rows(), benchmark["metrics"]
    return environment.get_template(template).render(
        benchmark=benchmark,
        protocol=benchmark["protocol"],
        metrics=metrics,
        bias=metrics.get("bias"),
        undefined=metrics.get("undefined") or {},
        calibration=benchmark.get("calibration"),
        probe=benchmark.get("probe"),
        published=published,
        reference_model=REFERENCE["protocol"]["model"],
        same_protocol=any(not differing_keys(benchmark, row) for row in published),
        tables=tables,
        benchmark_table=benchmark_table,
        summarise_probe=summarise_probe,
        probe_table=probe_table,
        explain_probe=explain_probe,
        h_mm_ss=h_mm_ss,
        UNDEFINED=UNDEFINED,
        SHOWN_COMMENT_CHARACTERS=SHOWN_COMMENT_CHARACTERS,
        **context,
    )
