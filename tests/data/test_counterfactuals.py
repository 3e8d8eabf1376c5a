import logging

import numpy as np
import pyarrow as pa
import pytest
from builders import write_csv

from toxicity.core.arguments import DataArguments
from toxicity.core.errors import RequestError
from toxicity.core.schema import ID, IDENTITIES, SUBTYPES, TARGET, TEXT
from toxicity.data import counterfactuals
from toxicity.data.identity_terms import read_identity_terms
from toxicity.data.sources import load_splits
from toxicity.data.tokenization import tokenize
from toxicity.evaluation.identity_probe import fill, read_templates_and_terms

# Of each four, one names a group, one two of them, and every third comment is toxic.
TEXTS = ["the weather today", "a gay man at the bus", "black coffee and a cake", "Christians and some women"]


@pytest.fixture
def comments(tmp_path, cache_dir):
    header = ["id", "comment_text", "target", "insult", "male", "female", "christian", "muslim", "black", "white"]
    rows = [[n, f"{TEXTS[n % 4]} {n}", int(n % 3 == 0), 0.25, "", 0.5, 1, 0, "", 0.75] for n in range(120)]
    return write_csv(tmp_path / "comments.csv", header, rows)


def splits_of(comments, copies=0, seed=0, **options):
    return load_splits(DataArguments(train_file=str(comments), counterfactuals=copies, **options), seed)


def rows_of(split):
    return split.with_format("arrow")[:]


def test_copies_follow_the_rows_and_have_their_labels(comments):
    plain, splits = splits_of(comments), splits_of(comments, 2)
    known, found = splits.counterfactuals, rows_of(splits.train)
    before, copies = found[: len(plain.train)], found[len(plain.train) :]
    assert before[TEXT].equals(rows_of(plain.train)[TEXT])
    assert rows_of(splits.validation).equals(rows_of(plain.validation)), "only training rows have copies"
    assert splits.train_rows == plain.train_rows
    assert len(copies) == len(known.originals) == 2 * known.comments
    originals = before.take(pa.array(known.originals))
    for name in (TARGET, *SUBTYPES):
        assert copies[name].equals(originals[name])
    assert {id_.partition(" ")[0] for id_ in copies[ID].to_pylist()} == set(originals[ID].to_pylist())
    assert {id_.partition(" ")[2] for id_ in copies[ID].to_pylist()} == {"copy 1", "copy 2"}
    assert len(set(copies[TEXT].to_pylist())) == len(copies)
    assert not set(copies[TEXT].to_pylist()) & set(before[TEXT].to_pylist())
    assert sum(known.terms.values()) >= len(copies)


def test_they_depend_on_the_seed_alone(comments):
    one, same, other = (rows_of(splits_of(comments, 2, seed).train)[TEXT] for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)


@pytest.mark.parametrize("share", [0.5, 1, 1.5, 3])
def test_as_many_copies_as_were_asked_for(comments, share):
    known = splits_of(comments, share).counterfactuals
    of_each = np.bincount(known.originals)[np.unique(known.originals)]
    assert len(known.originals) == pytest.approx(share * known.comments, rel=0.35 if share % 1 else 0)
    assert of_each.max() == np.ceil(share)


def test_not_more_than_there_are_that_differ(tmp_path, cache_dir):
    terms = tmp_path / "terms.yaml"
    terms.write_text("groups: {cats: {pets: [[a cat, cats]]}, dogs: {pets: [[a dog, dogs]]}}")
    rows = [[f"a cat {n}" if n % 2 else f"a bird {n}", int(n % 3 == 0)] for n in range(60)]
    path = write_csv(tmp_path / "c.csv", ["text", "target"], rows)
    splits = splits_of(path, 20, identity_terms=str(terms))
    assert len(splits.counterfactuals.originals) == splits.counterfactuals.comments
    assert set(splits.counterfactuals.terms) == {"dog"}


def test_identity_columns_are_exchanged_too(comments):
    splits = splits_of(comments, 8)
    found, columns = rows_of(splits.train), ("female", "christian", "muslim", "black", "male")
    seen = set()
    first = len(found) - len(splits.counterfactuals.originals)
    for row in found[first:].to_pylist():
        seen.add((row[TEXT].rpartition(" ")[0], *(row[name] for name in columns)))
    # Before: female 0.5, christian 1, muslim 0, black null, male null.
    assert ("Muslims and some women", 0.5, 0, 1, None, None) in seen
    assert ("Christians and some men", None, 1, 0, None, 0.5) in seen
    # A group without a column: nobody said whether the other is still meant.
    assert ("Hindus and some women", 0.5, None, 0, None, None) in seen
    assert rows_of(splits.train).schema.field("female").type == pa.float32()


def test_identities_that_nobody_said_stay_null(tmp_path, cache_dir):
    path = write_csv(tmp_path / "c.csv", ["text", "target"], [[f"gay men {n}", n % 2] for n in range(30)])
    found = rows_of(splits_of(path, 1).train)
    assert all(found[name].null_count == len(found) for name in IDENTITIES)


def test_several_labels_are_copied(tmp_path, cache_dir):
    rows = [[f"gay men {n}", n % 2, "" if n % 5 == 0 else n % 3 == 0] for n in range(60)]
    path = write_csv(
        tmp_path / "c.csv", ["text", "toxic", "insult"], [[t, a, b if b == "" else int(b)] for t, a, b in rows]
    )
    splits = splits_of(path, 1, label_column_names=["toxic", "insult"])
    found, first = rows_of(splits.train), len(splits.train) - len(splits.counterfactuals.originals)
    originals = found.take(pa.array(splits.counterfactuals.originals))
    for name in (TARGET, "label insult"):
        assert found[name][first:].equals(originals[name])


def test_they_are_counted_in_the_log(comments, caplog):
    with caplog.at_level(logging.INFO, "toxicity"):
        splits = splits_of(comments, 2)
    known = splits.counterfactuals
    rows = (
        f"Training on {len(splits.train) - len(known.originals):,} comments and {len(known.originals):,} copies of them"
    )
    assert rows in caplog.text


def test_data_without_any_term_are_refused(tmp_path, cache_dir):
    path = write_csv(tmp_path / "c.csv", ["text", "target"], [[f"black coffee {n}", n % 2] for n in range(30)])
    with pytest.raises(RequestError, match="none of the 20 training comments names a group of people .*identity_terms"):
        splits_of(path, 3)


def test_a_share_of_which_no_copy_comes_is_told_as_such(comments):
    with pytest.raises(RequestError, match="0.001 comes to no copy of the .* comments that name a group: give more"):
        splits_of(comments, 0.001)


def test_they_have_tokens_of_their_own(comments, tokenizer, cache_dir):
    plain, copied = (tokenize(splits_of(comments, copies).train, tokenizer, 32) for copies in (0, 1))
    assert plain.folder != copied.folder
    assert len(copied.dataset) > len(plain.dataset)
    assert tokenize(splits_of(comments, 1).train, tokenizer, 32).cache_hit
    assert not tokenize(splits_of(comments, 1, seed=5).train, tokenizer, 32).cache_hit


def test_blocks_change_nothing(comments, monkeypatch):
    whole = splits_of(comments, 2)
    monkeypatch.setattr(counterfactuals, "ROWS_PER_COPY", 7)
    blocks = splits_of(comments, 2)
    assert rows_of(whole.train).equals(rows_of(blocks.train))
    assert whole.counterfactuals.originals.tolist() == blocks.counterfactuals.originals.tolist()


def test_no_sentence_of_the_probe_is_made():
    templates, terms = read_templates_and_terms()
    probe = {fill(template, term) for template in templates for term in terms}
    # A comment of a template's words would be one; none comes from anywhere else.
    assert not any(fill(templates[0], term) in TEXTS for term in terms)
    known = read_identity_terms()
    for text in TEXTS:
        mentions = known.mentions(text)
        for pair in known.exchanges(mentions):
            assert known.exchanged(text, mentions, pair, lambda found: found[0])[0] not in probe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counterfactuals": -1.0}, "--counterfactuals is -1; it is the number of copies"),
        ({"counterfactuals": 1000.0}, "--counterfactuals is 1000"),
        ({"counterfactuals": float("nan")}, "--counterfactuals is nan"),
        ({"identity_rows": 1.0}, "--identity_rows is 1; it is a share"),
        ({"identity_terms": "terms.yaml"}, "--identity_terms names words that nothing looks for"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        DataArguments(dataset_name="sample", **options)
