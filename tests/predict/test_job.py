import gzip
import io
import json
import logging
import re
import zipfile

import fsspec
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from builders import make_comments, write_csv
from transformers import BertConfig, BertForSequenceClassification

from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.models.labels import Labels
from toxicity.predict import job as job_module
from toxicity.predict import score_shards as score_shards_module
from toxicity.predict.__main__ import main
from toxicity.predict.progress import Progress
from toxicity.predict.score_shards import score_shards
from toxicity.predict.scorer import Scorer
from toxicity.predict.shards import list_shards

pytestmark = pytest.mark.usefixtures("torch_build")

COMMENTS = [text for text, _ in make_comments(50)]


@pytest.fixture
def score(model_dir, tmp_path, monkeypatch):
    """The command in this process: call it with inputs and flags, get its exit code."""
    # Windows far smaller than the files, so that rows cross them.
    monkeypatch.setattr(score_shards_module, "ROWS_PER_WINDOW", 16)
    # Threads are no help to a tiny model.
    monkeypatch.setattr(job_module, "prepare_cpu", lambda scoring: torch.set_num_threads(1))
    threads = torch.get_num_threads()
    log = logging.getLogger("toxicity")
    before = log.handlers, log.propagate, log.level

    def call(*arguments, output=tmp_path / "out", model=model_dir):
        try:
            with refusals_exit_cleanly():
                main(["--model", str(model), "--output", str(output), *map(str, arguments)])
        except SystemExit as stop:
            return stop.code
        return 0

    yield call
    torch.set_num_threads(threads)
    log.handlers, log.propagate, log.level = before


@pytest.fixture
def expected(model_dir):
    return Scorer(str(model_dir))(COMMENTS)


def write_comments(path, texts=COMMENTS):
    return write_csv(path, ["id", "comment_text"], [[f"c{i}", text] for i, text in enumerate(texts)])


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    # In other company: sorted within other windows.
    assert table["score"].to_numpy() == pytest.approx(expected, abs=0.01)
    assert table["label"].to_pylist() == [int(score >= 0.5) for score in table["score"].to_pylist()]
    assert len(set(table["label"].to_pylist())) == 2


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_output_format_says_the_same(score, tmp_path, form):
    write_comments(tmp_path / "in.csv")
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
        memory.pipe(name, write_comments(tmp_path / "in.csv").read_bytes())
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
    write_comments(tmp_path / "in.csv")
    assert score("--input", tmp_path / "in.csv", "--precision_target", "0.9") == 0
    assert set(pandas.read_parquet(tmp_path / "out" / "in.parquet")["label"]) == {0}
    assert score("--input", tmp_path / "in.csv", "--precision_target", "0.7", output=tmp_path / "b") == 2
    assert "has thresholds for 0.8, 0.9" in capsys.readouterr().err


def test_the_manifest_tells_what_was_scored_by_what(score, tmp_path):
    write_comments(tmp_path / "a.csv")
    assert score("--input", tmp_path / "a.csv") == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rows"] == 50
    assert manifest["failed"] == []
    (shard,) = manifest["shards"]
    assert (shard["input"], shard["output"], shard["rows"], shard["bad_rows"]) == (
        str(tmp_path / "a.csv"),
        "a.parquet",
        50,
        0,
    )
    assert re.fullmatch(r"[0-9a-f]{32}", manifest["job"]["weights_xxh3"])
    assert {"torch", "transformers", "tokenizers"} <= manifest["job"]["versions"].keys()
    assert not (tmp_path / "out" / ".progress").exists()


def test_what_is_done_is_not_done_again(score, tmp_path):
    write_comments(tmp_path / "a.csv")
    write_comments(tmp_path / "b.csv", COMMENTS[:5])
    inputs = ["--input", tmp_path / "a.csv", tmp_path / "b.csv"]
    assert score(*inputs) == 0
    before = files_in(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in ("a.parquet", "b.parquet")}
    (tmp_path / "out" / "b.parquet").write_bytes(b"cut")
    assert score(*inputs) == 0
    assert files_in(tmp_path / "out") == before
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == times["a.parquet"]
    write_comments(tmp_path / "b.csv", COMMENTS[5:])
    assert score(*inputs) == 0
    assert len(pandas.read_parquet(tmp_path / "out" / "b.parquet")) == 45
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == times["a.parquet"]


def test_a_folder_with_the_scores_of_another_job_is_refused(score, tmp_path, capsys):
    write_comments(tmp_path / "a.csv")
    assert score("--input", tmp_path / "a.csv", "--mixed_precision", "no") == 0
    before = files_in(tmp_path / "out")
    assert score("--input", tmp_path / "a.csv", "--mixed_precision", "bf16") == 2
    assert "holds scores of another job, with mixed_precision no instead of bf16" in capsys.readouterr().err
    assert files_in(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("rows", "flags"),
    [
        ([["id", "body"], [1, "x"]], ["--text_column_name", "body"]),
        ([["id", "text"], [1, "x"], [2, ""]], ["--on_bad_rows", "score_null"]),
    ],
)
def test_the_mending_that_is_asked_for_is_taken(score, tmp_path, capsys, rows, flags):
    write_csv(tmp_path / "a.csv", rows[0], rows[1:])
    assert score("--input", tmp_path / "a.csv") == 2
    assert flags[0] in capsys.readouterr().err
    assert score("--input", tmp_path / "a.csv", *flags) == 0
    assert len(pandas.read_parquet(tmp_path / "out" / "a.parquet")) == len(rows) - 1


def test_good_shards_are_kept_where_bad_rows_are_let_through(score, tmp_path):
    write_comments(tmp_path / "a.csv")
    write_comments(tmp_path / "b.csv", ["fine", ""])
    inputs = ["--input", tmp_path / "a.csv", tmp_path / "b.csv"]
    assert score(*inputs) == 1
    before = (tmp_path / "out" / "a.parquet").stat().st_mtime_ns
    assert score(*inputs, "--on_bad_rows", "score_null") == 0
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == before
    assert sorted(files_in(tmp_path / "out")) == ["a.parquet", "b.parquet", "manifest.json"]


@pytest.mark.parametrize(
    ("kind", "flags"), [("csv", ["--output_format", "csv"]), ("csv", ["--submission"]), ("parquet", [])]
)
def test_no_input_is_written_over(score, tmp_path, capsys, kind, flags):
    path = make(kind, tmp_path)
    before = path.read_bytes()
    assert score("--input", path, *flags, output=tmp_path) == 2
    assert f"would be written over the input {path}: name another folder as --output" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_no_file_of_others_is_written_over(score, tmp_path, capsys):
    write_comments(tmp_path / "a.csv")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.parquet").write_text("a year of work")
    assert score("--input", tmp_path / "a.csv") == 2
    assert "a.parquet is there, and no manifest.json says that it holds scores: move it away" in capsys.readouterr().err
    assert files_in(tmp_path / "out") == {"a.parquet": b"a year of work"}
    (tmp_path / "out" / "a.parquet").unlink()
    assert score("--input", tmp_path / "a.csv") == 0
    assert score("--input", tmp_path / "out" / "*.parquet", "--output_format", "csv") == 2


def test_no_output_is_input(score, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_comments(tmp_path / "in" / "a.csv")
    assert score("--input", tmp_path / "in", output=tmp_path / "in" / "out") == 2
    assert "of which all files are input: name one outside" in capsys.readouterr().err
    assert score("--input", tmp_path / "in", output=tmp_path / "out") == 0
    assert score("--input", tmp_path / "out" / "a.parquet", output=tmp_path / "out") == 2
    assert score("--input", tmp_path / "out" / "manifest.json", output=tmp_path / "out") == 2
    assert "manifest.json was written by this command" in capsys.readouterr().err


def test_what_fails_when_it_has_changed_leaves_no_scores_of_before(score, tmp_path):
    for name in "ab":
        write_comments(tmp_path / f"{name}.csv")
    inputs = ["--input", tmp_path / "a.csv", tmp_path / "b.csv"]
    assert score(*inputs) == 0
    write_comments(tmp_path / "a.csv", ["fine", ""])
    assert score(*inputs) == 1
    assert sorted(files_in(tmp_path / "out")) == ["b.parquet", "manifest.json"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [shard["output"] for shard in manifest["shards"]] == ["b.parquet"]


def test_columns_of_other_names(score, tmp_path, expected):
    rows = [[f"c{i}", "not this", text] for i, text in enumerate(COMMENTS)]
    write_csv(tmp_path / "in.csv", ["number", "text", "body"], rows)
    names = ["--text_column_name", "body", "--id_column_name", "number"]
    assert score("--input", tmp_path / "in.csv", *names) == 0
    frame = pandas.read_parquet(tmp_path / "out" / "in.parquet")
    assert frame["id"].tolist() == [f"c{i}" for i in range(50)]
    assert frame["score"].to_numpy() == pytest.approx(expected, abs=0.01)


def test_a_submission_with_rows_that_have_no_score(score, tmp_path):
    write_comments(tmp_path / "in.csv", ["fine", ""])
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
    write_comments(tmp_path / "in.csv", [*COMMENTS[:3], ""])
    assert score("--input", tmp_path / "in.csv", "--on_bad_rows", "score_null", model=tmp_path / "two") == 0
    frame = pandas.read_parquet(tmp_path / "out" / "in.parquet")
    assert frame.columns.tolist() == ["id", "score", "label", "insult"]
    scorer = Scorer(str(tmp_path / "two"))
    expected = scorer.probabilities(scorer.tokenize(COMMENTS[:3]))
    assert frame[["score", "insult"]].to_numpy()[:3] == pytest.approx(expected, abs=0.01)
    assert frame.loc[3, ["score", "label", "insult"]].isna().all()


def test_where_every_shard_fails_through_no_fault_of_the_request(score, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise FloatingPointError

    monkeypatch.setattr(Scorer, "probabilities", fail)
    write_comments(tmp_path / "a.csv")
    assert score("--input", tmp_path / "a.csv") == 1
    assert "Failed: 1 shards" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to(score, tmp_path, capsys):
    write_comments(tmp_path / "a.csv")
    assert score("--input", tmp_path / "a.csv", output=tmp_path / "a.csv" / "out") == 2
    assert "cannot write to" in capsys.readouterr().err


def test_a_job_is_told_by_all_that_decides_its_bytes(job, tmp_path, monkeypatch):
    scorer, _, options = job
    before = job_module.describe_job("m", scorer, options)
    assert json.loads(json.dumps(before)) == before
    for attribute, value in (("tokens_per_batch", 7), ("tokenizer_digest", "0"), ("labels", Labels(1, 0, {}))):
        with monkeypatch.context() as context:
            context.setattr(scorer, attribute, value)
            assert job_module.describe_job("m", scorer, options) != before
    monkeypatch.setattr(job_module, "BYTES_PER_WINDOW", 1)
    assert job_module.describe_job("m", scorer, options) != before


def test_processes_that_are_not_alike(job):
    scorer, _, options = job
    ours = job_module.describe_job("m", scorer, options)
    theirs = ours | {"versions": ours["versions"] | {"torch": "0.1"}}
    with pytest.raises(RequestError, match="process 1 has versions.torch 0.1 instead of"):
        job_module._require_same_scores([ours, theirs])
    job_module._require_same_scores([ours, ours | {"model": "the same by another name"}])


def test_what_another_job_left_half_done_is_told_apart(job, tmp_path):
    scorer, ledger, options = job
    shards = list_shards([str(write_comments(tmp_path / f"{name}.csv")) for name in "abcd"])
    assert set(score_shards(shards[:1], scorer, ledger, options, Progress(0)).values()) == {None}
    broken = job_module.Failure("broken", True)
    # This process scored b and failed at c; a has the scores of one that is not of this job, and d has nobody's.
    failed = job_module._failures_of_all_processes(
        shards, {shards[1].address: None, shards[2].address: broken}, ledger, options
    )
    assert failed == {shards[2].address: broken, shards[3].address: job_module.LOCKED_BY_ANOTHER}


def test_standard_input_is_for_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="read by one process alone: start it with python -m"):
        main(["--model", "m", "--input", "-", "--output", "out"])


def test_a_shard_that_fails_is_named_and_done_alone_when_mended(score, tmp_path, capsys):
    for name in ("a", "c"):
        write_comments(tmp_path / f"{name}.csv")
    write_comments(tmp_path / "b.csv", [*COMMENTS[:40], "  ", "fine"])
    inputs = ["--input", *(tmp_path / f"{name}.csv" for name in "abc")]
    assert score(*inputs) == 1
    assert f"{tmp_path}/b.csv, row 41: the text is blank" in capsys.readouterr().err
    assert sorted(files_in(tmp_path / "out")) == ["a.parquet", "c.parquet", "manifest.json"]
    (failed,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["failed"]
    assert failed["input"] == str(tmp_path / "b.csv")
    before = (tmp_path / "out" / "a.parquet").stat().st_mtime_ns
    write_comments(tmp_path / "b.csv")
    assert score(*inputs) == 0
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["failed"] == []


def test_bad_rows_can_be_left_without_a_score(score, tmp_path, expected):
    texts = list(COMMENTS)
    texts[3], texts[20] = "", " \t "
    write_comments(tmp_path / "in.csv", texts)
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
        ("in.csv", b"id,body\n1,x\n", "in.csv has no column text or comment_text; it has id, body"),
        ("in.csv", b"", "is empty"),
        ("in.csv", b"id,text\n1,\n", "row 1: the text is missing"),
        ("in.csv", b"id,text\n1,\xff\n", "row 1: the text is not UTF-8"),
        ("in.csv", b'id,text\n1,x\n2,"x\n', "row 2: its quotes do not match"),
        ("in.csv.gz", gzip.compress(b"id,text\n1,x\n" * 99, mtime=0)[:40], "damaged, cut off or locked"),
        ("in.parquet", b"PAR1", "cannot read"),
        ("in.jsonl", b'{"text": "x"}\n{"text"', "row 2: it is not JSON"),
        ("in.txt", b"x", "should end in one of"),
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
    ("arguments", "message"),
    [
        ([], "nothing to score"),
        (["--input", "nowhere.csv"], "there is no file nowhere.csv"),
        (["--input", "-", "a.csv"], "nothing beside it"),
        (["--input", "zz9://a.csv"], "cannot reach zz9://a.csv"),
        (["--input", "a.csv", "--submission", "--output_format", "jsonl"], "a submission is a CSV file"),
        (["--input", "a.csv", "--outptu", "x"], "unrecognized arguments: --outptu"),
        (["--export", "onnx", "--input", "a.csv", "b.csv"], "measured on one --input"),
        (["--export", "onnx", "--mixed_precision", "no"], "--mixed_precision means nothing with --export"),
        (["--export", "onnx", "--on_bad_rows", "score_null"], "--on_bad_rows means nothing with --export"),
        (["--input", "a.csv", "--label_column_name", "x"], "--label_column_name means nothing without --export"),
    ],
)
def test_bad_requests(score, capsys, arguments, message):
    assert score(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_no_such_model(score, tmp_path, capsys):
    write_comments(tmp_path / "in.csv")
    assert score("--input", tmp_path / "in.csv", model=tmp_path / "nowhere") == 2
    assert "a folder that a run left" in capsys.readouterr().err
