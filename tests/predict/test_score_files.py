"""The scoring command on files of every format, with other columns, and with bad rows."""

import gzip
import io
import json
import re
import zipfile

import fsspec
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
from builders import COMMENTS, files_in, write_csv, write_texts
from transformers import BertConfig, BertForSequenceClassification

from toxicity.predict.scorer import Scorer

pytestmark = pytest.mark.usefixtures("torch_build")


@pytest.fixture
def expected(model_dir):
    return Scorer(str(model_dir))(COMMENTS)


def make(kind, path):
    rows = [{"id": f"c{i}", "text": text} for i, text in enumerate(COMMENTS)]
    frame = pandas.DataFrame(rows)
    if kind == "csv":
        frame.to_csv(path / "in.csv", index=False)
    elif kind == "csv.gz":
        (path / "in.csv.gz").write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    elif kind == "zip":
        with zipfile.ZipFile(path / "in.csv.zip", "w") as archive:
            archive.writestr("in.csv", frame.to_csv(index=False))
        return path / "in.csv.zip"
    elif kind.startswith("jsonl"):
        lines = "\n".join(map(json.dumps, rows)).encode()
        (path / f"in.{kind}").write_bytes(gzip.compress(lines) if kind == "jsonl.gz" else lines)
    else:
        pyarrow.parquet.write_table(pa.Table.from_pandas(frame), path / "in.parquet", row_group_size=7)
    return path / f"in.{kind}"


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "zip", "jsonl", "jsonl.gz", "parquet"])
def test_whatever_the_file_the_same_scores_in_its_order(score, tmp_path, expected, kind):
    assert score("--input", make(kind, tmp_path)) == 0
    table = pyarrow.parquet.read_table(tmp_path / "out" / "in.parquet")
    assert table.column_names == ["id", "score", "label"]
    assert table["id"].to_pylist() == [f"c{i}" for i in range(50)]
    # Not identical, as the rows share their windows and batches with others than in `expected`.
    assert table["score"].to_numpy() == pytest.approx(expected, abs=0.01)
    assert table["label"].to_pylist() == [int(score >= 0.5) for score in table["score"].to_pylist()]
    assert len(set(table["label"].to_pylist())) == 2


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_output_format_says_the_same(score, tmp_path, form):
    write_texts(tmp_path / "in.csv")
    assert score("--input", tmp_path / "in.csv") == 0
    assert score("--input", tmp_path / "in.csv", "--output_format", form, output=tmp_path / "other") == 0
    path = tmp_path / "other" / f"in.{form}"
    frame = pandas.read_csv(path) if form == "csv" else pandas.read_json(path, lines=True, precise_float=True)
    pandas.testing.assert_frame_equal(
        frame, pandas.read_parquet(tmp_path / "out" / "in.parquet"), check_dtype=False, check_exact=True
    )


def test_a_submission_is_what_the_competition_asks_for(score, tmp_path):
    write_csv(tmp_path / "test.csv", ["id", "comment_text"], [[7000000 + i, text] for i, text in enumerate(COMMENTS)])
    assert score("--input", tmp_path / "test.csv", "--submission") == 0
    lines = (tmp_path / "out" / "test.csv").read_text().splitlines()
    assert lines[0] == "id,prediction"
    assert re.fullmatch(r"7000000,0\.\d+", lines[1])
    assert len(lines) == 51


def test_a_submission_needs_ids(score, tmp_path, capsys):
    write_csv(tmp_path / "test.csv", ["comment_text"], [["x"]])
    assert score("--input", tmp_path / "test.csv", "--submission") == 2
    assert "a submission needs: name it with --id_column_name" in capsys.readouterr().err


def test_a_folder_keeps_its_shape_and_rows_without_ids_are_numbered(score, tmp_path):
    for name in ("a.csv", "deep/b.csv", "_SUCCESS.csv", ".hidden.csv"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write_csv(tmp_path / "in" / name, ["text"], [[text] for text in COMMENTS])
    assert score("--input", tmp_path / "in") == 0
    assert sorted(files_in(tmp_path / "out")) == ["a.parquet", "deep/b.parquet", "manifest.json"]
    assert pyarrow.parquet.read_table(tmp_path / "out" / "deep" / "b.parquet")["id"].to_pylist() == list(range(50))


def test_shards_from_elsewhere(score, tmp_path, expected):
    memory = fsspec.filesystem("memory")
    for name in ("/shards/a.csv", "/shards/b.csv", "/shards/notes.txt"):
        memory.pipe(name, write_texts(tmp_path / "in.csv").read_bytes())
    assert score("--input", "memory://shards") == 0
    assert score("--input", "memory://shards/*.csv", output=tmp_path / "by_pattern") == 0
    assert score("--input", (tmp_path / "in.csv").as_uri(), output=tmp_path / "by_uri") == 0
    for path in (tmp_path / "out" / "b.parquet", tmp_path / "by_pattern" / "a.parquet", tmp_path / "by_uri/in.parquet"):
        assert pyarrow.parquet.read_table(path)["score"].to_numpy() == pytest.approx(expected, abs=0.01)


def test_lines_on_standard_input(score, tmp_path, monkeypatch, expected):
    lines = "\n".join(COMMENTS[:20]).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert score("--input", "-", "--output_format", "csv") == 0
    frame = pandas.read_csv(tmp_path / "out" / "stdin.csv")
    assert frame["id"].tolist() == list(range(20))
    assert frame["score"].to_numpy() == pytest.approx(expected[:20], abs=0.01)


def test_a_blank_line_on_standard_input(score, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\n  \nthree")))
    assert score("--input", "-") == 2
    assert "standard input, row 2: the text is blank" in capsys.readouterr().err


def test_labels_at_another_precision(score, tmp_path, model_dir, capsys):
    config = json.loads((model_dir / "config.json").read_text())
    config["toxicity"] = {"threshold": 0.5, "thresholds": {"0.8": 0.5, "0.9": 1.0}}
    (model_dir / "config.json").write_text(json.dumps(config))
    write_texts(tmp_path / "in.csv")
    assert score("--input", tmp_path / "in.csv", "--precision_target", "0.9") == 0
    assert set(pandas.read_parquet(tmp_path / "out" / "in.parquet")["label"]) == {0}
    assert score("--input", tmp_path / "in.csv", "--precision_target", "0.7", output=tmp_path / "b") == 2
    assert "has thresholds for 0.8, 0.9" in capsys.readouterr().err


def test_columns_of_other_names(score, tmp_path, expected):
    rows = [[f"c{i}", "not this", text] for i, text in enumerate(COMMENTS)]
    write_csv(tmp_path / "in.csv", ["number", "text", "body"], rows)
    names = ["--text_column_name", "body", "--id_column_name", "number"]
    assert score("--input", tmp_path / "in.csv", *names) == 0
    frame = pandas.read_parquet(tmp_path / "out" / "in.parquet")
    assert frame["id"].tolist() == [f"c{i}" for i in range(50)]
    assert frame["score"].to_numpy() == pytest.approx(expected, abs=0.01)


def test_a_submission_with_rows_that_have_no_score(score, tmp_path):
    write_texts(tmp_path / "in.csv", ["fine", ""])
    assert score("--input", tmp_path / "in.csv", "--submission", "--on_bad_rows", "score_null") == 0
    assert (tmp_path / "out" / "in.csv").read_text().splitlines()[2] == "c1,"


def test_ids_beyond_those_that_have_a_sign(score, tmp_path):
    ids = pa.array([2**63 + 1, 3], pa.uint64())
    pyarrow.parquet.write_table(pa.table({"id": ids, "text": ["one", "two"]}), tmp_path / "in.parquet")
    assert score("--input", tmp_path / "in.parquet") == 0
    assert pyarrow.parquet.read_table(tmp_path / "out" / "in.parquet")["id"].to_pylist() == [2**63 + 1, 3]


def test_kinds_of_toxicity_have_a_column_each(score, tmp_path, tiny_config, tokenizer):
    labels = {"num_labels": 2, "id2label": {0: "insult", 1: "toxic"}, "label2id": {"insult": 0, "toxic": 1}}
    BertForSequenceClassification(BertConfig(**tiny_config.to_dict() | labels)).save_pretrained(tmp_path / "two")
    tokenizer.save_pretrained(tmp_path / "two")
    write_texts(tmp_path / "in.csv", [*COMMENTS[:3], ""])
    assert score("--input", tmp_path / "in.csv", "--on_bad_rows", "score_null", model=tmp_path / "two") == 0
    frame = pandas.read_parquet(tmp_path / "out" / "in.parquet")
    assert frame.columns.tolist() == ["id", "score", "label", "insult"]
    scorer = Scorer(str(tmp_path / "two"))
    expected = scorer.probabilities(scorer.tokenize(COMMENTS[:3]))
    assert frame[["score", "insult"]].to_numpy()[:3] == pytest.approx(expected, abs=0.01)
    assert frame.loc[3, ["score", "label", "insult"]].isna().all()


def test_bad_rows_can_be_left_without_a_score(score, tmp_path, expected):
    texts = list(COMMENTS)
    texts[3], texts[20] = "", " \t "
    write_texts(tmp_path / "in.csv", texts)
    with (tmp_path / "in.csv").open("a") as file:
        file.write("c50\nc51,fine\n")
    for form in ("parquet", "csv", "jsonl"):
        arguments = ("--on_bad_rows", "score_null", "--output_format", form)
        assert score("--input", tmp_path / "in.csv", *arguments, output=tmp_path / form) == 0
    frame = pandas.read_parquet(tmp_path / "parquet" / "in.parquet")
    assert len(frame) == 52
    assert frame.index[frame["score"].isna()].tolist() == frame.index[frame["label"].isna()].tolist() == [3, 20, 50]
    assert np.delete(frame["score"].to_numpy(), [3, 20, 50, 51]) == pytest.approx(
        np.delete(expected, [3, 20]), abs=0.01
    )
    assert json.loads((tmp_path / "parquet" / "manifest.json").read_text())["shards"][0]["bad_rows"] == 3
    assert (tmp_path / "csv" / "in.csv").read_text().splitlines()[4] == "c3,,"
    record = json.loads((tmp_path / "jsonl" / "in.jsonl").read_text().splitlines()[3])
    assert record == {"id": "c3", "score": None, "label": None}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "in.csv",
            b"id,words\n1,x\n",
            "in.csv has no column text, comment_text, comment or the like; it has id, words",
        ),
        ("in.csv", b"", "is empty"),
        ("in.csv", b"id,text\n1,\n", "row 1: the text is missing"),
        ("in.csv", b"id,text\n1,\xff\n", "row 1: the text is not UTF-8"),
        ("in.csv", b"id,text\n1,sch\xf6n\n", "row 1: the text is not UTF-8 but cp1252, it seems (--encoding cp1252)"),
        ("in.csv", b'id,text\n1,x\n2,"x\n', "row 2: its quotes do not match"),
        ("in.csv.gz", gzip.compress(b"id,text\n1,x\n" * 99, mtime=0)[:40], "damaged, cut off or locked"),
        ("in.parquet", b"PAR1", "cannot read"),
        ("in.jsonl", b'{"text": "x"}\n{"text"', "row 2: it is not JSON"),
        ("in.doc", b"x", "should end in one of"),
    ],
)
def test_bad_input_is_refused_with_its_place(score, tmp_path, capsys, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert score("--input", tmp_path / name) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("in*"))


def test_an_empty_shard_has_an_empty_output(score, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n")
    assert score("--input", tmp_path / "in.csv") == 0
    table = pyarrow.parquet.read_table(tmp_path / "out" / "in.parquet")
    assert (len(table), table.column_names) == (0, ["id", "score", "label"])


@pytest.mark.parametrize(
    ("kind", "flags"), [("csv", ["--output_format", "csv"]), ("csv", ["--submission"]), ("parquet", [])]
)
def test_no_input_is_written_over(score, tmp_path, capsys, kind, flags):
    path = make(kind, tmp_path)
    before = path.read_bytes()
    assert score("--input", path, *flags, output=tmp_path) == 2
    assert f"would be written over the input {path}: name another folder as --output" in capsys.readouterr().err
    assert path.read_bytes() == before
