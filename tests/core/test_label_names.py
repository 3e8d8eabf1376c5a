"""What labels may be called."""

import pytest

from toxicity.core.arguments import parse_arguments
from toxicity.core.errors import RequestError
from toxicity.core.label_names import LABELS_2018, require_label_names, synonyms_of


@pytest.mark.parametrize(
    "names",
    [
        ["toxic"],
        ["toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit"],
        ["label"],
        ["score", "hate"],
        ["toxicity", "toxic"],  # a file may have both
        ["toxic", "rude speech", "Häme", "脅迫"],
        ["subtypes"],
        # A file may have columns of both names.
        ["Hate Speech", "hate_speech"],
        ["a/b", "a`b"],
        ["की", "का"],
    ],
)
def test_names_of_labels(names):
    require_label_names(names)
    assert parse_arguments(["--train_file", "a.csv", "--label_column_names", *names]).data.label_column_names == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["toxic", "insult", "toxic"], "`toxic` and `toxic` cannot be told apart: name each label once"),
        (["toxic", "Toxic"], "`toxic` and `Toxic` cannot be told apart"),
        (["toxic", " toxic"], "cannot be told apart"),
        (["+", "+"], "cannot be told apart"),
        (["toxic", "black"], "a label `black` could not be told from the identity of that name"),
        (["Psychiatric or mental illness"], "could not be told from the identity"),
        (["toxic", "ID"], "`ID`, as the id of a comment is. Give the column another name"),
        (["text"], "a label cannot be called `text`, as the text of a comment is"),
        (["toxic", " "], "the name of a label is blank"),
        (["toxic", "score"], "cannot be called `score`, as that is a column of scored comments"),
        (["toxic", "label"], "cannot be called `label`"),
        (["toxic", "insult", "insult_label"], "cannot be called `insult_label`"),
    ],
)
def test_names_that_would_be_mistaken(names, message):
    with pytest.raises(RequestError, match=f"--label_column_names: .*{message}"):
        parse_arguments(["--train_file", "a.csv", "--label_column_names", *names])


def test_blanks_around_a_name_are_no_part_of_it():
    names = parse_arguments(["--train_file", "a.csv", "--label_column_names", " toxic", "a b "]).data.label_column_names
    assert names == ["toxic", "a b"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file", "a.csv", "--label_column_name", "a", "--label_column_names", "b"], "keep one of them"),
        (["--label_column_names", "toxic"], "--label_column_names means nothing for --dataset_name sample"),
        (["--train_file", "a.csv", "--validation_labels_file", "l.csv"], "needs a --validation_file beside it"),
    ],
)
def test_flags_that_do_not_go_together(flags, message):
    with pytest.raises(RequestError, match=message):
        parse_arguments(flags)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Severe-Toxic", ("severe_toxicity", "severe_toxic")),
        ("identity_attack", ("identity_attack", "identity_hate")),
        *((name, ("target", "toxicity", "toxic")) for name in ("toxic", "Toxicity", "target")),
        ("severe_toxicity", ("severe_toxicity", "severe_toxic")),
        ("identity_hate", ("identity_attack", "identity_hate")),
        ("sexual_explicit", ("sexual_explicit",)),
        ("insult", ("insult",)),
        ("hate", ()),
        ("is_toxic", ()),
        ("!", ()),
    ],
)
def test_published_names_of_one_label(name, group):
    assert synonyms_of(name) == group


def test_each_label_of_2018_is_one_of_the_competitions():
    assert all(name in synonyms_of(name) for name in LABELS_2018)
    assert len({synonyms_of(name) for name in LABELS_2018}) == 6
