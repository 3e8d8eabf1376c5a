"""Serve a model over HTTP.

python -m toxicity.serve --model runs/sample
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from toxicity.core.errors import refusals_exit_cleanly
from toxicity.serve.settings import Settings


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, load the model, and answer until the process is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m toxicity.serve")
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    settings = Settings(**vars(parser.parse_args(argv)))

    import uvicorn

    from toxicity.hardware.process import prepare_process
    from toxicity.predict.scorer import Scorer
    from toxicity.serve import batcher
    from toxicity.serve.app import create_app
    from toxicity.serve.batcher import Batcher
    from toxicity.serve.service import Service

    prepare_process(scoring=True)
    scorer = Scorer(settings.model, streams=batcher.STREAMS)
    uvicorn.run(create_app(Service(settings, scorer, Batcher(scorer))), host=settings.host, port=settings.port)


if __name__ == "__main__":
    with refusals_exit_cleanly():
        main()
