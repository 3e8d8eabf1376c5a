"""Further labelled files: read with the rules of the training rows, and refused before anything is trained."""

import numpy as np
import pytest
from builders import make_comments, write_comments, write_csv
from labelled import LABELS_2018, jigsaw2018, write_table

from toxicity.core.arguments import DataArguments, parse_arguments
from toxicity.core.errors import RequestError
from toxicity.data.sources import label_targets_of, load_splits

pytestmark = pytest.mark.usefixtures("cache_dir")


@pytest.fixture
def train(tmp_path):
    return write_comments(tmp_path / "train.csv")


def others(count=12, seed=7):
    return [[f"{text} indeed", label] for text, label in make_comments(count, seed)]


def load(train, *eval_files, **arguments):
    return load_splits(DataArguments(train_file=str(train), eval_files=[*map(str, eval_files)], **arguments))


def test_each_file_is_there_under_its_name_and_nothing_else_changes(train, tmp_path):
    rows = others()
    write_csv(tmp_path / "a=b.csv", ["text", "toxicity"], rows)
    write_csv(tmp_path / "forum.tsv", ["tweet", "class"], [[text, ("clean", "toxic")[label]] for text, label in rows])
    splits = load(train, f"wiki={tmp_path / 'a=b.csv'}", f"forum={tmp_path / 'forum.tsv'}")
    assert list(splits.eval_files) == ["wiki", "forum"]
    for found in splits.eval_files.values():
        assert found["text"][:] == [text for text, _ in rows]
        assert found["target"][:] == [label for _, label in rows]
    alone = load(train)
    assert alone.eval_files == {}
    assert splits.train[:] == alone.train[:]
    assert splits.validation[:] == alone.validation[:]


def test_columns_go_by_the_flags_of_the_training_rows(tmp_path):
    train = write_csv(tmp_path / "train.csv", ["said", "rude"], make_comments(60))
    file = write_csv(tmp_path / "b.csv", ["rude", "said"], [row[::-1] for row in others()])
    splits = load(train, f"b={file}", text_column_name="said", label_column_name="rude")
    assert len(splits.eval_files["b"]) == 12


def test_beside_the_sample_flags_are_about_the_files():
    flags = ["--text_column_name", "said", "--label_column_name", "rude", "--delimiter", ";", "--positive_labels", "x"]
    assert parse_arguments([*flags, "--eval_files", "b=b.csv"]).data.text_column_name == "said"
    with pytest.raises(RequestError, match="means nothing for --dataset_name sample"):
        parse_arguments(flags)


def test_labels_that_a_file_lacks_are_null(tmp_path, caplog):
    train = write_table(tmp_path / "train.csv", jigsaw2018(120))
    file = write_table(tmp_path / "b.csv", jigsaw2018(40, seed=3), ["comment_text", "toxic", "insult"])
    with caplog.at_level("INFO", logger="toxicity"):
        splits = load(train, f"b={file}", label_column_names=[*LABELS_2018])
    targets = label_targets_of(splits.eval_files["b"], LABELS_2018)
    assert [name for name, column in zip(LABELS_2018, targets.T, strict=True) if not np.isnan(column).any()] == [
        "toxic",
        "insult",
    ]
    assert np.isnan(targets).any(axis=0).sum() == 4
    assert "b.csv: there is no column of `severe_toxic`, `obscene`, `threat`, `identity_hate`" in caplog.text
    main_alone = write_table(tmp_path / "c.csv", jigsaw2018(40, seed=3), ["comment_text", "toxic"])
    splits = load(train, f"c={main_alone}", label_column_names=[*LABELS_2018])
    assert np.isnan(label_targets_of(splits.eval_files["c"], LABELS_2018)).all(axis=0).tolist() == [False] + 5 * [True]


def test_rows_that_nobody_scored_are_left_out(tmp_path):
    train = write_table(tmp_path / "train.csv", jigsaw2018(120))
    table = jigsaw2018(40, seed=3)
    rows = [
        [text, *([-1] * 6 if n % 4 == 0 else [n % 2] * 6)] for n, text in enumerate(table["comment_text"].to_pylist())
    ]
    file = write_csv(tmp_path / "b.csv", ["comment_text", *LABELS_2018], rows)
    assert len(load(train, f"b={file}", label_column_names=[*LABELS_2018]).eval_files["b"]) == 30


def test_comments_that_are_trained_on_are_told(train, tmp_path, caplog):
    splits = load(train, f"same={train}")
    shared = len(set(splits.train["text"][:]))
    assert f"--eval_files same: {shared} of its 120 comments are trained on, too" in caplog.text


BAD = {
    "no label": (
        ["text", "likes"],
        [["thank you", 3]],
        "--eval_files b: .*b.csv has no column target, toxicity, toxic or the like",
    ),
    "no text": (["id", "toxic"], [[3, 1]], "--eval_files b: .*has no column text, .*rename the column here"),
    "labels are empty": (
        ["text", "toxic"],
        [["thank you", ""], ["liar", ""]],
        "--eval_files b: .*the target is missing",
    ),
    "blank text": (["text", "toxic"], [["thank you", 0], [" ", 1]], "--eval_files b: .*row 2: the text is blank"),
    "ratings": (["text", "toxic"], [["thank you", 1], ["liar", 5]] * 9, "--eval_files b: .*nobody can tell"),
    "nothing": (["text", "toxic"], [], "--eval_files b: .*holds no rows"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_judged_on_is_refused(train, tmp_path, name):
    header, rows, message = BAD[name]
    file = write_csv(tmp_path / "b.csv", header, rows)
    with pytest.raises(RequestError, match=message):
        load(train, f"b={file}")


def test_bad_rows_are_dropped_where_that_is_asked_for(train, tmp_path):
    file = write_csv(tmp_path / "b.csv", ["text", "toxic"], [["thank you", 0], [" ", 1], ["liar", 1]])
    assert len(load(train, f"b={file}", on_bad_rows="drop").eval_files["b"]) == 2
    empty = write_csv(tmp_path / "c.csv", ["text", "toxic"], [["thank you", ""], ["liar", ""]])
    with pytest.raises(
        RequestError, match="--eval_files c: none of the 2 rows of c.csv has a value of the label `toxic`"
    ):
        load(train, f"c={empty}", on_bad_rows="drop")


def test_classes_of_another_spelling_are_refused(tmp_path):
    rows = [[text, ("fine", "rude")[label]] for text, label in make_comments(60)]
    train = write_csv(tmp_path / "train.csv", ["text", "label"], rows)
    file = write_csv(tmp_path / "b.csv", ["text", "label"], others())
    with pytest.raises(RequestError, match="--eval_files b: .*and nowhere `rude`, as --positive_labels has"):
        load(train, f"b={file}", positive_labels=["rude"])


def test_no_file_is_refused_under_its_flag(train):
    with pytest.raises(RequestError, match="--eval_files b: .*nowhere.csv"):
        load(train, "b=nowhere.csv")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["forum.csv"], "`forum.csv`: give NAME=FILE, such as forum=forum.csv"),
        (["forum="], "give NAME=FILE"),
        (["=forum.csv"], "what stands before the first = is the name"),
        (["my forum=a.csv"], "what stands before the first = is the name"),
        (["a=a.csv", "b=b.csv", "a=a.csv"], "gives the name `a` twice: give each file its own"),
        (["a=a.csv", "A=b.csv"], "gives the name `A` twice"),
    ],
)
def test_names_of_files(given, message):
    with pytest.raises(RequestError, match=message):
        parse_arguments(["--eval_files", *given])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--robustness_rows", "-1"], "--robustness_rows is -1; the least that works is 0"),
        (["--augment_typos", "1.5"], "--augment_typos is 1.5; it is a share, from 0 to 1"),
        (["--augment_typos", "nan"], "--augment_typos is nan"),
    ],
)
def test_numbers_that_cannot_be(flags, message):
    with pytest.raises(RequestError, match=message):
        parse_arguments(flags)
