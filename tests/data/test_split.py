import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from toxicity.data.split import published_split, split_sizes


@pytest.mark.parametrize(
    ("rows", "most", "sizes"),
    [
        (120, (None, None), (80, 40)),
        (120, (50, None), (50, 25)),
        (120, (None, 20), (100, 20)),
        (120, (80, 40), (80, 40)),
        (120, (400, 200), (80, 40)),
        (1, (None, None), (1, 0)),
    ],
)
def test_sizes(rows, most, sizes):
    assert split_sizes(rows, *most) == sizes


@pytest.mark.parametrize(("rows", "train", "validation"), [(10, 6, 4), (1000, 400, 200), (180_487, 100_000, 50_000)])
def test_the_draw_is_that_of_pandas(rows, train, validation):
    expected = pd.DataFrame({"row": range(rows)}).sample(train + validation, random_state=1234)["row"].to_numpy()
    first, rest = published_split(rows, train, validation)
    np.testing.assert_array_equal(first, expected[:train])
    np.testing.assert_array_equal(rest, expected[train:])


def test_rows_of_one_text_stay_together_and_none_is_lost():
    texts = pa.chunked_array([[f"text {row % 950}" for row in range(1000)]])
    train, validation = published_split(1000, 600, 400, keep_together=texts)
    assert not {row % 950 for row in train} & {row % 950 for row in validation}
    assert sorted([*train, *validation]) == list(range(1000))
    assert 600 <= len(train) < 650
