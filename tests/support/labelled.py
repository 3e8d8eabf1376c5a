"""Comments with several labels, as in the competitions of 2018 and 2019: each label goes by a word of its own."""

import random
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from builders import CIVIL_WORDS

from toxicity.core.schema import IDENTITIES

LABELS_2018 = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
# Names in the file of 2019, whose first label is the column `target`.
LABELS_2019 = ("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")

# The word that says it, and of which rows it is true: all numbers that leave this remainder.
_SIGNS = {
    "toxic": ("rotten", 4, 0),
    "severe": ("worthless", 12, 4),
    "obscene": ("filthy", 8, 0),
    "identity": ("liar", 12, 8),
    "insult": ("stupid", 8, 4),
    "threat": ("shut", 16, 4),
    "sexual": ("idiot", 16, 8),
}
_KINDS_2018 = ("toxic", "severe", "obscene", "threat", "insult", "identity")
_KINDS_2019 = tuple(_SIGNS)


def _holds(kind: str, row: int) -> bool:
    _, every, remainder = _SIGNS[kind]
    return row % every == remainder


def _comments(rows: int, rng: random.Random) -> list[str]:
    """Civil words with the sign of each label that holds somewhere among them."""
    comments = []
    for row in range(rows):
        signs = [word for kind, (word, *_) in _SIGNS.items() if _holds(kind, row)]
        words = rng.choices(CIVIL_WORDS, k=rng.randint(3, 20)) + signs
        rng.shuffle(words)
        comments.append(" ".join(words))
    return comments


def jigsaw2018(rows: int, seed: int = 0, missing: float = 0.0) -> pa.Table:
    """A table like the `train.csv` of 2018: `id`, `comment_text`, and `LABELS_2018` as 0 or 1, int64.

    One row in four is toxic, and each other label holds in one of 8 to 16, so that 60 rows have all of them. Of the
    labels a share of `missing` is null, but never all of a row.
    """
    rng = random.Random(seed)
    labels = {
        name: [int(_holds(kind, row)) for row in range(rows)]
        for name, kind in zip(LABELS_2018, _KINDS_2018, strict=True)
    }
    columns = {"id": [f"{row:016x}" for row in range(rows)], "comment_text": _comments(rows, rng)}
    return pa.table(columns | _with_gaps(labels, missing, rng))


def jigsaw2018_test(rows: int, seed: int = 1, unscored: int = 3) -> tuple[pa.Table, pa.Table]:
    """Tables like `test.csv` (`id`, `comment_text`) and `test_labels.csv` (`id`, labels) of 2018.

    Every row whose number `unscored` divides is -1 in all labels, as nobody scored it; the ids are no numbers of
    `jigsaw2018`.
    """
    table = jigsaw2018(rows, seed)
    ids = pa.array([f"f{row:015x}" for row in range(rows)])
    labels = {
        name: [-1 if row % unscored == 0 else value for row, value in enumerate(table[name].to_pylist())]
        for name in LABELS_2018
    }
    return pa.table({"id": ids, "comment_text": table["comment_text"]}), pa.table({"id": ids, **labels})


def jigsaw2019(rows: int, seed: int = 0, missing: float = 0.0) -> pa.Table:
    """A table like the `train.csv` of 2019, with the columns that this package reads.

    `id` int64; `target` and the six subtypes float64, the share of annotators, of whom there are four to ten; the nine
    identities, null in about three rows of four; and both numbers of annotators. The labels hold in the same rows
    as in `jigsaw2018`, and so does `missing` mean the same.
    """
    rng = random.Random(seed)
    comments = _comments(rows, rng)
    counts = [rng.randint(4, 10) for _ in range(rows)]
    labels = {
        "target" if name == "toxicity" else name: [
            (rng.randint((n + 1) // 2, n) if _holds(kind, row) else rng.randint(0, (n - 1) // 2)) / n
            for row, n in enumerate(counts)
        ]
        for name, kind in zip(LABELS_2019, _KINDS_2019, strict=True)
    }
    annotated = [rng.random() < 0.25 for _ in range(rows)]
    identities = {
        name: [rng.choice([0.0, 0.0, 0.2, 0.6, 1.0]) if known else None for known in annotated] for name in IDENTITIES
    }
    labels = _with_gaps(labels, missing, rng)
    columns = {"id": [59_848 + row for row in range(rows)], "target": labels.pop("target"), "comment_text": comments}
    columns |= {name: pa.array(values, pa.float64()) for name, values in (labels | identities).items()}
    columns["identity_annotator_count"] = [4 if known else 0 for known in annotated]
    return pa.table(columns | {"toxicity_annotator_count": counts})


def _with_gaps(labels: dict[str, list], missing: float, rng: random.Random) -> dict[str, list]:
    if not missing:
        return labels
    kept = [rng.choice([*labels]) for _ in next(iter(labels.values()))]
    return {
        name: [value if name == kept[row] or rng.random() >= missing else None for row, value in enumerate(values)]
        for name, values in labels.items()
    }


def write_table(path: Path, table: pa.Table, columns: Sequence[str] | None = None) -> Path:
    """Write a table, or some columns of it, as CSV, JSON lines or parquet, as the name ends; null is an empty cell."""
    table = table if columns is None else table.select(columns)
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
        return path
    frame = pd.DataFrame({name: pd.Series(table[name].to_pylist(), dtype=object) for name in table.column_names})
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_json(path, orient="records", lines=True)
    return path
