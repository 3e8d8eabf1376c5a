import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from toxicity.data.token_dataset import TokenRows


def test_tokens_come_out_of_arrow_as_they_are():
    first, second = (
        Dataset.from_dict({"input_ids": ids, "length": list(map(len, ids))})
        for ids in ([[1, 2, 3], [4]], [[5, 6], [7, 8, 9, 10], [11]])
    )
    rows = TokenRows(concatenate_datasets([first, second]))
    assert len(rows) == 5
    assert rows.lengths.tolist() == [3, 1, 2, 4, 1]
    assert rows.targets == {}
    assert [ids.tolist() for ids in rows.tokens_of([3, 0, 4])] == [[7, 8, 9, 10], [1, 2, 3], [11]]
    some = TokenRows(concatenate_datasets([first, second]).select([4, 2, 0]))
    assert [ids.tolist() for ids in some.tokens_of([0, 1, 2])] == [[11], [5, 6], [1, 2, 3]]
    assert not rows.tokens_of([2])[0].flags.owndata, "a view, not a copy"


def test_rows_that_were_tokenised_a_moment_ago():
    rows = TokenRows.from_lists([[1, 2], [3]])
    assert rows.lengths.tolist() == [2, 1]
    assert [ids.tolist() for ids in rows.tokens_of([1, 0])] == [[3], [1, 2]]


def test_rows_of_a_table():
    table = pa.table({"input_ids": [[1, 2], [3]], "length": [2, 1], "labels": [0.0, 1.0]})
    rows = TokenRows(pa.concat_tables([table, table]))
    assert [ids.tolist() for ids in rows.tokens_of([3, 0])] == [[3], [1, 2]]
    assert rows.lengths.tolist() == [2, 1, 2, 1]
    assert rows.targets["labels"].tolist() == [0, 1, 0, 1]
