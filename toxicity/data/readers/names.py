"""Names of files: which endings can be read, and what a file is called without them."""

from __future__ import annotations

import re

CSV_ENDINGS = (".csv", ".tsv", ".tab")
TEXT_ENDINGS = (".txt",)
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
ARROW_ENDINGS = (".parquet", ".pq", ".parq", ".arrow", ".feather")
FORMATS = (*CSV_ENDINGS, *TEXT_ENDINGS, *JSON_ENDINGS, *ARROW_ENDINGS)
PACKINGS = (".gz", ".bz2", ".xz", ".zst", ".zip")

# For messages.
ENDINGS = f"{', '.join(FORMATS)} (packed too: {', '.join(PACKINGS)})"


def is_readable(name: str, in_folder: bool = False) -> bool:
    """Whether the ending of a file's name is that of a format that can be read.

    Args:
        name: with or without folders.
        in_folder: whether the file was found in a folder, and not named: a `.txt` file beside data is rarely data.
    """
    inner = without_packing(name)
    if inner != name and name.lower().endswith(".zip") and not inner.lower().endswith(TEXT_ENDINGS):
        return True  # its files have names of their own
    return inner.lower().endswith(FORMATS) and not (in_folder and inner.lower().endswith(TEXT_ENDINGS))


def has_types(address: str) -> bool:
    """Whether a file's format, going by its name, tells numbers from text; in CSV all values are text.

    Args:
        address: a path or a URL, also a chain of URLs with `::` between them.
    """
    parts = re.split(r"::|[?#]", address)
    return any(without_packing(part).lower().endswith((*JSON_ENDINGS, *ARROW_ENDINGS)) for part in parts)


def stem_of(name: str) -> str:
    """A name without the ending of its format and packing: `folder/train.csv.zip` → `folder/train`."""
    inner = without_packing(name)
    ending = next((ending for ending in FORMATS if inner.lower().endswith(ending)), "")
    return inner[: len(inner) - len(ending)]


def without_packing(name: str) -> str:
    """A name without the ending of its packing: `train.csv.gz` → `train.csv`."""
    ending = next((ending for ending in PACKINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
