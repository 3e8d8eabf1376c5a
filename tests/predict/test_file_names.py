import json
import os
import re
import sys

import pandas as pd
import pytest
from builders import write_texts

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take names in UTF-8 only")


@pytest.mark.parametrize("output_format", ["csv", "parquet", "jsonl"])
def test_a_name_that_is_not_utf8_is_scored_and_known_again(score, tmp_path, capsys, output_format):
    folder = tmp_path / "in"
    folder.mkdir()
    strange = write_texts(folder / os.fsdecode(b"caf\xe9.csv"))
    write_texts(folder / "plain.csv")
    assert score("--input", folder, "--output_format", output_format) == 0
    output = tmp_path / "out" / os.fsdecode(b"caf\xe9." + output_format.encode())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert [(shard["input"], shard["output"]) for shard in manifest["shards"]] == [
        (str(strange), output.name),
        (str(folder / "plain.csv"), f"plain.{output_format}"),
    ]
    plain = (tmp_path / "out" / f"plain.{output_format}").read_bytes()
    assert output.read_bytes() == plain, "the same comments, and so the same scores"
    capsys.readouterr()
    assert score("--input", folder, "--output_format", output_format) == 0
    assert "Done before, and skipped: 2 of 2 shards" in capsys.readouterr().err


def test_a_failure_names_it_too(score, tmp_path, capfd):
    strange = tmp_path / os.fsdecode(b"caf\xe9.csv")
    strange.write_text("colour\nx\n")
    assert score("--input", strange) == 2
    # Under pytest the byte is shown as a question mark, on a terminal as an escape.
    assert re.search(r"error: .*caf.{1,6}\.csv has no column", capfd.readouterr().err)


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv.gz"])
def test_every_format_can_have_such_a_name(score, tmp_path, ending):
    frame = pd.DataFrame({"text": ["one", "two"]})
    path = tmp_path / f"plain.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False)
    path = path.rename(tmp_path / os.fsdecode(b"caf\xe9." + ending.encode()))
    assert score("--input", path) == 0
