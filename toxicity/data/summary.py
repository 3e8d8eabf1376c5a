"""The summary of the data that `--dry_run` prints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from toxicity.core.schema import ID, IDENTITIES, SUBTYPES, TARGET, TEXT, TOXIC_THRESHOLD, label_column
from toxicity.data.sources import Splits
from toxicity.data.tokenization import Tokens


def summarize_data(splits: Splits, train: Tokens, validation: Tokens, max_seq_length: int) -> str:
    """Rows, labels, lengths, duplicates, identities, what is not used, and token cache, as lines for people.

    `train` and `validation` are the tokens of both splits, truncated to `max_seq_length`.
    """
    tables = [split.with_format("arrow")[:] for split in (splits.train, splits.validation)]
    # Without the ids, which may be numbers in one split and text in the other.
    both = pa.concat_tables([table.drop_columns(ID) for table in tables])
    lines = [f"Source: {splits.source}"]
    for name, table, tokens in zip(("Train", "Validation"), tables, (train, validation), strict=True):
        lengths = tokens.lengths
        percentiles = ", ".join(f"{p} %: {np.percentile(lengths, p):.0f}" for p in (5, 25, 50, 75, 95, 99, 100))
        lines += [
            f"{name}: {len(table):,} rows, {_share(_toxic(table[TARGET]), len(table))} toxic",
            *_labels(table, splits.labels),
            f"  tokens: {lengths.sum():,}, {lengths.mean():.1f} a comment; percentiles {percentiles}",
            f"  cut at {max_seq_length} tokens: {_share(tokens.cut_rows, len(table))}",
            f"  cache {'hit' if tokens.cache_hit else 'made'}: {tokens.folder}, {tokens.bytes_on_disk / 2**20:.1f} MiB",
        ]
    if splits.counterfactuals is not None:
        copies = splits.counterfactuals
        lines.append(
            f"Copies with another group, among those to train on: {len(copies.originals):,}; "
            f"comments that name a group: {copies.comments:,}"
        )
    for name, split in splits.eval_files.items():
        table = split.with_format("arrow")[:]
        lines.append(
            f"Judged on in the end: {name}: {len(table):,} rows, {_share(_toxic(table[TARGET]), len(table))} toxic"
        )
        lines += _labels(table, splits.labels)
    shared = pc.sum(pc.is_in(tables[1][TEXT], value_set=tables[0][TEXT].combine_chunks())).as_py()
    lines += [
        f"Texts that were there before: {_share(len(both) - pc.count_distinct(both[TEXT]).as_py(), len(both))}",
        f"Validation texts that are also trained on: {_share(shared, len(tables[1]))}",
    ]
    lines += [f"Left out: {rows:,} rows: {reason}" for reason, rows in splits.dropped_rows.items()]
    lines += [f"Not used: {name}: {reason}" for name, reason in splits.absent.items()]
    for kind, names in (("Subtypes", SUBTYPES), ("Identities", IDENTITIES)):
        annotated = [name for name in names if both[name].null_count < len(both)]
        lines.append(f"{kind} (rows with a value, of them at >= {TOXIC_THRESHOLD}):{'' if annotated else ' none'}")
        lines += [f"  {name}: {len(both) - both[name].null_count:,}, {_toxic(both[name]):,}" for name in annotated]
    return "\n".join(lines)


def _labels(table: pa.Table, labels: Sequence[str]) -> list[str]:
    """A line for each of several labels."""
    if len(labels) == 1:
        return []
    columns = zip(labels, map(table.column, [TARGET, *map(label_column, labels[1:])]), strict=True)
    counts = [(name, len(column) - column.null_count, _toxic(column)) for name, column in columns]
    return [
        f"  label {name}: {rows:,} rows with a value, {_share(toxic, rows)} of them at >= {TOXIC_THRESHOLD}"
        for name, rows, toxic in counts
    ]


def _toxic(column: pa.ChunkedArray) -> int:
    return pc.sum(pc.greater_equal(column, TOXIC_THRESHOLD)).as_py() or 0


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / max(whole, 1):.2%})"
