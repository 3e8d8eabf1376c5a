import json

import pytest
from example_run import changed, own_row, several_labels_row, without, write_row

from toxicity.bench.runs import (
    benchmark_table,
    by_protocol,
    differing_keys,
    protocol_title,
    published_rows,
    read_rows,
)


def test_the_published_times_in_seconds():
    rows = published_rows()
    assert [row["timing"]["training_seconds"] for row in rows] == [5381, 10582, 20970]
    assert [row["timing"]["tokenizer_seconds"] for row in rows] == [2081, 2069, 2458]
    assert [row["timing"]["inference_seconds"] for row in rows] == [854, 832, 3544]
    assert [row["metrics"]["auc"] for row in rows] == [0.96819, 0.96692, 0.96817]
    assert rows[1]["throughput"]["training_rows_per_second"] == 2_000_000 / 10582


def test_rows_are_read_in_the_order_of_their_folders(tmp_path):
    write_row(tmp_path, "v100-1ep-20260102", own_row("b"))
    write_row(tmp_path, "v100-1ep-20260101", own_row("a"))
    (tmp_path / "unfinished").mkdir()
    rows, warnings = read_rows(tmp_path)
    assert [row["machine"]["label"] for row in rows] == ["a", "b"]
    assert warnings == []


def test_no_folder_holds_no_rows(tmp_path):
    assert read_rows(tmp_path / "nowhere") == ([], [])


DAMAGED = {
    "cut short": json.dumps(own_row())[:50],
    "empty": "",
    "no object": "[1]",
    "no version": "{}",
    "no auc": without(own_row(), "metrics", "auc"),
    "no time": without(own_row(), "timing", "training_seconds"),
    "time is text": changed(own_row(), "timing", "training_seconds", "long"),
    "time is nothing": changed(own_row(), "timing", "inference_seconds", 0),
    "time is no number": changed(own_row(), "timing", "inference_seconds", float("nan")),
    "rate is text": changed(own_row(), "throughput", "training_flops_per_second", "fast"),
    "label is missing": changed(own_row(), "machine", "label", None),
    "optimiser is text": changed(own_row(), "protocol", "optimiser", "adam"),
    "a part is missing": {key: value for key, value in own_row().items() if key != "timing"},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named_and_skipped(tmp_path, case):
    path = write_row(tmp_path, "bad", DAMAGED[case])
    write_row(tmp_path, "good", own_row())
    rows, (warning,) = read_rows(tmp_path)
    assert len(rows) == 1
    assert str(path) in warning
    assert "damaged" in warning


def test_a_file_of_another_version_is_named_and_skipped(tmp_path):
    path = write_row(tmp_path, "old", own_row() | {"schema_version": 0})
    rows, (warning,) = read_rows(tmp_path)
    assert rows == []
    assert str(path) in warning
    assert "version 0, not 1" in warning


def test_a_row_without_what_was_added_later_is_read(tmp_path):
    row = own_row()
    del row["machine"]["matmul_flops_per_second"], row["protocol"]["optimiser"]
    del row["throughput"]["training_flops_per_second"], row["throughput"]["inference_flops_per_second"]
    write_row(tmp_path, "first", row)
    assert read_rows(tmp_path) == ([row], [])


def test_epochs_machine_and_seed_are_of_one_protocol():
    rows = [
        *published_rows(),
        own_row("p100"),
        own_row(epochs=2.0),
        own_row(seed=7),
        own_row(model="bert-base-uncased"),
    ]
    assert by_protocol(rows) == [rows]


OTHER_PROTOCOLS = [
    {"dataset": "sample"},
    {"model": "roberta-base"},
    {"train_rows": 1000},
    {"validation_rows": 1000},
    {"max_seq_length": 128},
    {"config_overrides": "hidden_dropout_prob=0"},
    {"optimiser": {"learning_rate": 1e-5}},
    {"optimiser": {"batch_size": 128}},
]


@pytest.mark.parametrize("difference", OTHER_PROTOCOLS)
def test_whatever_else_differs_is_another_protocol(difference):
    other = own_row()
    for key, value in difference.items():
        other["protocol"][key] = other["protocol"][key] | value if isinstance(value, dict) else value
    rows = [*published_rows(), other, own_row()]
    assert [len(group) for group in by_protocol(rows)] == [4, 1]


def test_files_of_one_name_that_hold_other_rows_are_other_protocols():
    assert len(by_protocol([own_row(), own_row(validation_positives=5)])) == 2


def test_a_protocol_in_a_line():
    line = protocol_title(published_rows())
    assert line.startswith(
        "google-bert/bert-base-uncased on train.csv: 1,000,000 comments to train, 500,000 to validate"
    )
    assert line.endswith("220 tokens, batch size 64, learning rate 2e-05")


def test_a_resumed_run_whose_interruptions_are_listed_is_counted_over_all_parts(tmp_path):
    row = changed(changed(own_row(), "timing", "resumed", True), "timing", "interruptions", [{"step": 4}])
    write_row(tmp_path, "resumed", row)
    assert read_rows(tmp_path) == ([row], [])


def test_an_older_resumed_run_is_named_and_skipped(tmp_path):
    path = write_row(tmp_path, "resumed", changed(own_row(), "timing", "resumed", True))
    rows, (warning,) = read_rows(tmp_path)
    assert rows == []
    assert f"skipped {path}: it was resumed" in warning


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("metrics", "auc", 2.0), ("timing", "tokenizer_seconds", None), ("machine", "label", " ")],
)
def test_values_that_nothing_can_be_made_of(tmp_path, part, key, value):
    write_row(tmp_path, "bad", changed(changed(own_row(), "timing", "tokenizer_cache_hit", True), part, key, value))
    rows, (warning,) = read_rows(tmp_path)
    assert rows == []
    assert "it is damaged" in warning


def test_what_sets_protocols_apart():
    assert differing_keys(own_row(), own_row(max_seq_length=128, dataset="mine.csv")) == ["dataset", "max_seq_length"]


@pytest.mark.parametrize("one", [["toxic"], ["toxicity"], None], ids=["unnamed", "named", "of an older version"])
def test_other_labels_are_another_protocol(one):
    single = own_row() if one is None else own_row(labels=one)
    assert differing_keys(single, published_rows()[0]) == []
    several = several_labels_row("toxicity", "insult", "threat")
    assert differing_keys(several, single) == ["labels"]
    assert differing_keys(several, several_labels_row("toxicity", "insult")) == ["labels"]
    assert differing_keys(several, several_labels_row("insult", "toxicity", "threat")) == ["labels"], "the main one"
    assert differing_keys(several, several_labels_row("toxicity", "threat", "insult")) == []


def test_the_table_says_what_an_auc_is_of():
    header, rows = benchmark_table([several_labels_row("toxicity", "insult"), own_row(), *published_rows()])
    assert header[-2:] == ("AUC Score", "Mean AUC")
    assert [row[-2:] for row in rows[:3]] == [
        ("0.96830 (main label)", "0.97500 over 2 labels"),
        ("0.96830", ""),
        ("0.96819", ""),
    ]
    partly = several_labels_row("toxicity", "insult")
    partly["metrics"]["mean_auc_labels"] = 1
    assert benchmark_table([partly])[1][0][-1] == "0.97500 over 1 of 2 labels"
    partly["metrics"] |= {"mean_auc": None, "mean_auc_labels": 0, "auc": None}
    assert benchmark_table([partly])[1][0][-2:] == ("undefined (main label)", "undefined")
    assert benchmark_table([own_row(labels=["toxic"])]) == benchmark_table([own_row()])


def test_a_protocol_of_several_labels_in_a_line():
    line = protocol_title([several_labels_row("a\x1b[2Jb" * 20, "insult")])
    assert ", 2 labels, the main one `a\\x1b[2Jb" in line
    assert line.isprintable()
    assert len(line) < 300


@pytest.mark.parametrize(
    "damage",
    [
        {"labels": [1]},
        {"labels": {"toxicity": {}, "insult": {}}},
        {"labels": {"toxicity": {"rows": "many", "positives": 1}, "insult": {}}},
        {"mean_auc": "high"},
    ],
)
def test_labels_that_nothing_can_be_made_of(tmp_path, damage):
    row = several_labels_row("toxicity", "insult")
    write_row(tmp_path, "bad", row | {"metrics": row["metrics"] | damage})
    rows, (warning,) = read_rows(tmp_path)
    assert rows == []
    assert "it is damaged" in warning


def test_a_run_of_several_labels_is_read(tmp_path):
    row = several_labels_row("toxicity", "insult")
    write_row(tmp_path, "labels", row)
    assert read_rows(tmp_path) == ([row], [])
