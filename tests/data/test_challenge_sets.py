"""Challenge sets: cases as in HateCheck, and sentences as in template sets."""

import json
import logging

import pandas as pd
import pytest

from toxicity.core.errors import RequestError
from toxicity.data.challenge_sets import HATECHECK, TEMPLATES, read_texts

pytestmark = pytest.mark.usefixtures("cache_dir")

CASES = pd.DataFrame(
    {
        "functionality": ["greet_nh", "greet_nh", "order_h"],
        "case_id": [1, 2, 3],
        "test_case": ["Good morning, bakers.", "The chair, the table.", "All bakers, out of here!"],
        "label_gold": ["non-hateful", "non-hateful", "hateful"],
        "target_ident": ["bakers", None, "bakers"],
        "direction": ["general", None, "directed"],
        "templ_id": [1, 2, 3],
    }
)
SENTENCES = pd.DataFrame(
    {"Text": ["a kind baker", "a rotten baker", "a kind cook"], "Label": ["NOT_BAD", "BAD", "NOT_BAD"]}
)


def write(folder, frame, ending="csv"):
    path = folder / f"tests.{ending}"
    if ending == "csv":
        frame.to_csv(path)  # with a column without a name, the number of the row, as the published file has it
    elif ending == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return str(path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_the_cases_of_a_file(tmp_path, ending, caplog):
    with caplog.at_level(logging.INFO, logger="toxicity"):
        found = read_texts(write(tmp_path, CASES, ending), "--hatecheck", HATECHECK)
    assert found.name == f"tests.{ending}"
    assert found.texts == CASES["test_case"].to_list()
    assert found.toxic.tolist() == [False, False, True]
    assert found.words == {
        "functionality": ["greet_nh", "greet_nh", "order_h"],
        "target_group": ["bakers", "", "bakers"],
    }
    assert "`label_gold` means: toxic `hateful` (1 row); civil `non-hateful` (2 rows)" in caplog.text


def test_files_in_another_encoding(tmp_path):
    file = tmp_path / "tests.csv"
    SENTENCES.replace("a kind cook", "a kind café owner").to_csv(file, encoding="cp1252")
    with pytest.raises(RequestError, match=r"row 3: the text is not UTF-8 but cp1252, it seems \(--encoding cp1252\)"):
        read_texts(str(file), "--templates", TEMPLATES)
    assert read_texts(str(file), "--templates", TEMPLATES, "cp1252").texts[2] == "a kind café owner"


def test_cases_may_lack_the_target_group(tmp_path):
    cases = CASES[["functionality", "test_case", "label_gold"]]
    assert read_texts(write(tmp_path, cases), "--hatecheck", HATECHECK).words == {
        "functionality": ["greet_nh", "greet_nh", "order_h"]
    }


@pytest.mark.parametrize(
    "labels",
    [
        ["NOT_BAD", "BAD", "NOT_BAD"],
        ["nontoxic", "toxic", "nontoxic"],
        ["civil", "toxic", "civil"],
        [0, 1, 0],
        [0.25, 0.5, 0.0],
        [False, True, False],
    ],
)
def test_the_labels_of_sentences(tmp_path, labels):
    found = read_texts(write(tmp_path, SENTENCES.assign(Label=labels)), "--templates", TEMPLATES)
    assert found.toxic.tolist() == [False, True, False]
    assert (found.texts, found.words) == (SENTENCES["Text"].to_list(), {})


@pytest.mark.parametrize(
    "names",
    [("Text", "Label", "Term"), ("phrase", "toxicity", "identity_term"), ("sentence", "class", "Template term")],
)
def test_the_names_of_the_columns_of_sentences(tmp_path, names):
    # The column of the templates is no term.
    frame = SENTENCES.assign(term=["baker", "baker", ""], template=["a kind", "a rotten", "a kind"])
    frame.columns = [*names, "template"]
    found = read_texts(write(tmp_path, frame), "--templates", TEMPLATES)
    assert found.words == {"term": ["baker", "baker", ""]}


@pytest.mark.parametrize(
    ("flag", "columns", "frame", "message"),
    [
        (
            "--hatecheck",
            HATECHECK,
            SENTENCES,
            r"tests.jsonl has no column test_case, in which --hatecheck has the case; it has Text, Label\. Name "
            "another file, or rename its column to test_case",
        ),
        ("--hatecheck", HATECHECK, CASES.drop(columns="functionality"), "no column functionality, .* it has case_id"),
        ("--hatecheck", HATECHECK, CASES.drop(columns="label_gold"), "no column label_gold"),
        ("--templates", TEMPLATES, CASES, "no column text or phrase or sentence, .* it has functionality, case_id"),
        ("--templates", TEMPLATES, SENTENCES[["Text"]], r"no column label or target or toxicity, .* it has Text\."),
        (
            "--templates",
            TEMPLATES,
            SENTENCES.rename(columns={"Text": "TEXT"}).assign(Text=1),
            "`TEXT` and `Text` may both be the sentence: rename one",
        ),
        (
            "--templates",
            TEMPLATES,
            SENTENCES.assign(Label=["sour", "sweet", "sour"]),
            r"the column `Label` holds `sour` \(2 rows\), `sweet` \(1 row\), of which nobody can tell what is toxic. "
            "Write 1 for toxic",
        ),
        (
            "--templates",
            TEMPLATES,
            SENTENCES.assign(Label=[[1], [0, 1], [1]]),
            "`Label` holds .*list.* nobody can tell",
        ),
        ("--templates", TEMPLATES, SENTENCES.assign(Text=[1, 2, 3]), "the column `Text` holds no text but int64"),
        ("--templates", TEMPLATES, SENTENCES.assign(term=[1, 2, 3]), "the column `term` holds no text but int64"),
        (
            "--templates",
            TEMPLATES,
            SENTENCES.assign(Text=["a kind baker", " ", None]),
            "row 2: the text is blank. Bad rows in all: 2",
        ),
        ("--templates", TEMPLATES, SENTENCES.assign(Label=["BAD", "NOT_BAD", None]), "row 3: the label is missing"),
        ("--hatecheck", HATECHECK, CASES.assign(functionality=["a", None, "b"]), "row 2: the functionality is missing"),
    ],
)
def test_files_that_are_refused(tmp_path, flag, columns, frame, message):
    ending = "parquet" if "list" in message else "jsonl"
    with pytest.raises(RequestError, match=message):
        read_texts(write(tmp_path, frame, ending), flag, columns)


def test_files_that_are_not_there_or_hold_nothing(tmp_path):
    with pytest.raises(RequestError, match="nothing.csv"):
        read_texts(str(tmp_path / "nothing.csv"), "--hatecheck", HATECHECK)
    with pytest.raises(RequestError, match="give --hatecheck a file"):
        read_texts("", "--hatecheck", HATECHECK)
    (tmp_path / "header.csv").write_text("functionality,test_case,label_gold\n", encoding="utf-8")
    with pytest.raises(RequestError, match=r"header.csv holds no rows: give --hatecheck a file of texts and labels\."):
        read_texts(str(tmp_path / "header.csv"), "--hatecheck", HATECHECK)
    (tmp_path / "broken.jsonl").write_text(json.dumps({"text": "fine", "label": 1}) + "\n{\n", encoding="utf-8")
    with pytest.raises(RequestError, match=r"broken.jsonl, row 2: .* Mend them or take them out\."):
        read_texts(str(tmp_path / "broken.jsonl"), "--templates", TEMPLATES)
