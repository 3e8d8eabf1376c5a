"""Which column of a file is the text, which the toxicity and which the id."""

import logging

import pytest

from toxicity.core.console import log_once
from toxicity.core.errors import RequestError
from toxicity.core.schema import canonical_columns


@pytest.fixture(autouse=True)
def nothing_told_yet():
    log_once.cache_clear()


@pytest.mark.parametrize(
    ("names", "text", "target"),
    [
        (["Text", "Label"], "Text", "Label"),
        ([" text", "label "], " text", "label "),
        (["\ufefftext", '"toxic"'], "\ufefftext", '"toxic"'),
        (["Comment Text", "IsToxic"], "Comment Text", "IsToxic"),
        (["comment-text", "Is-Offensive"], "comment-text", "Is-Offensive"),
        (["CommentText", "is.toxic"], "CommentText", "is.toxic"),
        (["Comment", "class"], "Comment", "class"),
        (["", "count", "hate_speech", "offensive_language", "neither", "class", "tweet"], "tweet", "class"),
        (["id", "tweet", "subtask_a", "subtask_b"], "tweet", "subtask_a"),
        (["text_id", "text", "task_1", "task_2"], "text", "task_1"),
        (["sentence", "hateful"], "sentence", "hateful"),
        (["content", "hate"], "content", "hate"),
        (["message", "is_hate"], "message", "is_hate"),
        (["body", "target"], "body", "target"),
        (["post", "labels"], "post", "labels"),
        (["review", "offensive"], "review", "offensive"),
        # An exact name wins over one that is only alike, whichever stands first and is tried first.
        (["TEXT", "text", "Label", "label"], "text", "label"),
        (["Text", "comment", "Target", "toxicity"], "comment", "toxicity"),
        (["comment", "comment_text", "label", "toxicity"], "comment_text", "toxicity"),
    ],
)
def test_columns_are_found_as_people_write_them(names, text, target):
    columns = canonical_columns(names, "c.csv")
    assert (columns["text"], columns["target"]) == (text, target)


def test_the_other_columns_are_found_likewise():
    columns = canonical_columns(["ID", "text", "target", "Male", " Severe Toxic", "Identity-Hate"], "c.csv")
    assert [columns[name] for name in ("id", "male", "severe_toxicity", "identity_attack")] == [
        *("ID", "Male", " Severe Toxic", "Identity-Hate")
    ]


@pytest.mark.parametrize(
    ("flags", "columns"),
    [
        ({"text_name": "mein text"}, {"text": "Mein Text", "target": "label"}),
        ({"text_name": "mein text ", "target_name": "Bad"}, {"text": "Mein Text", "target": "bad"}),
        ({"target_name": "comment"}, {"text": "text", "target": "comment"}),
        ({"text_name": "comment", "id_name": "Label"}, None),
        ({"id_name": "key"}, {"text": "text", "target": "label", "id": "\ufeffkey"}),
    ],
)
def test_flags_name_columns_likewise_and_come_first(flags, columns):
    names = ["\ufeffkey", "Mein Text", "text", "comment", "bad", "label"]
    if columns is None:
        with pytest.raises(RequestError, match="--label_column_name"):
            canonical_columns(names, "c.csv", **flags)
    else:
        assert canonical_columns(names, "c.csv", **flags) == columns


def test_a_flag_with_the_exact_name_takes_that_column():
    assert canonical_columns(["Bad", "bad", "text"], "c.csv", target_name="bad")["target"] == "bad"


@pytest.mark.parametrize(
    ("names", "flags", "message"),
    [
        (["Text", "TEXT", "label"], {}, "`Text` and `TEXT` may both be the text.*--text_column_name"),
        (
            ["text", "Is Toxic", "is-toxic"],
            {},
            "`Is Toxic` and `is-toxic` may both be the toxicity.*--label_column_name",
        ),
        (["text", "Bad", "BAD"], {"target_name": "bad"}, "`Bad` and `BAD` may both be.*--label_column_name"),
        (["id", "commment", "label"], {}, "it has id, commment, label.*`commment`.*--text_column_name commment"),
        (["text", "Toxiciti"], {}, "no column target, toxicity, toxic or the like.*--label_column_name Toxiciti"),
        (["my comments", "label"], {}, "--text_column_name 'my comments'"),
        (
            ["id", "words", "label"],
            {},
            "no column text, comment_text.*it has id, words, label. Name the right one with",
        ),
        (["text", "label"], {"target_name": "labl"}, "no column labl; it has text, label.*--label_column_name label"),
        (["text", "label"], {"id_name": "key"}, "no column key.*--id_column_name"),
        (
            ["text", "label"],
            {"target_name": "TEXT"},
            "`text` holds the text and is not numeric.*--label_column_name",
        ),
        (["te\x1b[2Jx", "label"], {}, r"it has te\\x1b\[2Jx"),
        ([f"c{i}" for i in range(900)], {}, "c19 and 880 more"),
        # One name, which may be several.
        (["id~text~label"], {}, r"has id~text~label\. If a sign in there separates columns, give --delimiter '~'\.$"),
        (["id~text^label"], {}, "give --delimiter SIGN"),
        (["my words"], {}, "--text_column_name"),
        # No header: the first line is a comment.
        (["1", "you are a liar", "0"], {}, "seems to have no header.*begins with `1`, `you are a liar`.*`text,label`"),
        (["you liar", "1"], {}, "seems to have no header"),
        (["you " * 40, "toxic or so"], {}, "seems to have no header.*`you you you you you…`"),
        (["a comment", "", "no"], {}, "seems to have no header"),
        (["text 0", "OFF"], {}, "seems to have no header"),
        (["you liar", "OTHER", "OTHER"], {}, "seems to have no header"),
        (["what are you then, my friend"], {}, "seems to have no header"),
        (["1", "a comment", "0.5"], {"text_name": "text"}, "seems to have no header"),
        # A header that is none of these.
        (["words", "2019", "x"], {"text_name": "words"}, "no column target, toxicity, .*it has words, 2019"),
        (["", "words", "bad"], {}, 'it has "", words, bad'),
        (["0", "1", "2"], {}, "it has 0, 1, 2"),
        (["id", "words", "2019"], {}, "it has id, words, 2019"),
    ],
)
def test_what_cannot_be_told_is_refused(names, flags, message):
    with pytest.raises(RequestError, match=message):
        canonical_columns(names, "c.csv", **flags)


def test_an_optional_column_that_is_there_twice_is_not_used(caplog):
    assert "male" not in canonical_columns(["text", "label", "Male", "MALE"], "c.csv")
    assert "`Male` and `MALE`, which may both be the male" in caplog.text


def test_what_goes_by_an_unusual_name_is_told_once(caplog):
    with caplog.at_level(logging.INFO, logger="toxicity"):
        for file in ("a.csv", "b.csv"):
            canonical_columns(["Comment", "class", "id"], file)
            canonical_columns(["id", "comment_text", "target"], file)
            canonical_columns(["words", "comment_text", "bad"], file, text_name="words", target_name="bad")
    assert len(caplog.messages) == 1
    assert "the text is the column `Comment` and the toxicity is the column `class`" in caplog.text
