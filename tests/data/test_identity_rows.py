import logging

import numpy as np
import pytest
from builders import write_csv

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import TARGET, TEXT
from toxicity.data.sources import load_splits

ROWS = 600


@pytest.fixture
def comments(tmp_path, cache_dir):
    """One comment in ten names a group, and one in three is toxic."""
    rows = [[n, f"{'gay men' if n % 10 == 0 else 'the weather'} {n}", int(n % 3 == 0)] for n in range(ROWS)]
    return write_csv(tmp_path / "comments.csv", ["id", "text", "target"], rows)


def splits_of(path, share=0, train=100, **options):
    sizes = {"max_train_samples": train, "max_eval_samples": 60}
    return load_splits(DataArguments(train_file=str(path), identity_rows=share, **(sizes | options)))


def facts(split):
    """Texts, which rows are toxic, and which are civil and name a group."""
    toxic = np.array(split[TARGET][:]) >= 0.5
    return split[TEXT][:], toxic, ~toxic & np.array(["gay" in text for text in split[TEXT]])


def test_civil_comments_that_name_a_group_take_the_place_of_others(comments, caplog):
    plain = splits_of(comments)
    with caplog.at_level(logging.INFO, "toxicity"):
        splits = splits_of(comments, 0.25)
    (before, toxic_before, named_before), (texts, toxic, named) = facts(plain.train), facts(splits.train)
    assert len(texts) == len(before) == splits.train_rows == 100
    assert named.sum() == 25
    assert (toxic == toxic_before).all(), "as many are toxic, in the same places"
    changed = [place for place in range(100) if texts[place] != before[place]]
    assert len(changed) == 25 - named_before.sum()
    assert not named_before[changed].any()
    assert named[changed].all()
    assert len(set(texts)) == 100
    assert not set(texts) & set(splits.validation[TEXT])
    assert splits.validation[TEXT][:] == plain.validation[TEXT][:]
    told = (
        f"Of 100 training rows {named_before.sum()} are civil comments that name a group of people; {len(changed)} that"
    )
    assert told in caplog.text


def test_it_is_the_same_every_time(comments):
    assert splits_of(comments, 0.25).train[TEXT][:] == splits_of(comments, 0.25).train[TEXT][:]


def test_where_there_are_enough_nothing_changes(comments):
    assert splits_of(comments, 0.01).train[TEXT][:] == splits_of(comments).train[TEXT][:]


def test_all_that_there_are_and_a_warning(comments, caplog):
    splits = splits_of(comments, 0.9)
    validated = facts(splits.validation)[2].sum()
    assert facts(splits.train)[2].sum() == 40 - validated
    assert "and more there are not, of 90 asked for" in caplog.text


def test_from_the_rest_of_a_training_file(comments, tmp_path):
    validation = write_csv(tmp_path / "v.csv", ["id", "text", "target"], [[n, f"rain {n}", n % 2] for n in range(40)])
    splits = splits_of(comments, 0.3, validation_file=str(validation))
    assert facts(splits.train)[2].sum() == 30


def test_texts_that_are_validated_on_are_not_drawn(tmp_path, cache_dir):
    rows = [[n, "gay men" if n % 4 == 0 else f"the weather {n}", int(n % 3 == 0)] for n in range(ROWS)]
    path = write_csv(tmp_path / "c.csv", ["id", "text", "target"], rows)
    before, after = facts(splits_of(path).train), facts(splits_of(path, 0.9).train)
    assert after[2].sum() == before[2].sum()


def test_bad_rows_are_neither_drawn_nor_replaced(tmp_path, cache_dir):
    texts = [f"{'gay men' if n % 4 else 'the weather'} {n}" if n % 7 else " " for n in range(ROWS)]
    path = write_csv(
        tmp_path / "c.csv", ["id", "text", "target"], [[n, t, int(n % 3 == 0)] for n, t in enumerate(texts)]
    )
    plain, splits = (splits_of(path, share, on_bad_rows="drop") for share in (0, 0.8))
    assert len(plain.train) == len(splits.train)
    assert plain.dropped_rows == splits.dropped_rows


def test_without_rows_that_are_left_over_it_is_refused(comments):
    with pytest.raises(
        RequestError, match="--identity_rows draws from rows that are not used, and all of comments.csv"
    ):
        splits_of(comments, 0.2, train=540)


def test_data_without_any_term_are_refused(tmp_path, cache_dir):
    path = write_csv(tmp_path / "c.csv", ["text", "target"], [[f"black coffee {n}", n % 2] for n in range(300)])
    with pytest.raises(RequestError, match="--identity_rows: no civil comment of c.csv names a group"):
        splits_of(path, 0.2)
