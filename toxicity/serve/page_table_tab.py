"""The part of the page that scores a table, uploaded or pasted, with progress and a download."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from toxicity.serve.errors import ApiError
from toxicity.serve.page_table import Rows, TableError, as_csv, cells, columns_of, header, read_rows

ROWS_AT_ONCE = 64
ROWS_SHOWN = 100
# How often a part of a table is tried again while others fill the queue, and the seconds in between at most.
MOST_TRIES = 10
LONGEST_WAIT = 10.0
# In the browser, when no progress is on its way any more that would be shown over it.
STOPPED_WITHIN_PROGRESS = "told => told.includes('<progress') ? '<p role=status>Stopped.</p>' : told"

Score = Callable[[Sequence[str]], np.ndarray]


def table_tab(score: Score, labels: Sequence[str], thresholds: Mapping[str, float]) -> None:
    """Add it to the block that is open.

    Args:
        score: texts → float64 `(texts, labels)`, probabilities; may raise `ApiError`.
        labels: the main one first.
        thresholds: label → probability from which on a comment has it.
    """
    names = header(labels, thresholds)
    shown = [number for number, name in enumerate(names) if number < 4 or name in labels]
    with gr.Row():
        with gr.Column():
            file = gr.File(label="CSV file, with a header", file_count="single", elem_id="file", height=140)
            pasted = gr.Textbox(
                label="Or paste rows", placeholder="id,text\n1,Thank you", lines=4, max_lines=8, elem_id="pasted"
            )
        with gr.Column():
            column = gr.Dropdown(
                label="Column of the comments",
                info="Found out by its name, such as text or comment_text, where it can be.",
                choices=[],
                value=None,
                allow_custom_value=True,  # Gradio would print any other one
                elem_id="column",
            )
            every_line = gr.Checkbox(label="There is no header: every line is a comment", elem_id="every-line")
            with gr.Row():
                button = gr.Button("Score the table", variant="primary", elem_id="score-table")
                stop = gr.Button("Stop", elem_id="stop")
            status = gr.HTML("<p role=status></p>", elem_id="status")
            download = gr.DownloadButton("Download as CSV", interactive=False, elem_id="download")
    preview = gr.Dataframe(
        label=f"Scores, of the first {ROWS_SHOWN} rows",
        headers=[names[number] for number in shown],
        column_widths=["90px", "340px", *["125px"] * (len(shown) - 2)],
        type="array",
        interactive=False,
        wrap=True,
        max_height=400,
        visible=False,
        elem_id="preview",
    )

    def content(path: str | None, text: str | None) -> bytes:
        if path:
            return Path(path).read_bytes()
        if not (text or "").strip():
            raise TableError("Choose a CSV file, or paste rows, first.")
        return text.encode("utf-8", "replace")

    def uploaded(path: str) -> Any:
        found, likely = columns_of(content(path, None))
        return gr.update(choices=[*dict.fromkeys(found)], value=likely)

    def typed(text: str) -> Any:
        found = columns_of(content(None, text))[0] if text.strip() else []
        return gr.update(choices=[*dict.fromkeys(found)])

    def scored(path: str | None, text: str | None, chosen: str | None, lines: bool) -> Iterator[tuple[Any, ...]]:
        # What stood there belongs to another table.
        yield "<p role=status></p>", gr.update(visible=False), gr.update(interactive=False)
        rows = read_rows(content(path, text), chosen, lines)
        good = [row for row in range(len(rows.texts)) if row not in rows.reasons]
        scores = np.full((len(rows.texts), len(labels)), np.nan)
        for start in range(0, len(good), ROWS_AT_ONCE):
            yield _progress(start, len(good)), gr.skip(), gr.skip()
            part = good[start : start + ROWS_AT_ONCE]
            scores[part] = _patiently(score, [rows.texts[row] for row in part])
        table = cells(rows, scores, labels, thresholds)
        path = gr.processing_utils.save_bytes_to_cache(as_csv(names, table), "scores.csv", download.GRADIO_CACHE)
        first = [[_cell(line[number]) for number in shown] for line in table[:ROWS_SHOWN]]
        yield (
            _summary(rows, scores[:, 0], thresholds[labels[0]]),
            gr.update(value=first, visible=True),
            gr.update(value=path, interactive=True),
        )

    private: dict[str, Any] = {"api_visibility": "private"}
    file.upload(uploaded, file, column, show_progress="hidden", **private)
    file.clear(lambda: None, None, column, show_progress="hidden", **private)
    pasted.blur(typed, pasted, column, show_progress="hidden", **private)
    event = button.click(
        scored,
        [file, pasted, column, every_line],
        [status, preview, download],
        concurrency_limit=2,
        show_progress="hidden",  # it is in the status, and Gradio's own would call a stop an error
        **private,
    )
    stop.click(None, cancels=[event], queue=False, **private)
    event.then(None, status, status, js=STOPPED_WITHIN_PROGRESS, queue=False, show_progress="hidden", **private)


def _patiently(score: Score, texts: Sequence[str]) -> np.ndarray:
    """Scores of a part of a table; while the queue is full, it waits as long as it is told to."""
    for _ in range(MOST_TRIES):
        try:
            return score(texts)
        except ApiError as error:
            if error.code != 429:
                raise
            time.sleep(min(retry_seconds(error), LONGEST_WAIT))
    return score(texts)


def retry_seconds(error: ApiError) -> float:
    """When to try again, in seconds, after an error of code 429."""
    return float(error.headers.get("Retry-After", 1))


def _progress(done: int, count: int) -> str:
    return (
        f'<p role=status>Scored {done:,} of {count:,} comments.<br><progress max="{count}" value="{done}" '
        'style="width: 100%"></progress></p>'
    )


def _summary(rows: Rows, scores: np.ndarray, threshold: float) -> str:
    scored = ~np.isnan(scores)
    toxic = int((scores[scored] >= threshold).sum())
    share = f" ({100 * toxic / scored.sum():.1f} %)" if scored.any() else ""
    text = f"Scored {scored.sum():,} comments: {toxic:,} toxic{share}."
    if rows.reasons:
        row, reason = next(iter(rows.reasons.items()))
        text += f" {len(rows.reasons):,} rows have no score, the first is row {row + 1:,}: {escape(reason)}."
    if rows.doubtful_header:
        text += (
            f" The first line, <q>{escape(rows.doubtful_header)}</q>, was taken for the header: if it is a comment, "
            "tick that there is none."
        )
    if rows.encoding:
        text += (
            f" The table was read as {rows.encoding}, as it is not UTF-8; where letters are wrong, save it as UTF-8."
        )
    return f"<p role=status>{text}</p>"


def _cell(value: object) -> object:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else value
