"""Jobs of the scoring command: what they write, skip and refuse, and that they overwrite nothing of others."""

import json
import os
import re

import pandas
import pytest
from builders import COMMENTS, files_in, write_csv, write_texts

from toxicity.core.errors import RequestError
from toxicity.models.labels import Labels
from toxicity.predict import worker
from toxicity.predict.outputs import Outputs
from toxicity.predict.processes import require_same_scores
from toxicity.predict.scorer import Scorer
from toxicity.predict.worker import describe_job

pytestmark = pytest.mark.usefixtures("torch_build")


def test_the_manifest_tells_what_was_scored_by_what(score, tmp_path):
    write_texts(tmp_path / "a.csv")
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
    write_texts(tmp_path / "a.csv")
    write_texts(tmp_path / "b.csv", COMMENTS[:5])
    inputs = ["--input", tmp_path / "a.csv", tmp_path / "b.csv"]
    assert score(*inputs) == 0
    before = files_in(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in ("a.parquet", "b.parquet")}
    (tmp_path / "out" / "b.parquet").write_bytes(b"cut")
    assert score(*inputs) == 0
    assert files_in(tmp_path / "out") == before
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == times["a.parquet"]
    write_texts(tmp_path / "b.csv", COMMENTS[5:])
    assert score(*inputs) == 0
    assert len(pandas.read_parquet(tmp_path / "out" / "b.parquet")) == 45
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == times["a.parquet"]


def test_a_folder_with_the_scores_of_another_job_is_refused(score, tmp_path, capsys):
    write_texts(tmp_path / "a.csv")
    assert score("--input", tmp_path / "a.csv", "--mixed_precision", "no") == 0
    before = files_in(tmp_path / "out")
    assert score("--input", tmp_path / "a.csv", "--mixed_precision", "bf16") == 2
    assert "holds scores of another job, with mixed_precision no instead of bf16" in capsys.readouterr().err
    assert files_in(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("rows", "flags"),
    [
        ([["id", "words"], [1, "x"]], ["--text_column_name", "words"]),
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
    write_texts(tmp_path / "a.csv")
    write_texts(tmp_path / "b.csv", ["fine", ""])
    inputs = ["--input", tmp_path / "a.csv", tmp_path / "b.csv"]
    assert score(*inputs) == 1
    before = (tmp_path / "out" / "a.parquet").stat().st_mtime_ns
    assert score(*inputs, "--on_bad_rows", "score_null") == 0
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == before
    assert sorted(files_in(tmp_path / "out")) == ["a.parquet", "b.parquet", "manifest.json"]


def test_no_file_of_others_is_written_over(score, tmp_path, capsys):
    write_texts(tmp_path / "a.csv")
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
    write_texts(tmp_path / "in" / "a.csv")
    assert score("--input", tmp_path / "in", output=tmp_path / "in" / "out") == 2
    assert "of which all files are input: name one outside" in capsys.readouterr().err
    assert score("--input", tmp_path / "in", output=tmp_path / "out") == 0
    assert score("--input", tmp_path / "out" / "a.parquet", output=tmp_path / "out") == 2
    assert score("--input", tmp_path / "out" / "manifest.json", output=tmp_path / "out") == 2
    assert "manifest.json was written by this command" in capsys.readouterr().err


def test_what_fails_when_it_has_changed_leaves_no_scores_of_before(score, tmp_path):
    for name in "ab":
        write_texts(tmp_path / f"{name}.csv")
    inputs = ["--input", tmp_path / "a.csv", tmp_path / "b.csv"]
    assert score(*inputs) == 0
    write_texts(tmp_path / "a.csv", ["fine", ""])
    assert score(*inputs) == 1
    assert sorted(files_in(tmp_path / "out")) == ["b.parquet", "manifest.json"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [shard["output"] for shard in manifest["shards"]] == ["b.parquet"]


def test_where_every_shard_fails_through_no_fault_of_the_request(score, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise FloatingPointError

    monkeypatch.setattr(Scorer, "probabilities", fail)
    write_texts(tmp_path / "a.csv")
    assert score("--input", tmp_path / "a.csv") == 1
    assert "Failed: 1 shards" in capsys.readouterr().err


def test_an_output_that_does_not_arrive_in_the_folder(score, tmp_path, monkeypatch, capsys):
    keep = Outputs.keep

    def keep_elsewhere(outputs, shard, *content):
        keep(Outputs(tmp_path / "elsewhere", "parquet") if shard.name == "b" else outputs, shard, *content)

    monkeypatch.setattr(Outputs, "keep", keep_elsewhere)
    monkeypatch.setattr("toxicity.predict.ledger.SECONDS_UNTIL_SEEN", 0)
    paths = [write_texts(tmp_path / f"{name}.csv") for name in "abc"]
    assert score("--input", *paths) == 1
    said = capsys.readouterr().err
    assert (
        f"Failed: {paths[1]}: its output is not in {tmp_path / 'out'}: it was removed, or the machines do not" in said
    )
    assert "of 2 shards" in said
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [shard["input"] for shard in manifest["failed"]] == [str(paths[1])]


def test_a_folder_that_cannot_be_written_to(score, tmp_path, capsys):
    write_texts(tmp_path / "a.csv")
    assert score("--input", tmp_path / "a.csv", output=tmp_path / "a.csv" / "out") == 2
    assert "cannot write to" in capsys.readouterr().err


def test_a_job_is_told_by_all_that_decides_its_bytes(job, tmp_path, monkeypatch):
    scorer, _, options = job
    before = describe_job("m", scorer, options)
    assert json.loads(json.dumps(before)) == before
    changes = {"tokens_per_batch": 7, "max_padding": 7, "tokenizer_digest": "0", "labels": Labels((1,), (0,), {})}
    for attribute, value in changes.items():
        with monkeypatch.context() as context:
            context.setattr(scorer, attribute, value)
            assert describe_job("m", scorer, options) != before
    monkeypatch.setattr(worker, "BYTES_PER_WINDOW", 1)
    assert describe_job("m", scorer, options) != before


def test_processes_that_are_not_alike(job):
    scorer, _, options = job
    ours = describe_job("m", scorer, options)
    for others, found in (
        ({"versions": ours["versions"] | {"torch": "0.1"}}, "versions.torch 0.1 instead of .* the same packages"),
        ({"runtime": "openvino"}, "runtime openvino instead of torch.* what computes it with --runtime"),
    ):
        with pytest.raises(RequestError, match=f"process 1 has {found}"):
            require_same_scores(ours | others, ours, "process 1")
    require_same_scores(ours | {"model": "the same by another name"}, ours, "process 1")


def test_a_shard_that_fails_is_named_and_done_alone_when_mended(score, tmp_path, capsys):
    for name in ("a", "c"):
        write_texts(tmp_path / f"{name}.csv")
    write_texts(tmp_path / "b.csv", [*COMMENTS[:40], "  ", "fine"])
    inputs = ["--input", *(tmp_path / f"{name}.csv" for name in "abc")]
    assert score(*inputs) == 1
    assert f"{tmp_path}/b.csv, row 41: the text is blank" in capsys.readouterr().err
    assert sorted(files_in(tmp_path / "out")) == ["a.parquet", "c.parquet", "manifest.json"]
    (failed,) = json.loads((tmp_path / "out" / "manifest.json").read_text())["failed"]
    assert failed["input"] == str(tmp_path / "b.csv")
    before = (tmp_path / "out" / "a.parquet").stat().st_mtime_ns
    write_texts(tmp_path / "b.csv")
    assert score(*inputs) == 0
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["failed"] == []


def test_a_file_name_that_is_no_text(score, tmp_path):
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.csv")
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    write_texts(tmp_path / name)
    write_texts(tmp_path / "bad.csv", ["fine", ""])
    (tmp_path / "bad.csv").rename(tmp_path / f"bad {name}")
    inputs = ["--input", tmp_path / name, tmp_path / f"bad {name}"]
    for _ in range(2):
        assert score(*inputs) == 1
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
        assert [shard["input"] for shard in manifest["shards"]] == [str(tmp_path / name)]
        assert [shard["input"] for shard in manifest["failed"]] == [str(tmp_path / f"bad {name}")]
    assert (tmp_path / "out" / name).with_suffix(".parquet").is_file()


def test_no_such_model(score, tmp_path, capsys):
    write_texts(tmp_path / "in.csv")
    assert score("--input", tmp_path / "in.csv", model=tmp_path / "nowhere") == 2
    assert "a folder that a run left" in capsys.readouterr().err
