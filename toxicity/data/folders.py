"""Which files of a folder are data: one rule, for training, for scoring, and for folders in archives."""

from __future__ import annotations

from fnmatch import fnmatch

from datasets.data_files import FILES_TO_IGNORE

# Files beside the data of a dataset that describe it, besides those that `datasets` itself knows, and what
# `Dataset.map` leaves there; and the one that `toxicity.predict` writes beside scores.
DESCRIPTIONS = {
    *FILES_TO_IGNORE,
    *("state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "manifest.json"),
}
CACHED_ARROW = "cache-*.arrow"


def is_skipped(name: str, wants_hidden: bool = False) -> bool:
    """Whether a file in a folder is no data, going by its path below the folder; one that is named itself is read.

    Jupyter keeps copies in `.ipynb_checkpoints/`, Spark and Hive ignore names like `_SUCCESS` and `_delta_log/`, and
    `datasets` files like `dataset_infos.json`. With `wants_hidden` names may begin with `.` or `_`.
    """
    *_, file = parts = name.split("/")
    hidden = not wants_hidden and any(part.startswith((".", "_")) and part not in (".", "..") for part in parts)
    return hidden or file in DESCRIPTIONS or fnmatch(file, CACHED_ARROW)
