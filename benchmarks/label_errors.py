"""How many wrong labels an audit finds: 2 % of 4,000 comments of the sample get the other label, and are looked for.

    accelerate launch --config_file accelerate_configs/cpu.yaml -m benchmarks.label_errors --output runs/audit

Its trainings are those of `python -m toxicity.audit --folds 4` with the sample recipe. The same command goes on where
it was interrupted. The last line is a JSON object: `found`, the share of the flipped labels that is in the first 5 % of
the list, and `found_twice_as_many`, the share that is in its first rows, twice as many as were flipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from toxicity.core.schema import ID, TARGET, TEXT, hard_labels
from toxicity.data.sources import read_sample

COMMENTS, FLIPPED_SHARE, READ_SHARE = 4_000, 0.02, 0.05


def main() -> None:
    """Flip, audit, and count."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_errors", description=main.__doc__)
    parser.add_argument("--output", required=True, type=Path, help="folder for the comments and the audit")
    parser.add_argument("--folds", default="4")
    parser.add_argument("--seed", type=int, default=0, help="of the comments and of the flips")
    own = parser.parse_args()
    own.output.mkdir(parents=True, exist_ok=True)
    comments = own.output / "flipped.parquet"
    flipped = write_flipped(comments, own.seed)
    command = ["-m", "toxicity.audit", "--train_file", comments, "--folds", own.folds, "--output", own.output / "audit"]
    subprocess.run([sys.executable, *map(str, command)], check=True)
    with (own.output / "audit" / "label_errors.csv").open(encoding="utf-8", newline="") as file:
        listed = [int(row[ID]) for row in csv.DictReader(file)]
    first = {"found": round(READ_SHARE * COMMENTS), "found_twice_as_many": 2 * len(flipped)}
    print(json.dumps({name: len(flipped.intersection(listed[:rows])) / len(flipped) for name, rows in first.items()}))


def write_flipped(path: Path, seed: int) -> set[int]:
    """Write comments with some labels turned over to a parquet file, and return the ids of these."""
    rng = np.random.default_rng(seed)
    sample = read_sample().table
    sample = sample.take(rng.choice(len(sample), COMMENTS, replace=False))
    flipped = rng.choice(COMMENTS, round(FLIPPED_SHARE * COMMENTS), replace=False)
    labels = hard_labels(sample[TARGET].to_numpy()).astype(np.int8)
    labels[flipped] = 1 - labels[flipped]
    columns = {ID: np.arange(COMMENTS), TEXT: sample[TEXT], TARGET: labels}
    pyarrow.parquet.write_table(pa.table(columns), path)
    return set(flipped.tolist())


if __name__ == "__main__":
    main()
