"""How soon `run_toxicity.py --help` and `--dry_run` answer, against a script that first imports all that a run needs.

    python -m benchmarks.startup [--rounds 5] [--other FOLDER]

Each contender is a process of its own, and all are interleaved. The dry run is of a tiny CSV file whose tokens are in
the cache. The last line is JSON: `help_vs_all_imports` and `dry_run_vs_all_imports`, how many times as fast each is,
and with `--other`, a checkout of another version of this project, `help_vs_other` and `dry_run_vs_other`.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.rounds import time_in_rounds
from toxicity.models.classifier import SAMPLE_MODEL

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = "run_toxicity.py"
# Imports the modules named by its first argument, then does what the script does with the others.
ALL_IMPORTS = f"""
import importlib, runpy, sys
for name in sys.argv.pop(1).split(","):
    importlib.import_module(name)
runpy.run_path("{SCRIPT}", run_name="__main__")
"""
ROWS = 60


def main() -> None:
    """Measure, and print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--other", type=Path, help="checkout of another version, measured in the same rounds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder), arguments.rounds, arguments.other)
    print("| Command | Start | Seconds |\n|---|---|---:|")
    for name, value in seconds.items():
        task, start = name.split(" ")
        print(f"| `--{task}` | {start} | {value:.2f} |")
    print(json.dumps(ratios(seconds)))


def measure(folder: Path, rounds: int, other: Path | None = None) -> dict[str, float]:
    """Median seconds of `TASK START`; a start is `own`, `all_imports`, or `other` for another checkout's."""
    comments = folder / "comments.csv"
    lines = [f"{row},{'stupid liar' if row % 3 else 'thank you'} {row},{int(row % 3 > 0)}\n" for row in range(ROWS)]
    comments.write_text("id,comment_text,target\n" + "".join(lines), encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    dry_run = ["--train_file", str(comments), "--model_name_or_path", SAMPLE_MODEL, "--dry_run"]
    tasks = {"help": ["--help"], "dry_run": [*dry_run, "--output_dir", str(folder / "run")]}
    modules = ",".join(modules_of((ROOT / SCRIPT).read_text(encoding="utf-8")))
    contenders = {}
    for task, flags in tasks.items():
        contenders[f"{task} own"] = partial(_run, [SCRIPT, *flags], ROOT, environment)
        contenders[f"{task} all_imports"] = partial(_run, ["-c", ALL_IMPORTS, modules, *flags], ROOT, environment)
        if other is not None:
            contenders[f"{task} other"] = partial(_run, [SCRIPT, *flags], other, environment)
    # Tokens, compiled Python and the files of all libraries are in caches from here on.
    for run in contenders.values():
        run()
    seconds, _ = time_in_rounds(contenders, {name: name for name in contenders}, rounds)
    return seconds


def ratios(seconds: Mapping[str, float]) -> dict[str, float]:
    """How many times as fast this start is as each other, by `TASK_vs_START`."""
    others = [name.split(" ") for name in seconds if not name.endswith(" own")]
    return {f"{task}_vs_{start}": seconds[f"{task} {start}"] / seconds[f"{task} own"] for task, start in others}


def modules_of(script: str) -> list[str]:
    """Names of all modules that a script imports from, wherever in it."""
    imports = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.ImportFrom)]
    return sorted({node.module for node in imports if node.module})


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr}")


if __name__ == "__main__":
    main()
