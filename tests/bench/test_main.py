import sys
from time import perf_counter

import pytest
from example_run import own_row, several_labels_row, write_row
from processes import run

from toxicity.bench.__main__ import main
from toxicity.core.errors import RequestError
from toxicity.hardware.kinds import KINDS

KNOWN = ", ".join(KINDS)
PUBLISHED = "| V100 (published) | 1      | 0:34:41        | 1:29:41       | 0:14:14        | 0.96819   |"


def test_without_runs_it_prints_the_published_table_and_what_to_run(tmp_path, capsys):
    main(["compare", "--runs", str(tmp_path / "runs")])
    output = capsys.readouterr().out
    assert PUBLISHED in output
    assert "tokenizer −15.3 %, training −74.3 %, inference −75.9 %" in output
    assert "make bench GPU=cpu" in output
    assert (tmp_path / "runs" / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_runs_stand_beside_the_published_ones(tmp_path, capsys):
    write_row(tmp_path, "v100-1ep-1", own_row())
    main(["compare", "--runs", str(tmp_path)])
    output = capsys.readouterr().out
    assert output.count("| Machine") == 1
    assert "| v100             | 1 " in output
    assert "v100, 1 epoch, against P100 (published), 1 epoch: " in output
    assert "make bench" not in output


def test_another_protocol_has_a_table_of_its_own(tmp_path, capsys):
    write_row(tmp_path, "cpu-1ep-1", own_row("cpu", dataset="sample", train_rows=4000))
    main(["compare", "--runs", str(tmp_path)])
    output = capsys.readouterr().out
    assert output.count("| Machine") == 2
    assert "Not to be compared with the first table: other dataset, train_rows." in output
    assert "cpu, 1 epoch, against" not in output


def test_several_labels_have_a_table_of_their_own(tmp_path, capsys):
    write_row(tmp_path, "labels", several_labels_row("$to_x$", "insult"))
    main(["compare", "--runs", str(tmp_path)])
    output = capsys.readouterr().out
    assert output.count("| Machine") == 2
    assert "2 labels, the main one `$to_x$`" in output
    assert "Not to be compared with the first table: other labels." in output
    assert "| 0.96830 (main label) | 0.97500 over 2 labels |" in output
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_a_damaged_file_is_a_warning(tmp_path, capsys):
    path = write_row(tmp_path, "bad", "{")
    main(["compare", "--runs", str(tmp_path)])
    printed = capsys.readouterr()
    assert f"warning: skipped {path}: it is damaged" in printed.err
    assert PUBLISHED in printed.out


def test_an_estimate_with_its_price(tmp_path, capsys):
    main(["estimate", "--gpu", "P100", "--runs", str(tmp_path), "--price_per_hour", "2"])
    output = capsys.readouterr().out
    assert "p100: 1,000,000 comments to train, 500,000 to score" in output
    assert "| all, padding too |" in output
    assert "| real ones " in output
    assert "at a price of" in output
    assert "| Price" in output
    assert "Assumed:\n- " in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["estimate", "--gpu", "k80"],
            f"unknown GPU `k80`; the known ones are {KNOWN}",
        ),
        (["estimate", "--gpu", "p100", "--rows", "0"], "--rows is 0"),
        (["estimate", "--gpu", "p100", "--epochs", "-1"], "--epochs is -1"),
        (["estimate", "--gpu", "p100", "--price_per_hour", "cheap"], "--price_per_hour cheap: give a number"),
        (["estimate", "--gpu", "p100", "--price_per_hour", "-1"], "--price_per_hour -1: give a number"),
        (["estimate", "--gpu", "p100", "--price_per_hour", "inf"], "--price_per_hour inf: give a number"),
    ],
)
def test_bad_requests(tmp_path, arguments, message):
    with pytest.raises(RequestError) as refusal:
        main([*arguments, "--runs", str(tmp_path)])
    assert message in str(refusal.value)


def test_it_answers_at_once_and_without_torch(tmp_path):
    start = perf_counter()
    done = run(sys.executable, "-m", "toxicity.bench", "compare", "--runs", tmp_path)
    assert perf_counter() - start < 5
    assert done.returncode == 0, done.stderr
    code = "import sys, toxicity.bench.__main__; assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    imported = run(sys.executable, "-c", code)
    assert imported.returncode == 0, imported.stderr


def test_a_refusal_exits_with_2():
    refused = run(sys.executable, "-m", "toxicity.bench", "estimate", "--gpu", "k80")
    assert refused.returncode == 2
    families = "A100 and L4 are ampere, H100 and H200 hopper, B200 blackwell."
    assert refused.stderr == f"error: unknown GPU `k80`; the known ones are {KNOWN}. {families}\n"
