"""Serve a model over HTTP: scores of comments, by an API of its own and by the calls of Perspective.

    python -m toxicity.serve --model runs/sample
    python -m toxicity.serve --model USER/MODEL --host 0.0.0.0 --api_keys keys.txt --workers 2

    curl http://127.0.0.1:8000/v1/score -H 'Content-Type: application/json' -d '{"texts": ["You are kind."]}'

SIGTERM and Ctrl-C finish what is in flight. No comment, key or address that was asked for is logged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from toxicity.core.commands import CommandParser, add_model_flags
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.core.wanted import require_shares, wanted_threshold
from toxicity.serve.settings import Settings

# Modules of requirements-serve.txt.
NEEDED = ("fastapi", "uvicorn", "httptools", "prometheus_client", "gradio", "sentencex")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, load the model, and answer until the process is told to stop."""
    settings = parse_settings(argv)
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:
        raise RequestError(f"the service needs {', '.join(lacking)}: pip install -r requirements-serve.txt")
    # Imported only now, so that mistakes in the flags are reported before what takes seconds to load.
    from toxicity.serve.server import serve

    serve(settings)


def parse_settings(argv: Sequence[str] | None = None) -> Settings:
    """Parse the command line; raises `RequestError` for unknown flags and values that make no sense."""
    parser = CommandParser("toxicity.serve", __doc__)
    parser.add_argument("--model", required=True, help="folder of a run or an export, or a model on the Hub")
    add_model_flags(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; by default this machine alone calls")
    parser.add_argument("--port", type=int, default=8000, help="by default 8000; 0 for any that is free")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes, each with a model of its own and its share of the cores"
    )
    parser.add_argument(
        "--api_keys", type=Path, metavar="FILE", help="file with a key a line; callers need one of them"
    )
    parser.add_argument("--suggestions", type=Path, metavar="FILE", help="file to append suggested scores to")
    parser.add_argument(
        "--languages", nargs="+", default=["en"], metavar="CODE", help="languages that the model knows, as ISO 639-1"
    )
    parser.add_argument(
        "--cors_origins", nargs="+", default=[], metavar="ORIGIN", help="sites whose pages may call, or * for all"
    )
    parser.add_argument("--mixed_precision", choices=("no", "bf16", "fp16"), help="by default the device's fastest")
    parser.add_argument(
        "--prior", nargs="+", type=float, help="share of toxic comments among those that are scored, such as 0.02"
    )
    parser.add_argument(
        "--threshold_for", help="label at the model's threshold for this, such as 0.9, recall=0.95 or flagged=0.02"
    )
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.port <= 65535:
        raise RequestError(f"--port {arguments.port}: give a number from 0 to 65535.")
    if arguments.workers < 1:
        raise RequestError(f"--workers {arguments.workers}: give a number from 1 on.")
    for code in arguments.languages:
        if not re.fullmatch("[a-z]{2,3}(-[A-Za-z]+)?", code):
            raise RequestError(f"--languages {code}: give codes of ISO 639-1, such as en de.")
    for origin in arguments.cors_origins:
        if not re.fullmatch(r"\*|https?://[^/\s]+", origin):
            raise RequestError(f"--cors_origins {origin}: give origins such as https://example.org, or *.")
    if arguments.suggestions is not None and not arguments.suggestions.absolute().parent.is_dir():
        raise RequestError(f"--suggestions {arguments.suggestions}: make its folder first.")
    require_shares(arguments.prior)
    if arguments.threshold_for is not None:
        arguments.threshold_for = wanted_threshold(arguments.threshold_for).name
    return Settings(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in vars(arguments).items()}
    )


def command() -> None:
    """Entry point of the console script `toxicity-serve`."""
    with refusals_exit_cleanly():
        main()


if __name__ == "__main__":
    command()
