"""The page to try a model: a comment with its score and the words that drive it, tables, and the model's card.

It is mounted into the service by `page_app`, and published as a Space by `python -m toxicity.hub DIR --space NAME`.
Everything it needs comes from this machine.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder

from toxicity.predict.explain.words import Word
from toxicity.serve.errors import ApiError
from toxicity.serve.page_score import STYLE, highlighted, picture, told
from toxicity.serve.page_table import TableError
from toxicity.serve.page_table_tab import retry_seconds, table_tab

MAX_CHARACTERS = 20_000
# Seconds: how often temporary files are looked through, and from which age on they are deleted.
DELETE_CACHE = (60, 900)
# Events that wait at most; more are refused.
MOST_WAITING = 64

EXAMPLES = [
    "Thank you for the careful answer, that cleared it up.",
    "I disagree with you, and here is why.",
    "What a stupid idea. Only a fool would believe this rubbish.",
    "You are an idiot, and nobody here will miss you.",
]

NO_SCORE = "<p>The score appears here.</p>"

# Wide tables are scrolled and not squeezed.
CARD_STYLE = """
#card table { display: block; overflow-x: auto; border: 0; padding: 0; }
#card th, #card td { white-space: nowrap; }
"""

Score = Callable[[Sequence[str]], np.ndarray]
Explain = Callable[[str], list[Word]]

logger = logging.getLogger(__name__)


class Page(gr.Blocks):
    """Blocks whose errors are sentences for people, and that read no files but those that were uploaded.

    What somebody typed is not logged, as Gradio would with errors, nor kept, as it would with each visitor.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.state_session_capacity = MOST_WAITING

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> list[Any]:
        """Take what a browser sent as Gradio does, which checks paths only where it was launched and not mounted.

        It would answer with any file of this machine, and fetch any address.
        """
        require_uploads(inputs)
        return await super().preprocess_data(block_fn, inputs, *arguments, **options)

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Run an event as Gradio does, and turn every error into a `gr.Error` that it does not print."""
        fault = None
        try:
            return await super().process_api(*arguments, **options | {"state": None})
        except (gr.Error, TableError) as error:
            sentence = str(getattr(error, "message", error))
        except ApiError as error:
            sentence = _busy(error) if error.code == 429 else error.message
        except Exception as error:  # of any type, and its message may hold what was typed, or a path
            fault = type(error).__name__
            sentence = "That did not work, through a fault of the server. Others may: try another comment."
        # Not while it is handled, as it is printed with an error that the logging has, such as on a full disk.
        if fault:
            logger.error(f"An event of the page failed with {fault}.")
        # A message is markup to Gradio, and may name a column.
        raise gr.Error(escape(sentence, quote=False), title="Not scored", print_exception=False) from None


def require_uploads(data: object) -> None:
    """Raise a `gr.Error` if `data`, as a browser sent it, names a file that is none of those that were uploaded."""
    if isinstance(data, dict):
        path = data.get("path", "")
        file, folder = Path(str(path)).resolve(), Path(get_upload_folder()).resolve()
        if path and not (file.is_relative_to(folder) and file.is_file()):
            raise gr.Error("There is no such file: upload it again.")
        data = list(data.values())
    for part in data if isinstance(data, list | tuple) else ():
        require_uploads(part)


def launch_options() -> dict[str, Any]:
    """How the page looks and what it leaves out, for `gr.mount_gradio_app` and `Blocks.launch` alike."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    # Those of the theme are too pale to be read easily.
    theme.set(block_info_text_color="*neutral_600", body_text_color_subdued="*neutral_600")
    return {
        "theme": theme,
        "css": f"{STYLE} {CARD_STYLE}",
        "footer_links": [],
        "run_history": False,
        "show_error": False,
        "max_file_size": "5mb",
        "allowed_paths": [],
        "ssr_mode": False,
        "mcp_server": False,
        "enable_monitoring": False,
        "pwa": False,
    }


def build_page(described: Mapping[str, Any], score: Score, explain: Explain | None, card: str) -> gr.Blocks:
    """The page of a model.

    Args:
        described: `Service.described()`; `name`, `labels` (the main one first) and `thresholds` are used.
        score: texts → float64 `(texts, labels)`, probabilities; called in threads.
        explain: text → its words with their weights; None leaves these out.
        card: the model's card in Markdown, without metadata; empty if there is none.
    """
    labels, thresholds, name = described["labels"], described["thresholds"], described["name"]

    def one(text: str) -> str:
        return picture(score([_checked(text)])[0].tolist(), labels, thresholds)

    with Page(title=f"{name}: toxicity of comments", analytics_enabled=False, delete_cache=DELETE_CACHE) as page:
        gr.HTML(
            f"<h1>{escape(name)}</h1><p>Tells how toxic a comment is. The score is the probability that readers call "
            "it toxic, as the model estimates it; it errs at times, so let people decide.</p>"
        )
        with gr.Tab("One comment"):
            _comment(one, explain)
        with gr.Tab("A table"):
            table_tab(score, labels, thresholds)
        if card:
            with gr.Tab("The model"):
                # A picture would be fetched from elsewhere, or is none of this page's files.
                gr.Markdown(re.sub(r"!\[[^]]*\]\([^)]*\)", "", card), sanitize_html=True, elem_id="card")
    return page.queue(max_size=MOST_WAITING, default_concurrency_limit=8, api_open=False)


def _comment(one: Callable[[str], str], explain: Explain | None) -> None:
    with gr.Row():
        with gr.Column():
            text = gr.Textbox(
                label="Comment",
                info="Shift + Enter scores it, too.",
                placeholder="Type or paste a comment",
                lines=4,
                max_lines=12,
                elem_id="comment",
            )
            button = gr.Button("Score", variant="primary", elem_id="score")
            examples = gr.Examples(EXAMPLES, text, api_visibility="private", label="Or click on an example")
        with gr.Column():
            shown = gr.HTML(NO_SCORE, elem_id="result", padding=True, container=True)
            events = [(gr.on([button.click, text.submit], one, text, shown, api_visibility="private"))]
            if explain is not None:
                words = gr.HighlightedText(
                    label="Words that drive the score, red to toxic, purple to civil",
                    show_legend=False,
                    elem_id="words",
                    visible=False,
                )
                sentence = gr.HTML(elem_id="words-told", padding=False)
    events.append(examples.load_input_event.then(one, text, shown, api_visibility="private"))
    # What stood there belongs to another comment.
    for event in events:
        event.failure(lambda: NO_SCORE, None, shown, queue=False, show_progress="hidden", api_visibility="private")
    if explain is None:
        return

    def driving(comment: str) -> tuple[Any, str]:
        comment = _checked(comment)
        found = explain(comment)
        return gr.update(value=highlighted(comment, found), visible=True), told(found)

    for event in events:
        told_too = event.success(driving, text, [words, sentence], show_progress="minimal", api_visibility="private")
        for failed in (event, told_too):
            failed.failure(
                lambda: (gr.update(visible=False), ""),
                None,
                [words, sentence],
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )


def _checked(text: str | None) -> str:
    """A comment that can be scored. Halves of surrogate pairs become question marks.

    Raises:
        gr.Error: if there is none, or it is too long.
    """
    if not (text or "").strip():
        raise gr.Error("Type a comment first.")
    if len(text) > MAX_CHARACTERS:
        raise gr.Error(f"The comment has {len(text):,} characters; at most {MAX_CHARACTERS:,} can be scored here.")
    return text.encode("utf-8", "replace").decode()


def _busy(error: ApiError) -> str:
    return f"Many comments are waiting to be scored. Try again in {retry_seconds(error):.0f} s."
