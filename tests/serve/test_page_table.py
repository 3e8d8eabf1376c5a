"""Tables that are uploaded to the page or pasted into it."""

import csv
import io

import numpy as np
import pytest

from toxicity.serve import page_table
from toxicity.serve.page_table import TableError, as_csv, cells, columns_of, header, read_rows

LABELS, THRESHOLDS = ("toxic", "insult", "threat"), {"toxic": 0.5, "insult": 0.25}


@pytest.mark.parametrize(
    ("content", "options", "ids", "texts"),
    [
        ("id,text\n7,you\n8,me\n", {}, ["7", "8"], ["you", "me"]),
        ("comment_text;n\nyou, too;1\n", {}, [0], ["you, too"]),
        ("a\tb\nyou\tme\n", {"column": "b"}, [0], ["me"]),
        ("only\nyou\n", {}, [0], ["you"]),
        ('text\n"two\nlines, ""quoted"""\n', {}, [0], ['two\nlines, "quoted"']),
        ("\ufefftext\nyou\n", {}, [0], ["you"]),
        ("thank you, all\nyou\n", {"every_line": True}, [0, 1], ["thank you, all", "you"]),
        ('{"id": 3, "text": "you"}\n{"id": 4, "text": "me"}\n', {}, [3, 4], ["you", "me"]),
        ("text\n=1+1\n", {}, [0], ["=1+1"]),
    ],
)
def test_tables_are_read_as_files_are(content, options, ids, texts):
    assert read_rows(content.encode(), **options)[:3] == (ids, texts, {})


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_other_encodings_are_found_out(encoding):
    texts = ["Schöne Grüße aus Köln", "so schön über den Dächern"]
    rows = read_rows("\n".join(["text", *texts]).encode(encoding))
    assert rows.texts == texts
    assert rows.encoding == (None if encoding == "utf-16" else encoding)


@pytest.mark.parametrize(
    ("content", "options", "header"),
    [
        ("You are an idiot.\nThank you.\n", {}, "You are an idiot."),
        ("You are an idiot.\nThank you.\n", {"column": "You are an idiot."}, "You are an idiot."),
        ("You are an idiot.\nThank you.\n", {"every_line": True}, None),
        ("Comment Text\nThank you.\n", {}, None),
        ("a,b\n1,Thank you.\n", {"column": "b"}, None),
    ],
)
def test_a_header_that_may_be_a_comment_is_told(content, options, header):
    assert read_rows(content.encode(), **options).doubtful_header == header


def test_rows_that_cannot_be_scored_keep_their_place():
    rows = read_rows(b"id,text\n1,you\n2,\n3,b\0c\n4,x,y\n5,me\n")
    assert [rows.texts[row] for row in (0, 4)] == ["you", "me"]
    assert rows.reasons.keys() == {1, 2, 3}


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        (b"", {}, "The table is empty."),
        (b"text\n", {}, "The table has no rows."),
        (b"a,b\n1,2\n", {}, "It is not clear which column has the comments; there are a, b. Choose"),
        (b"a,text\n1,2\n", {"column": "c"}, "There is no column `c`; there are a, text. Choose"),
        (b"text,text\n1,2\n", {}, "twice: rename or remove one."),
        (b'"text\nyou', {}, "The table is not CSV: the quotes of its first row do not match"),
        ("text\nyou\n".encode("utf-16-le"), {}, "The table is not UTF-8 but utf-16-le"),
        (b'{"text": {"a": 1}}\n', {}, "holds no text but"),
        (b"PK\3\4", {}, "packed or binary"),
        (b"\x1f\x8b\x08", {}, "packed or binary"),
        (b"PAR1", {}, "packed or binary"),
        (b"%PDF-1.4", {}, "PDF"),
        (b"text\n" + b"x\n" * 5_001, {}, "more than 5,000 rows: score it with python -m toxicity.predict"),
        (b"x" * (5 * 2**20 + 1), {}, "larger than 5 MB: score it with python -m toxicity.predict"),
    ],
)
def test_refusals_are_sentences_without_paths_and_flags(content, options, told):
    with pytest.raises(TableError) as stop:
        read_rows(content, **options)
    message = str(stop.value)
    assert told in message
    assert message[0].isupper()
    assert message.endswith(".")
    assert "--" not in message
    assert "/" not in message


def test_a_pack_is_told_by_its_beginning_alone():
    assert read_rows(b"text\nPK\3\4 you\n").texts == ["PK\3\4 you"]


@pytest.mark.parametrize(
    ("content", "columns", "likely"),
    [
        (b"a;Comment Text\n1;2\n", ["a", "Comment Text"], "Comment Text"),
        (b"a,b\n1,2\n", ["a", "b"], None),
        (b"text\n" + b"x\n" * 6_000, ["text"], "text"),
    ],
)
def test_columns_are_known_before_all_rows_are_read(content, columns, likely):
    assert columns_of(content) == (columns, likely)


def test_nothing_stays_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(page_table.tempfile, "tempdir", str(tmp_path))
    read_rows(b"text\nyou\n")
    with pytest.raises(TableError):
        read_rows(b"a,b\n1,2\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_downloaded_is_what_was_uploaded_with_scores():
    texts = ["=1+1", 'he said "so"', "two\r\nlines; and, more", " "]
    rows = page_table.Rows(["a", "b", "c", "d"], texts, {3: "the text is blank"})
    scores = np.array([[0.5, 0.25, 0.1], [0.1, 0.2, 0.9], [0.7, 0.9, 0.0], [np.nan] * 3])
    content = as_csv(header(LABELS, THRESHOLDS), cells(rows, scores, LABELS, THRESHOLDS))
    read = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert read == [
        ["id", "text", "score", "label", "insult", "insult_label", "threat"],
        ["a", texts[0], "0.5", "1", "0.25", "1", "0.1"],
        ["b", texts[1], "0.1", "0", "0.2", "0", "0.9"],
        ["c", texts[2], "0.7", "1", "0.9", "1", "0.0"],
        ["d", texts[3], "", "", "", "", ""],
    ]
    assert read_rows(content).texts[:3] == texts[:3]
