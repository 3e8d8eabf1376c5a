"""What `benchmarks.serve` measures, each in a process of its own.

    python -m benchmarks.serve_contenders loop FOLDER --model runs/sample              # prints one JSON line
    python -m benchmarks.serve_contenders alone FOLDER --model runs/sample --port 8000

`loop`: the Scorer, all texts of `FOLDER/texts.json` in one call; it writes their scores to `FOLDER/expected.npy`.
`one`: the Scorer, called with one text at a time. `server`: the service. `alone`: the service, which scores
each text alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.scoring_task import timed


def score_texts(folder: Path, model: str, alone: bool) -> dict[str, float]:
    """Score all texts in one call, or every fourth alone, once they were, which compiles what their shapes need.

    Returns:
        `seconds` that it takes, and how many texts were `answered`.
    """
    from toxicity.hardware.process import prepare_process

    prepare_process(scoring=True)
    from toxicity.predict.scorer import Scorer

    texts, scorer = json.loads((folder / "texts.json").read_text()), Scorer(model)
    calls = [[text] for text in texts[::4]] if alone else [texts]
    for call in calls:
        scores = scorer(call)
    seconds, _ = timed(lambda: [scorer(call) for call in calls])
    if not alone:
        np.save(folder / "expected.npy", scores)
    return {"seconds": seconds, "answered": sum(map(len, calls))}


def serve(model: str, port: int, alone: bool) -> None:
    """The service; `alone`: in batches of one text."""
    from toxicity.serve import __main__, batcher

    if alone:
        batcher.CPU_TOKENS, batcher.STREAMS = 0, 1
    __main__.main(["--model", model, "--port", str(port)])


def main() -> None:
    """Run a contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("loop", "one", "server", "alone"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    if arguments.name in ("loop", "one"):
        print(json.dumps(score_texts(arguments.folder, arguments.model, arguments.name == "one")))
    else:
        serve(arguments.model, arguments.port, arguments.name == "alone")


if __name__ == "__main__":
    main()
